"""Attention of a recurrent decoder, which says where it looked, and such a decoder."""

import keras

from ._arguments import positive
from .backend import language
from .dense import Dense

__all__ = ["AdditiveAttention", "AttentionRNN", "MultiplicativeAttention"]

ops = keras.ops

MEMORY_CELLS = {"gru": keras.layers.GRUCell, "lstm": keras.layers.LSTMCell}


class Attention(keras.layers.Layer):
    """What both kinds share: the scores' softmax over the tokens that count, and the mean of the memory by it."""

    def call(self, query, memory, mask=None):
        return self.look(query, self.keys(memory), memory, mask)

    def look(self, query, keys, memory, mask=None):
        """As `call`, with the memory's keys worked out before."""
        scores = ops.cast(self.scores(query, keys), keras.backend.result_type(query.dtype, "float32"))
        if mask is not None:
            scores = ops.where(ops.expand_dims(mask, 1), scores, ops.cast(-1e30, scores.dtype))
        weights = ops.cast(ops.softmax(scores, axis=-1), query.dtype)
        return ops.matmul(weights, memory), weights

    def start(self, batch_size, length, memory, mask=None):
        mask = ops.ones(memory.shape[:2], "bool") if mask is None else mask
        return [self.keys(memory), memory, mask]

    def step(self, query, state, position):
        return self.look(query, *state), state

    def compute_mask(self, *_, **__):
        return None

    def compute_output_shape(self, query_shape, memory_shape):
        return (*query_shape[:-1], memory_shape[-1]), (*query_shape[:-1], memory_shape[1])


@keras.saving.register_keras_serializable(package="triptych")
class AdditiveAttention(Attention):
    """Scores `v' tanh(W q + U k)` of each query q and token k of the memory.

    Args:
        units: Units of the hidden layer.
    Input shape: queries `(batch, queries, features)` and the memory `(batch, tokens, width)`; `mask`, if given,
        `(batch, tokens)`, true where a token counts.
    Output shape: contexts `(batch, queries, width)` and the weights `(batch, queries, tokens)`, which sum to one.
    Reference: Bahdanau et al., 2014, arXiv 1409.0473.
    """

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        policy = self.dtype_policy
        self.query_projection = Dense(positive("units", units), name="query", dtype=policy)
        self.key_projection = Dense(units, use_bias=False, name="key", dtype=policy)
        self.score = Dense(1, use_bias=False, name="score", dtype=policy)

    def build(self, query_shape, memory_shape):
        self.query_projection.build(query_shape)
        self.key_projection.build(memory_shape)
        self.score.build((None, None, None, self.query_projection.units))

    def keys(self, memory):
        return self.key_projection.call(memory)

    def scores(self, query, keys):
        hidden = ops.expand_dims(self.query_projection.call(query), 2) + ops.expand_dims(keys, 1)
        return ops.squeeze(self.score.call(ops.tanh(hidden)), -1)


@keras.saving.register_keras_serializable(package="triptych")
class MultiplicativeAttention(Attention):
    """Scores `q' W k` of each query q and token k of the memory.

    Input shape: queries `(batch, queries, features)` and the memory `(batch, tokens, width)`; `mask`, if given,
        `(batch, tokens)`, true where a token counts.
    Output shape: contexts `(batch, queries, width)` and the weights `(batch, queries, tokens)`, which sum to one.
    Reference: Luong et al., 2015, arXiv 1508.04025, "general".
    """

    def build(self, query_shape, memory_shape):
        self.key_projection = Dense(query_shape[-1], use_bias=False, name="key", dtype=self.dtype_policy)
        self.key_projection.build(memory_shape)

    def keys(self, memory):
        return self.key_projection.call(memory)

    def scores(self, query, keys):
        return ops.matmul(query, ops.swapaxes(keys, 1, 2))


