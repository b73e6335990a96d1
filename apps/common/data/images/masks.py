"""Pictures and what each pixel of them is: image and mask folders, label or colour masks, COCO's annotations."""

import contextlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from apps.common.data.archives import refuse_archive
from apps.common.data.images.coco_masks import Drawn, crowds_line, find_annotations, read_annotations, refuse_one_class
from apps.common.data.images.decoding import (
    Unreadable,
    choose_size,
    dark_notes,
    decode,
    is_image_name,
    open_image,
)
from apps.common.data.images.gathering import gathered, stamp
from apps.common.data.images.labelme import find_labelme, read_labelme_masks
from apps.common.data.images.mask_classes import AUTO, Classes, choose_classes, listed_anew
from apps.common.data.images.mask_values import Values, differing_palettes
from apps.common.data.images.threads import each_in_threads, workers_for
from apps.common.data.reading import split_of, visible_files
from apps.common.errors import UserError, count_skipped

FORMATS = (
    "pictures and masks of the same names in folders such as images and masks, or train, trainannot, val and valannot, "
    "pictures with masks called NAME_mask.png beside them, "
    "or pictures beside a COCO annotation file, or beside LabelMe's .json files of their names"
)
IMAGE_WORDS = ("images", "image", "imgs", "img", "jpegimages", "pictures", "photos")
MASK_WORDS = (
    "masks", "mask", "annotations", "annotation", "annot", "labels", "label", "segmentationclass", "segmentation", "gt",
)  # fmt: skip
MASK_MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L")
BESIDE = ("_mask", "-mask", "_segmentation")  # ends the name of a mask that lies in the folder of its picture
LISTS = "ImageSets/Segmentation"  # where PASCAL VOC names the pictures of each split
TURNED = (5, 6, 7, 8)  # EXIF orientations that change height for width


@dataclass(frozen=True)
class Pair:
    """A picture, its split, and its mask: a file, or shapes to draw."""

    name: str
    split: str | None
    picture: Path
    mask: Path | Drawn


@dataclass(frozen=True)
class MaskedPictures:
    """What was read: `images` uint8 `(n, height, width, 3)`, `masks` uint8 `(n, height, width)`, positions in the classes.

    Both are memory-mapped where they are large. `splits` names each picture's split, `None` where the data name none;
    `paths` are the files of the pictures.
    """

    images: np.ndarray
    masks: np.ndarray
    splits: list
    classes: Classes
    resized: bool
    notes: list = field(default_factory=list)
    paths: list = field(default_factory=list)


