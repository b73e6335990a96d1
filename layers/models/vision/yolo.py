"""An anchor-free detector in the manner of YOLO: every cell says what is at its place and where the box's sides are."""

import keras

from ._dense_boxes import DenseBoxes
from ._detection import Detector, box_targets, picture_weights, pyramid_heads
from .feature_pyramid import feature_pyramid

__all__ = ["YOLO"]

ops = keras.ops


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
        self.trunk = trunk
        pyramid = feature_pyramid(image_shape, channels=4 * width, trunk=trunk, **sizes)
        self.dense = DenseBoxes([each.shape[1:3] for each in pyramid.outputs], num_classes)
        self.network = keras.Model(pyramid.inputs, pyramid_heads(pyramid.outputs, num_classes, depth=depth), name="network")
        self.watch_losses()
        self.built = True

    def call(self, x, training=None):
        return self.network(x, training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        targets = box_targets(y)
        return self.sum_of(*self.dense.losses(y_pred, targets, picture_weights(sample_weight, targets[0])))

    def boxes_and_scores(self, predictions):
        """Corners `(batch, cells, 4)` and scores `(batch, cells, num_classes)` of the outputs."""
        return self.dense.decode(predictions["codes"]), ops.sigmoid(predictions["logits"])
