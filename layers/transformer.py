"""Transformer parts: tokens of patches or of a vocabulary, a class token, positions, and the pre-norm block.

A layer that looks at more than one token has a second form, `step(x, state, position)`, which takes one token at a
time and returns `(x, state)`; `start(batch_size)` is the state before the first. `layers.Decoder` generates with it.
"""

import math

import keras
import numpy as np

from . import backend
from .dense import Dense
from .normalization import LayerNormalization
from .regularization import Dropout

__all__ = [
    "ClassToken",
    "PatchEmbedding",
    "PositionEmbedding",
    "RotaryEmbedding",
    "SelfAttention",
    "TokenEmbedding",
    "TransformerBlock",
]

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

    def start(self, batch_size):
        return []

    def step(self, x, state, position):
        return x + ops.take(self.positions, position, axis=0), state

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class RotaryEmbedding(keras.layers.Layer):
    """Turn each pair of a head's features by an angle that grows with the position, so that products tell distances.

    Features i and i + d/2 of the token at position m are turned by m theta_i, theta_i = 10000^(-2 i / d): the product of
    a turned query and a turned key depends on their positions through the difference alone.

    Input and output shape: `(batch, tokens, heads, features)`, the number of tokens fixed, that of features even.
    Raises:
        ValueError: The number of features is odd.
    Reference: Su et al., 2021, arXiv 2104.09864.
    """

    def build(self, input_shape):
        _, tokens, _, features = input_shape
        if features % 2:
            raise ValueError(f"The features of a head must be even in number to be turned in pairs. Received: {features}")
        theta = 10000.0 ** (-2.0 * np.arange(features // 2) / features)
        angles = np.arange(tokens)[:, None, None] * theta
        self.cos, self.sin = np.cos(angles).astype("float32"), np.sin(angles).astype("float32")

    def call(self, x, position=None):
        cos, sin = (ops.cast(ops.convert_to_tensor(table), x.dtype) for table in (self.cos, self.sin))
        if position is not None:
            cos, sin = ops.take(cos, position, axis=0), ops.take(sin, position, axis=0)
        first, second = ops.split(x, 2, axis=-1)
        return ops.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class TokenEmbedding(keras.layers.ReversibleEmbedding):
    """A learned vector for each entry of a vocabulary; called with `reverse=True`, the logits of the entries.

    Going back multiplies with the same matrix (tied weights), so that one table serves both ends of a language model. The
    factors are of the layer's precision, the logits of single precision at least.

    Args:
        vocabulary_size: Number of entries.
        width: Features of a token.
    Input shape: ids `(batch, tokens)`; in reverse `(batch, tokens, width)`.
    Output shape: `(batch, tokens, width)`; in reverse `(batch, tokens, vocabulary_size)`.
    Reference: Press and Wolf, 2016, arXiv 1608.05859.
    """

    def __init__(self, vocabulary_size, width, **kwargs):
        initializer = keras.initializers.RandomNormal(stddev=0.02)
        options = {"embeddings_initializer": initializer, "reverse_dtype": keras.config.floatx(), **kwargs}
        super().__init__(positive("vocabulary_size", vocabulary_size), positive("width", width), **options)

    def call(self, inputs, reverse=False):
        if not reverse:
            rows = backend.take_rows(ops.convert_to_tensor(self.embeddings), ops.cast(inputs, "int32"))
            return ops.cast(rows, self.compute_dtype)
        table = ops.cast(ops.convert_to_tensor(self.embeddings), self.compute_dtype)
        return backend.logits(ops.cast(inputs, self.compute_dtype), table)

    def get_config(self):
        config = keras.layers.Layer.get_config(self)
        return {**config, "vocabulary_size": self.input_dim, "width": self.output_dim}


@keras.saving.register_keras_serializable(package="triptych")
class SelfAttention(keras.layers.Layer):
    """Every token gathers from every other: `softmax(Q K' / sqrt(d)) V` in several heads, projected back.

    Args:
        num_heads: Number of heads; it must divide the width.
        causal: Whether a token sees only itself and those before it.
        rotary: Whether queries and keys are turned by their positions (`RotaryEmbedding`).
        init_depth: Number of blocks of a GPT-2: kernels are then drawn as its are (see `TransformerBlock`).
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Raises:
        ValueError: The heads do not divide the width.
    Reference: Vaswani et al., 2017, arXiv 1706.03762.
    """

    def __init__(self, num_heads, causal=False, rotary=False, init_depth=None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = positive("num_heads", num_heads)
        self.causal = causal
        self.init_depth = init_depth
        self.rotary = RotaryEmbedding(name="rotary", dtype=self.dtype_policy) if rotary else None
        self.supports_masking = True

    def build(self, input_shape):
        _, self.tokens, width = input_shape
        if width % self.num_heads:
            raise ValueError(
                f"`num_heads` must divide the width of the tokens. "
                f"Received: num_heads={self.num_heads}, tokens of width {width}"
            )
        inner, outer = gpt2_initializers(self.init_depth)
        policy = self.dtype_policy
        self.query_key_value = Dense(3 * width, name="query_key_value", kernel_initializer=inner, dtype=policy)
        self.query_key_value.build(input_shape)
        self.output_projection = Dense(width, name="output", kernel_initializer=outer, dtype=policy)
        self.output_projection.build(input_shape)
        if self.rotary:
            self.rotary.build((None, self.tokens, self.num_heads, width // self.num_heads))

    def call(self, x, mask=None):
        query, key, value = self.heads(x)
        return self.joined(backend.attention(query, key, value, self.causal, mask))

    def start(self, batch_size):
        """Room for the keys and values of all tokens, so that no shape changes from step to step."""
        features = self.output_projection.units // self.num_heads
        empty = ops.zeros((batch_size, self.tokens, self.num_heads, features), self.compute_dtype)
        return [empty, empty]

    def step(self, x, state, position):
        query, key, value = self.heads(x, position)
        places = ops.arange(self.tokens)
        here = ops.reshape(ops.equal(places, position), (1, -1, 1, 1))
        keys, values = ops.where(here, key, state[0]), ops.where(here, value, state[1])
        past = ops.broadcast_to(ops.expand_dims(ops.less_equal(places, position), 0), (x.shape[0], self.tokens))
        return self.joined(backend.attention(query, keys, values, False, past)), [keys, values]

    def heads(self, x, position=None):
        """Query, key and value of each head, `(batch, tokens, heads, features)`."""
        _, tokens, width = x.shape
        # Split and not sliced: the gradient of a slice is a tensor of the whole size, filled up with zeros.
        parts = ops.split(self.query_key_value.call(x), 3, axis=-1)
        shape = (-1, tokens, self.num_heads, width // self.num_heads)
        query, key, value = (ops.reshape(part, shape) for part in parts)
        if self.rotary:
            query, key = self.rotary.call(query, position), self.rotary.call(key, position)
        return query, key, value

    def joined(self, heads):
        _, tokens, num_heads, features = heads.shape
        return self.output_projection.call(ops.reshape(heads, (-1, tokens, num_heads * features)))

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
        rotary: Whether queries and keys are turned by their positions (`RotaryEmbedding`).
        init_depth: Number of blocks of a GPT-2: kernels are then drawn with deviation 0.02, those whose output is added
            to `x` with 0.02 / sqrt(2 depth); `None` leaves each layer its own way.
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; norm before: Xiong et al., 2020, arXiv 2002.04745; GPT-2: Radford
        et al., 2019.
    """

    def __init__(
        self, num_heads, hidden_dim, dropout=0.0, causal=False, activation="gelu", rotary=False, init_depth=None, **kwargs
    ):
        super().__init__(**kwargs)
        self.hidden_dim = positive("hidden_dim", hidden_dim)
        self.init_depth = init_depth
        self.supports_masking = True
        policy, (inner, _) = self.dtype_policy, gpt2_initializers(init_depth)
        self.attention_norm = LayerNormalization(epsilon=1e-6, name="attention_norm", dtype=policy)
        self.attention = SelfAttention(
            num_heads, causal=causal, rotary=rotary, init_depth=init_depth, name="attention", dtype=policy
        )
        self.hidden_norm = LayerNormalization(epsilon=1e-6, name="hidden_norm", dtype=policy)
        self.hidden = Dense(hidden_dim, activation=activation, name="hidden", kernel_initializer=inner, dtype=policy)
        self.dropout = Dropout(dropout, name="dropout", dtype=policy) if dropout else None

    def build(self, input_shape):
        self.attention_norm.build(input_shape)
        self.attention.build(input_shape)
        self.hidden_norm.build(input_shape)
        self.hidden.build(input_shape)
        _, outer = gpt2_initializers(self.init_depth)
        self.output_projection = Dense(
            input_shape[-1], name="output", kernel_initializer=outer, dtype=self.dtype_policy
        )
        self.output_projection.build((*input_shape[:-1], self.hidden_dim))

    def call(self, x, mask=None, training=None):
        # The parts by their `call`: each entrance of Keras's own takes torch as long as a small matrix product.
        x = x + self.drop(self.attention.call(self.attention_norm.call(x), mask), training)
        return x + self.drop(self.perceptron(x, training), training)

    def start(self, batch_size):
        return self.attention.start(batch_size)

    def step(self, x, state, position):
        attended, state = self.attention.step(self.attention_norm.call(x), state, position)
        x = x + attended
        return x + self.perceptron(x, False), state

    def perceptron(self, x, training):
        hidden = self.hidden.call(self.hidden_norm.call(x))
        return self.output_projection.call(self.drop(hidden, training))

    def drop(self, x, training):
        return x if self.dropout is None else self.dropout(x, training=training)

    def compute_output_shape(self, input_shape):
        return input_shape


def gpt2_initializers(depth):
    """How kernels within a block and those that lead out of it are drawn; Keras's default without a `depth`."""
    if depth is None:
        return "glorot_uniform", "glorot_uniform"
    normal = keras.initializers.RandomNormal
    return normal(stddev=0.02), normal(stddev=0.02 / math.sqrt(2 * positive("init_depth", depth)))


def positive(name, value):
    if value < 1:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    return value
