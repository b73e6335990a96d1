"""Pictures and the boxes in them as arrays, from any of the forms that people keep them in."""

import os
from dataclasses import dataclass, replace

import numpy as np

from apps.common.data.images.annotations import Aside, first_of
from apps.common.data.images.box_formats import FORMATS, find_annotations
from apps.common.data.images.box_units import refuse_other_units
from apps.common.data.images.decoding import ImageFile, Unreadable, open_image, read_image_files
from apps.common.data.images.threads import each_in_threads, workers_for
from apps.common.errors import UserError, count_skipped

SIDE = 256
SMALLEST = 0.5  # pixels of a box's side that make it one
SHAPE_ROOM = 0.02  # share by which a height may differ from that of the size beside the boxes
# What an orientation of EXIF that changes height for width makes of a point (x, y) of the stored picture, from 0 to 1.
TURNS = {
    5: lambda x, y: (y, x),
    6: lambda x, y: (1 - y, x),
    7: lambda x, y: (1 - y, 1 - x),
    8: lambda x, y: (y, 1 - x),
}


@dataclass(frozen=True)
class BoxedImages:
    """Pictures of one split with their boxes.

    Args:
        images: uint8 `(n, height, width, 3)`.
        boxes: float32 `(n, most, 4)`: left, top, right and bottom as fractions of the picture, zero where there is none.
        classes: int32 `(n, most)`, -1 where there is no box, `-2 - class` of what counts neither for nor against.
        paths: Of the pictures.
    """

    images: np.ndarray
    boxes: np.ndarray
    classes: np.ndarray
    paths: list

    def __len__(self):
        return len(self.images)


def read_boxed_images(path, *, image_size=None, class_names=None):
    """Pictures as uint8 arrays in memory and their boxes, the format found by looking.

    A box belongs to the upright picture, as labelling tools show it, unless the size beside it is that of the picture as
    it is stored, before EXIF turns it: then it turns with it. What of a box lies outside is cut off, a box without area
    left out.

    Args:
        path: A folder, a COCO file or a `data.yaml` (see `annotations.FORMATS`).
        image_size: The longer side that pictures are resized to, whose shape is kept where all have the same and else
            becomes a square; or `(height, width)`; 256 by default.
        class_names: Classes of a trained model, which the boxes must be of.
    Returns: `({split: BoxedImages}, class names, notes)`.
    Raises:
        UserError: Nothing that can be trained on, saying what was expected and what to do.
    """
    found = find_annotations(path)
    notes = list(found.notes)
    if not any(counted(each.classes) for each in found.annotations):
        raise UserError(f"{path}: no box in {len(found.annotations)} annotated pictures. Expected {FORMATS}")
    splits = sorted({each.split for each in found.annotations})
    trains = "train" not in splits and not class_names
    if trains and len(splits) > 1:
        raise UserError(f"{path}: no training pictures, only {', '.join(splits)}. Call the folder or list to train on train")
    sole = splits[0] if trains else None
    refuse_other_units(found.annotations, path)
    frames = read_frames(found.annotations)
    annotations, frames, said = without_misfits(found.annotations, frames)
    notes += said
    boxes, said = upright_boxes(annotations, frames)
    annotations, boxes, doubled = once_each(annotations, boxes, path)
    refuse_without_area(annotations, boxes, path, said)
    notes += said + doubled + aside_note(boxes)
    found = replace(found, annotations=annotations)
    names, said = choose_classes(found, boxes, sole or "train", path, class_names)
    notes += said
    size = picture_size({upright_size(frame) for frame in frames if frame}, image_size)
    files = [
        ImageFile(each.name, "train" if each.split == sole else each.split, str(place), each.source)
        for place, each in enumerate(annotations)
    ]
    read, said = read_image_files(files, path, image_size=size, channels=3)
    notes += said
    if not sole and not class_names and "train" not in read:
        raise UserError(f"{path}: no readable picture to train on")
    places = {split: labels.astype(int) for split, (_, labels, _) in read.items()}
    most = max(1, max(len(boxes[place][1]) for each in places.values() for place in each))
    position = {name: index for index, name in enumerate(names)}
    made = {}
    for split, (images, _, _) in read.items():
        corners, classes = padded([boxes[place] for place in places[split]], position, most)
        made[split] = BoxedImages(images, corners, classes, [annotations[place].source for place in places[split]])
    return made, names, notes


def read_frames(annotations):
    """`frame_of` each picture, `None` for those that cannot be read.

    Raises:
        UserError: These are too many.
    """
    sources = [each.source for each in annotations]
    frames = each_in_threads(sources, frame_of, "picture headers read", workers_for(sources))
    unread = [f"{each.name} ({frame})" for each, frame in zip(annotations, frames, strict=True) if isinstance(frame, Unreadable)]
    count_skipped(unread, len(frames), "images")
    return [None if isinstance(frame, Unreadable) else frame for frame in frames]


