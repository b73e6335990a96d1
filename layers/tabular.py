"""Tables to tokens: one token a column, so that a transformer can attend between columns."""

import keras
import numpy as np

from . import backend
from .transformer import positive

__all__ = ["FeatureTokenizer"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class FeatureTokenizer(keras.layers.Layer):
    """Each column of a table becomes a token: `b_j + x_j W_j` for a number, `b_j + E_j[x_j]` for a category.

    Args:
        width: Features of a token.
        cardinalities: Number of categories of each categorical column; ids run from 0 to one less.
    Input shape: `[(batch, numeric), (batch, categorical)]`, or the one of the two there is; categories as integers.
    Output shape: `(batch, 1 + numeric + categorical, width)`, a learned class token first.
    Raises:
        ValueError: The categorical input has not one column for each of `cardinalities`.
    Reference: Gorishniy et al., 2021, arXiv 2106.11959.
    """

    def __init__(self, width, cardinalities=(), **kwargs):
        super().__init__(**kwargs)
        self.width = positive("width", width)
        self.cardinalities = tuple(positive("cardinalities", size) for size in cardinalities)
        # The paper draws every weight of the tokenizer from U(-1 / sqrt(width), 1 / sqrt(width)).
        bound = width**-0.5
        self.kernel_initializer = keras.initializers.RandomUniform(-bound, bound)
        self.embeddings_initializer = keras.initializers.RandomUniform(-bound, bound)
        self.bias_initializer = keras.initializers.RandomUniform(-bound, bound)
        self.token_initializer = keras.initializers.RandomUniform(-bound, bound)

    def build(self, input_shape):
        numeric, categorical = self.split(input_shape, isinstance(input_shape[0], (list, tuple)))
        num_numeric = 0 if numeric is None else numeric[-1]
        num_categorical = 0 if categorical is None else categorical[-1]
        if num_categorical != len(self.cardinalities):
            raise ValueError(
                f"`cardinalities` must have one entry for each categorical column. "
                f"Received: cardinalities={self.cardinalities}, {num_categorical} categorical columns"
            )
        self.token = self.add_weight(name="token", shape=(self.width,), initializer=self.token_initializer)
        shape = (num_numeric + num_categorical, self.width)
        self.bias = self.add_weight(name="bias", shape=shape, initializer=self.bias_initializer)
        if num_numeric:
            shape = (num_numeric, self.width)
            self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        if num_categorical:
            shape = (sum(self.cardinalities), self.width)
            self.embeddings = self.add_weight(name="embeddings", shape=shape, initializer=self.embeddings_initializer)
            self.offsets = np.cumsum([0, *self.cardinalities[:-1]]).astype("int32")

    def split(self, inputs, is_pair):
        """The numeric and the categorical part, `None` for the one that is not there."""
        if is_pair:
            return inputs if len(inputs) == 2 else self.split(inputs[0], False)
        return (None, inputs) if self.cardinalities else (inputs, None)

    def call(self, inputs):
        numeric, categorical = self.split(inputs, isinstance(inputs, (list, tuple)))
        batch = ops.shape(categorical if numeric is None else numeric)[0]
        tokens = []
        if numeric is not None:
            tokens.append(ops.expand_dims(numeric, -1) * ops.convert_to_tensor(self.kernel))
        if categorical is not None:
            ids = ops.cast(categorical, "int32") + ops.convert_to_tensor(self.offsets)
            tokens.append(backend.take_rows(ops.convert_to_tensor(self.embeddings), ids))
        x = tokens[0] if len(tokens) == 1 else ops.concatenate(tokens, axis=1)
        x = x + ops.convert_to_tensor(self.bias)
        token = ops.broadcast_to(ops.convert_to_tensor(self.token), (batch, 1, self.width))
        return ops.concatenate([token, x], axis=1)

    def compute_output_shape(self, input_shape):
        shapes = input_shape if isinstance(input_shape[0], (list, tuple)) else [input_shape]
        return shapes[0][0], 1 + sum(shape[-1] for shape in shapes), self.width
