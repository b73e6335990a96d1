"""COCO's annotation files as masks: polygons and run lengths drawn, the small ones over the large ones."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.data.images.decoding import Unreadable
from apps.common.data.reading import split_within
from apps.common.errors import UserError
from apps.common.files import read_json

KEYS = ("images", "annotations", "categories")
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
            Unreadable: Run lengths of another size, or of no use.
        """
        from PIL import Image, ImageDraw

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
        UserError: Categories differ between the files, there is one that the model does not know, or no picture is there.
    """
    tables = {path: {each["id"]: str(each["name"]) for each in content["categories"]} for path, content in annotations.items()}
    first, table = next(iter(tables.items()))
    other = next((path for path in tables if tables[path] != table), None)
    if other:
        raise UserError(f"{other.name}: its categories are not those of {first.name}. Give all splits the same list")
    labels = {key: place for place, key in enumerate(sorted(table), 1)}
    if known:
        labels = known_labels(annotations, table, known)
    names = ("background", *(table[key] for key in sorted(table)))
    by_name, pairs, notes, missing, left_out = {}, [], [], [], 0
    for file in files:
        by_name.setdefault(file.name, []).append(file)
    for path, content in annotations.items():
        split = split_within(path.stem) or (split_within(path.parent.name) if path.parent != folder else None)
        shapes = {}
        for each in content["annotations"]:
            parts, label = _parts(each.get("segmentation")), labels.get(each.get("category_id"))
            if not parts or label is None:
                left_out += 1
                continue
            label = CROWD if each.get("iscrowd") else label
            shapes.setdefault(each.get("image_id"), []).append((float(each.get("area") or 0), label, parts))
        for image in content["images"]:
            file = _file_of(image, path, by_name)
            if file is None:
                missing.append(str(image.get("file_name")))
                continue
            drawn = sorted(shapes.get(image["id"], ()), key=lambda shape: -shape[0])
            size = (image["width"], image["height"]) if image.get("width") and image.get("height") else None
            ground = known.get("background", CROWD) if known else BACKGROUND
            mask = Drawn(tuple((label, parts) for _, label, parts in drawn), size, ground)
            pairs.append((image["file_name"], split, file, mask))
    if not pairs:
        raise UserError(f"{first}: none of the pictures it names is there, such as {missing[0] if missing else 'any'}")
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
        notes.append(f"{len(missing)} pictures of the annotations are not there and left out: {shown}")
    if left_out:
        notes.append(f"{left_out} annotations without a polygon of three points or run lengths are left out")
    return pairs, notes, names


def _parts(segmentation):
    """The polygons of an annotation that have an area, or its run lengths; `()` where there are none."""
    if isinstance(segmentation, dict):
        counts, size = segmentation.get("counts"), segmentation.get("size")
        counts = tuple(counts) if isinstance(counts, list) else counts
        numbers = isinstance(counts, tuple) and all(type(count) is int for count in counts)
        sized = isinstance(size, list) and len(size) == 2
        return (RunLengths(counts, tuple(size)),) if sized and (numbers or isinstance(counts, str)) else ()
    return tuple(tuple(part) for part in segmentation if len(part) >= 6) if isinstance(segmentation, list) else ()


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
