"""The losses and the metric of a class for every pixel."""

import keras

from layers.vision_losses import class_indicators, dice_loss, softmax_focal_loss

LOSSES = ("cross-entropy", "focal", "dice", "dice-cross-entropy")


class PixelLoss(keras.losses.Loss):
    """A loss between logits and a class for each pixel, one number a pixel.

    cross-entropy: `-log p` of the right class; focal: `(1 - p)^gamma (-log p)`; dice: of each picture the mean over the
    classes that are in it of one less the Dice coefficient, the same number at each of its pixels;
    dice-cross-entropy: the sum of the two.

    Args:
        kind: One of `LOSSES`.
        gamma: Of the focal loss.
    Shapes: targets and weights `(batch, height, width)`, logits `(batch, height, width, classes)`. Where the weight is zero
        the target says nothing.
    """

    def __init__(self, kind, gamma=2.0):
        super().__init__(name=kind.replace("-", "_"))
        self.kind, self.gamma = kind, gamma

    def __call__(self, y_true, y_pred, sample_weight=None):
        logits = keras.ops.cast(y_pred, keras.config.floatx())
        labels = keras.ops.cast(y_true, "int32")
        weights = keras.ops.ones_like(logits[..., 0]) if sample_weight is None else sample_weight
        return keras.ops.mean(self.elements(labels, logits, weights) * keras.ops.cast(weights, logits.dtype))

    def call(self, y_true, y_pred):
        return self.elements(y_true, y_pred, keras.ops.ones_like(y_pred[..., 0]))

    def elements(self, labels, logits, weights):
        """A number for each pixel; weights only say which pixels count for the Dice coefficient."""
        if self.kind == "focal":
            return softmax_focal_loss(labels, logits, gamma=self.gamma)
        losses = []
        if self.kind != "dice":
            # All pixels in one matrix: torch's loss is slower where the classes are not the last of two axes.
            flat = keras.ops.reshape(logits, (-1, logits.shape[-1]))
            found = keras.ops.sparse_categorical_crossentropy(keras.ops.reshape(labels, (-1,)), flat, from_logits=True)
            losses.append(keras.ops.reshape(found, keras.ops.shape(labels)))
        if self.kind != "cross-entropy":
            losses.append(self.dice(labels, logits, keras.ops.cast(weights > 0, logits.dtype)))
        return sum(losses)

    def dice(self, labels, logits, counted):
        """`(batch, height, width)`: each picture's mean over its classes, everywhere the same."""
        each = dice_loss(labels, logits, counted)
        there = class_indicators(labels, logits.shape[-1], logits.dtype) * keras.ops.expand_dims(counted, -1)
        there = keras.ops.max(there, axis=(1, 2))
        mean = keras.ops.sum(each * there, axis=-1) / keras.ops.maximum(keras.ops.sum(there, axis=-1), 1.0)
        return keras.ops.ones_like(counted) * keras.ops.reshape(mean, (-1, 1, 1))


class MeanIoU(keras.metrics.Metric):
    """Mean over the classes of intersection divided by union, of the pixels that count; each pixel counts once.

    A class that is neither there nor predicted is left out.

    Args:
        num_classes: Number of classes.
    """

    def __init__(self, num_classes, name="mean_iou"):
        super().__init__(name=name)
        self.num_classes = num_classes
        self.matrix = self.add_weight(shape=(num_classes, num_classes), initializer="zeros", name="matrix")

    def update_state(self, y_true, y_pred, sample_weight=None):
        count, kind = self.num_classes, self.matrix.dtype
        truth = class_indicators(keras.ops.reshape(y_true, (-1,)), count, kind)
        predicted = class_indicators(keras.ops.reshape(keras.ops.argmax(y_pred, axis=-1), (-1,)), count, kind)
        if sample_weight is not None:
            truth = truth * keras.ops.cast(keras.ops.reshape(sample_weight, (-1, 1)) > 0, kind)
        self.matrix.assign_add(keras.ops.matmul(keras.ops.transpose(truth), predicted))

    def result(self):
        both = keras.ops.diagonal(self.matrix)
        union = keras.ops.sum(self.matrix, axis=0) + keras.ops.sum(self.matrix, axis=1) - both
        there = keras.ops.cast(union > 0, self.matrix.dtype)
        return keras.ops.sum(both / keras.ops.maximum(union, 1.0)) / keras.ops.maximum(keras.ops.sum(there), 1.0)

    def reset_state(self):
        self.matrix.assign(keras.ops.zeros(self.matrix.shape, self.matrix.dtype))
