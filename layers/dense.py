"""The dense layer: Keras's own, with the same arguments, weights and numbers."""

import keras

from . import backend

__all__ = ["Dense"]


@keras.saving.register_keras_serializable(package="triptych")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, one matrix product whatever the rank of the input, the bias added by it.

    Args: those of `keras.layers.Dense`.
    Input shape: `(batch, ..., features)`.
    Output shape: `(batch, ..., units)`.
    """

    def call(self, inputs, training=None):
        bias = None if self.bias is None else keras.ops.convert_to_tensor(self.bias)
        x = backend.dense(inputs, keras.ops.convert_to_tensor(self.kernel), bias)
        if self.activation is keras.activations.gelu:
            return backend.gelu(x)
        return x if self.activation is None else self.activation(x)
