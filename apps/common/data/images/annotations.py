"""Boxes as people keep them beside their pictures: PASCAL VOC, COCO JSON and YOLO text, found by looking."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from apps.common.data.images.decoding import is_image_name
from apps.common.data.reading import split_of, split_within, visible_files
from apps.common.errors import UserError

FORMATS = (
    "PASCAL VOC (an .xml file a picture, ImageSets or split folders), COCO (.json with images, annotations and categories) "
    "or YOLO (a .txt file a picture, classes.txt or data.yaml)"
)
CLASS_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class Annotation:
    """What is said of one picture, as it stands in the file.

    Args:
        name: Of the picture, for messages.
        split: `"train"`, `"validation"` or `"test"`.
        source: Path of the picture, there or not.
        boxes: `(n, 4)`, left, top, right, bottom: pixels, or fractions where `size` is `None`.
        classes: A name each.
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


def find_annotations(path):
    """The annotated pictures under a folder, or of one COCO file or one `data.yaml`.

    Raises:
        UserError: There are none, or they contradict one another.
    """
    path = Path(path)
    root = path if path.is_dir() else path.parent
    if not path.is_dir() and root.name.lower() in ("annotations", "labels"):  # the pictures lie beside this folder
        root = root.parent
    files = visible_files(root)
    if not files:
        raise UserError(f"{path}: the folder is empty. Expected {FORMATS}")
    pictures = Pictures(root, [file for file in files if is_image_name(file.name)])
    if path.is_file():
        if path.suffix.lower() == ".json":
            contents = {path: coco_content(path)}
            if not contents[path]:
                raise UserError(f"{path}: not COCO: expected an object with images, annotations and categories")
            return read_coco(contents, pictures)
        if path.suffix.lower() not in YAML:
            raise UserError(f"{path}: not a set of annotated pictures. Expected a folder with {FORMATS}")
    contents = {file: coco_content(file) for file in files if file.suffix.lower() == ".json"}
    contents = {file: content for file, content in contents.items() if content}
    if contents:
        return read_coco(contents, pictures)
    found = [file for file in files if file.suffix.lower() == ".xml" and voc_root(file) is not None]
    if found:
        lists = [file for file in files if "ImageSets" in file.parts and file.suffix.lower() == ".txt"]
        return read_voc(found, [file for file in lists if file.parent.name == "Main"] or lists, pictures)
    labels = [file for file in files if file.suffix.lower() == ".txt" and is_yolo(file)]
    if labels:
        return read_yolo(labels, files, pictures)
    seen = f"{len(pictures.paths)} pictures" if pictures.paths else "no pictures either"
    raise UserError(f"{path}: no annotation found ({seen}). Expected {FORMATS}")


class Pictures:
    """The picture files under a folder, found again by the names that annotations give them."""

    def __init__(self, root, paths):
        self.root, self.paths, self.by_name = root, paths, {}
        for path in paths:
            self.by_name.setdefault(path.name, []).append(path)

    def find(self, name, beside, split=None):
        """The picture called `name` in a file that lies in the folder `beside`; where it would be, if it is nowhere.

        Of several of that name the one whose path ends as `name` does, then the one of the split, then the nearest counts.
        """
        name = str(name).replace("\\", "/")
        if is_image_name(name) and (beside / name).is_file():
            return beside / name

        def near(path):
            shared = sum(a == b for a, b in zip(path.parts, beside.parts, strict=False))
            return path.as_posix().endswith("/" + name), split is not None and self.split(path) == split, shared

        return max(self.by_name.get(name.rpartition("/")[2], ()), key=near, default=beside / name)

    def split(self, path):
        """The split that a folder above a file names, or `None`."""
        folders = path.relative_to(self.root).parts[:-1]
        return next((split for part in reversed(folders) if (split := split_within(part))), None)


def array_of(boxes):
    return np.array(boxes, dtype="float64").reshape(-1, 4)