def read_masked_pictures(path, *, image_size=None, class_names=(), ignore=None, classes=None):
    """Pictures and masks from a folder, found by looking.

    A picture that its camera turned (EXIF) is turned upright, and with it a mask that has the size of the picture as it
    lies in its file; a mask of the upright size was drawn upright.

    Args:
        path: A folder (see `FORMATS`).
        image_size: `(height, width)` of all; `None` keeps a size they share.
        class_names: Of the labels 0, 1, ...; by default what the folder's list of classes says, or the masks.
        ignore: Label, colour or class of the pixels that count nothing, as text; `"auto"` for label 255 where it is no grey.
        classes: `Classes` of a trained model, to evaluate it.
    Raises:
        UserError: Nothing that can be trained on, saying what was expected and what to do.
    """
    path = Path(path)
    refuse_archive(path)
    if not path.is_dir():
        raise UserError(f"{path}: expected a folder with {FORMATS}")
    known = {name: place for place, name in enumerate(classes.names)} if classes else None
    pairs, notes, drawn_classes = find_pairs(path, known)
    drawn = any(isinstance(pair.mask, Drawn) for pair in pairs)
    differing = None if drawn else differing_palettes([pair.mask for pair in pairs])
    if classes and drawn:
        asked = replace(classes, values=tuple(range(len(classes.names))), coloured=False, ignored=None)
    elif classes:  # names that an option gave count before those of a list
        asked = classes if class_names else listed_anew(classes, path, ignore, notes)
    else:
        asked = choose_classes(path, pairs, class_names or drawn_classes, ignore, notes, bool(differing))
    if differing and not asked.coloured:
        advice = "Save masks as grey labels, or list the classes with their colours in classes.txt"
        raise UserError(f"{path}: {differing}: an index is no label then. {advice}")
    if differing:
        notes.append(f"{differing}: masks are read as colours, not as labels")
    pairs, scanned, failed = _scanned(path, pairs, asked.coloured)
    if not classes and not any(pair.split in (None, "train") for pair in pairs):
        unread = f"; could not be read: {', '.join(failed[:3])}" if failed else ""
        raise UserError(f"{path}: no training pictures, only {', '.join(sorted({pair.split for pair in pairs}))}{unread}")
    trained = [values for pair, (_, values) in zip(pairs, scanned, strict=True) if pair.split in (None, "train")]
    found = asked if classes else asked.completed(Values.of_all(trained), notes, path, free=ignore == AUTO)
    if drawn and not classes:
        refuse_one_class(Values.of_all(trained), found, path)
    for pair, (_, values) in zip(pairs, scanned, strict=True):
        if not drawn:
            found.refuse_unknown(values.values, pair.name)
    everything = Values.of_all([values for _, values in scanned])
    if not np.isin(everything.values, found.values).any():
        raise UserError(f"{path}: no pixel is of a class that the model knows. Give masks or shapes of its classes")
    ignored = crowds_line(everything, found.values) if drawn else found.ignored_line(everything, bool(classes))
    notes += [ignored] if ignored else []
    sizes = [size for size, _ in scanned]
    size, said = choose_size(sizes, image_size)
    arrays = _read(path, pairs, (*size, 3), found)
    kept = [pairs[index] for index in arrays["index"]]
    failed += [f"{pair.name} (damaged)" for index, pair in enumerate(pairs) if index not in set(arrays["index"].tolist())]
    note = count_skipped(failed, len(kept) + len(failed), "pictures with masks")
    notes = notes + said + dark_notes([pair.picture for pair in kept]) + ([note] if note else [])
    resized = any(each != size for each in sizes)
    splits, paths = [pair.split for pair in kept], [pair.picture for pair in kept]
    return MaskedPictures(arrays["images"], arrays["masks"], splits, classes or found, resized, notes, paths)


def _scanned(path, pairs, coloured):
    """`(pairs that can be read, what `scan` finds of each, the others as text)`."""
    workers = workers_for([pair.picture for pair in pairs])
    scanned = each_in_threads(pairs, lambda pair: scan(pair, coloured), "masks looked at", workers)
    failed = [f"{pair.name} ({found})" for pair, found in zip(pairs, scanned, strict=True) if isinstance(found, Unreadable)]
    good = [place for place, found in enumerate(scanned) if not isinstance(found, Unreadable)]
    if not good:
        raise UserError(f"{path}: no picture with a mask can be read: {failed[0]}")
    count_skipped(failed, len(pairs), "pictures with masks")
    return [pairs[place] for place in good], [scanned[place] for place in good], failed


