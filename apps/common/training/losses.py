"""Losses that several apps share, on logits, tokens and numbers."""

import keras

from apps.common.errors import UserError

LOSSES = ("cross-entropy", "hinge", "mse", "mae", "huber")
NUMBER_LOSSES = {"auto": "mse", "mse": "mse", "mae": "mae", "huber": "huber"}


class OneHotLoss(keras.losses.Loss):
    """A loss between logits and class indices, through one-hot targets.

    cross-entropy: -sum t log softmax(z); hinge: max(0, 1 + max over wrong classes of z - z of the right one)
    (Crammer & Singer, 2001); mse, mae and huber: between softmax(z) and t, summed over the classes.

    Args:
        kind: One of `LOSSES`.
        num_classes: Number of classes.
        smoothing: Share of the target spread evenly over all classes (Szegedy et al., 2016, arXiv 1512.00567).
    Shapes: targets `(batch, ...)`, logits `(batch, ..., num_classes)`.
    """

    def __init__(self, kind, num_classes, smoothing=0.0):
        super().__init__(name=kind.replace("-", "_"))
        self.kind, self.num_classes, self.smoothing = kind, num_classes, smoothing

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred, for_each_position(sample_weight, y_true))

    def call(self, y_true, logits):
        logits = keras.ops.cast(logits, keras.config.floatx())
        y_true = keras.ops.cast(keras.ops.reshape(y_true, keras.ops.shape(logits)[:-1]), "int32")
        target = keras.ops.one_hot(y_true, self.num_classes, dtype=keras.config.floatx())
        target = target * (1 - self.smoothing) + self.smoothing / self.num_classes
        if self.kind == "cross-entropy":
            return -keras.ops.sum(target * keras.ops.log_softmax(logits, axis=-1), axis=-1)
        if self.kind == "hinge":
            return keras.losses.categorical_hinge(target, logits)
        difference = keras.ops.softmax(logits, axis=-1) - target
        if self.kind == "mse":
            return keras.ops.sum(keras.ops.square(difference), axis=-1)
        size = keras.ops.abs(difference)
        if self.kind == "mae":
            return keras.ops.sum(size, axis=-1)
        return keras.ops.sum(keras.ops.where(size < 1, 0.5 * size * size, size - 0.5), axis=-1)


class TokenCrossEntropy(keras.losses.Loss):
    """-log softmax(z) at the right token of each position.

    Shapes: targets `(batch, positions)`, logits `(batch, positions, tokens)`; weights `(batch,)` or `(batch, positions)`.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred, for_each_position(sample_weight, y_true))

    def call(self, y_true, logits):
        # All positions in one matrix: torch's loss is slower where the classes are not the last of two axes.
        flat = keras.ops.reshape(keras.ops.cast(logits, keras.config.floatx()), (-1, logits.shape[-1]))
        targets = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        losses = keras.ops.sparse_categorical_crossentropy(targets, flat, from_logits=True)
        return keras.ops.reshape(losses, keras.ops.shape(y_true))


def for_each_position(weight, targets):
    """Weights with as many axes as the targets, those of an example for all its positions.

    Keras would multiply the losses `(batch, positions)` by the weights `(batch,)` along the positions.
    """
    while weight is not None and len(weight.shape) < len(targets.shape):
        weight = keras.ops.expand_dims(weight, -1)
    return weight


def accuracy():
    """Share of examples whose largest logit is the right one's."""
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


def number_loss(name):
    """The Keras loss between a standardised target and the output; `auto` is the mean squared error."""
    if name not in NUMBER_LOSSES:
        raise UserError(f"--loss {name}: the target is a number; expected auto, mse, mae or huber")
    return keras.losses.get(NUMBER_LOSSES[name])


def number_metrics():
    """Mean absolute and root mean squared error, in the units of the standardised target."""
    return [keras.metrics.MeanAbsoluteError(name="mae"), keras.metrics.RootMeanSquaredError(name="rmse")]
