"""Which pictures of a YOLO data set are in which split: as its data.yaml says, or Darknet's lists of paths."""

import os
from collections import Counter
from pathlib import Path, PurePosixPath

from apps.common.data.decoded import western_text_of
from apps.common.data.images.annotations import first_of
from apps.common.data.images.decoding import is_image_name
from apps.common.data.reading import split_of
from apps.common.errors import UserError

# Whichever split comes first has a picture that several name: what is held out is not trained on.
ORDER = ("test", "validation", "train")


def split_named(files, contents, pictures):
    """`({picture: split, None for one that no split has}, notes)`; empty where no file names splits, or only what is not there.

    Pictures that no file names keep the split of the folder above them, or are to train on, where no file names that split.

    Args:
        files: All there are, among them Darknet's `train.txt`, `valid.txt` and `test.txt` of paths.
        contents: `{path: content}` of the YAML files, which come first.
        pictures: The `Pictures` there are.
    Raises:
        UserError: Two YAML files name different splits.
    """
    found, notes = {}, []
    for path, content in contents.items():
        named, said = splits_of_yaml(path, content, pictures)
        notes += said
        if named:
            found[path] = named
    first = next(iter(found), None)
    for path, named in found.items():
        if named != found[first]:
            raise UserError(f"{path} and {first} name different splits. Give one of the two instead of the folder")
    if first:
        return with_the_others(found[first], first.name, pictures, notes)
    named = {}
    for path in files:
        if (split := split_of(path.stem)) and is_list(path):
            listed, said = listed_pictures(path, pictures)
            named.setdefault(split, []).extend(listed)
            notes += said
    named = {split: listed for split, listed in named.items() if listed}
    return with_the_others(named, "the lists", pictures, notes) if named else ({}, notes)


def with_the_others(named, source, pictures, notes):
    """The split of every picture by `{split: pictures}`, and the notes with those on what is named twice or nowhere."""
    found = {}
    for order in (ORDER, ORDER[::-1]):
        found = {picture: split for split in reversed(order) for picture in named.get(split, ())}
        if "train" in found.values() or "train" not in named:
            break
    twice = [picture for picture, count in Counter(each for own in named.values() for each in set(own)).items() if count > 1]
    if twice := sorted(twice):
        kept = ", ".join(sorted({found[picture] for picture in twice}))
        notes.append(f"{len(twice)} pictures are in several splits of {source} and count for {kept} alone: {first_of(twice)}")
    for picture in pictures.paths:
        if picture not in found:
            split = pictures.split(picture) or "train"
            found[picture] = None if split in named else split
    alone = [picture for picture, split in found.items() if split is None]
    if alone:
        notes.append(f"{len(alone)} pictures that no split of {source} has are left out: {first_of(alone)}")
    return found, notes


def splits_of_yaml(path, content, pictures):
    """`({split: pictures}, notes)` by the keys train, val and test of a data.yaml: a folder, a list of paths, or several."""
    bases, named, notes = [path.parent], {}, []
    if isinstance(content.get("path"), str):
        bases.insert(0, path.parent / content["path"])
    for key, values in content.items():
        split = split_of(key)
        for value in values if isinstance(values, list) else [values]:
            if split is None or not isinstance(value, str) or not value.strip():
                continue
            inside, said = pictures_at(value.strip(), bases, pictures)
            if inside:
                named.setdefault(split, []).extend(inside)
            else:
                notes.append(f"{path.name}: {key}: no picture is at {value}, which is passed over")
            notes += said
    return named, notes


def pictures_at(value, bases, pictures):
    """The pictures in the folder, or of the list, that a path names as far as it is there, and notes.

    Data sets are moved: of `/content/cells/train/images` or `../train/images` the end counts that lies under a base.
    """
    parts = PurePosixPath(value.replace("\\", "/")).parts
    folders = {folder for parent in {path.parent for path in pictures.paths} for folder in (parent, *parent.parents)}
    for start in range(max(1, len(parts))):
        for base in bases:
            place = Path(os.path.normpath(base.joinpath(*parts[start:])))
            if place in folders:
                return [path for path in pictures.paths if path.is_relative_to(place)], []
            if place.suffix.lower() == ".txt" and place.is_file():
                return listed_pictures(place, pictures)
    return [], []


def is_list(path):
    """Whether the first line of a text file is the path of a picture."""
    if path.suffix.lower() != ".txt":
        return False
    with open(path, encoding="utf-8", errors="replace") as file:
        return is_image_name(next((line.strip() for line in file if line.strip()), ""))


def listed_pictures(path, pictures):
    """The pictures that a list names, a path a line, and notes on those that are not there."""
    text, notes = western_text_of(path, "the path of a picture a line")
    names = [line.strip() for line in text.splitlines() if line.strip()]
    known, found, missing = set(pictures.paths), [], []
    for name in names:
        source = Path(os.path.normpath(pictures.find(name, path.parent)))
        (found if source in known else missing).append(source)
    if missing:
        notes.append(f"{path.name}: {len(missing)} of the {len(names)} pictures it names are not there: {first_of(missing)}")
    return found, notes
