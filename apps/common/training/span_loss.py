"""The loss of a span of a text: its first and its last word are a class each among the words."""

import keras

from apps.common.training.losses import for_each_position


class SpanCrossEntropy(keras.losses.Loss):
    """-log softmax(z) over the words, at the first and at the last word of the span.

    Shapes: targets `(batch, 2)`, logits `(batch, 2, tokens)`; weights `(batch,)`.
    """

    def __call__(self, y_true, y_pred, sample_weight=None):
        return super().__call__(y_true, y_pred, for_each_position(sample_weight, y_true))

    def call(self, y_true, logits):
        logs = keras.ops.log_softmax(keras.ops.cast(logits, keras.config.floatx()), axis=-1)
        places = keras.ops.expand_dims(keras.ops.cast(y_true, "int32"), -1)
        return -keras.ops.squeeze(keras.ops.take_along_axis(logs, places, axis=-1), -1)