@keras.saving.register_keras_serializable(package="triptych")
class AttentionRNN(keras.layers.Layer):
    """A recurrent decoder that looks at a memory at every step.

    `"additive"` (Bahdanau): the state before looks, `c_t = attention(s_t-1)`, `s_t = cell([x_t, c_t], s_t-1)`, and the output is
    `[s_t, c_t]`. `"multiplicative"` (Luong): the new state looks, `s_t = cell([x_t, h_t-1], s_t-1)`,
    `h_t = tanh(W [s_t, attention(s_t)])`, and the output, fed into the next step, is `h_t`.

    Args:
        units: Units of the cell.
        cell: `"gru"` or `"lstm"`.
        attention: `"additive"` or `"multiplicative"`.
    Input shape: `(batch, steps, features)`, the memory `(batch, tokens, width)` and, if given, the first state
        `(batch, units)`; `mask`, if given, `(batch, tokens)`, true where a token of the memory counts.
    Output shape: `(batch, steps, units + width)`, or `(batch, steps, units)` if multiplicative; and where each step has looked,
        `(batch, steps, tokens)`.
    Raises:
        ValueError: There is no such cell or attention.
    Reference: Bahdanau et al., 2014, arXiv 1409.0473; Luong et al., 2015, arXiv 1508.04025.
    """

    def __init__(self, units, cell="gru", attention="additive", **kwargs):
        super().__init__(**kwargs)
        self.units = positive("units", units)
        if cell not in MEMORY_CELLS:
            raise ValueError(f"`cell` must be one of {', '.join(map(repr, MEMORY_CELLS))}. Received: cell={cell!r}")
        if attention not in ("additive", "multiplicative"):
            raise ValueError(f"`attention` must be 'additive' or 'multiplicative'. Received: attention={attention!r}")
        policy = self.dtype_policy
        self.cell = MEMORY_CELLS[cell](units, name="cell", dtype=policy)
        self.additive = attention == "additive"
        if self.additive:
            self.attention, self.combine = AdditiveAttention(units, name="attention", dtype=policy), None
        else:
            self.attention = MultiplicativeAttention(name="attention", dtype=policy)
            self.combine = Dense(units, activation="tanh", use_bias=False, name="combine", dtype=policy)

    def build(self, x_shape, memory_shape):
        features, width = x_shape[-1], memory_shape[-1]
        self.cell.build((None, features + (width if self.additive else self.units)))
        self.attention.build((None, None, self.units), memory_shape)
        if self.combine:
            self.combine.build((None, self.units + width))

    def call(self, x, memory, initial_state=None, mask=None):
        keys = self.attention.keys(memory)
        first = self.first_state(memory, initial_state)
        states = language.scan(lambda state, x: self.advance(x, state, keys, memory, mask), first, ops.swapaxes(x, 0, 1))
        outputs, weights = (ops.swapaxes(each, 0, 1) for each in states[-2:])
        return outputs, weights

    def start(self, batch_size, length, memory, initial_state=None, mask=None):
        return [*self.attention.start(batch_size, length, memory, mask), self.first_state(memory, initial_state)]

    def step(self, x, state, position):
        keys, memory, mask, state = state
        state = self.advance(x[:, 0], state, keys, memory, mask)
        return (state[-2][:, None], state[-1][:, None]), [keys, memory, mask, state]

    def first_state(self, memory, initial_state):
        """The cell's state (one tensor, or two of an LSTM), the output and the weights before the first step."""
        zeros = ops.zeros_like(memory[:, 0, :1])
        hidden = ops.broadcast_to(zeros, (ops.shape(memory)[0], self.units)) if initial_state is None else initial_state
        cell = [hidden] if isinstance(self.cell, keras.layers.GRUCell) else [hidden, ops.zeros_like(hidden)]
        output = ops.concatenate([ops.zeros_like(hidden), ops.zeros_like(memory[:, 0])], -1) if self.additive else hidden * 0
        return [*cell, output, ops.zeros_like(memory[:, :, 0])]

    def advance(self, x, state, keys, memory, mask):
        cell, output = list(state[:-2]), state[-2]
        if self.additive:
            context, weights = self.attention.look(cell[0][:, None], keys, memory, mask)
            hidden, cell = self.cell.call(ops.concatenate([x, context[:, 0]], -1), cell)
            output = ops.concatenate([hidden, context[:, 0]], axis=-1)
        else:
            hidden, cell = self.cell.call(ops.concatenate([x, output], axis=-1), cell)
            context, weights = self.attention.look(hidden[:, None], keys, memory, mask)
            output = self.combine.call(ops.concatenate([hidden, context[:, 0]], axis=-1))
        return [*cell, output, weights[:, 0]]

    def compute_mask(self, *_, **__):
        return None

    def compute_output_shape(self, x_shape, memory_shape):
        width = self.units + memory_shape[-1] if self.additive else self.units
        return (*x_shape[:-1], width), (*x_shape[:-1], memory_shape[1])
