"""Pictures for models that learn without labels, which come along where the data have them."""

import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np

from apps.common.data.archives import is_archive, read_members
from apps.common.data.examples import Examples, find_data
from apps.common.data.images.arrays import LabelsMissing
from apps.common.data.images.decoding import ENDINGS, ImageFile, fit_pixels, is_image_name, read_image_files
from apps.common.data.images.labelled import (
    DEEPEST,
    ImageSet,
    LabelledImages,
    named_images,
    read_arrays,
    read_labelled_images,
    resize_splits,
)
from apps.common.data.reading import split_of, visible_files
from apps.common.errors import UserError

GROUP = "group {}"  # the name of a class that `grouped` found


def read_pictures(name, *, image_size=None, channels=None):
    """Pictures as uint8 arrays in memory, from any folder or archive of them, IDX, .npz, or a set by name.

    Args:
        name: What `--data` says.
        image_size, channels: As `read_labelled_images` takes them.
    Returns: `LabelledImages`; where there are no labels that tell two classes apart, a note says so, there are no class
        names, and the labels of each split are `None`.
    Raises:
        UserError: There is no picture.
    """
    options = {"image_size": image_size, "channels": channels}
    found = named_images(name, **options)
    if found:
        return found
    path = find_data(name)
    try:
        return read_labelled_images(path, **options, white=DEEPEST)
    except LabelsMissing as error:
        notes = [f"no labels: {str(error).partition('. E')[0].rpartition('labels missing: ')[2]}"]
    arrays = read_arrays(path, ("images",))
    if arrays:
        splits, read = arrays
        splits, resized = resize_splits(splits, path, image_size, channels)
        read = read + resized
    else:
        splits, read = read_image_files(find_pictures(path), path, **options)
    sets = {split: ImageSet(images, None, names) for split, (images, _, names) in splits.items() if len(images)}
    return LabelledImages(sets, [], notes + read)


def grouped(pictures, seed, names=None):
    """The same pictures with groups of alike ones for classes: what a network must tell apart to learn what pictures hold.

    Args:
        pictures: `LabelledImages` without labels.
        seed: Of the search for groups, k-means on pictures shrunk to 8 x 8 pixels.
        names: Of the groups, where a model has such; else there are ten, or fewer of fewer than 100 pictures.
    """
    from sklearn.cluster import KMeans

    shrunken = {
        split: np.stack([fit_pixels(image, (8, 8, image.shape[-1])).reshape(-1) for image in part.images]) / 255
        for split, part in pictures.splits.items()
    }
    first = shrunken.get("train", next(iter(shrunken.values())))
    count = len(names) if names else max(2, min(10, len(first) // 10))
    if len(first) < count:
        raise UserError(f"{len(first)} pictures are too few; at least {count} are needed")
    search = KMeans(count, n_init=4, random_state=seed).fit(first)
    labels = {split: search.predict(small).astype("int64") for split, small in shrunken.items()}
    sets = {split: replace(part, labels=labels[split]) for split, part in pictures.splits.items()}
    notes = [*pictures.notes, f"{count} groups of alike pictures stand in for classes in the features that judge"]
    names = names or [GROUP.format(number) for number in range(1, count + 1)]
    return replace(pictures, splits=sets, class_names=names, notes=notes)


def find_pictures(path):
    """Every picture under a folder or in an archive as an `ImageFile`; folders called train, test, ... are splits."""
    path = Path(path)
    if path.is_file() and is_archive(path):
        found, _ = read_members(path, is_image_name)
    else:
        files = [file for file in visible_files(path) if is_image_name(file.name)]
        found = [(file.relative_to(path).as_posix(), file) for file in files]
    if not found:
        raise UserError(f"{path}: no picture found. Expected a folder of pictures that end in {' '.join(ENDINGS)}")
    splits = [split_of(name.split("/")[0]) if "/" in name else None for name, _ in found]
    named = all(splits) and "train" in splits
    return [ImageFile(name, split if named else "train", "", at) for (name, at), split in zip(found, splits, strict=True)]


def as_examples(pictures):
    """`{split: Examples}` of what `read_pictures` gives: where there are no labels, class 0 for every picture."""
    splits = pictures.splits if "train" in pictures.splits else {"train": next(iter(pictures.splits.values()))}
    return {
        split: Examples(part.images, np.zeros(len(part), "int64") if part.labels is None else part.labels)
        for split, part in splits.items()
    }


def example_of(name, pictures):
    """A picture of the user's own to try a model on, as typed in a shell; nothing where the pictures are no files."""
    files = [each for part in pictures.splits.values() for each in part.names[:1]]
    path = find_data(name) / files[0] if name and files and "[" not in files[0] else None
    return shlex.quote(str(path)) if path and path.is_file() else ""
