"""Pooling: Keras's own, with a maximum JAX differentiates quickly and an average torch gets right at the edges."""

import keras

from . import backend

__all__ = ["AveragePooling2D", "MaxPooling2D"]


@keras.saving.register_keras_serializable(package="triptych")
class MaxPooling2D(keras.layers.MaxPooling2D):
    """The largest value of each window.

    Args: those of `keras.layers.MaxPooling2D`.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, new_height, new_width, channels)`.
    """

    def call(self, inputs):
        if self.data_format != "channels_last":
            return super().call(inputs)
        return backend.max_pooling(inputs, self.pool_size, self.strides, self.padding)


@keras.saving.register_keras_serializable(package="triptych")
class AveragePooling2D(keras.layers.AveragePooling2D):
    """The mean of the values under each window; padding is not counted.

    Args: those of `keras.layers.AveragePooling2D`.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, new_height, new_width, channels)`.
    """

    def call(self, inputs):
        if self.data_format != "channels_last":
            return super().call(inputs)
        return backend.average_pooling(inputs, self.pool_size, self.strides, self.padding)
