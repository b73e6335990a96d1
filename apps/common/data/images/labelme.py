"""Shapes as LabelMe keeps them, a JSON file a picture: read as boxes, or drawn as masks."""

import numpy as np

from apps.common.data.images.annotations import (
    Annotation,
    Found,
    Pictures,
    array_of,
    renamed_note,
    split_from,
    unannotated,
)
from apps.common.data.images.coco_masks import CROWD, LARGEST, Drawn, add_once, doubled_note
from apps.common.data.images.decoding import is_image_name
from apps.common.errors import UserError
from apps.common.files import read_json

IGNORED, GROUND = "__ignore__", ("_background_", "background")  # labels that LabelMe's own converters know
CORNERS = 64  # of the polygon that is drawn for a circle


def find_labelme(files):
    """The files among these that are LabelMe's, as `{path: content}`, without the pictures that may lie in them."""
    found = {}
    for path in (each for each in files if each.suffix.lower() == ".json"):
        try:
            content = read_json(path, LARGEST)
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); make it readable") from None
        except ValueError as error:
            raise UserError(f"{path}: damaged JSON ({error}); mend or remove it") from None
        if isinstance(content, dict) and "imagePath" in content and isinstance(content.get("shapes"), list):
            found[path] = {key: value for key, value in content.items() if key != "imageData"}
    return found


def read_labelme(contents, pictures):
    """The boxes around the shapes: rectangles, polygons and circles."""
    found, left_out, renamed = [], [], {}
    for path, content in contents.items():
        outlines = [(label, points) for label, points in outlines_of(path, content, left_out) if label not in (IGNORED, *GROUND)]
        source, split = picture_of(path, content, pictures, renamed)
        boxes = array_of([[*points.min(0), *points.max(0)] for _, points in outlines])
        found.append(Annotation(source.name, split, source, boxes, [label for label, _ in outlines], size_of(path, content)))
    return Found(found, None, left_out_note(left_out) + renamed_note(renamed) + unannotated(found, pictures))


def read_labelme_masks(folder, contents, files, known=None):
    """`([(name, split, picture, Drawn)], notes, class names)`: shapes drawn in their order, the last at the top.

    Args:
        folder: Of the data.
        contents: `{path: content}`.
        files: All files of the folder.
        known: `{class name: label}` of a trained model, whose labels are drawn; else labels are in the order of the names.
    Raises:
        UserError: No picture is there, there is no shape, or one that the model does not know.
    """
    pictures = Pictures(folder, [file for file in files if is_image_name(file.name)])
    left_out, renamed, listed, doubled, missing, read = [], {}, {}, {}, [], []
    shapes = {path: outlines_of(path, content, left_out) for path, content in contents.items()}
    used = sorted({label for own in shapes.values() for label, _ in own} - {IGNORED, *GROUND})
    labels = numbers_of(used, known, folder)
    for path, content in contents.items():
        source, split = picture_of(path, content, pictures, renamed)
        if not source.is_file():
            missing.append(path.name)
            continue
        height, width = size_of(path, content)
        drawn = [(labels[label], (tuple(points.reshape(-1).tolist()),)) for label, points in shapes[path]]
        add_once(listed, doubled, (source.name, split, source, (width, height), drawn), path)
        read.append(Annotation(source.name, split, source, array_of([]), []))
    if not listed:
        raise UserError(f"{folder}: the picture of no file of LabelMe is there, such as that of {missing[0]}")
    notes = left_out_note(left_out) + renamed_note(renamed) + doubled_note(doubled) + unannotated(read, pictures)
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
        notes.append(f"{len(missing)} annotations whose picture is not there are left out: {shown}")
    pairs = []
    for name, split, file, size, drawn in listed.values():
        pairs.append((name, split, file, Drawn(tuple(drawn), size if all(size) else None, labels["background"])))
    return pairs, notes, ("background", *used)


def numbers_of(used, known, folder):
    """`{name: label}` of the shapes' names, and of what LabelMe's converters call background and ignored.

    Raises:
        UserError: There is no name, or one that the model does not know.
    """
    if not used and not known:
        raise UserError(f"{folder}: no shape of a class in LabelMe's files. Expected polygons around what is to be told apart")
    labels = known or {name: place for place, name in enumerate(("background", *used))}
    unknown = [name for name in used if name not in labels]
    if unknown:
        there = ", ".join(list(labels)[:12])
        raise UserError(f"{folder}: classes the model does not know: {', '.join(unknown[:5])}. It knows {there}")
    return {**labels, **dict.fromkeys(GROUND, labels.get("background", CROWD)), IGNORED: CROWD}


def outlines_of(path, content, left_out):
    """`[(label, points (n, 2))]`: the polygon around each shape that has an area; names of the others go to `left_out`."""
    found = []
    for place, shape in enumerate(content["shapes"], 1):
        label = str(shape.get("label") or "").strip() if isinstance(shape, dict) else ""
        kind = (shape.get("shape_type") or "polygon") if label else "no label"
        points = outline(kind, shape.get("points")) if label else None
        if points is None:
            left_out.append(f"{path.name} (shape {place}: {kind})")
        else:
            found.append((label, points))
    return found


def outline(kind, points):
    """The corners `(n, 2)` of a shape; `None` where it has no area or is damaged."""
    try:
        points = np.array(points, "float64").reshape(-1, 2)
    except (TypeError, ValueError, OverflowError):
        return None
    if not np.all(np.isfinite(points)) or np.any(np.abs(points) > LARGEST):
        return None
    if kind == "rectangle" and len(points) >= 2:
        (left, top), (right, bottom) = points.min(0), points.max(0)
        return np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    if kind == "circle" and len(points) == 2:
        angles = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
        return points[0] + np.hypot(*(points[1] - points[0])) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    return points if kind in ("polygon", "rotation") and len(points) >= 3 else None


def picture_of(path, content, pictures, renamed):
    """`(the picture of a file, its split)`."""
    source = pictures.find_of(str(content.get("imagePath") or "").strip(), path, None, renamed)
    return source, split_from(source, path, pictures)


def size_of(path, content):
    """`(height, width)` as the file has it, 0 where it has none."""
    sizes = [content.get(key) or 0 for key in ("imageHeight", "imageWidth")]
    if not all(type(size) in (int, float) and 0 <= size < LARGEST for size in sizes):
        raise UserError(f"{path}: imageHeight and imageWidth must be numbers. Received: {str(sizes)[:60]}. Mend or remove them")
    return tuple(int(size) for size in sizes)


def left_out_note(left_out):
    """A line, if any, on shapes that have no area."""
    if not left_out:
        return []
    shown = "; ".join(left_out[:5]) + (f"; and {len(left_out) - 5} more" if len(left_out) > 5 else "")
    return [f"{len(left_out)} shapes that are no rectangle, polygon or circle with a label are left out: {shown}"]