# PASCAL VOC


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
    found, alone = [], 0
    for path in paths:
        split = next(iter(listed.get(path.stem, ())), None)
        if listed and split is None:
            alone += 1
            continue
        annotation = voc_annotation(path, split, pictures)
        found.append(annotation)
    missing = sorted(listed.keys() - {path.stem for path in paths})
    if missing:
        raise UserError(f"{lists[0].parent}: no annotation of {missing[0]} ({len(missing)} such); add it or take it off the list")
    notes = [f"{alone} annotations that no list in ImageSets names are left out"] if alone else []
    return Found(found, None, notes)


def voc_annotation(path, split, pictures):
    top, boxes, classes = voc_root(path), [], []
    for thing in top.findall("object"):
        box = thing.find("bndbox")
        name = (thing.findtext("name") or "").strip()
        if box is None or not name:
            raise UserError(f"{path}: an object without a name or a bndbox; mend or remove it")
        boxes.append([number(box.findtext(side), path) for side in ("xmin", "ymin", "xmax", "ymax")])
        classes.append(name)
    name = (top.findtext("filename") or "").strip() or path.stem
    source = pictures.find(name, path.parent, split)
    if not source.is_file():  # renamed pictures whose annotation still has the old name
        endings = (path.stem + each.suffix for each in pictures.paths if each.stem == path.stem)
        source = next((pictures.find(each, path.parent, split) for each in endings), source)
    size = [int(number(top.findtext(f"size/{side}") or "0", path)) for side in ("height", "width")]
    split = split or split_from(source, path, pictures)
    return Annotation(source.name, split, source, array_of(boxes), classes, tuple(size))


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


# COCO


def coco_content(path):
    """The content of a COCO file, or `None` for other JSON."""
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
    except ValueError as error:
        raise UserError(f"{path}: damaged JSON ({error}); mend or remove it") from None
    parts = ("images", "annotations", "categories")
    whole = isinstance(content, dict) and all(isinstance(content.get(part), list) for part in parts)
    # Captions and key points come in files of the same kind.
    return content if whole and any("bbox" in each for each in content["annotations"][:100]) else None


def read_coco(contents, pictures):
    """COCO files, one a split by the name of the file or of a folder above it."""
    splits = {path: split_within(path.stem) or pictures.split(path) for path in contents}
    if len(contents) > 1:
        for path, split in splits.items():
            same = [each for each in contents if splits[each] == split]
            if split is None or len(same) > 1:
                raise UserError(f"{path}: several COCO files, and not one a split (train, val, test). Give one of them")
    found, notes, lists = [], [], {}
    for path, content in contents.items():
        try:
            part, names, crowds = coco_file(path, content, splits[path] or "train", pictures)
        except (KeyError, TypeError, AttributeError) as error:
            raise UserError(f"{path}: not COCO as it should be: {type(error).__name__} {error}; mend the file") from None
        found, lists[path] = found + part, names
        if crowds:
            notes.append(f"{path.name}: {crowds} boxes of crowds left out")
    return Found(found, one_list(lists, ordered=False), notes)


def coco_file(path, content, split, pictures):
    names = {each["id"]: str(each["name"]) for each in content["categories"]}
    boxes, crowds = {image["id"]: [] for image in content["images"]}, 0
    for each in content["annotations"]:
        if each["image_id"] not in boxes:
            raise UserError(f"{path}: annotation {each.get('id')} is of image {each['image_id']}, which is not among images")
        if each["category_id"] not in names:
            raise UserError(f"{path}: annotation {each.get('id')} is of category {each['category_id']}, which has no name")
        if each.get("iscrowd"):
            crowds += 1
        else:
            left, top, width, height = map(float, each["bbox"])
            boxes[each["image_id"]].append((names[each["category_id"]], [left, top, left + width, top + height]))
    found = []
    for image in content["images"]:
        own = boxes[image["id"]]
        source = pictures.find(image["file_name"], path.parent, split)
        size = (int(image.get("height") or 0), int(image.get("width") or 0))
        found.append(Annotation(source.name, split, source, array_of([box for _, box in own]), [name for name, _ in own], size))
    return found, [names[key] for key in sorted(names)], crowds


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


# YOLO


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
