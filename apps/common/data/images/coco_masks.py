"""COCO's annotation files as masks: polygons and run lengths drawn, the small ones over the large ones."""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.data.images.annotations import first_of
from apps.common.data.images.box_units import ROOM
from apps.common.data.images.coco_boxes import images_by_id
from apps.common.data.images.decoding import Unreadable
from apps.common.data.reading import split_within
from apps.common.errors import UserError
from apps.common.files import read_json

KEYS = {"images": ("id",), "categories": ("id", "name"), "annotations": ("image_id", "category_id")}  # and what entries need
LARGEST = 1_000_000_000
BACKGROUND, CROWD = 0, 255


@dataclass(frozen=True)
class Drawn:
    """A mask that is drawn.

    Args:
        shapes: `((label, parts), ...)`, the first at the bottom; a part is a polygon `(x, y, x, y, ...)` or `RunLengths`.
        size: `(width, height)`; `None` for the picture's.
        ground: Label where nothing is drawn.
    """

    shapes: tuple
    size: tuple | None = None
    ground: int = BACKGROUND

    def draw(self, size):
        """A Pillow image of labels, of the size the annotations say, else of `size`.

        Raises:
            Unreadable: The annotations say another size, or run lengths have another one or are of no use.
        """
        from PIL import Image, ImageDraw

        if self.size and sorted(self.size) != sorted(size):  # before a picture of any size is made
            raise Unreadable(f"the annotations say {self.size[0]} x {self.size[1]} pixels, its picture has {size[0]} x {size[1]}")
        image = Image.new("L", self.size or size, self.ground)
        pen = ImageDraw.Draw(image)
        for label, parts in self.shapes:
            for part in parts:
                if isinstance(part, RunLengths):
                    image.paste(label, mask=Image.fromarray(part.mask(image.size)))
                else:
                    pen.polygon(part, fill=label)
        return image


@dataclass(frozen=True)
class RunLengths:
    """A region as COCO writes crowds: how many pixels, down the columns, are outside, inside, outside, ...

    Args:
        counts: Numbers, or a text that packs them.
        size: `(height, width)`.
    """

    counts: tuple | str
    size: tuple

    def mask(self, size):
        """The region as uint8 `(height, width)`, 255 within, of a picture of `size` `(width, height)`."""
        width, height = size
        if tuple(self.size) != (height, width):
            raise Unreadable(f"a region of {self.size[1]} x {self.size[0]} pixels in a picture of {width} x {height}")
        lengths = unpacked(self.counts) if isinstance(self.counts, str) else list(self.counts)
        if any(length < 0 for length in lengths) or sum(lengths) != width * height:
            raise Unreadable(f"run lengths that add up to {sum(lengths)} pixels of {width * height}")
        values = np.where(np.arange(len(lengths)) % 2, 255, 0).astype("uint8")
        return np.ascontiguousarray(np.repeat(values, lengths).reshape(width, height).T)


def unpacked(text):
    """The run lengths in COCO's text: five bits a character, low ones first; from the third on differences to two before.

    pycocotools unpacks them as well, but draws without looking where the picture ends: a damaged file would write beyond it.
    """
    lengths, value, bits = [], 0, 0
    for character in text:
        five = ord(character) - 48
        value |= (five & 31) << bits
        bits += 5
        if five & 32:
            continue
        value -= 1 << bits if five & 16 else 0
        lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
        value, bits = 0, 0
    return lengths


def find_annotations(files):
    """The files among these that are COCO's, as `{path: content}`."""
    found = {}
    for path in files:
        if path.suffix.lower() != ".json":
            continue
        try:
            content = read_json(path, LARGEST)
        except (OSError, ValueError, json.JSONDecodeError):
            continue
        if isinstance(content, dict) and all(isinstance(content.get(key), list) for key in KEYS):
            found[path] = content
    return found


