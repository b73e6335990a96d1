"""COCO's annotation files as masks: polygons drawn, the small ones over the large ones."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from apps.common.data.reading import split_of
from apps.common.errors import UserError
from apps.common.files import read_json

KEYS = ("images", "annotations", "categories")
LARGEST = 1_000_000_000
BACKGROUND, CROWD = 0, 255


@dataclass(frozen=True)
class Drawn:
    """A mask that is drawn: `((label, ((x, y, x, y, ...), ...)), ...)`, the first at the bottom, on `(width, height)`."""

    shapes: tuple
    size: tuple | None = None

    def draw(self, size):
        """A Pillow image of labels, of the size the annotations say, else of `size`."""
        from PIL import Image, ImageDraw

        image = Image.new("L", self.size or size, BACKGROUND)
        pen = ImageDraw.Draw(image)
        for label, polygons in self.shapes:
            for polygon in polygons:
                pen.polygon(polygon, fill=label)
        return image


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


def read_annotations(annotations, files, known=None):
    """`([(name, split, picture, Drawn)], notes, class names)`.

    Args:
        annotations: `{path: content}`.
        files: All files of the folder.
        known: `{class name: label}` of a trained model, whose labels are drawn; else categories are numbered by their ids.
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
        split = _split_in(path.stem) or _split_in(path.parent.name)
        shapes = {}
        for each in content["annotations"]:
            polygons, label = each.get("segmentation"), labels.get(each.get("category_id"))
            usable = [tuple(p) for p in polygons if len(p) >= 6] if isinstance(polygons, list) else []
            if not usable or label is None:
                left_out += 1
                continue
            label = CROWD if each.get("iscrowd") else label
            shapes.setdefault(each.get("image_id"), []).append((float(each.get("area") or 0), label, tuple(usable)))
        for image in content["images"]:
            file = _file_of(image, path, by_name)
            if file is None:
                missing.append(str(image.get("file_name")))
                continue
            drawn = sorted(shapes.get(image["id"], ()), key=lambda shape: -shape[0])
            size = (image["width"], image["height"]) if image.get("width") and image.get("height") else None
            mask = Drawn(tuple((label, polygons) for _, label, polygons in drawn), size)
            pairs.append((image["file_name"], split, file, mask))
    if not pairs:
        raise UserError(f"{first}: none of the pictures it names is there, such as {missing[0] if missing else 'any'}")
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
        notes.append(f"{len(missing)} pictures of the annotations are not there and left out: {shown}")
    if left_out:
        notes.append(f"{left_out} annotations without a polygon of three points, or run-length encoded, are left out")
    return pairs, notes, names


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
    found = [file for file in found if _split_in(path.stem) and _split_in(file.parent.name) == _split_in(path.stem)] or found
    return found[0] if len(found) == 1 else None


def _split_in(name):
    """The split that a name such as `instances_train2017` speaks of, or `None`."""
    words = re.split(r"[^a-z]+", name.lower())
    return next((split_of(word) for word in words if split_of(word)), None)
