"""Positions of tokens: a learned vector each, waves, or queries and keys turned by an angle.

Where the number of tokens is not fixed (`None` when built), tables have `max_tokens` rows and the first are taken. `step`
takes one token at a time, see `layers.Decoder`.
"""

import keras
import numpy as np

from ._arguments import positive

__all__ = ["PositionEmbedding", "RotaryEmbedding", "SinusoidalPositions"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector to each position.

    Args:
        max_tokens: Rows of the table where the number of tokens is not fixed; longer inputs are refused.
    Input and output shape: `(batch, tokens, width)`.
    Raises:
        ValueError: Neither the number of tokens nor `max_tokens` is known, or there are more tokens than rows.
    Reference: Gehring et al., 2017, arXiv 1705.03122.
    """

    steps_many = True

    def __init__(self, max_tokens=None, **kwargs):
        super().__init__(**kwargs)
        self.max_tokens = None if max_tokens is None else positive("max_tokens", max_tokens)
        self.positions_initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.supports_masking = True

    def build(self, input_shape):
        _, tokens, width = input_shape
        rows = self.max_tokens or tokens
        if rows is None:
            raise ValueError("`max_tokens` must be given where the number of tokens is not fixed. Received: max_tokens=None")
        self.positions = self.add_weight(name="positions", shape=(rows, width), initializer=self.positions_initializer)

    def call(self, x):
        return x + first_rows(ops.convert_to_tensor(self.positions), x)

    def start(self, batch_size, length):
        return []

    def step(self, x, state, position):
        return x + ops.take(self.positions, position + ops.arange(x.shape[1]), axis=0), state

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class SinusoidalPositions(keras.layers.Layer):
    """Add waves of the position to each token: `sin(m / 10000^(2 i / d))`, then the cosines.

    Args:
        max_tokens: Most tokens it is prepared for.
    Input and output shape: `(batch, tokens, width)`, the width even.
    Raises:
        ValueError: The width is odd, or there are more tokens than `max_tokens`.
    Reference: Vaswani et al., 2017, arXiv 1706.03762, section 3.5; sines and cosines side by side and not in turn.
    """

    steps_many = True

    def __init__(self, max_tokens=4096, **kwargs):
        super().__init__(**kwargs)
        self.max_tokens = positive("max_tokens", max_tokens)
        self.supports_masking = True

    def build(self, input_shape):
        angles = angles_of(self.max_tokens, input_shape[-1])
        self.table = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype("float32")

    def call(self, x):
        return x + first_rows(ops.cast(ops.convert_to_tensor(self.table), x.dtype), x)

    def start(self, batch_size, length):
        return []

    def step(self, x, state, position):
        table = ops.cast(ops.convert_to_tensor(self.table), x.dtype)
        return x + ops.take(table, position + ops.arange(x.shape[1]), axis=0), state

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class RotaryEmbedding(keras.layers.Layer):
    """Turn each pair of a head's features by an angle that grows with the position, so that products tell distances.

    Features i and i + d/2 of the token at position m are turned by m theta_i, theta_i = 10000^(-2 i / d): the product of
    a turned query and a turned key depends on their positions through the difference alone.

    Args:
        max_tokens: Most tokens it is prepared for where their number is not fixed.
    Input and output shape: `(batch, tokens, heads, features)`, the number of features even.
    Raises:
        ValueError: The number of features is odd, or there are more tokens than it is prepared for.
    Reference: Su et al., 2021, arXiv 2104.09864.
    """

    def __init__(self, max_tokens=4096, **kwargs):
        super().__init__(**kwargs)
        self.max_tokens = positive("max_tokens", max_tokens)

    def build(self, input_shape):
        _, tokens, _, features = input_shape
        angles = angles_of(tokens or self.max_tokens, features)[:, None, :]
        self.cos, self.sin = np.cos(angles).astype("float32"), np.sin(angles).astype("float32")

    def call(self, x, position=None):
        cos, sin = (ops.cast(ops.convert_to_tensor(table), x.dtype) for table in (self.cos, self.sin))
        if position is None:
            cos, sin = first_rows(cos, x), first_rows(sin, x)
        else:
            places = position + ops.arange(x.shape[1])
            cos, sin = ops.take(cos, places, axis=0), ops.take(sin, places, axis=0)
        first, second = ops.split(x, 2, axis=-1)
        return ops.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape


def angles_of(tokens, features):
    """`m 10000^(-2 i / features)` of each position m and pair i."""
    if features % 2:
        raise ValueError(f"The features of a head must be even in number to be turned in pairs. Received: {features}")
    return np.arange(tokens)[:, None] * 10000.0 ** (-2.0 * np.arange(features // 2) / features)


def first_rows(table, x):
    """The rows of `table` for the tokens of `x`, its axis 1."""
    tokens = x.shape[1]
    if tokens is not None and tokens > table.shape[0]:
        raise ValueError(f"There are positions for {table.shape[0]} tokens at most. Received: {tokens} tokens")
    return table if tokens == table.shape[0] else table[: ops.shape(x)[1]]
