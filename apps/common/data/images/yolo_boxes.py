"""Boxes in YOLO's form: a text file a picture."""

import re
from pathlib import Path

import numpy as np

from apps.common.data.images.annotations import Annotation, Found, array_of, number, one_list, split_from
from apps.common.errors import UserError

CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
YAML = (".yaml", ".yml")


def is_yolo(path):
    """Whether the first line of a text file is a class number and at least four numbers."""
    if path.name.lower() in CLASS_LISTS:
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            line = next((line for line in file if line.strip()), "")
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    words = line.split()
    return len(words) >= 5 and all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|nan|-?inf", word.lower()) for word in words)


def read_yolo(labels, files, pictures):
    """YOLO text: `class x y width height` a line (or the corners of a polygon), beside the picture or in `labels`."""
    names = one_list({path: read for path in files if (read := class_list(path))}, ordered=True)
    own, found = {}, []
    for picture in pictures.paths:
        path = next((each for each in label_paths(picture) if each.is_file()), None)
        own[path] = picture
        boxes, classes = yolo_file(path, names) if path else ([], [])
        split = split_from(picture, picture, pictures)
        found.append(Annotation(picture.name, split, picture, array_of(boxes), classes))
    for path in labels:
        if path not in own:
            split = split_from(path, path, pictures)
            found.append(Annotation(f"picture of {path.name}", split, path.with_suffix(".jpg"), *yolo_boxes(path, names)))
    notes = [] if names else ["no classes.txt or data.yaml: classes are called by their numbers"]
    return Found(found, names, notes)


def label_paths(picture):
    """Where the labels of a picture may lie: `images` above it replaced by `labels`, or beside it."""
    parts = list(picture.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() == "images":
            yield Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
    yield picture.with_suffix(".txt")


def class_list(path):
    """The classes that a file names, or `None` for another file."""
    if path.name.lower() in CLASS_LISTS:
        return [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if path.suffix.lower() not in YAML:
        return None
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8-sig"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged YAML ({error}); mend it") from None
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        names = [names[key] for key in sorted(names)]
    return [str(name) for name in names] if isinstance(names, list) else None


def yolo_boxes(path, names):
    boxes, classes = yolo_file(path, names)
    return array_of(boxes), classes


def yolo_file(path, names):
    boxes, classes = [], []
    for place, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        if len(words) < 5 or (len(words) > 5 and len(words) % 2 == 0):
            raise UserError(f"{path}: line {place}: expected class, x, y, width and height. Received: {line[:60]}")
        index, *numbers = (number(word, path) for word in words)
        if not index.is_integer() or index < 0 or (names and index >= len(names)):
            known = f"one of the {len(names)} classes" if names else "a whole number"
            raise UserError(f"{path}: line {place}: expected {known}. Received: class {words[0]}")
        if len(numbers) == 4:
            x, y, width, height = numbers
            boxes.append([x - width / 2, y - height / 2, x + width / 2, y + height / 2])
        else:
            corners = np.array(numbers).reshape(-1, 2)
            boxes.append([*corners.min(0), *corners.max(0)])
        classes.append(names[int(index)] if names else str(int(index)))
    return boxes, classes