def without_misfits(annotations, frames):
    """Those whose boxes belong to pictures of another shape left out: `(annotations, frames, notes)`.

    Raises:
        UserError: These are too many.
    """
    kept, misfits = [], []
    for each, frame in zip(annotations, frames, strict=True):
        if frame and each.classes and is_of_another_shape(each.size, frame):
            height, width = upright_size(frame)
            misfits.append(f"{each.name} (its annotation says {each.size[1]} x {each.size[0]} pixels, it has {width} x {height})")
        else:
            kept.append((each, frame))
    note = count_skipped(misfits, len(annotations), "annotations")
    return [each for each, _ in kept], [frame for _, frame in kept], [note] if note else []


def once_each(annotations, boxes, path):
    """Each picture once, with the boxes of all that is said of it: `(annotations, boxes, notes)`.

    Raises:
        UserError: A picture is in two splits.
    """
    once, doubled = {}, {}
    for each, (corners, classes) in zip(annotations, boxes, strict=True):
        source = os.path.normpath(each.source)
        if source not in once:
            once[source] = each, corners, classes
            continue
        first, known, names = once[source]
        if first.split != each.split:
            raise UserError(f"{path}: {each.name} is in the {first.split} and the {each.split} split. Keep each picture in one")
        new = [row for row, name in enumerate(classes) if not is_among(corners[row], name, known, names)]
        once[source] = first, np.concatenate([known, corners[new]]), names + [classes[row] for row in new]
        doubled[source] = each.source
    counted = f"{len(doubled)} pictures are annotated more than once and count once, with the boxes of all their annotations"
    notes = [f"{counted}: {first_of(list(doubled.values()))}"] if doubled else []
    return [each for each, _, _ in once.values()], [tuple(own) for _, *own in once.values()], notes


def is_among(box, name, corners, classes):
    """Whether a box of a class is one of these."""
    return any(name == other and np.allclose(box, own, atol=1e-4) for own, other in zip(corners, classes, strict=True))


def refuse_without_area(annotations, boxes, path, notes):
    """Refuse a split none of whose boxes is one.

    Args:
        annotations: Those that are read.
        boxes: What `upright_boxes` leaves of them.
        path: Of the data.
        notes: Lines on what is left out.
    Raises:
        UserError: Naming the split.
    """
    for split in dict.fromkeys(each.split for each in annotations):
        own = [place for place, each in enumerate(annotations) if each.split == split and counted(each.classes)]
        if own and not any(counted(boxes[place][1]) for place in own):
            why = f" ({notes[0]})" if notes else ""
            raise UserError(
                f"{path}: no box of the {split} split has an area in its picture{why}. Expected the left side before the right "
                "one and the top above the bottom, within the picture: mend the boxes"
            )


def choose_classes(found, boxes, train, path, class_names=None):
    """The classes in their order, and lines for the user.

    Args:
        found: What the reader found.
        boxes: `[(corners, classes)]`, those of its annotations that are trained on.
        train: The split to train on.
        path: Of the data.
        class_names: Those of a trained model.
    Raises:
        UserError: A split has boxes of a class that training has not, or that the model does not know.
    """
    used = {}
    for each, (_, classes) in zip(found.annotations, boxes, strict=True):
        used.setdefault(each.split, set()).update(counted(classes))
    if class_names:
        unknown = sorted(set().union(*used.values()) - set(class_names))
        if unknown:
            known = ", ".join(class_names[:10]) + (", ..." if len(class_names) > 10 else "")
            raise UserError(f"{path}: classes the model does not know: {', '.join(unknown[:5])}. It knows {known}")
        return list(class_names), []
    trained = used.get(train, set())
    for split, names in used.items():
        if names - trained:
            only = ", ".join(sorted(names - trained)[:5])
            raise UserError(f"{path}: the {split} split has boxes of {only}, the train split none; make their classes agree")
    order = found.class_names or sorted(trained, key=int if all(name.isdecimal() for name in trained) else None)
    idle = [name for name in order if name not in trained]
    notes = [f"{len(idle)} classes without a box left out: {', '.join(idle[:5])}"] if idle else []
    return [name for name in order if name in trained], notes


def counted(names):
    """The class names of the boxes that are not aside."""
    return [name for name in names if not isinstance(name, Aside)]


def aside_note(boxes):
    """A line, if any, on the boxes that are aside."""
    total = sum(len(names) for _, names in boxes)
    aside = total - sum(len(counted(names)) for _, names in boxes)
    said = f"{aside} of {total} boxes are crowds or marked difficult: not trained on, and finding them is neither right nor wrong"
    return [said] if aside else []


