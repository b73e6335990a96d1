"""Transformer parts: tokens of patches or of a vocabulary, a class token, and the pre-norm block.

A layer that looks at more than one token has a second form, `step(x, state, position)`, which takes one token at a
time and returns `(x, state)`; `start(batch_size)` is the state before the first. `layers.Decoder` generates with it.
"""

import keras

from . import backend
from ._arguments import positive
from .attention import SelfAttention, gpt2_initializers
from .dense import Dense
from .normalization import LayerNormalization
from .regularization import Dropout

__all__ = [
    "ClassToken",
    "PatchEmbedding",
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
        epsilon: Of the norms.
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; norm before: Xiong et al., 2020, arXiv 2002.04745; GPT-2: Radford
        et al., 2019.
    """

    steps_many = True

    def __init__(
        self, num_heads, hidden_dim, dropout=0.0, causal=False, activation="gelu", rotary=False, init_depth=None,
        epsilon=1e-6, **kwargs
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.hidden_dim = positive("hidden_dim", hidden_dim)
        self.init_depth = init_depth
        self.supports_masking = True
        policy, (inner, _) = self.dtype_policy, gpt2_initializers(init_depth)
        self.attention_norm = LayerNormalization(epsilon=epsilon, name="attention_norm", dtype=policy)
        self.attention = SelfAttention(
            num_heads, causal=causal, rotary=rotary, init_depth=init_depth, name="attention", dtype=policy
        )
        self.hidden_norm = LayerNormalization(epsilon=epsilon, name="hidden_norm", dtype=policy)
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

    def start(self, batch_size, length):
        return self.attention.start(batch_size, length)

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
