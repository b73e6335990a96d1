"""Transformer parts: patches to tokens, a class token, positions, and the pre-norm block."""

import keras

from . import backend
from .dense import Dense
from .normalization import LayerNormalization

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class PatchEmbedding(keras.layers.Layer):
    """Cut an image into square patches and project each to a token.

    Args:
        patch_size: Side of a patch in pixels; it must divide the image's height and width.
        width: Features of a token.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, patches, width)`, the patches row by row.
    Raises:
        ValueError: The patches do not tile the image.
    Reference: Dosovitskiy et al., 2020, arXiv 2010.11929.
    """

    def __init__(self, patch_size, width, **kwargs):
        super().__init__(**kwargs)
        self.patch_size = positive("patch_size", patch_size)
        self.width = positive("width", width)
        self.projection = Dense(width, name="projection", dtype=self.dtype_policy)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        if height % self.patch_size or width % self.patch_size:
            raise ValueError(
                f"`patch_size` must divide the image's height and width. "
                f"Received: patch_size={self.patch_size}, image of {height} x {width} pixels"
            )
        self.projection.build((None, None, self.patch_size**2 * channels))

    def call(self, x):
        _, height, width, channels = x.shape
        size, rows, columns = self.patch_size, height // self.patch_size, width // self.patch_size
        x = ops.reshape(x, (-1, rows, size, columns, size, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, rows * columns, size * size * channels))
        return self.projection(x)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, (height // self.patch_size) * (width // self.patch_size), self.width


@keras.saving.register_keras_serializable(package="triptych")
class ClassToken(keras.layers.Layer):
    """Put one learned token before the others; what it has gathered at the end is read by the classifier.

    Input shape: `(batch, tokens, width)`.
    Output shape: `(batch, 1 + tokens, width)`.
    Reference: Devlin et al., 2018, arXiv 1810.04805.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.token_initializer = keras.initializers.TruncatedNormal(stddev=0.02)

    def build(self, input_shape):
        self.token = self.add_weight(name="token", shape=(input_shape[-1],), initializer=self.token_initializer)

    def call(self, x):
        token = ops.broadcast_to(ops.convert_to_tensor(self.token), (ops.shape(x)[0], 1, x.shape[-1]))
        return ops.concatenate([token, x], axis=1)

    def compute_output_shape(self, input_shape):
        batch, tokens, width = input_shape
        return batch, tokens + 1, width


@keras.saving.register_keras_serializable(package="triptych")
class PositionEmbedding(keras.layers.Layer):
    """Add a learned vector to each position.

    Input and output shape: `(batch, tokens, width)`, the number of tokens fixed.
    Reference: Gehring et al., 2017, arXiv 1705.03122.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.positions_initializer = keras.initializers.TruncatedNormal(stddev=0.02)
        self.supports_masking = True

    def build(self, input_shape):
        self.positions = self.add_weight(
            name="positions", shape=tuple(input_shape[1:]), initializer=self.positions_initializer
        )

    def call(self, x):
        return x + ops.convert_to_tensor(self.positions)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class SelfAttention(keras.layers.Layer):
    """Every token gathers from every other: `softmax(Q K' / sqrt(d)) V` in several heads, projected back.

    Args:
        num_heads: Number of heads; it must divide the width.
        causal: Whether a token sees only itself and those before it.
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Raises:
        ValueError: The heads do not divide the width.
    Reference: Vaswani et al., 2017, arXiv 1706.03762.
    """

    def __init__(self, num_heads, causal=False, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = positive("num_heads", num_heads)
        self.causal = causal
        self.supports_masking = True

    def build(self, input_shape):
        width = input_shape[-1]
        if width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the width of the tokens. "
                f"Received: num_heads={self.num_heads}, tokens of width {width}"
            )
        self.query_key_value = Dense(3 * width, name="query_key_value", dtype=self.dtype_policy)
        self.query_key_value.build(input_shape)
        self.output_projection = Dense(width, name="output", dtype=self.dtype_policy)
        self.output_projection.build(input_shape)

    def call(self, x, mask=None):
        _, tokens, width = x.shape
        heads = ops.reshape(self.query_key_value(x), (-1, tokens, 3, self.num_heads, width // self.num_heads))
        query, key, value = heads[:, :, 0], heads[:, :, 1], heads[:, :, 2]
        x = backend.attention(query, key, value, self.causal, mask)
        return self.output_projection(ops.reshape(x, (-1, tokens, width)))

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class TransformerBlock(keras.layers.Layer):
    """Attention between the tokens, then a perceptron on each: `x + Attention(Norm(x))`, then `x + MLP(Norm(x))`.

    Args:
        num_heads: Number of attention heads; it must divide the width of the tokens.
        hidden_dim: Width of the perceptron's hidden layer.
        dropout: Fraction dropped in training, after the attention and after each layer of the perceptron.
        causal: Whether a token sees only itself and those before it.
        activation: Name of the hidden layer's activation.
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; norm before: Xiong et al., 2020, arXiv 2002.04745.
    """

    def __init__(self, num_heads, hidden_dim, dropout=0.0, causal=False, activation="gelu", **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = positive("hidden_dim", hidden_dim)
        self.supports_masking = True
        policy = self.dtype_policy
        self.attention_norm = LayerNormalization(epsilon=1e-6, name="attention_norm", dtype=policy)
        self.attention = SelfAttention(num_heads, causal=causal, name="attention", dtype=policy)
        self.hidden_norm = LayerNormalization(epsilon=1e-6, name="hidden_norm", dtype=policy)
        self.hidden = Dense(hidden_dim, activation=activation, name="hidden", dtype=policy)
        self.dropout = keras.layers.Dropout(dropout, name="dropout", dtype=policy) if dropout else None

    def build(self, input_shape):
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape)
        self.hidden_norm.build(input_shape)
        self.hidden.build(input_shape)
        self.output_projection = Dense(input_shape[-1], name="output", dtype=self.dtype_policy)
        self.output_projection.build((*input_shape[:-1], self.hidden_dim))

    def call(self, x, mask=None, training=None):
        x = x + self.drop(self.attention(self.attention_norm(x), mask=mask), training)
        hidden = self.drop(self.hidden(self.hidden_norm(x)), training)
        return x + self.drop(self.output_projection(hidden), training)

    def drop(self, x, training):
        return x if self.dropout is None else self.dropout(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape


def positive(name, value):
    if value < 1:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    return value
