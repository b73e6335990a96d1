"""Convolutions: Keras's own, with the same arguments, weights and numbers, without torch's copies of every tensor."""

import keras

from . import backend

__all__ = ["Conv2D", "DepthwiseConv2D"]

NARROW = 16  # channels: a register of AVX-512


@keras.saving.register_keras_serializable(package="triptych")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, the bias added by the convolution itself where the backend can.

    Args: those of `keras.layers.Conv2D`.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, new_height, new_width, filters)`.
    """

    def call(self, inputs):
        if self.data_format != "channels_last":
            return super().call(inputs)
        kernel, bias, strides = as_tensor(self.kernel), as_tensor(self.bias), self.strides
        if max(self.kernel_size) == 1 and max(strides) > 1 and min(kernel.shape[2:]) < NARROW:
            # In torch 2.13 and TensorFlow 2.21 oneDNN writes the gradient of such a kernel past its end where the processor
            # has AVX-512: the heap is damaged, the process aborts.
            inputs, strides = inputs[:, :: strides[0], :: strides[1]], (1, 1)
        x = backend.convolution(inputs, kernel, bias, strides, self.padding, self.dilation_rate)
        return x if self.activation is None else self.activation(x)


@keras.saving.register_keras_serializable(package="triptych")
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`: each channel has filters of its own.

    Args: those of `keras.layers.DepthwiseConv2D`.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, new_height, new_width, channels * depth_multiplier)`.
    """

    def call(self, inputs):
        if self.data_format != "channels_last":
            return super().call(inputs)
        kernel, bias = as_tensor(self.kernel), as_tensor(self.bias)
        x = backend.depthwise_convolution(inputs, kernel, bias, self.strides, self.padding, self.dilation_rate)
        return x if self.activation is None else self.activation(x)


def as_tensor(variable):
    return None if variable is None else keras.ops.convert_to_tensor(variable)
