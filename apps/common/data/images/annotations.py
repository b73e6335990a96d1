"""What annotations of boxes have in common: what is said of a picture, and the pictures of which it is said."""

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apps.common.data.images.decoding import is_image_name
from apps.common.data.reading import common_end, split_within
from apps.common.errors import UserError


class Aside(str):
    """The class of a box that counts neither for nor against a detector: a crowd (COCO) or an object marked difficult (VOC)."""


@dataclass(frozen=True)
class Annotation:
    """What is said of one picture, as it stands in the file.

    Args:
        name: Of the picture, for messages.
        split: `"train"`, `"validation"` or `"test"`.
        source: Path of the picture, there or not.
        boxes: `(n, 4)`, left, top, right, bottom: pixels, or fractions where `size` is `None`.
        classes: A name each, `Aside` for those that are not trained on.
        size: `(height, width)` that the file gives the picture; `None` for fractions.
    """

    name: str
    split: str
    source: Path
    boxes: np.ndarray
    classes: list
    size: tuple | None = None


@dataclass
class Found:
    """What a reader found: annotations, the classes that a list names (or `None`), and lines for the user."""

    annotations: list
    class_names: list | None = None
    notes: list = field(default_factory=list)


class Pictures:
    """The picture files under a folder, found again by the names that annotations give them."""

    def __init__(self, root, paths):
        self.root, self.paths = root, paths
        self.by_name, self.by_stem = {}, {}
        for path in paths:
            self.by_name.setdefault(path.name, []).append(path)
            self.by_stem.setdefault(path.stem, []).append(path)

    def find(self, name, beside, split=None):
        """The picture called `name` in a file that lies in the folder `beside`; where it would be, if it is nowhere.

        Of several of that name the one counts whose path has the longest end in common with `name`, then the one of the
        split, then the nearest.
        """
        name = str(name).replace("\\", "/")
        if is_image_name(name) and (beside / name).is_file():
            return beside / name
        parts = [part for part in name.split("/") if part != "."]

        def near(path):
            shared = sum(a == b for a, b in zip(path.parts, beside.parts, strict=False))
            return common_end(path.parts, parts), split is not None and self.split(path) == split, shared

        return max(self.by_name.get(name.rpartition("/")[2], ()), key=near, default=beside / name)

    def find_of(self, name, path, split, notes):
        """The picture of a file that annotates one: the one that it names, or where that is not there, one of its own stem.

        A picture of that stem beside the named one or beside the file comes first: the name is that of before both were
        renamed, or of the file that was copied.

        Args:
            name: What the file calls its picture, `""` for nothing.
            path: Of the file.
            split: The one it is in, or `None`.
            notes: `{path: name}` to which the file is added where another picture than the named one is taken.
        """
        own = self.by_stem.get(path.stem, ())
        source = self.find(name or path.stem, path.parent, split)
        if not source.is_file():
            return self.find(own[0].name, path.parent, split) if own else source
        others = [each for each in own if each.parent in (source.parent, path.parent)]
        if source.stem == path.stem or not others:
            return source
        notes[path] = name
        return others[0]

    def split(self, path):
        """The split that a folder above a file names, or `None`."""
        folders = path.relative_to(self.root).parts[:-1]
        return next((split for part in reversed(folders) if (split := split_within(part))), None)


def unannotated(annotations, pictures, others=()):
    """A line, if any, on the pictures that no annotation is of, which are left out.

    A picture in another folder that is called as an annotated one is taken for its mask.

    Args:
        annotations: Those that are read.
        pictures: The `Pictures` there are.
        others: Stems of the annotations that are left out themselves.
    """
    sources = {Path(os.path.normpath(each.source)) for each in annotations}
    stems, folders = {path.stem for path in sources}, {path.parent for path in sources}
    alone, total = [], 0
    for path in pictures.paths:
        if path in sources:
            total += 1
        elif path.stem not in others and (path.parent in folders or path.stem not in stems):
            alone.append(path)
    counted = f"{len(alone)} of {total + len(alone)} pictures have no annotation and are left out"
    return [f"{counted}: {first_of(alone)}"] if alone else []


def renamed_note(renamed):
    """A line, if any, on annotations whose own name counts: `{path of the annotation: the picture that it names}`."""
    if not renamed:
        return []
    shown = ", ".join(f"{path.name} (it names {name})" for path, name in list(renamed.items())[:3])
    counted = f"{len(renamed)} annotations name another picture than the one called as they are, which counts"
    return [f"{counted}: {shown}{', ...' if len(renamed) > 3 else ''}"]


def first_of(paths):
    """The names of the first three files."""
    return ", ".join(path.name for path in paths[:3]) + (", ..." if len(paths) > 3 else "")


def array_of(boxes):
    return np.array(boxes, dtype="float64").reshape(-1, 4)


def split_from(source, path, pictures):
    for each in (source, path):
        if each.is_relative_to(pictures.root) and (split := pictures.split(each)):
            return split
    return "train"


def number(text, path):
    try:
        return float(text)
    except (TypeError, ValueError):
        raise UserError(f"{path}: expected a number in a box. Received: {text}") from None


def one_list(lists, ordered):
    """The class list that all files share.

    Raises:
        UserError: Two of them differ.
    """
    first = next(iter(lists), None)
    for path, names in lists.items():
        other = lists[first]
        if names != other if ordered else set(names) != set(other):
            differing = sorted(set(names) ^ set(other)) or names
            raise UserError(f"{path} and {first} do not have the same classes ({', '.join(differing[:5])}); make them agree")
    return lists.get(first)
