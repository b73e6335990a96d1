"""Boxes that the cells of a pyramid of maps say, each its own: which cell answers for which true box, and what that costs."""

import keras
import numpy as np

from ... import boxes as geometry
from ...vision_losses import class_indicators, giou_loss, mean_over_counted, quality_focal_loss
from ._detection import take_targets

ops = keras.ops
RADIUS = 1.5  # cells about a box's centre, to each side, that answer for it
CELLS = 4.0  # sides of a box, in cells of the map that answers for it


class DenseBoxes:
    """The cells about a box's centre answer for it, on the map where it is some four cells large.

    Of two boxes at a cell the smaller has it. A box is `centre = cell + t_xy`, `sides = 4 exp(t_wh)`, in cells.

    Args:
        maps: `(height, width)` of each map, the finest first.
        num_classes: Number of classes.
    Reference: Ge et al., 2021, arXiv 2107.08430; cells about the centre: Tian et al., 2019, arXiv 1904.01355; classes that tell
        the quality: Li et al., 2020, arXiv 2006.04388.
    """

    def __init__(self, maps, num_classes):
        self.maps, self.num_classes = [tuple(size) for size in maps], num_classes
        self.cells = geometry.grid(self.maps)
        self.levels = np.repeat(np.arange(len(self.maps)), self.sizes()).astype("int32")

    def sizes(self):
        """The number of cells of each map."""
        return [height * width for height, width in self.maps]

    def decode(self, codes):
        """Corners of what each cell says, `(batch, cells, 4)`."""
        cells = ops.cast(self.cells, codes.dtype)
        centers = cells[:, :2] + codes[..., :2] * cells[:, 2:]
        sides = CELLS * ops.exp(ops.clip(codes[..., 2:], -6.0, 6.0)) * cells[:, 2:]
        return geometry.to_corners(ops.concatenate([centers, sides], axis=-1))

    def assign(self, boxes, valid):
        """Which box each cell answers for, `(batch, cells)`, and whether for any."""
        centers = geometry.to_centers(boxes)
        areas = ops.maximum(centers[..., 2] * centers[..., 3], geometry.SMALL)  # (batch, n)
        finest = float(self.cells[0, 2] * self.cells[0, 3])
        level = ops.round(0.5 * ops.log(areas / finest / CELLS**2) / np.log(2.0))
        level = ops.cast(ops.clip(level, 0, int(self.levels[-1])), "int32")
        cells = ops.cast(self.cells, centers.dtype)[None, :, None]
        away = ops.abs(cells[..., :2] - centers[:, None, :, :2]) / cells[..., 2:]
        near = ops.all(away <= RADIUS, axis=-1)  # (batch, cells, n)
        same = ops.equal(ops.convert_to_tensor(self.levels)[None, :, None], level[:, None])
        candidate = ops.logical_and(ops.logical_and(near, same), valid[:, None])
        size = ops.where(candidate, areas[:, None], np.inf)
        return ops.argmin(size, axis=-1), ops.any(candidate, axis=-1)

    def losses(self, predictions, targets, weight):
        """The loss of the classes and of the boxes: with N cells that answer, `sum quality focal / N`, `2 sum (1 - GIoU) / N`.

        The target of a class is how well the predicted box fits (its IoU), so that the score of a detection says both.

        Args:
            predictions: `{"logits": (batch, cells, num_classes), "codes": (batch, cells, 4)}`.
            targets: Boxes, classes and which of them count, as `box_targets` gives them.
            weight: What each picture counts, `(batch,)`.
        """
        boxes, classes, valid = targets
        weight = ops.expand_dims(weight, -1)
        matched, positive = self.assign(boxes, valid)
        boxes, classes = take_targets(boxes, classes, matched)
        predicted = self.decode(predictions["codes"])
        positive = ops.cast(positive, boxes.dtype)
        count = ops.maximum(ops.sum(positive * weight), 1.0)
        fit = ops.stop_gradient(geometry.iou(predicted, boxes)) * positive
        indicators = class_indicators(classes, self.num_classes, boxes.dtype) * ops.expand_dims(fit, -1)
        class_loss = ops.sum(quality_focal_loss(indicators, predictions["logits"]), axis=-1)
        class_loss = mean_over_counted(class_loss, weight, count)
        return class_loss, 2.0 * mean_over_counted(giou_loss(boxes, predicted), positive * weight, count)

    def best(self, predictions, count):
        """The `count` cells whose scores are the highest, those first that no cell beside them excels: `(batch, count)`."""
        scores = ops.max(ops.sigmoid(predictions["logits"]), axis=-1)
        ranked, first = [], 0
        for (height, width), size in zip(self.maps, self.sizes(), strict=True):
            own = ops.reshape(scores[:, first : first + size], (-1, height, width, 1))
            around = ops.max_pool(own, 3, 1, padding="same")
            ranked.append(ops.reshape(ops.where(own >= around, own, own - 1.0), (-1, size)))
            first += size
        return ops.cast(ops.top_k(ops.concatenate(ranked, axis=1), count)[1], "int32")