def read_annotations(folder, annotations, files, known=None):
    """`([(name, split, picture, Drawn)], notes, class names)`.

    Args:
        folder: Of the data, whose own name says nothing of splits.
        annotations: `{path: content}`.
        files: All files of the folder.
        known: `{class name: label}` of a trained model, whose labels are drawn; else categories are numbered by their ids.
            Where it knows no background, what no shape covers counts nothing.
    Raises:
        UserError: A file is not COCO as it should be, categories differ between the files, there is one that the model does
            not know, no picture is there, or no shape.
    """
    for path, content in annotations.items():
        refuse_damaged(path, content)
    tables = {path: {each["id"]: name_of(each) for each in content["categories"]} for path, content in annotations.items()}
    first, table = next(iter(tables.items()))
    other = next((path for path in tables if tables[path] != table), None)
    if other:
        raise UserError(f"{other.name}: its categories are not those of {first.name}. Give all splits the same list")
    labels, names, notes = numbered(table)
    if known:
        labels = known_labels(annotations, table, known)
    left_out, ground = {}, known.get("background", CROWD) if known else BACKGROUND
    listed, doubled, missing = _pictures_with_shapes(folder, annotations, files, labels, left_out)
    pairs, drawn = [], sum(len(shapes) for *_, shapes in listed)
    for name, split, file, size, shapes in listed:
        layers = tuple(shape[1:] for shape in sorted(shapes, key=lambda shape: -shape[0]))
        pairs.append((name, split, file, Drawn(layers, size if all(size) else None, ground)))
    notes += doubled_note(doubled)
    if not pairs:
        raise UserError(f"{first}: none of the pictures it names is there, such as {missing[0] if missing else 'any'}")
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
        notes.append(f"{len(missing)} pictures of the annotations are not there and left out: {shown}")
    shown = {why: ", ".join(ids[:3]) + (", ..." if ids[3:] else "") for why, ids in left_out.items()}
    lines = [f"{len(ids)} annotations {why}: id {shown[why]}" for why, ids in left_out.items()]
    if not drawn and not known:
        boxes = any(each.get("bbox") for content in annotations.values() for each in content["annotations"])
        advice = "they are boxes: train object-detection on them" if boxes else "annotate polygons or run lengths"
        raise UserError(f"{first}: no annotation has a shape that can be drawn ({'; '.join(lines) or 'there is none'}); {advice}")
    return pairs, notes + lines, names


def _pictures_with_shapes(folder, annotations, files, labels, left_out):
    """`([(name, split, file, size, shapes)], {file: file} of those listed twice, names of those that are not there)`.

    The arguments are those of `read_annotations` and `_shapes`.

    Raises:
        UserError: A picture is in two splits, or has two sizes; or polygons are fractions.
    """
    by_name, listed, doubled, missing = {}, {}, {}, []
    for file in files:
        by_name.setdefault(file.name, []).append(file)
    for path, content in annotations.items():
        split = split_within(path.stem) or (split_within(path.parent.name) if path.parent != folder else None)
        shapes = _shapes(path, content, labels, left_out)
        _refuse_fractions(path, shapes)
        for image in images_by_id(path, content["images"]).values():
            file = _file_of(image, path, by_name)
            if file is None:
                missing.append(str(image.get("file_name")))
                continue
            size = tuple(int(_number(path, image, side)) for side in ("width", "height"))
            add_once(listed, doubled, (str(image["file_name"]), split, file, size, shapes[image["id"]]), path)
    return list(listed.values()), doubled, missing


def add_once(listed, doubled, own, path):
    """Add a picture to those that are listed, or its shapes to those of the same picture.

    Args:
        listed: `{file: (name, split, file, size, shapes)}`, to which it is added.
        doubled: `{file: file}` of the pictures that come more than once.
        own: `(name, split, file, size, shapes)`.
        path: Of the annotation.
    Raises:
        UserError: The picture is in two splits, or has two sizes.
    """
    name, split, file, size, shapes = own
    source = os.path.normpath(file)
    first = listed.setdefault(source, own)
    if first is own:
        return
    if (first[1], first[3]) != (split, size):
        raise UserError(f"{path}: {name} is there twice, in two splits or of two sizes. Keep it in one place")
    first[-1].extend(shapes)
    doubled[source] = file


def doubled_note(doubled):
    """A line, if any, on the pictures that come more than once."""
    counted = f"{len(doubled)} pictures are annotated more than once and count once, with the shapes of all their annotations"
    return [f"{counted}: {first_of(list(doubled.values()))}"] if doubled else []


def refuse_damaged(path, content):
    """Refuse entries that are not what COCO has there.

    Raises:
        UserError: Naming the first one.
    """
    for key, needed in KEYS.items():
        for place, entry in enumerate(content[key], 1):
            found = [entry.get(name) for name in needed] if isinstance(entry, dict) else [None]
            if not all(type(each) in (int, str) and each != "" for each in found):
                received = json.dumps(entry, ensure_ascii=False)[:80]
                expected = f"an object with {' and '.join(needed)}"
                raise UserError(f"{path}: entry {place} of {key}: expected {expected}. Received: {received}. Mend or remove it")


def name_of(category):
    """The name of a category; `background`, however it is written, is what lies where no shape is."""
    name = str(category["name"]).strip()
    return "background" if name.lower() == "background" else name


def numbered(table):
    """`({id: label}, class names, notes)`: labels in the order of the ids; categories of one name are one class."""
    names, notes, ids = ["background"], [], {"background": []}
    for key in sorted(table, key=lambda key: (isinstance(key, str), key)):
        if table[key] not in ids:
            names.append(table[key])
        ids.setdefault(table[key], []).append(key)
    for name, keys in ids.items():
        if len(keys) > 1:
            notes.append(f"categories {', '.join(map(str, keys))} are all called {name}: they are one class")
    return {key: names.index(name) for name, keys in ids.items() for key in keys}, tuple(names), notes


