"""Boxes: formats, overlaps, anchors, the coder of SSD, and non-maximum suppression, all with static shapes.

One format inside: corners `(left, top, right, bottom)` as fractions of the picture's width and height, along the last axis.
"""

import math

import keras
import numpy as np

from . import backend

__all__ = []

ops = keras.ops

SMALL = 1e-7  # keeps areas and sides away from zero
VARIANCES = (0.1, 0.2)  # of the coder's centres and sides (Liu et al., 2016)


def to_centers(boxes):
    """Corners to `(x, y, width, height)` about the centre, `(..., 4)` both."""
    left, top, right, bottom = ops.unstack(ops.convert_to_tensor(boxes), 4, axis=-1)
    return ops.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], axis=-1)


def to_corners(boxes):
    """`(x, y, width, height)` about the centre to corners, `(..., 4)` both."""
    x, y, width, height = ops.unstack(ops.convert_to_tensor(boxes), 4, axis=-1)
    return ops.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], axis=-1)


def from_pixels(boxes, height, width):
    """Corners in pixels of a picture of this size to fractions of it."""
    return ops.convert_to_tensor(boxes) / ops.convert_to_tensor(np.array([width, height] * 2, "float32"))


def to_pixels(boxes, height, width):
    """Corners as fractions of a picture of this size to pixels."""
    return ops.convert_to_tensor(boxes) * ops.convert_to_tensor(np.array([width, height] * 2, "float32"))


def clip(boxes):
    """What of each box lies inside the picture; one wholly outside has no area left."""
    return ops.clip(boxes, 0.0, 1.0)


def area(boxes):
    """Area of boxes given by corners, `(..., 4)` to `(...,)`; 0 of a box inside out."""
    left, top, right, bottom = ops.unstack(ops.convert_to_tensor(boxes), 4, axis=-1)
    return ops.maximum(right - left, 0.0) * ops.maximum(bottom - top, 0.0)


def _intersection_and_union(first, second):
    first, second = ops.convert_to_tensor(first), ops.convert_to_tensor(second)
    inner = ops.concatenate(
        [ops.maximum(first[..., :2], second[..., :2]), ops.minimum(first[..., 2:], second[..., 2:])], axis=-1
    )
    intersection = area(inner)
    return intersection, area(first) + area(second) - intersection


def iou(first, second):
    """Intersection over union of each box with its partner, `(..., 4)` with broadcasting to `(...,)`, in 0..1."""
    intersection, union = _intersection_and_union(first, second)
    return intersection / ops.maximum(union, SMALL)


def giou(first, second):
    """IoU less the empty share of the smallest box around both: `I / U - (C - U) / C`, in -1..1.

    Unlike IoU it says of boxes that do not touch how far apart they are.

    Shapes: `(..., 4)` with broadcasting, to `(...,)`.
    Reference: Rezatofighi et al., 2019, arXiv 1902.09630.
    """
    first, second = ops.convert_to_tensor(first), ops.convert_to_tensor(second)
    intersection, union = _intersection_and_union(first, second)
    outer = ops.concatenate(
        [ops.minimum(first[..., :2], second[..., :2]), ops.maximum(first[..., 2:], second[..., 2:])], axis=-1
    )
    around = ops.maximum(area(outer), SMALL)
    return intersection / ops.maximum(union, SMALL) - (around - union) / around


def pairwise(measure, first, second):
    """A measure of two boxes (`iou`, `giou`) for every pair: `(..., n, 4)` and `(..., m, 4)` to `(..., n, m)`."""
    return measure(ops.expand_dims(first, -2), ops.expand_dims(second, -3))


