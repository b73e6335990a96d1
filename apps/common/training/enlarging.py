"""Loss and metric of networks that enlarge pictures: brightness in 0..1 against pixels in 0..255."""

import keras

ops = keras.ops


class BrightnessLoss(keras.losses.Loss):
    """The mean over the pixels of `(f - y / 255)^2`, or of its absolute value; one number a picture.

    Args:
        kind: `mse` or `mae`.
    Shapes: targets `(batch, height, width, channels)` in 0..255, outputs the same in 0..1.
    """

    def __init__(self, kind):
        super().__init__(name=kind)
        self.kind = kind

    def call(self, y_true, y_pred):
        y_pred = ops.cast(y_pred, keras.config.floatx())
        away = y_pred - ops.cast(y_true, y_pred.dtype) / 255.0
        return ops.mean(ops.square(away) if self.kind == "mse" else ops.abs(away), axis=(1, 2, 3))


def psnr_metric():
    """The mean over pictures of `-10 log10` of their mean squared error, brightness cut off at 0 and 1."""

    def psnr(y_true, y_pred):
        y_pred = ops.clip(ops.cast(y_pred, keras.config.floatx()), 0.0, 1.0)
        error = ops.mean(ops.square(y_pred - ops.cast(y_true, y_pred.dtype) / 255.0), axis=(1, 2, 3))
        return -10.0 * ops.log(ops.maximum(error, 1e-10)) / ops.log(ops.cast(10.0, error.dtype))

    return keras.metrics.MeanMetricWrapper(psnr, name="psnr")
