"""Boxes in COCO's form: a JSON file of images, annotations and categories."""

import json

from apps.common.data.images.annotations import Annotation, Aside, Found, array_of, one_list, unannotated
from apps.common.data.reading import split_within
from apps.common.errors import UserError, count_skipped


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
    if not whole:
        return None
    # Captions come in files of the same kind; a file without annotations is of pictures without objects.
    rows = content["annotations"]
    return content if not rows or any(isinstance(each, dict) and "bbox" in each for each in rows) else None


def read_coco(contents, pictures):
    """COCO files, one a split by the name of the file or of a folder above it."""
    splits = {path: split_within(path.stem) or pictures.split(path) for path in contents}
    if len(contents) > 1:
        for path, split in splits.items():
            same = [each for each in contents if splits[each] == split]
            if split is None or len(same) > 1:
                raise UserError(f"{path}: several COCO files, and not one a split (train, val, test). Give one of them")
    found, notes, skipped, lists = [], [], [], {}
    for path, content in contents.items():
        try:
            names = category_names(path, content["categories"], notes)
            part, damaged = coco_file(path, content, splits[path] or "train", names, pictures)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise UserError(f"{path}: not COCO as it should be: {type(error).__name__} {error}; mend the file") from None
        found += part
        skipped += damaged
        lists[path], file = list(dict.fromkeys(names.values())), path.relative_to(pictures.root)
        if not content["annotations"]:
            held = len(content["images"])
            notes.append(f"{file}: no annotations: its pictures ({held}) count as pictures without objects")
    note = count_skipped(skipped, sum(len(content["annotations"]) for content in contents.values()), "boxes")
    notes += ([note] if note else []) + unannotated(found, pictures)
    return Found(found, one_list(lists, ordered=False), notes)


def category_names(path, categories, notes):
    """`{id: name}` in the order of the ids; categories of one name are one class, which is said."""
    names, ids = {}, {}
    for each in sorted(categories, key=lambda each: each["id"]):
        key, name = each["id"], str(each["name"])
        if names.setdefault(key, name) != name:
            raise UserError(f"{path}: category {key} is called {names[key]} and {name}; give each name an id of its own")
        ids.setdefault(name, {})[key] = None
    for name, keys in ids.items():
        note = f"categories {', '.join(map(str, keys))} are all called {name} and are one class"
        if len(keys) > 1 and note not in notes:  # the files of the other splits have the same
            notes.append(note)
    return names


def images_by_id(path, images):
    """`{id: entry}` of the list of images.

    Raises:
        UserError: Two files have one id, so that no one knows whose its annotations are.
    """
    found = {}
    for image in images:
        first, name = found.setdefault(image["id"], image).get("file_name"), image.get("file_name")
        if first != name:
            raise UserError(f"{path}: image {image['id']} is {first} and {name}; give each picture an id of its own")
    return found


def coco_file(path, content, split, names, pictures):
    """`(annotations, names of the boxes that are damaged)` of one file."""
    images = images_by_id(path, content["images"])
    boxes, damaged = {key: [] for key in images}, []
    for each in content["annotations"]:
        if each["image_id"] not in boxes:
            raise UserError(f"{path}: annotation {each.get('id')} is of image {each['image_id']}, which is not among images")
        if each["category_id"] not in names:
            raise UserError(f"{path}: annotation {each.get('id')} is of category {each['category_id']}, which has no name")
        if (box := coco_box(each)) is None:
            file = path.relative_to(pictures.root)
            damaged.append(f"annotation {each.get('id')} of {file} (bbox {str(each.get('bbox'))[:40]}, not four numbers)")
        else:
            name = names[each["category_id"]]
            boxes[each["image_id"]].append((Aside(name) if each.get("iscrowd") else name, box))
    found = []
    for key, image in images.items():
        own = boxes[key]
        source = pictures.find(image["file_name"], path.parent, split)
        size = (int(image.get("height") or 0), int(image.get("width") or 0))
        found.append(Annotation(source.name, split, source, array_of([box for _, box in own]), [name for name, _ in own], size))
    return found, damaged


def coco_box(row):
    """Left, top, right and bottom of the box of an annotation; `None` where it is not four numbers."""
    try:
        left, top, width, height = map(float, row.get("bbox"))
    except (TypeError, ValueError, OverflowError):
        return None
    return [left, top, left + width, top + height]