def grid(sizes):
    """The centre and the spacing of every cell of feature maps that cover the picture, map by map, row by row.

    Args:
        sizes: `(height, width)` of each map.
    Returns: A float32 array `(cells, 4)`: x, y, width and height of each cell, as fractions of the picture.
    """
    cells = []
    for height, width in sizes:
        y, x = np.meshgrid((np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width, indexing="ij")
        spacing = [np.full_like(x, 1 / width), np.full_like(x, 1 / height)]
        cells.append(np.stack([x, y, *spacing], axis=-1).reshape(-1, 4))
    return np.concatenate(cells).astype("float32")


def anchors(image_shape, sizes, *, scale=4.0, octaves=1, ratios=(0.5, 1.0, 2.0)):
    """Boxes of several sizes and shapes about the centre of every cell of a pyramid of feature maps.

    Args:
        image_shape: `(height, width, ...)` of the picture in pixels.
        sizes: `(height, width)` of each map.
        scale: Side of the smallest square anchor, in cells.
        octaves: Number of sizes between one map and the next: the i-th is `2^(i / octaves)` times as large.
        ratios: Width over height of the shapes; all of a size have the same area.
    Returns: A float32 array `(cells * octaves * ratios, 4)`, corners; all of a cell follow one another.
    Reference: Liu et al., 2016, arXiv 1512.02325; sizes and ratios as in Lin et al., 2017, arXiv 1708.02002.
    """
    height, width = image_shape[:2]
    found = []
    for size in sizes:
        cells = grid([size])
        side = scale * math.sqrt(height * width / (size[0] * size[1]))  # in pixels
        sides = [side * 2 ** (octave / octaves) for octave in range(octaves)]
        shapes = [(each * math.sqrt(ratio), each / math.sqrt(ratio)) for each in sides for ratio in ratios]
        half = np.array(shapes) / [width, height] / 2
        centers = cells[:, None, :2]
        found.append(np.concatenate([centers - half, centers + half], axis=-1).reshape(-1, 4))
    return np.concatenate(found).astype("float32")


def encode(boxes, anchors):
    """What a network has to say for a box, seen from its anchor: shift of the centre and logarithm of the sides.

    `((x - x_a) / w_a, (y - y_a) / h_a) / 0.1` and `log(w / w_a, h / h_a) / 0.2`; corners in, `(..., 4)` all.
    Reference: Girshick et al., 2013, arXiv 1311.2524; the variances as in Liu et al., 2016, arXiv 1512.02325.
    """
    boxes, anchors = to_centers(boxes), to_centers(anchors)
    shift = (boxes[..., :2] - anchors[..., :2]) / anchors[..., 2:] / VARIANCES[0]
    sides = ops.log(ops.maximum(boxes[..., 2:], SMALL) / anchors[..., 2:]) / VARIANCES[1]
    return ops.concatenate([shift, sides], axis=-1)


def decode(codes, anchors):
    """The inverse of `encode`: corners."""
    anchors = to_centers(anchors)
    centers = anchors[..., :2] + VARIANCES[0] * codes[..., :2] * anchors[..., 2:]
    sides = anchors[..., 2:] * ops.exp(ops.minimum(VARIANCES[1] * codes[..., 2:], 8.0))  # 3000 times the anchor at most
    return to_corners(ops.concatenate([centers, sides], axis=-1))


def non_max_suppression(boxes, scores, max_outputs, *, iou_threshold=0.5, score_threshold=0.0):
    """The best box, then the best of those that do not overlap it, and so on, always in `max_outputs` steps.

    Args:
        boxes: `(batch, boxes, 4)`, corners. To suppress within classes alone, move those of each class to a place of its own,
            as `detections` does.
        scores: `(batch, boxes)`.
        max_outputs: Number of boxes to choose.
        iou_threshold: Boxes that overlap a better one by more are left out.
        score_threshold: Boxes of a lower score are left out.
    Returns:
        `indices`, `(batch, max_outputs)` int32, best first, and `valid`, booleans of the same shape: false where no box
        was left (the index is then 0).
    """
    boxes, scores = ops.stop_gradient(ops.convert_to_tensor(boxes)), ops.stop_gradient(ops.convert_to_tensor(scores))
    places = ops.expand_dims(ops.arange(boxes.shape[1], dtype="int32"), 0)
    steps = ops.expand_dims(ops.arange(max_outputs, dtype="int32"), 0)
    gone = ops.full_like(scores, -np.inf)
    remaining = ops.where(scores >= score_threshold, scores, gone)
    indices = ops.zeros_like(ops.cast(scores[:, :1], "int32")) + ops.zeros_like(steps)

    def choose(step, state):
        remaining, indices, valid = state
        best = ops.cast(ops.argmax(remaining, axis=1, keepdims=True), "int32")
        some = ops.max(remaining, axis=1, keepdims=True) > -np.inf
        chosen = backend.take_places(boxes, best)
        near = ops.logical_or(iou(boxes, chosen) > iou_threshold, ops.equal(places, best))
        now = ops.logical_and(ops.equal(steps, step), some)
        return ops.where(near, gone, remaining), ops.where(now, best, indices), ops.logical_or(valid, now)

    _, indices, valid = ops.fori_loop(0, max_outputs, choose, (remaining, indices, ops.cast(indices, "bool")))
    return indices, valid


def top_scores(scores, count):
    """The `count` best of the scores `(batch, boxes, classes)`: value, box index and class, `(batch, count)` each."""
    _, number, classes = scores.shape
    values, places = ops.top_k(ops.reshape(scores, (-1, number * classes)), min(count, number * classes))
    places = ops.cast(places, "int32")
    return values, places // classes, places % classes


def detections(boxes, scores, *, max_detections=100, iou_threshold=0.5, score_threshold=0.05, candidates=400):
    """What a detector shows: the best boxes after non-maximum suppression within each class.

    Args:
        boxes: `(batch, boxes, 4)`, corners.
        scores: `(batch, boxes, classes)`, in 0..1.
        max_detections: Boxes a picture can have.
        iou_threshold, score_threshold: As `non_max_suppression`; an `iou_threshold` of 1 suppresses nothing.
        candidates: Pairs of box and class, the best of a picture, that are looked at.
    Returns: A dict: `"boxes"` `(batch, max_detections, 4)` inside the picture, `"scores"` `(batch, max_detections)`, best first,
        and `"classes"`, int32, -1 where there is no detection (box and score are then 0).
    """
    boxes, scores = ops.convert_to_tensor(boxes), ops.convert_to_tensor(scores)
    values, places, classes = top_scores(scores, candidates)
    boxes = clip(backend.take_places(boxes, places))
    apart = boxes + 2.0 * ops.expand_dims(ops.cast(classes, boxes.dtype), -1)  # no box of one class touches another's
    options = {"iou_threshold": iou_threshold, "score_threshold": score_threshold}
    chosen, valid = non_max_suppression(apart, values, max_detections, **options)
    boxes = backend.take_places(boxes, chosen)
    return {
        "boxes": ops.where(ops.expand_dims(valid, -1), boxes, ops.zeros_like(boxes)),
        "scores": ops.where(valid, ops.take_along_axis(values, chosen, axis=1), 0.0),
        "classes": ops.where(valid, ops.take_along_axis(classes, chosen, axis=1), -1),
    }