def _shapes(path, content, labels, left_out):
    """`{image id: [(area, label, parts), ...]}`; under what keeps an annotation out, its id is added to `left_out`."""
    shapes = {image["id"]: [] for image in content["images"]}
    for each in content["annotations"]:
        parts, damaged = _parts(each.get("segmentation"))
        reasons = {
            "of pictures that are not in the list are left out": each["image_id"] not in shapes,
            "of categories that are not in the list are left out": each["category_id"] not in labels,
            "without a polygon of three points or run lengths are left out": not parts,
        }
        reason = next((reason for reason, holds in reasons.items() if holds), None)
        if reason or damaged:
            words = reason or "are drawn without a part that is no polygon of three points"
            left_out.setdefault(words, []).append(str(each.get("id")))
        if not reason:
            label = CROWD if each.get("iscrowd") else labels[each["category_id"]]
            shapes[each["image_id"]].append((_number(path, each, "area"), label, parts))
    return shapes


def _refuse_fractions(path, shapes):
    """Refuse a file most of whose polygons lie within the first pixel, as fractions of the picture do."""
    polygons = [part for own in shapes.values() for _, _, parts in own for part in parts if not isinstance(part, RunLengths)]
    tiny = [part for part in polygons if max(part) <= 1 + ROOM]
    if 2 * len(tiny) > len(polygons):
        shown = ", ".join(f"{value:.4g}" for value in tiny[0][:4])
        raise UserError(
            f"{path}: {len(tiny)} of {len(polygons)} polygons look like fractions, such as {shown}, ... Expected pixels: "
            "multiply them by the picture's width and height"
        )


def _number(path, entry, key):
    """A number of an entry, 0 where it has none.

    Raises:
        UserError: It is something else.
    """
    try:
        found = float(entry.get(key) or 0)
        if math.isfinite(found):
            return found
    except (TypeError, ValueError, OverflowError):
        pass
    received = f"{str(entry[key])[:40]}, id {entry.get('id')}"
    raise UserError(f"{path}: `{key}` must be a number. Received: {received}. Mend it, or leave it out")


def _parts(segmentation):
    """`(the polygons of an annotation that have an area, or its run lengths, whether there are others)`."""
    if isinstance(segmentation, dict):
        counts, size = segmentation.get("counts"), segmentation.get("size")
        counts = tuple(counts) if isinstance(counts, list) else counts
        numbers = isinstance(counts, tuple) and all(type(count) is int for count in counts)
        sized = isinstance(size, list) and len(size) == 2
        usable = sized and (numbers or isinstance(counts, str))
        return (RunLengths(counts, tuple(size)),) if usable else (), not usable
    listed = segmentation if isinstance(segmentation, list) else []
    parts = tuple(tuple(part) for part in listed if _is_polygon(part))
    return parts, len(parts) < len(listed)


def _is_polygon(part):
    """Whether it is a list of three points or more, x, y, x, y, ..., each a number that a picture can have."""
    pairs = isinstance(part, list) and len(part) >= 6 and len(part) % 2 == 0
    return pairs and all(type(each) in (int, float) and abs(each) < LARGEST for each in part)


def crowds_line(found, labels):
    """How many of the pixels count nothing, as a line; `""` where there are none. `found` are the `Values` of drawn masks."""
    share = found.share(~np.isin(found.values, labels))
    return f"{max(share, 0.001):.1%} of the pixels are crowds, or of no class, and count nothing" if share else ""


def refuse_one_class(found, classes, path):
    """Refuse drawn masks that hold one class, as where all shapes lie outside of their pictures.

    Raises:
        UserError: Naming it.
    """
    held = [name for name, value in zip(classes.names, classes.values, strict=True) if value in found.values]
    if len(held) < 2:
        single = held[0] if held else "none"
        advice = "Expected two or more: check that the shapes lie within their pictures"
        raise UserError(f"{path}: the masks hold a single class ({single}). {advice}")


def known_labels(annotations, table, known):
    """The label of each category of a trained model.

    Raises:
        UserError: There are shapes of another category.
    """
    used = {each.get("category_id") for content in annotations.values() for each in content["annotations"]}
    unknown = sorted(name for key, name in table.items() if key in used and name not in known)
    if unknown:
        first, there = next(iter(annotations)), ", ".join(list(known)[:12])
        raise UserError(f"{first}: classes the model does not know: {', '.join(unknown[:5])}. It knows {there}")
    return {key: known[name] for key, name in table.items() if name in known}


def _file_of(image, path, by_name):
    """The file of an entry of `images`: where the annotations say, else the only one of its name in the folder."""
    name = Path(str(image.get("file_name", "")))
    for folder in (path.parent, path.parent.parent):
        if (folder / name).is_file():
            return folder / name
    found = by_name.get(name.name, [])
    if split := split_within(path.stem):
        found = [file for file in found if split_within(file.parent.name) == split] or found
    return found[0] if len(found) == 1 else None
