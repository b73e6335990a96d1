"""Labelled images from what a person has: class folders, archives, IDX, .npz or a CSV manifest, found by looking."""

import os
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np

from apps.common.data.archives import is_archive, read_members
from apps.common.data.images.arrays import (
    ROLES,
    LabelsMissing,
    idx_folder_of,
    read_idx_folder,
    read_npz,
    resize_images,
)
from apps.common.data.images.decoding import (
    ENDINGS,
    ImageFile,
    Unreadable,
    choose_size,
    decode,
    is_image_name,
    read_image_files,
    white_of,
)
from apps.common.data.images.threads import each_in_threads, workers_for
from apps.common.data.reading import PATH_COLUMNS, folders_left_out, list_folder, split_of, visible_files
from apps.common.errors import UserError, nearest

FORMATS = (
    "a folder a class, train/val/test folders of those, IDX files, an .npz with x_train and y_train, "
    "a CSV manifest with a path and a label column, or a tar or zip archive of class folders"
)
DEEPEST = 2**16 - 1  # white of pictures of more than 8 bits for every model that keeps none of its own
LABEL_COLUMNS = ("label", "class", "target")
KERAS_SETS = ("mnist", "fashion_mnist", "cifar10", "cifar100")
# The classes that these sets only number (Xiao et al., 2017; Krizhevsky, 2009).
CLASS_NAMES = {
    "fashion_mnist": "T-shirt/top, Trouser, Pullover, Dress, Coat, Sandal, Shirt, Sneaker, Bag, Ankle boot",
    "cifar10": "airplane, automobile, bird, cat, deer, dog, frog, horse, ship, truck",
}


@dataclass(frozen=True)
class ImageSet:
    """One split: `images` uint8 `(n, height, width, channels)`, `labels` int64 `(n,)` or `None`, and what each is called."""

    images: np.ndarray
    labels: np.ndarray | None
    names: list

    def __len__(self):
        return len(self.images)


@dataclass(frozen=True)
class LabelledImages:
    """Splits by name ("train", and "validation" and "test" when the data name them), class names, and notes.

    `white` is the largest value of pictures of more than 8 bits, where there are such.
    """

    splits: dict
    class_names: list
    notes: list
    white: int | None = None


