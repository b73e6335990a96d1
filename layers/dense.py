"""The dense layer: Keras's own, with the same arguments, weights and numbers."""

import keras

from . import backend

__all__ = ["Dense"]


@keras.saving.register_keras_serializable(package="triptych")
def gelu_tanh(x):
    """`x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: GPT-2's gelu (Hendrycks and Gimpel, 2016, arXiv 1606.08415)."""
    return keras.ops.gelu(x, approximate=True)


@keras.saving.register_keras_serializable(package="triptych")
class Dense(keras.layers.Dense):
    """`keras.layers.Dense`, one matrix product whatever the rank of the input, the bias added by it.

    Args: those of `keras.layers.Dense`; the activation may also be `"gelu_tanh"`, a gelu by tanh.
    Input shape: `(batch, ..., features)`.
    Output shape: `(batch, ..., units)`.
    """

    def __init__(self, units, activation=None, **kwargs):
        super().__init__(units, gelu_tanh if activation == "gelu_tanh" else activation, **kwargs)

    def call(self, inputs, training=None):
        bias = None if self.bias is None else keras.ops.convert_to_tensor(self.bias)
        x = backend.dense(inputs, keras.ops.convert_to_tensor(self.kernel), bias)
        if self.activation is keras.activations.gelu:
            return backend.gelu(x)
        return x if self.activation is None else self.activation(x)
