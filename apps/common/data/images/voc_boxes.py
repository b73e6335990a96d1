"""Boxes in PASCAL VOC's form: an XML file a picture, and lists of the splits."""

import math
from xml.etree import ElementTree

from apps.common.data.images.annotations import (
    Annotation,
    Aside,
    Found,
    array_of,
    number,
    renamed_note,
    split_from,
    unannotated,
)
from apps.common.data.reading import split_of
from apps.common.errors import UserError


def voc_root(path):
    """The `annotation` element of an XML file, or `None` for another file."""
    try:
        content = path.read_bytes()
        if b"<annotation" not in content[:4096]:
            return None
        if b"<!ENTITY" in content:  # entities can grow without end
            raise UserError(f"{path}: an XML file with entities is not read; remove them")
        return ElementTree.fromstring(content)
    except ElementTree.ParseError as error:
        raise UserError(f"{path}: damaged XML ({error}); mend or remove it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None


def read_voc(paths, lists, pictures):
    """PASCAL VOC; its splits from ImageSets/Main (train.txt, val.txt, test.txt), else from folders."""
    listed = {}
    for path in (each for each in lists if split_of(each.stem)):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.strip():
                listed.setdefault(line.split()[0], set()).add(split_of(path.stem))
    twice = sorted(name for name, splits in listed.items() if len(splits) > 1)
    if twice:
        raise UserError(f"{lists[0].parent}: {twice[0]} and {len(twice) - 1} more are in several splits; keep each in one")
    found, alone, renamed = [], set(), {}
    for path in paths:
        split = next(iter(listed.get(path.stem, ())), None)
        if listed and split is None:
            alone.add(path.stem)
            continue
        found.append(voc_annotation(path, split, pictures, renamed))
    missing = sorted(listed.keys() - {path.stem for path in paths})
    if missing:
        raise UserError(f"{lists[0].parent}: no annotation of {missing[0]} ({len(missing)} such); add it or take it off the list")
    notes = [f"{len(alone)} annotations that no list in ImageSets names are left out"] if alone else []
    return Found(found, None, notes + renamed_note(renamed) + unannotated(found, pictures, alone))


def voc_annotation(path, split, pictures, renamed):
    top, boxes, classes = voc_root(path), [], []
    for thing in top.findall("object"):
        box = thing.find("bndbox")
        name = (thing.findtext("name") or "").strip()
        if box is None or not name:
            raise UserError(f"{path}: an object without a name or a bndbox; mend or remove it")
        boxes.append([number(box.findtext(side), path) for side in ("xmin", "ymin", "xmax", "ymax")])
        classes.append(Aside(name) if (thing.findtext("difficult") or "").strip() in ("1", "true") else name)
    source = pictures.find_of((top.findtext("filename") or "").strip(), path, split, renamed)
    size = [number(top.findtext(f"size/{side}") or "0", path) for side in ("height", "width")]
    size = [int(side) if math.isfinite(side) else 0 for side in size]
    split = split or split_from(source, path, pictures)
    return Annotation(source.name, split, source, array_of(boxes), classes, tuple(size))