def read_labelled_images(path, *, image_size=None, channels=None, class_names=None, white=None):
    """Labelled images as uint8 arrays in memory, their format found by looking.

    Args:
        path: A file or folder that is there (see `FORMATS`).
        image_size: Side all images are resized to, or `(height, width)`; `None` keeps a size they share, and takes the
            median of the shorter sides, at most 128, when they differ.
        channels: 1 or 3; `None` keeps grey when all images are grey.
        class_names: Classes of a trained model, to evaluate it: labels are positions in these, and what only training
            needs (a train split, two classes, two examples of each) is not asked for.
        white: Largest value of pictures of more than 8 bits; found from them where it is `None`.
    Returns: `LabelledImages`.
    Raises:
        UserError: Nothing that can be trained on, saying what was expected and what to do.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size == 0:
        raise UserError(f"{path}: the file is empty. Expected {FORMATS}")
    arrays = read_arrays(path)
    if arrays:
        splits, notes = arrays
        splits, resized = resize_splits(splits, path, image_size, channels)
        notes = notes + resized
    else:
        files, notes = _find_files(path)
        if not class_names:
            _check_classes(np.array([file.label for file in files if file.split == "train"], dtype=str), path)
        deepest = white_of([file.source for file in files])
        white = white or deepest
        splits, read = read_image_files(files, path, image_size=image_size, channels=channels, white=white)
        notes = notes + read + ([f"of pictures of more than 8 bits {white:,} is white"] if deepest else [])
    return replace(_label_splits(splits, notes, path, class_names), white=white)


def only_classes(found, chosen):
    """The images of some classes alone, in the order in which they are named; those of the others are counted in the notes.

    Args:
        found: `LabelledImages`.
        chosen: Names of at least two classes.
    Raises:
        UserError: A name is no class, or stands twice.
    """
    flag = f"--classes {','.join(chosen)}"
    for name in chosen:
        if name not in found.class_names:
            raise UserError(f"{flag}: no class is called {name!r}. {nearest(name, found.class_names)}")
    if len(set(chosen)) < max(2, len(chosen)):
        raise UserError(f"{flag}: expected two classes or more, each named once")
    place = np.array([chosen.index(name) if name in chosen else -1 for name in found.class_names])
    splits, left_out = {}, 0
    for split, part in found.splits.items():
        labels = place[part.labels]
        kept = np.flatnonzero(labels >= 0)
        left_out += len(labels) - len(kept)
        if len(kept):
            splits[split] = ImageSet(part.images[kept], labels[kept], [part.names[index] for index in kept])
    notes = [*found.notes, f"{left_out} images of {len(found.class_names) - len(chosen)} other classes are left out"]
    return replace(found, splits=splits, class_names=list(chosen), notes=notes)


def read_images(paths, shape, white=None, what=None):
    """Images resized and scaled as in training, each file decoded once however often it is named.

    Args:
        paths: Of the files.
        shape: `(height, width, channels)` of all.
        white: The largest of values of more than 8 bits, 65,535 by default.
        what: What is said of the progress; nothing by default.
    Returns: `(uint8 array of those that can be read, reason or "" of each path)`.
    """
    paths = [Path(path).expanduser() for path in paths]
    files = list(dict.fromkeys(paths))
    found = each_in_threads(files, lambda path: decode(path, tuple(shape), white), what, workers_for(files))
    read = {path: one for path, one in zip(files, found, strict=True) if not isinstance(one, Unreadable)}
    reasons = {path: f"not a readable image: {one}" for path, one in zip(files, found, strict=True) if path not in read}
    images = np.array(list(read.values()), dtype=np.uint8).reshape(-1, *shape)
    if len(paths) > len(files):
        place = {path: index for index, path in enumerate(read)}
        images = images[[place[path] for path in paths if path in place]]
    return images, [reasons.get(path, "") for path in paths]


def named_images(name, **options):
    """A data set by name: scikit-learn's `digits`, or one that Keras has downloaded before.

    `None` for another name, and for one that `find_data` finds as a path or under `$TRIPTYCH_DATA`. The options are
    those of `read_labelled_images`.
    """
    if Path(name).exists() or (Path(os.environ.get("TRIPTYCH_DATA") or os.devnull) / name).exists():
        return None
    if name == "digits":
        from sklearn.datasets import load_digits

        digits = load_digits()
        images = np.rint(digits.images[..., None] * (255 / 16)).astype(np.uint8)
        names = [f"digits[{position}]" for position in range(len(images))]
        splits = {"train": (images, digits.target.astype(np.int64), names)}
        splits, notes = resize_splits(splits, name, options.get("image_size"), options.get("channels"))
        return _label_splits(splits, notes, name, options.get("class_names"))
    if name not in KERAS_SETS:
        return None
    folder = Path(os.environ.get("KERAS_HOME", Path.home() / ".keras")) / "datasets"
    for path in (folder / f"{name}.npz", folder / name.replace("_", "-")):
        if path.exists():
            return read_labelled_images(path, **options)
    raise UserError(
        f"--data {name}: this data set is not on the machine (looked in {folder}). "
        "Give the path of a copy, or set TRIPTYCH_DATA to a folder that holds it"
    )


def read_arrays(path, roles=tuple(ROLES)):
    """`(splits, notes)` when the path is or holds arrays (IDX or .npz), else `None`; labels where they are among `roles`."""
    idx = idx_folder_of(path)
    if idx:
        return read_idx_folder(idx, roles)
    if path.is_file():
        return read_npz(path, roles) if path.suffix.lower() == ".npz" else None
    found = [entry for entry in list_folder(path) if entry.suffix.lower() == ".npz"]
    if len(found) > 1:
        raise UserError(f"{path}: several .npz files. Give one of {', '.join(each.name for each in found)}")
    if found:
        return read_npz(found[0], roles)
    folders = [entry for entry in list_folder(path) if entry.is_dir()]
    if len(folders) == 1 and idx_folder_of(folders[0]):
        return read_idx_folder(folders[0], roles)
    return None


def _find_files(path):
    """Every labelled image file under `path` as `ImageFile`s, and notes."""
    if path.is_file():
        if is_archive(path):
            members, others = read_members(path, is_image_name)
            return _from_folders(members, others, path)
        if path.suffix.lower() in (".csv", ".tsv"):
            return _from_manifests([path])
        raise UserError(f"{path}: not a set of labelled images. Expected {FORMATS}")
    found = visible_files(path)
    if not found:
        raise UserError(f"{path}: the folder is empty. Expected {FORMATS}")
    top = [file for file in found if file.parent == path]
    manifests = [file for file in top if file.suffix.lower() in (".csv", ".tsv") and _is_manifest(file)]
    if manifests:
        return _from_manifests(manifests)
    images = [(file.relative_to(path).as_posix(), file) for file in found if is_image_name(file.name)]
    archives = [file for file in top if is_archive(file)]
    if not images and len(archives) == 1:
        return _find_files(archives[0])
    others = [file.relative_to(path).as_posix() for file in found if not is_image_name(file.name)]
    files, notes = _from_folders(images, others, path)
    return files, notes + folders_left_out(path)


def _from_folders(images, others, path):
    """Labels and splits from the folders that images lie in.

    Args:
        images: `[(name with slashes, source)]`.
        others: Names of the files that are no images.
        path: Where they come from.
    """
    if not images:
        shown = f" (only {', '.join(others[:3])}{', ...' if len(others) > 3 else ''})" if others else ""
        raise UserError(f"{path}: no image found{shown}. Expected {FORMATS}; images end in {' '.join(ENDINGS)}")
    notes = [f"{len(others)} files that are not images ignored, such as {others[0]}"] if others else []
    entries = [(PurePosixPath(name).parts, name, source) for name, source in images]
    loose = []
    while True:  # past folders that hold everything, such as the top folder of an archive
        loose += [entry for entry in entries if len(entry[0]) == 1]
        entries = [entry for entry in entries if len(entry[0]) > 1]
        tops = {parts[0] for parts, _, _ in entries}
        if len(tops) != 1 or not all(len(parts) > 2 for parts, _, _ in entries):
            break
        entries = [(parts[1:], name, source) for parts, name, source in entries]
    if not entries:
        raise LabelsMissing(f"{path}: labels missing: {len(loose)} images, but no class folders. Expected {FORMATS}")
    if _named_splits(entries):
        loose += [entry for entry in entries if len(entry[0]) == 2 or not split_of(entry[0][0])]
        entries = [entry for entry in entries if len(entry[0]) > 2 and split_of(entry[0][0])]
        files = [ImageFile(name, split_of(parts[0]), _class_name(parts[1]), source) for parts, name, source in entries]
    else:
        files = [ImageFile(name, "train", _class_name(parts[0]), source) for parts, name, source in entries]
    if loose:
        notes.append(f"{len(loose)} images outside of any class folder ignored, such as {loose[0][1]}")
    return files, notes


def _class_name(folder):
    """The name of a folder as text that can be shown and written: bytes that are not UTF-8 as `\\xe9`."""
    return os.fsencode(folder).decode(errors="backslashreplace")


def _named_splits(entries):
    """Whether the first folders are splits: train holds only folders, and stands beside another split or alone."""
    depths, splits = {}, set()
    for parts, _, _ in entries:
        split = split_of(parts[0])
        splits.add(split or parts[0])
        depths.setdefault(split, set()).add(len(parts))
    return "train" in depths and 2 not in depths["train"] and (len(splits) == 1 or len(depths.keys() - {None}) > 1)


def _is_manifest(path):
    """Whether the first line of a CSV names a path and a label column."""
    with open(path, "rb") as file:
        line = file.readline(65536).decode("utf-8-sig", errors="replace").lower()
    cells = {cell.strip(" \"'\r\n") for cell in line.replace(";", ",").replace("\t", ",").split(",")}
    return bool(cells & set(PATH_COLUMNS)) and bool(cells & set(LABEL_COLUMNS))


def _from_manifests(paths):
    """Image files of one manifest, or of several called after their splits (train.csv, test.csv)."""
    if len(paths) > 1 and not all(split_of(path.stem) for path in paths):
        raise UserError(f"{paths[0].parent}: several manifests. Give one of {', '.join(path.name for path in paths)}")
    files, notes = [], []
    for path in paths:
        split = split_of(path.stem) if len(paths) > 1 else "train"
        read, said = _from_manifest(path, split)
        files, notes = files + read, notes + said
    return files, notes


def _from_manifest(path, default_split):
    from apps.common.data.tables.reading import read_text_rows

    rows = read_text_rows(path, header="yes")
    columns = {name.lower(): cells for name, cells in rows.columns.items()}
    names = _column(columns, PATH_COLUMNS, path, "image paths")
    labels = _column(columns, LABEL_COLUMNS, path, "labels")
    blank = [line for line, label in zip(rows.lines, labels, strict=True) if not label.strip()]
    if blank:
        raise UserError(f"{path}: labels missing in {len(blank)} of {len(labels)} rows, the first in line {blank[0]}")
    splits = [default_split] * len(names)
    if "split" in columns:
        splits = [split_of(cell) for cell in columns["split"]]
        for line, cell, split in zip(rows.lines, columns["split"], splits, strict=True):
            if not split:
                expected = "expected train, validation or test in column split"
                raise UserError(f"{path}: line {line}: {expected}. Received: {cell}")
    folder = path.parent
    files = [
        ImageFile(name, split, label.strip(), folder / Path(name.strip()).expanduser())
        for name, split, label in zip(names, splits, labels, strict=True)
    ]
    there = sum(file.source.is_file() for file in files[:100])
    if not there:
        raise UserError(f"{path}: no such file {files[0].source}. Expected paths relative to {folder.resolve()}")
    return files, rows.notes


def _column(columns, accepted, path, what):
    found = [name for name in accepted if name in columns]
    if not found:
        raise UserError(
            f"{path}: no column of {what}: expected one called {', '.join(accepted)}. Received: {', '.join(columns)}"
        )
    return columns[found[0]]


def resize_splits(splits, path, image_size, channels):
    """Splits of arrays with one size and number of channels, and notes."""
    sizes = [images.shape[1:3] for images, _, _ in splits.values() for _ in range(len(images))]
    size, notes = choose_size(sizes, image_size)
    channels = channels or max(images.shape[-1] for images, _, _ in splits.values())
    resized = {
        split: (resize_images(images, (*size, channels), path), labels, names)
        for split, (images, labels, names) in splits.items()
    }
    return resized, notes


def _check_classes(labels, path):
    """The classes among training labels, in their natural order; at least two, each with at least two examples."""
    counts = Counter(labels.tolist())
    if not counts:
        raise UserError(f"{path}: no training images. Expected {FORMATS}")
    whole = all(isinstance(label, int) or label.isdecimal() for label in counts)
    classes = sorted(counts, key=int if whole else None)
    if len(classes) < 2:
        raise LabelsMissing(f"{path}: a single class ({classes[0]}). Expected at least two classes to tell apart")
    single = [str(label) for label in classes if counts[label] < 2]
    if single:
        shown = ", ".join(single[:5]) + (", ..." if len(single) > 5 else "")
        raise LabelsMissing(f"{path}: one example only of class {shown}. Each needs at least two: add some or remove it")
    return classes


def _label_splits(splits, notes, path, class_names=None):
    """Class indices in the order of the class names, from labels that are text or whole numbers."""
    splits = {split: splits[split] for split in ("train", "validation", "test") if split in splits}
    known = CLASS_NAMES.get(Path(path).stem.lower().replace("-", "_"), "").split(", ")
    if class_names:
        position = {name: index for index, name in enumerate(class_names)}
        numbered = {label: position.get(name) for label, name in enumerate(known)}
    elif "train" in splits:
        classes = _check_classes(splits["train"][1], path)
        class_names = known if classes == list(range(len(known))) else [str(label) for label in classes]
        position, numbered = {str(label): index for index, label in enumerate(classes)}, {}
    else:
        raise UserError(f"{path}: no training images, only {', '.join(splits) or 'none'}. Expected {FORMATS}")
    sets = {}
    for split, (images, labels, names) in splits.items():
        found = {label: position.get(str(label), numbered.get(label)) for label in set(labels.tolist())}
        unknown = sorted(str(label) for label, index in found.items() if index is None)
        if unknown:
            shown = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
            raise UserError(f"{path}: class {unknown[0]} of the {split} images is not among those trained on: {shown}")
        if len(labels):
            indices = np.fromiter((found[label] for label in labels.tolist()), np.int64, len(labels))
            sets[split] = ImageSet(images, indices, names)
    return LabelledImages(sets, list(class_names), notes)
