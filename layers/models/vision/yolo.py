"""An anchor-free detector in the manner of YOLO: every cell says what is at its place and where the box's sides are."""

import keras
import numpy as np

from ... import boxes as geometry
from ...vision_losses import class_indicators, giou_loss, mean_over_counted, quality_focal_loss
from ._detection import Detector, box_targets, picture_weights, pyramid_heads, take_targets
from .feature_pyramid import feature_pyramid

__all__ = ["YOLO"]

ops = keras.ops
RADIUS = 1.5  # cells about a box's centre, to each side, that answer for it
CELLS = 4.0  # sides of a box, in cells of the map that answers for it


@keras.saving.register_keras_serializable(package="triptych")
class YOLO(Detector):
    """Anchor-free detector with a head for classes and one for boxes, which all maps of a pyramid share.

    The cells about a box's centre answer for it, on the map where it is some four cells large; of two boxes at a cell the
    smaller has it. A box is `centre = cell + t_xy`, `sides = 4 exp(t_wh)`, in cells. The target of a class is how well the
    predicted box fits (its IoU), so that the score of a detection says both. With N such cells the loss is
    `(sum quality focal + 2 sum (1 - GIoU)) / N`.

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes; background is none of them.
        width: Channels of the trunk's first maps; the pyramid has four times as many.
        num_levels: Maps, at strides 8, 16, 32 and so on.
        depth: Hidden convolutions of each head.
        trunk: As `feature_pyramid`.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. Targets: a dict, `"boxes"` `(batch, n, 4)`, corners as
        fractions of the picture, and `"classes"` `(batch, n)`, -1 for padding.
    Output shape: a dict, `"logits"` `(batch, cells, num_classes)` and `"codes"` `(batch, cells, 4)`; `detect` makes boxes of
        them.
    Reference: Redmon et al., 2015, arXiv 1506.02640; Ge et al., 2021, arXiv 2107.08430; cells about the centre: Tian et al.,
        2019, arXiv 1904.01355; classes that tell the quality: Li et al., 2020, arXiv 2006.04388.
    """

    def __init__(self, image_shape, num_classes, *, width=16, num_levels=3, depth=2, trunk=None, **kwargs):
        super().__init__(**kwargs)
        sizes = {"width": width, "num_levels": num_levels}
        self._arguments = {"image_shape": list(image_shape), "num_classes": num_classes, "depth": depth, **sizes}
        self.num_classes, self.trunk = num_classes, trunk
        pyramid = feature_pyramid(image_shape, channels=4 * width, trunk=trunk, **sizes)
        maps = [each.shape[1:3] for each in pyramid.outputs]
        self.cells = geometry.grid(maps)
        self.levels = np.repeat(np.arange(len(maps)), [height * width for height, width in maps]).astype("int32")
        self.network = keras.Model(pyramid.inputs, pyramid_heads(pyramid.outputs, num_classes, depth=depth), name="network")
        self.watch_losses()
        self.built = True

    def call(self, x, training=None):
        return self.network(x, training=training)

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

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        boxes, classes, valid = box_targets(y)
        weight = ops.expand_dims(picture_weights(sample_weight, boxes), -1)
        matched, positive = self.assign(boxes, valid)
        boxes, classes = take_targets(boxes, classes, matched)
        predicted = self.decode(y_pred["codes"])
        positive = ops.cast(positive, boxes.dtype)
        count = ops.maximum(ops.sum(positive * weight), 1.0)
        fit = ops.stop_gradient(geometry.iou(predicted, boxes)) * positive
        targets = class_indicators(classes, self.num_classes, boxes.dtype) * ops.expand_dims(fit, -1)
        class_loss = ops.sum(quality_focal_loss(targets, y_pred["logits"]), axis=-1)
        class_loss = mean_over_counted(class_loss, weight, count)
        box_loss = 2.0 * mean_over_counted(giou_loss(boxes, predicted), positive * weight, count)
        return self.sum_of(class_loss, box_loss)

    def boxes_and_scores(self, predictions):
        """Corners `(batch, cells, 4)` and scores `(batch, cells, num_classes)` of the outputs."""
        return self.decode(predictions["codes"]), ops.sigmoid(predictions["logits"])