def frame_of(source):
    """`(height, width, orientation)` of a picture as it is stored, from its header."""
    with open_image(source) as image:
        width, height = image.size
        try:
            return height, width, image.getexif().get(0x0112, 1) if "exif" in image.info else 1
        except Exception as error:
            raise Unreadable(f"damaged orientation: {error}") from None


def upright_size(frame):
    height, width, orientation = frame
    return (width, height) if orientation in TURNS else (height, width)


def picture_size(sizes, image_size):
    """The height and width all pictures get: the shape they share, in multiples of 8, else a square."""
    if isinstance(image_size, list | tuple):
        return tuple(image_size)
    side = image_size or SIDE
    height, width = next(iter(sizes)) if len(sizes) == 1 else (1, 1)
    return tuple(max(8, round(each * side / max(height, width) / 8) * 8) for each in (height, width))


def upright_boxes(annotations, frames):
    """`[(corners (n, 4) as fractions of the upright picture, classes)]`, and what was done to them.

    A picture whose frame is `None` has none.
    """
    made, without_area, clipped, turned, upright, total = [], [], 0, 0, 0, 0
    for each, frame in zip(annotations, frames, strict=True):
        if not frame:
            made.append((np.zeros((0, 4)), []))
            continue
        corners = in_fractions(each, frame)
        if stored := len(corners) > 0 and is_stored_size(each.size, frame):
            corners = turn_boxes(corners, frame[2])
        turned += stored
        upright += len(corners) > 0 and not stored and frame[2] in range(2, 9)
        inside = np.clip(corners, 0, 1)
        height, width = upright_size(frame)
        good = np.all((inside[:, 2:] - inside[:, :2]) * [width, height] >= SMALLEST, axis=1)
        good &= np.all(np.isfinite(corners), axis=1)
        total += len(corners)
        clipped += int(np.any(np.abs(inside - corners) > 1e-4, axis=1)[good].sum())
        without_area += [f"{each.name} ({each.classes[i]} {numbers(each.boxes[i])})" for i in np.flatnonzero(~good)]
        made.append((inside[good], [each.classes[i] for i in np.flatnonzero(good)]))
    notes = []
    if without_area:
        shown = "; ".join(without_area[:5]) + (f"; and {len(without_area) - 5} more" if len(without_area) > 5 else "")
        notes.append(f"left out {len(without_area)} of {total} boxes without area in the picture: {shown}")
    if clipped:
        notes.append(f"{clipped} of {total} boxes reach out of the picture; what is outside is cut off")
    if turned:
        notes.append(f"{turned} pictures are turned upright (EXIF), their boxes with them, as the size beside these says")
    if upright:
        notes.append(f"{upright} pictures are turned upright (EXIF), their boxes not: they are taken as drawn upright")
    return made, notes


def numbers(box):
    return ",".join(f"{value:.4g}" for value in box)


def in_fractions(annotation, frame):
    """Boxes as fractions: of the size that stands beside them, so that they fit a picture resized later."""
    if annotation.size is None:
        return annotation.boxes
    height, width = annotation.size if min(annotation.size) > 0 else upright_size(frame)
    return annotation.boxes / [width, height, width, height]


def is_stored_size(size, frame):
    """Whether a size, or `None`, is that of the picture as it is stored and can not be that of the one turned upright."""
    height, width, orientation = frame
    if orientation not in TURNS or height == width or not size or min(size) <= 0 or size[0] == size[1]:
        return False
    return (size[0] > size[1]) == (height > width)


def is_of_another_shape(size, frame):
    """Whether a size, or `None`, is that of the picture in no scale, neither upright nor as it is stored."""
    if not size or min(size) <= 0:
        return False
    shapes = [upright_size(frame), frame[:2]]
    return all(abs(size[0] * width / size[1] - height) > max(1, SHAPE_ROOM * height) for height, width in shapes)


def turn_boxes(corners, orientation):
    """Boxes `(n, 4)` as fractions of a stored picture as those of the upright one."""
    points = corners.reshape(-1, 2, 2)
    points = np.stack(TURNS[orientation](points[..., 0], points[..., 1]), axis=-1)
    # A box that was inside out must stay one: sides are ordered as they were.
    ordered = np.concatenate([points.min(1), points.max(1)], axis=1)
    inverted = np.any(corners[:, 2:] < corners[:, :2], axis=1)
    return np.where(inverted[:, None], ordered[:, [2, 3, 0, 1]], ordered)


def padded(boxes, position, most):
    """Arrays `(n, most, 4)` and `(n, most)` of `[(corners, class names)]`, without what is aside of an unknown class."""
    corners = np.zeros((len(boxes), most, 4), "float32")
    classes = np.full((len(boxes), most), -1, "int32")
    for row, (own, names) in enumerate(boxes):
        for place, (box, name) in enumerate(zip(own, names, strict=True)):
            if name in position:
                corners[row, place] = box
                classes[row, place] = -2 - position[name] if isinstance(name, Aside) else position[name]
    return corners, classes
