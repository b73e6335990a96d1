"""Boxes in YOLO's form: a text file a picture."""

import re
from collections import Counter
from pathlib import Path

import numpy as np

from apps.common.data.decoded import western_text_of
from apps.common.data.images.annotations import Annotation, Found, array_of, first_of, number, one_list, split_from
from apps.common.data.images.yolo_splits import split_named
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


def read_yolo(labels, files, pictures, given=None):
    """YOLO text: `class x y width height` a line (or the corners of a polygon), beside the picture or in `labels`.

    Splits are those that a data.yaml names (the one that is `given`, if any), else lists of paths, else folders.
    """
    contents, notes = yaml_contents(files)
    names = one_list(class_lists(files, contents, notes), ordered=True)
    named = {given} if given in contents else {path for path in contents if "names" in contents[path]}
    contents = {path: content for path, content in contents.items() if path in named}
    splits, said = split_named(files, contents, pictures)
    own, bare, found = set(), [], []
    for picture in pictures.paths:
        path = next((each for each in label_paths(picture) if each.is_file()), None)
        own.add(path)
        split = splits[picture] if splits else split_from(picture, picture, pictures)
        if split is None:
            continue
        if path is None:
            bare.append(picture)
        boxes, classes = yolo_file(path, names) if path else ([], [])
        found.append(Annotation(picture.name, split, picture, array_of(boxes), classes))
    notes += said
    if bare:
        counted = f"{len(bare)} of {len(found)} pictures have no label file and count as pictures without objects"
        notes.append(f"{counted}: {first_of(bare)}")
    for path in labels:
        if path not in own:
            split = split_from(path, path, pictures)
            found.append(Annotation(f"picture of {path.name}", split, path.with_suffix(".jpg"), *yolo_boxes(path, names)))
    if not names:
        notes.append("no classes.txt or data.yaml: classes are called by their numbers")
    return Found(found, names, notes)


def label_paths(picture):
    """Where the labels of a picture may lie: `images` above it replaced by `labels`, or beside it."""
    parts = list(picture.parts)
    for place in reversed(range(len(parts) - 1)):
        if parts[place].lower() == "images":
            yield Path(*parts[:place], "labels", *parts[place + 1 :]).with_suffix(".txt")
    yield picture.with_suffix(".txt")


def yaml_contents(files):
    """`({path: content}, notes)` of the YAML files that name classes or, as a mapping does, anything else."""
    import yaml

    contents, notes = {}, []
    for path in (each for each in files if each.suffix.lower() in YAML):
        text, said = western_text_of(path, "a data.yaml")
        try:
            content = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError) as error:
            raise UserError(f"{path}: damaged YAML ({error}); mend it") from None
        if isinstance(content, dict):
            contents[path] = content
            notes += said
    return contents, notes


def class_lists(files, contents, notes):
    """`{path: class names}` of the lists of classes and of the YAML files that have one.

    Raises:
        UserError: A name stands in a list twice, or the numbers of the classes have gaps.
    """
    lists = {path: names for path, content in contents.items() if (names := yaml_names(path, content))}
    for path in (each for each in files if each.name.lower() in CLASS_LISTS):
        text, said = western_text_of(path, "the name of a class a line")
        notes += said
        if names := [line.strip() for line in text.splitlines() if line.strip()]:
            lists[path] = names
    for path, names in lists.items():
        repeated = next((name for name, count in Counter(names).items() if count > 1), None)
        if repeated is not None:
            raise UserError(f"{path}: class {repeated} stands there twice. Name each once")
    return lists


def yaml_names(path, content):
    """The classes that a data.yaml names, in the order of their numbers, or `None`."""
    names = content.get("names")
    if isinstance(names, dict):
        numbered = {str(key): name for key, name in names.items()}
        if set(numbered) != {str(number) for number in range(len(names))}:
            received = ", ".join(list(numbered)[:5])
            raise UserError(f"{path}: names: expected numbers from 0 to {len(names) - 1}, each once. Received: {received}")
        names = [numbered[str(number)] for number in range(len(names))]
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