def find_pairs(folder, known=None):
    """`(pairs, notes, class names)`: every picture with its mask; the names are those of COCO's categories, or none.

    `known` are the positions of a trained model's classes, `{name: position}`, which COCO's shapes are drawn with.
    """
    files = visible_files(folder)
    if not files:
        raise UserError(f"{folder}: the folder is empty. Expected {FORMATS}")
    annotations = find_annotations(files)
    if annotations:
        found, notes, names = read_annotations(folder, annotations, files, known)
        return [Pair(*each) for each in found], notes, names
    pictures, masks, doubled = _by_key(folder, files)
    drawn = {} if masks else find_labelme(files)
    if drawn:
        found, notes, names = read_labelme_masks(folder, drawn, files, known)
        return [Pair(*each) for each in found], notes, names
    _refuse_unmatched(folder, files, pictures, masks, doubled)
    both = [key for key in pictures if key in masks]
    notes = []
    for some, others, what in ((pictures, masks, "pictures have no mask"), (masks, pictures, "masks have no picture")):
        missing = [str(some[key].relative_to(folder)) for key in some if key not in others]
        if missing:
            notes.append(f"{len(missing)} {what} and are left out: {_first(missing)}")
    splits = {key: next((split_of(part) for part in key[:-1] if split_of(part)), None) for key in both}
    if listed := listed_splits(folder, files):
        splits = {key: listed[key[-1]] for key in both if key[-1] in listed}
        missing = sorted(listed.keys() - {key[-1] for key in splits})
        if not splits:
            raise UserError(f"{folder}: no picture that the lists in {LISTS} name has a mask, such as {missing[0]}. Mend them")
        if len(splits) < len(both):
            notes.append(f"{len(both) - len(splits)} pictures that no list in {LISTS} names are left out")
        if missing:
            notes.append(f"{len(missing)} pictures that the lists in {LISTS} name have no mask: {_first(missing)}")
    names = {key: str(masks[key].relative_to(folder)) for key in splits}
    return [Pair(names[key], split, pictures[key], masks[key]) for key, split in splits.items()], notes, ()


def _first(names):
    return ", ".join(names[:3]) + (", ..." if names[3:] else "")


def _by_key(folder, files):
    """`(pictures, masks, [(key, two files of that key)])`, the first two `{what the two share of their paths: file}`."""
    pictures, masks, doubled, stems = {}, {}, [], {(file.parent, file.stem) for file in files}
    for file in files:
        if is_image_name(file.name) and file.parent.name != "SegmentationObject":  # VOC's single objects are no classes
            ends = (end for end in BESIDE if file.stem.endswith(end) and (file.parent, file.stem.removesuffix(end)) in stems)
            is_mask, key = _key(file.relative_to(folder), next(ends, ""))
            first = (masks if is_mask else pictures).setdefault(key, file)
            if first != file:
                doubled.append((key, f"{first.relative_to(folder)} and {file.relative_to(folder)}"))
    return pictures, masks, doubled


def _refuse_unmatched(folder, files, pictures, masks, doubled):
    """Refuse pictures and masks of which none belong together, or two where one is expected.

    Raises:
        UserError: Naming the first.
    """
    if not pictures:
        for file in files:
            refuse_archive(file)
    if not masks or not pictures:
        there = f"{len(pictures)} pictures, {len(masks)} masks"
        raise UserError(f"{folder}: found {there}. Expected {FORMATS}")
    if pictures.keys().isdisjoint(masks):
        first = next(iter(pictures.values())).name
        raise UserError(f"{folder}: no mask is called as a picture is, such as {first}. Expected {FORMATS}")
    doubled = [both for key, both in doubled if key in pictures and key in masks]
    if doubled:
        raise UserError(f"{folder}: {doubled[0]} have one name ({len(doubled)} such). Keep one of them, or rename it")


def listed_splits(folder, files):
    """`{name of a picture: split}`, as PASCAL VOC lists them in ImageSets/Segmentation; empty without such lists.

    Raises:
        UserError: A picture is in two splits.
    """
    listed = {}
    for path in (file for file in files if file.suffix.lower() == ".txt" and split_of(file.stem)):
        if path.parent.parts[-2:] == Path(LISTS).parts:
            for name in filter(None, map(str.strip, path.read_text(encoding="utf-8", errors="replace").splitlines())):
                if listed.setdefault(name, split_of(path.stem)) != split_of(path.stem):
                    raise UserError(f"{folder}: {name} is in several lists in {LISTS}. Keep each picture in one")
    return listed


def _key(path, beside):
    """`(whether it is a mask, what picture and mask share of their paths)`; `beside` ends a mask's name beside its picture."""
    is_mask, parts = bool(beside), []
    for part in path.parts[:-1]:
        word = part.lower()
        role = next((each for each in MASK_WORDS if word == each or word.endswith(each)), "")
        if role and not split_of(word):
            is_mask = True
            word = word.removesuffix(role).rstrip("-_ .")
        elif word in IMAGE_WORDS:
            word = ""
        parts.append(word)
    stem = path.stem
    if is_mask:
        for role in (beside, "_mask", "-mask", "_label", "_labels", "_gt", "_L", "_P"):
            stem = stem.removesuffix(role)
    return is_mask, (*filter(None, parts), stem)


