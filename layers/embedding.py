"""Embedding: Keras's own, with a gradient that means the same on every backend."""

import keras

from . import backend

__all__ = ["Embedding"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class Embedding(keras.layers.Embedding):
    """A learned vector for each id.

    Keras's own hands TensorFlow's optimizers a gradient in which an id that occurs twice stands twice; Adam then squares
    the parts and not their sum, and trains other weights than on JAX and torch (`backend.take_rows` adds them up).

    Args: those of `keras.layers.Embedding`.
    Input shape: ids `(batch, ...)`.
    Output shape: `(batch, ..., output_dim)`.
    """

    def call(self, inputs):
        rows = backend.take_rows(ops.convert_to_tensor(self.embeddings), ops.cast(inputs, "int32"))
        return ops.cast(rows, self.compute_dtype)
