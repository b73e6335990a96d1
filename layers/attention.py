"""Attention in several heads: `softmax(Q K' / sqrt(d)) V` of tokens to one another, or to those of another sequence.

Both have a second form, `step(x, state, position)`, which takes a token or some tokens at a time, see `layers.Decoder`.
"""

import math

import keras

from . import backend
from ._arguments import divides, positive
from .dense import Dense
from .positions import RotaryEmbedding

__all__ = ["CrossAttention", "SelfAttention"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class SelfAttention(keras.layers.Layer):
    """Every token gathers from every other: `softmax(Q K' / sqrt(d)) V` in several heads, projected back.

    Args:
        num_heads: Number of heads; it must divide the width.
        causal: Whether a token sees only itself and those before it.
        rotary: Whether queries and keys are turned by their positions (`RotaryEmbedding`).
        init_depth: Number of blocks of a GPT-2: kernels are then drawn as its are (see `TransformerBlock`).
        num_kv_heads: Heads of keys and values, each shared by a group of heads of queries; as many as `num_heads` when `None`.
    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true where a token counts.
    Raises:
        ValueError: The heads do not divide the width, or those of keys the heads.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; one head of keys: Shazeer, 2019, arXiv 1911.02150; groups: Ainslie et
        al., 2023, arXiv 2305.13245.
    """

    steps_many = True

    def __init__(self, num_heads, causal=False, rotary=False, init_depth=None, num_kv_heads=None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = positive("num_heads", num_heads)
        self.num_kv_heads = grouped(num_heads, num_kv_heads)
        self.causal = causal
        self.init_depth = init_depth
        self.rotary = RotaryEmbedding(name="rotary", dtype=self.dtype_policy) if rotary else None
        self.supports_masking = True

    def build(self, input_shape):
        _, tokens, width = input_shape
        divides("num_heads", self.num_heads, width)
        self.features = width // self.num_heads
        inner, outer = gpt2_initializers(self.init_depth)
        policy = self.dtype_policy
        units = (self.num_heads + 2 * self.num_kv_heads) * self.features
        self.query_key_value = Dense(units, name="query_key_value", kernel_initializer=inner, dtype=policy)
        self.query_key_value.build(input_shape)
        self.output_projection = Dense(width, name="output", kernel_initializer=outer, dtype=policy)
        self.output_projection.build(input_shape)
        if self.rotary:
            self.rotary.build((None, tokens, self.num_heads, self.features))

    def call(self, x, mask=None):
        query, key, value = self.heads(x)
        return joined(self.output_projection, attend(query, key, value, self.causal, mask))

    def start(self, batch_size, length):
        """Room for the keys and values of all tokens, so that no shape changes from step to step."""
        empty = ops.zeros((batch_size, length, self.num_kv_heads, self.features), self.compute_dtype)
        return [empty, empty]

    def step(self, x, state, position):
        query, key, value = self.heads(x, position)
        (batch, tokens, _), length = x.shape, state[0].shape[1]
        places = ops.arange(length)
        here = ops.logical_and(places >= position, places < position + tokens)
        if tokens > 1:  # by gathering: an update from a place that is not fixed is not everywhere to be had
            new = ops.clip(places - position, 0, tokens - 1)
            key, value = ops.take(key, new, axis=1), ops.take(value, new, axis=1)
        here = ops.reshape(here, (1, -1, 1, 1))
        keys, values = ops.where(here, key, state[0]), ops.where(here, value, state[1])
        past = ops.expand_dims(places, 0) <= ops.expand_dims(position + ops.arange(tokens), 1)
        heads = attend(query, keys, values, False, ops.broadcast_to(past, (batch, tokens, length)))
        return joined(self.output_projection, heads), [keys, values]

    def heads(self, x, position=None):
        """Query, key and value of each head, `(batch, tokens, heads, features)`."""
        # Split and not sliced: the gradient of a slice is a tensor of the whole size, filled up with zeros. And in equal parts:
        # sizes that differ are a tensor to Keras on torch, which no export can follow.
        group = self.num_heads // self.num_kv_heads
        *queries, key, value = ops.split(self.query_key_value.call(x), group + 2, axis=-1)
        query = ops.concatenate(queries, axis=-1) if group > 1 else queries[0]
        query, key, value = (separated(part, self.features) for part in (query, key, value))
        if self.rotary:
            query, key = self.rotary.call(query, position), self.rotary.call(key, position)
        return query, key, value

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class CrossAttention(keras.layers.Layer):
    """Every token of one sequence gathers from those of another, the memory: `softmax(Q K' / sqrt(d)) V` in several heads.

    Args:
        num_heads: Number of heads; it must divide the width.
        num_kv_heads: Heads of keys and values, each shared by a group of heads of queries; as many as `num_heads` when `None`.
    Input shape: `(batch, tokens, width)` and the memory `(batch, memory tokens, memory width)`; `mask`, if given,
        `(batch, memory tokens)`, true where a token of the memory counts.
    Output shape: `(batch, tokens, width)`.
    Raises:
        ValueError: The heads do not divide the width, or those of keys the heads.
    Reference: Vaswani et al., 2017, arXiv 1706.03762, section 3.2.3.
    """

    steps_many = True

    def __init__(self, num_heads, num_kv_heads=None, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = positive("num_heads", num_heads)
        self.num_kv_heads = grouped(num_heads, num_kv_heads)

    def build(self, x_shape, memory_shape):
        width = x_shape[-1]
        divides("num_heads", self.num_heads, width)
        self.features = width // self.num_heads
        self.query = Dense(width, name="query", dtype=self.dtype_policy)
        self.query.build(x_shape)
        self.key_value = Dense(2 * self.num_kv_heads * self.features, name="key_value", dtype=self.dtype_policy)
        self.key_value.build(memory_shape)
        self.output_projection = Dense(width, name="output", dtype=self.dtype_policy)
        self.output_projection.build(x_shape)

    def call(self, x, memory, mask=None):
        return self.gather(x, *self.keys_and_values(memory), mask)

    def start(self, batch_size, length, memory, mask=None):
        """Keys and values of the memory, computed once, and which of them count."""
        mask = ops.ones(memory.shape[:2], "bool") if mask is None else mask
        return [*self.keys_and_values(memory), mask]

    def step(self, x, state, position):
        return self.gather(x, *state), state

    def attention_weights(self, x, memory, mask=None):
        """How much each token gathers from each of the memory, the mean of the heads: `(batch, tokens, memory tokens)`."""
        query, (key, _) = separated(self.query.call(x), self.features), self.keys_and_values(memory)
        key = ops.repeat(key, self.num_heads // self.num_kv_heads, axis=2)
        scores = ops.cast(ops.einsum("bqhd,bkhd->bhqk", query, key), "float32") / math.sqrt(self.features)
        if mask is not None:
            scores = ops.where(mask[:, None, None, :], scores, -1e9)
        return ops.mean(ops.softmax(scores), axis=1)

    def keys_and_values(self, memory):
        key, value = ops.split(self.key_value.call(memory), 2, axis=-1)
        return separated(key, self.features), separated(value, self.features)

    def gather(self, x, keys, values, mask):
        query = separated(self.query.call(x), self.features)
        return joined(self.output_projection, attend(query, keys, values, False, mask))

    def compute_mask(self, *_, **__):
        return None  # the mask is the memory's, not that of what comes out

    def compute_output_shape(self, x_shape, memory_shape):
        return x_shape


def grouped(num_heads, num_kv_heads):
    """Number of heads of keys and values, checked."""
    if num_kv_heads is None:
        return num_heads
    if positive("num_kv_heads", num_kv_heads) > num_heads or num_heads % num_kv_heads:
        raise ValueError(
            f"`num_kv_heads` must divide `num_heads`. Received: num_kv_heads={num_kv_heads}, num_heads={num_heads}"
        )
    return num_kv_heads


def separated(x, features):
    """`(batch, tokens, heads * features)` -> `(batch, tokens, heads, features)`."""
    return ops.reshape(x, (-1, ops.shape(x)[1], x.shape[-1] // features, features))


def joined(projection, heads):
    """`(batch, tokens, heads, features)` -> `(batch, tokens, width)`, by a layer that projects all heads together."""
    num_heads, features = heads.shape[2:]
    return projection.call(ops.reshape(heads, (-1, ops.shape(heads)[1], num_heads * features)))


def attend(query, key, value, causal, mask):
    """`backend.attention`, a head of keys and values serving a group of neighbouring heads of queries.

    `mask` is `(batch, keys)`, or `(batch, queries, keys)` where each query has its own; each sees one key at least.
    """
    group = query.shape[2] // key.shape[2]
    if group > 1:
        key, value = ops.repeat(key, group, axis=2), ops.repeat(value, group, axis=2)
    return backend.attention(query, key, value, causal, mask)


def gpt2_initializers(depth):
    """How kernels within a block and those that lead out of it are drawn; Keras's default without a `depth`."""
    if depth is None:
        return "glorot_uniform", "glorot_uniform"
    normal = keras.initializers.RandomNormal
    return normal(stddev=0.02), normal(stddev=0.02 / math.sqrt(2 * positive("init_depth", depth)))