def scan(pair, coloured):
    """`((height, width) of the upright picture, the mask's Values)`.

    Raises:
        Unreadable: One of the two cannot be read, or they differ in size.
    """
    mask = raw_mask(pair, coloured)
    return mask.shape, Values.of(mask)


def raw_mask(pair, coloured):
    """The mask as it was drawn, upright: int32 `(height, width)`, of labels, or of colours as `65536 r + 256 g + b`."""
    from PIL import ImageOps

    (width, height), orientation = _picture_size(pair.picture)
    upright = (height, width) if orientation in TURNED else (width, height)
    with contextlib.ExitStack() as stack:
        drawn = isinstance(pair.mask, Drawn)
        image = pair.mask.draw(upright) if drawn else stack.enter_context(open_image(pair.mask))
        if image.format == "JPEG":
            raise Unreadable("a mask as JPEG, whose labels are blurred; save it as PNG")
        try:
            image = ImageOps.exif_transpose(image)
            if image.size != upright and image.size == (width, height):
                image = image.transpose(_transposition(orientation))
            image.load()
        except Exception as error:  # damaged data end in whatever the decoder stumbles over
            raise Unreadable(f"damaged: {error}") from None
        if image.size != upright:
            raise Unreadable(f"the mask has {image.size[0]} x {image.size[1]} pixels, its picture {upright[0]} x {upright[1]}")
        return _values(image, coloured)


def _values(image, coloured):
    if image.mode not in MASK_MODES:
        raise Unreadable(f"a mask in {image.mode}; expected labels, a palette or RGB colours")
    if coloured:
        pixels = np.asarray(image.convert("RGB"), dtype="int32")
        return pixels[..., 0] * 65536 + pixels[..., 1] * 256 + pixels[..., 2]
    if image.mode in ("RGB", "RGBA"):
        pixels = np.asarray(image.convert("RGB"))
        if not (pixels[..., :1] == pixels).all():
            raise Unreadable("a mask in colours, where labels are expected; list the classes and their colours in classes.txt")
    elif image.mode == "LA":
        pixels = np.asarray(image)
    else:
        return np.asarray(image).astype("int32")
    return pixels[..., 0].astype("int32")


def _picture_size(path):
    """`((width, height) as it lies in the file, EXIF orientation)`."""
    with open_image(path) as image:
        try:
            return image.size, image.getexif().get(0x0112, 1) if "exif" in image.info else 1
        except Exception as error:
            raise Unreadable(f"damaged orientation: {error}") from None


def _transposition(orientation):
    from PIL import Image

    ways = Image.Transpose
    return {2: ways.FLIP_LEFT_RIGHT, 3: ways.ROTATE_180, 4: ways.FLIP_TOP_BOTTOM, 5: ways.TRANSPOSE,
            6: ways.ROTATE_270, 7: ways.TRANSVERSE, 8: ways.ROTATE_90}[orientation]  # fmt: skip


def fit_mask(mask, shape):
    """A mask `(height, width)` in another size: each pixel the nearest one of before."""
    from PIL import Image

    height, width = shape
    if mask.shape == (height, width):
        return mask
    return np.asarray(Image.fromarray(mask).resize((width, height), Image.Resampling.NEAREST))


def _read(path, pairs, shape, classes):
    """`{"images", "masks", "index"}`, in memory or on disk."""

    def one(pair):
        mask = classes.positions(raw_mask(pair, classes.coloured))
        return {"images": decode(pair.picture, shape), "masks": fit_mask(mask, shape[:2])}

    files = [[repr(pair.mask), *stamp(pair.mask), str(pair.picture.resolve()), *stamp(pair.picture)] for pair in pairs]
    return gathered(path, pairs, [pair.picture for pair in pairs], one, 4 * shape[0] * shape[1], repr((files, shape, classes)))

