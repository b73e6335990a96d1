"""Gathering: a few positions taken out of a sequence."""

import keras

__all__ = ["TakePositions"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class TakePositions(keras.layers.Layer):
    """The features at some positions of each sequence, so that what follows computes these alone.

    By a product with one-hot rows: small beside what follows, and its gradient is the same bits on every run, which a
    scattered sum on a GPU is not.

    Call arguments:
        x: `(batch, tokens, features)`.
        places: Positions, whole numbers `(batch, places)`.
    Output shape: `(batch, places, features)`.
    """

    def call(self, x, places):
        chosen = ops.one_hot(ops.cast(places, "int32"), ops.shape(x)[1], dtype=x.dtype)
        return ops.matmul(chosen, x)

    def compute_output_shape(self, x_shape, places_shape):
        return (*places_shape, x_shape[-1])
