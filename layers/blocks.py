"""Blocks of transformers that read or write sequences: norms after or before, or attention and perceptron side by side.

`step` takes one token at a time, see `layers.Decoder`.
"""

import keras

from ._arguments import positive
from .attention import CrossAttention, SelfAttention
from .dense import Dense
from .normalization import LayerNormalization
from .regularization import Dropout

__all__ = ["DecoderBlock", "EncoderBlock", "FeedForward"]

ops = keras.ops

GATES = {"swiglu": "silu", "geglu": "gelu", "reglu": "relu"}
FORMS = ("post", "pre", "parallel")


@keras.saving.register_keras_serializable(package="triptych")
class FeedForward(keras.layers.Layer):
    """A perceptron on each token: `W2 act(W1 x)`, or with a gate `W2 (act(V x) * W1 x)`.

    Args:
        hidden_dim: Width of the hidden layer.
        activation: Name of the activation; `"swiglu"`, `"geglu"` and `"reglu"` are gates by silu, gelu and relu.
        dropout: Fraction of the hidden layer dropped in training.
    Input and output shape: `(batch, ..., width)`.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; gates: Shazeer, 2020, arXiv 2002.05202.
    """

    def __init__(self, hidden_dim, activation="gelu", dropout=0.0, **kwargs):
        super().__init__(**kwargs)
        self.hidden_dim = positive("hidden_dim", hidden_dim)
        policy = self.dtype_policy
        self.gate = Dense(hidden_dim, activation=GATES[activation], name="gate", dtype=policy) if activation in GATES else None
        plain = None if self.gate else activation
        self.hidden = Dense(hidden_dim, activation=plain, name="hidden", dtype=policy)
        self.dropout = Dropout(dropout, name="dropout", dtype=policy) if dropout else None

    def build(self, input_shape):
        self.hidden.build(input_shape)
        if self.gate:
            self.gate.build(input_shape)
        self.output_projection = Dense(input_shape[-1], name="output", dtype=self.dtype_policy)
        self.output_projection.build((*input_shape[:-1], self.hidden_dim))

    def call(self, x, training=None):
        hidden = self.hidden.call(x)
        if self.gate:
            hidden = hidden * self.gate.call(x)
        if self.dropout:
            hidden = self.dropout(hidden, training=training)
        return self.output_projection.call(hidden)

    def compute_output_shape(self, input_shape):
        return input_shape


class Block(keras.layers.Layer):
    """What both kinds of blocks share: `residual` puts a part beside its input, the norm before or after."""

    def __init__(self, dropout, form, epsilon, **kwargs):
        super().__init__(**kwargs)
        if form not in FORMS:
            raise ValueError(f"`form` must be one of {', '.join(map(repr, FORMS))}. Received: form={form!r}")
        self.form = form
        self.epsilon = epsilon
        self.dropout = Dropout(dropout, name="dropout", dtype=self.dtype_policy) if dropout else None
        self.supports_masking = True

    def norm(self, name):
        return LayerNormalization(epsilon=self.epsilon, name=name, dtype=self.dtype_policy)

    def residual(self, x, part, norm, training):
        if self.form == "post":
            return norm.call(x + self.drop(part(x), training))
        return x + self.drop(part(norm.call(x)), training)

    def drop(self, x, training):
        return x if self.dropout is None else self.dropout(x, training=training)

    def compute_mask(self, *_, **__):
        return None  # masks are passed by hand: one that travels by itself would reach the loss


