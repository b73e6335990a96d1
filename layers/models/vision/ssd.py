"""SSD: one pass of a convolutional network that corrects anchors of many sizes and names what they hold."""

import keras
import numpy as np

from ... import boxes as geometry
from ...vision_losses import class_indicators, mean_over_counted, sigmoid_focal_loss, smooth_l1_loss
from ._detection import Detector, box_targets, picture_weights, pyramid_heads, take_targets
from .feature_pyramid import feature_pyramid

__all__ = ["SSD"]

ops = keras.ops
POSITIVE, NEGATIVE = 0.5, 0.4  # an anchor that overlaps by more is the box's, by less background


@keras.saving.register_keras_serializable(package="triptych")
class SSD(Detector):
    """Single-shot detector: at every cell of a pyramid, the class and the correction of a few anchors.

    An anchor has the box it overlaps most, by at least a half, and every box has its best anchor whatever they overlap. Where
    the paper picks three hard negatives to a positive, all count here by the focal loss, which has no ranks to change with
    rounding; the loss is `(sum focal + sum smooth L1) / number of positives`.

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes; background is none of them.
        width: Channels of the trunk's first maps; the pyramid has four times as many.
        num_levels: Maps, at strides 8, 16, 32 and so on.
        octaves: Sizes of anchors between one map and the next.
        trunk: As `feature_pyramid`.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. Targets: a dict, `"boxes"` `(batch, n, 4)`, corners as
        fractions of the picture, and `"classes"` `(batch, n)`, -1 for padding.
    Output shape: a dict, `"logits"` `(batch, anchors, num_classes)` and `"codes"` `(batch, anchors, 4)`; `detect` makes boxes
        of them.
    Reference: Liu et al., 2015, arXiv 1512.02325; the pyramid and the loss: Lin et al., 2017, arXiv 1708.02002.
    """

    def __init__(self, image_shape, num_classes, *, width=16, num_levels=4, octaves=2, trunk=None, **kwargs):
        super().__init__(**kwargs)
        sizes = {"width": width, "num_levels": num_levels}
        self._arguments = {"image_shape": list(image_shape), "num_classes": num_classes, "octaves": octaves, **sizes}
        self.num_classes, self.trunk = num_classes, trunk
        pyramid = feature_pyramid(image_shape, channels=4 * width, trunk=trunk, **sizes)
        maps = [each.shape[1:3] for each in pyramid.outputs]
        self.anchors = geometry.anchors(image_shape, maps, scale=3.0, octaves=octaves)
        heads = pyramid_heads(pyramid.outputs, num_classes, 3 * octaves)
        self.network = keras.Model(pyramid.inputs, heads, name="network")
        self.watch_losses()
        self.built = True

    def call(self, x, training=None):
        return self.network(x, training=training)

    def assign(self, boxes, valid):
        """Which box each anchor has, `(batch, anchors)`, and whether it is a positive and whether a negative."""
        anchors = ops.convert_to_tensor(self.anchors)
        overlap = geometry.pairwise(geometry.iou, ops.expand_dims(anchors, 0), boxes)
        overlap = ops.where(ops.expand_dims(valid, 1), overlap, -1.0)
        most = ops.max(overlap, axis=-1)
        best_anchor = ops.cast(ops.argmax(overlap, axis=1), "int32")  # (batch, n)
        places = ops.reshape(ops.convert_to_tensor(np.arange(len(self.anchors), dtype="int32")), (1, -1, 1))
        own = ops.logical_and(ops.equal(places, ops.expand_dims(best_anchor, 1)), ops.expand_dims(valid, 1))
        has_own = ops.any(own, axis=-1)
        matched = ops.where(has_own, ops.argmax(ops.cast(own, "int32"), axis=-1), ops.argmax(overlap, axis=-1))
        positive = ops.logical_or(has_own, most >= POSITIVE)
        return matched, positive, ops.logical_and(ops.logical_not(positive), most < NEGATIVE)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        boxes, classes, valid = box_targets(y)
        weight = ops.expand_dims(picture_weights(sample_weight, boxes), -1)
        matched, positive, negative = self.assign(boxes, valid)
        boxes, classes = take_targets(boxes, classes, matched)
        positive = ops.cast(positive, boxes.dtype)
        count = ops.maximum(ops.sum(positive * weight), 1.0)
        targets = class_indicators(classes, self.num_classes, boxes.dtype) * ops.expand_dims(positive, -1)
        class_loss = ops.sum(sigmoid_focal_loss(targets, y_pred["logits"]), axis=-1)
        counted = ops.cast(negative, boxes.dtype) + positive
        class_loss = mean_over_counted(class_loss, counted * weight, count)
        codes = geometry.encode(boxes, ops.convert_to_tensor(self.anchors))
        # Where there is no box to encode the code is of no size, and times 0 may not be a number.
        codes = ops.where(ops.expand_dims(positive > 0.0, -1), codes, 0.0)
        box_loss = ops.sum(smooth_l1_loss(codes, y_pred["codes"]), axis=-1)
        box_loss = mean_over_counted(box_loss, positive * weight, count)
        return self.sum_of(class_loss, box_loss)

    def boxes_and_scores(self, predictions):
        """Corners `(batch, anchors, 4)` and scores `(batch, anchors, num_classes)` of the outputs."""
        return geometry.decode(predictions["codes"], ops.convert_to_tensor(self.anchors)), ops.sigmoid(predictions["logits"])
