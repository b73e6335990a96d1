"""Whether boxes are in the unit that their format has: pixels, or fractions of the picture."""

import numpy as np

from apps.common.errors import UserError

ROOM = 0.01  # a box in fractions may reach out of its picture by so much


def refuse_other_units(annotations, path):
    """Refuse a split most of whose boxes are fractions where pixels are expected (VOC, COCO), or the other way (YOLO).

    Args:
        annotations: Those of `find_annotations`.
        path: Of the data.
    Raises:
        UserError: Naming the split and the first such box.
    """
    for split in dict.fromkeys(each.split for each in annotations):
        own = [each for each in annotations if each.split == split and each.classes]
        kinds = (
            ([each for each in own if each.size is not None], _are_fractions, "fractions. Expected pixels", "multiply"),
            ([each for each in own if each.size is None], _are_pixels, "pixels. Expected fractions", "divide"),
        )
        for some, are_other, what, advice in kinds:
            other = [(each, box) for each in some for box in each.boxes[are_other(each.boxes)]]
            total = sum(len(each.boxes) for each in some)
            if 2 * len(other) > total:
                shown = f"{other[0][0].name}: {', '.join(f'{value:.4g}' for value in other[0][1])}"
                raise UserError(
                    f"{path}: {len(other)} of {total} boxes of the {split} split look like {what}, as this format has them: "
                    f"{advice} them by the picture's width and height ({shown})"
                )


def _are_fractions(boxes):
    """Which boxes have an area and no side beyond the first pixel."""
    return np.all(boxes <= 1 + ROOM, axis=1) & np.all(boxes[:, 2:] > np.maximum(boxes[:, :2], 0), axis=1)


def _are_pixels(boxes):
    """Which boxes no centre and size from 0 to 1 can have made."""
    return np.any(np.abs(boxes - 0.5) > 1 + ROOM, axis=1)