@keras.saving.register_keras_serializable(package="triptych")
class EncoderBlock(Block):
    """Attention between the tokens, then a perceptron on each, in one of three forms.

    `"post"`: `x = Norm(x + Attention(x))`, then `Norm(x + MLP(x))`, as in the first Transformer and BERT. `"pre"`:
    `x + Attention(Norm(x))`, then `x + MLP(Norm(x))`. `"parallel"`: `x + Attention(Norm(x)) + MLP(Norm(x))`, one norm for both,
    as in PaLM.

    Args:
        num_heads: Number of attention heads; it must divide the width of the tokens.
        hidden_dim: Width of the perceptron's hidden layer.
        dropout: Fraction dropped in training, after the attention, the hidden layer and the perceptron.
        form: `"post"`, `"pre"` or `"parallel"`.
        activation: Of the hidden layer, as for `FeedForward`.
        epsilon: Of the norms.
        attention: Further arguments of `SelfAttention` by name: causal, rotary, num_kv_heads.
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; Xiong et al., 2020, arXiv 2002.04745; PaLM: Chowdhery et al., 2022,
        arXiv 2204.02311.
    """

    steps_many = True

    def __init__(
        self, num_heads, hidden_dim, dropout=0.0, form="post", activation="gelu", epsilon=1e-6, attention=None, **kwargs
    ):
        super().__init__(dropout, form, epsilon, **kwargs)
        policy = self.dtype_policy
        self.attention_norm = self.norm("attention_norm")
        self.attention = SelfAttention(num_heads, name="attention", dtype=policy, **(attention or {}))
        self.hidden_norm = None if form == "parallel" else self.norm("hidden_norm")
        self.feed_forward = FeedForward(hidden_dim, activation, dropout, name="feed_forward", dtype=policy)

    def build(self, input_shape):
        for part in (self.attention_norm, self.attention, self.hidden_norm, self.feed_forward):
            if part is not None:
                part.build(input_shape)

    def call(self, x, mask=None, training=None):
        return self.whole(x, lambda x: self.attention.call(x, mask), training)

    def start(self, batch_size, length):
        return self.attention.start(batch_size, length)

    def step(self, x, state, position):
        def attend(x):
            nonlocal state
            x, state = self.attention.step(x, state, position)
            return x

        x = self.whole(x, attend, False)
        return x, state

    def whole(self, x, attend, training):
        if self.form == "parallel":
            normed = self.attention_norm.call(x)
            return x + self.drop(attend(normed), training) + self.drop(self.feed_forward.call(normed, training), training)
        x = self.residual(x, attend, self.attention_norm, training)
        return self.residual(x, lambda x: self.feed_forward.call(x, training), self.hidden_norm, training)

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class DecoderBlock(Block):
    """Causal attention between the tokens, attention to the memory an encoder has left, then a perceptron on each.

    Args:
        num_heads: Number of attention heads; it must divide the width of the tokens.
        hidden_dim: Width of the perceptron's hidden layer.
        dropout: Fraction dropped in training, after each attention, the hidden layer and the perceptron.
        form: `"post"`, the norm after each part and its addition, or `"pre"`, before the part.
        activation: Of the hidden layer, as for `FeedForward`.
        epsilon: Of the norms.
        attention: Further arguments of `SelfAttention` by name: rotary, num_kv_heads.
    Input shape: `(batch, tokens, width)` and the memory `(batch, memory tokens, memory width)`; `mask`, if given,
        `(batch, memory tokens)`, true where a token of the memory counts.
    Output shape: `(batch, tokens, width)`.
    Raises:
        ValueError: `form` is no form of a decoder's block, or the heads do not divide the width.
    Reference: Vaswani et al., 2017, arXiv 1706.03762.
    """

    steps_many = True

    def __init__(
        self, num_heads, hidden_dim, dropout=0.0, form="post", activation="gelu", epsilon=1e-6, attention=None, **kwargs
    ):
        if form == "parallel":
            raise ValueError("`form` of a decoder's block must be 'post' or 'pre'. Received: form='parallel'")
        super().__init__(dropout, form, epsilon, **kwargs)
        policy = self.dtype_policy
        self.attention_norm = self.norm("attention_norm")
        self.attention = SelfAttention(num_heads, causal=True, name="attention", dtype=policy, **(attention or {}))
        self.memory_norm = self.norm("memory_norm")
        self.memory_attention = CrossAttention(num_heads, name="memory_attention", dtype=policy)
        self.hidden_norm = self.norm("hidden_norm")
        self.feed_forward = FeedForward(hidden_dim, activation, dropout, name="feed_forward", dtype=policy)

    def build(self, x_shape, memory_shape):
        for part in (self.attention_norm, self.attention, self.memory_norm, self.hidden_norm, self.feed_forward):
            part.build(x_shape)
        self.memory_attention.build(x_shape, memory_shape)

    def call(self, x, memory, mask=None, training=None):
        look = lambda x: self.memory_attention.call(x, memory, mask)  # noqa: E731
        return self.whole(x, self.attention.call, look, training)

    def attention_weights(self, x, memory, mask=None):
        """How much each token takes from each of the memory, see `CrossAttention.attention_weights`."""
        x = self.residual(x, self.attention.call, self.attention_norm, False)
        return self.memory_attention.attention_weights(self.memory_norm.call(x) if self.form == "pre" else x, memory, mask)

    def start(self, batch_size, length, memory, mask=None):
        return [self.attention.start(batch_size, length), self.memory_attention.start(batch_size, length, memory, mask)]

    def step(self, x, state, position):
        own, memory = state

        def attend(x):
            nonlocal own
            x, own = self.attention.step(x, own, position)
            return x

        x = self.whole(x, attend, lambda x: self.memory_attention.step(x, memory, position)[0], False)
        return x, [own, memory]

    def whole(self, x, attend, look, training):
        x = self.residual(x, attend, self.attention_norm, training)
        x = self.residual(x, look, self.memory_norm, training)
        return self.residual(x, lambda x: self.feed_forward.call(x, training), self.hidden_norm, training)

    def compute_output_shape(self, x_shape, memory_shape):
        return x_shape
