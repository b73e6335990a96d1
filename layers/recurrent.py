"""Recurrent layers: Keras's own, with the same arguments, weights and numbers, and torch's fused cells; both directions."""

import keras

from . import backend
from ._arguments import positive
from .backend import language
from .sequences import ReverseSequences

__all__ = ["GRU", "LSTM", "BidirectionalRNN", "SimpleRNN"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class LSTM(keras.layers.LSTM):
    """Long short-term memory. Torch runs its fused cell where nothing is dropped, reversed or carried over.

    Args: those of `keras.layers.LSTM`.
    Input shape: `(batch, steps, features)`; `mask`, if given, `(batch, steps)`, false where the state stays as it is.
    Output shape: `(batch, units)`, or `(batch, steps, units)` with `return_sequences=True`.
    Reference: Hochreiter and Schmidhuber, 1997.
    """

    def call(self, sequences, initial_state=None, mask=None, training=False):
        outputs = None
        if is_plain(self, initial_state) and gates_are_standard(self.cell):
            outputs = fused(backend.lstm, self.cell, sequences, mask)
        if outputs is None:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return outputs if self.return_sequences else outputs[:, -1]

    def start(self, batch_size, length):
        return self.get_initial_state(batch_size)

    def step(self, x, state, position):
        x, state = self.cell(x[:, 0], state)
        return x[:, None], state


@keras.saving.register_keras_serializable(package="triptych")
class GRU(keras.layers.GRU):
    """Gated recurrent unit. Torch runs its fused cell where nothing is dropped, reversed or carried over.

    Args: those of `keras.layers.GRU`.
    Input shape: `(batch, steps, features)`; `mask`, if given, `(batch, steps)`, false where the state stays as it is.
    Output shape: `(batch, units)`, or `(batch, steps, units)` with `return_sequences=True`.
    Reference: Cho et al., 2014, arXiv 1406.1078.
    """

    def call(self, sequences, initial_state=None, mask=None, training=False):
        outputs = None
        if is_plain(self, initial_state) and gates_are_standard(self.cell) and self.cell.reset_after:
            outputs = fused(backend.gru, self.cell, sequences, mask)
        if outputs is None:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return outputs if self.return_sequences else outputs[:, -1]

    def start(self, batch_size, length):
        return self.get_initial_state(batch_size)

    def step(self, x, state, position):
        x, state = self.cell(x[:, 0], state)
        return x[:, None], state


@keras.saving.register_keras_serializable(package="triptych")
class SimpleRNN(keras.layers.SimpleRNN):
    """`h_t = tanh(W x_t + U h_{t-1} + b)`. Torch runs its fused cell where nothing is dropped, reversed or carried over.

    Args: those of `keras.layers.SimpleRNN`.
    Input shape: `(batch, steps, features)`; `mask`, if given, `(batch, steps)`, false where the state stays as it is.
    Output shape: `(batch, units)`, or `(batch, steps, units)` with `return_sequences=True`.
    Reference: Elman, 1990, "Finding Structure in Time".
    """

    def call(self, sequences, initial_state=None, mask=None, training=False):
        outputs = fused(language.simple_rnn, self.cell, sequences, mask) if is_plain(self, initial_state) else None
        if outputs is None:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return outputs if self.return_sequences else outputs[:, -1]

    def start(self, batch_size, length):
        return self.get_initial_state(batch_size)

    def step(self, x, state, position):
        x, state = self.cell(x[:, 0], state)
        return x[:, None], state


CELLS = {"simple": SimpleRNN, "lstm": LSTM, "gru": GRU}


@keras.saving.register_keras_serializable(package="triptych")
class BidirectionalRNN(keras.layers.Layer):
    """Two recurrent layers, one of which reads each sequence from its last token that counts; their outputs side by side.

    Args:
        units: Units of each direction.
        cell: `"lstm"`, `"gru"` or `"simple"`.
        return_sequences: Whether the outputs of all tokens are wanted, or the last state of each direction.
    Input shape: `(batch, tokens, features)`; `mask`, if given, `(batch, tokens)`, true up to a sequence's length.
    Output shape: `(batch, tokens, 2 units)`, or `(batch, 2 units)`.
    Raises:
        ValueError: There is no such cell.
    Reference: Schuster and Paliwal, 1997; Graves and Schmidhuber, 2005.
    """

    def __init__(self, units, cell="lstm", return_sequences=True, **kwargs):
        super().__init__(**kwargs)
        self.units = positive("units", units)
        if cell not in CELLS:
            raise ValueError(f"`cell` must be one of {', '.join(map(repr, CELLS))}. Received: cell={cell!r}")
        options = {"return_sequences": return_sequences, "dtype": self.dtype_policy}
        self.return_sequences = return_sequences
        self.onward = CELLS[cell](units, name="onward", **options)
        self.backward = CELLS[cell](units, name="backward", **options)
        self.reverse = ReverseSequences(name="reverse", dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape):
        self.onward.build(input_shape)
        self.backward.build(input_shape)

    def call(self, x, mask=None, training=None):
        onward = self.onward.call(x, mask=mask, training=training)
        backward = self.backward.call(self.reverse.call(x, mask), mask=mask, training=training)
        if self.return_sequences:
            backward = self.reverse.call(backward, mask)
        return ops.concatenate([onward, backward], axis=-1)

    def compute_mask(self, *_, **__):
        return None  # masks are passed by hand: one that travels by itself would reach the loss

    def compute_output_shape(self, input_shape):
        batch, tokens, _ = input_shape
        return (batch, tokens, 2 * self.units) if self.return_sequences else (batch, 2 * self.units)


def is_plain(layer, initial_state):
    """Whether a fused cell computes exactly what the layer was asked for."""
    cell = layer.cell
    special = cell.dropout or cell.recurrent_dropout or layer.go_backwards or layer.return_state or layer.stateful
    plain = cell.activation is keras.activations.tanh and cell.use_bias and initial_state is None
    return plain and not special and not layer.zero_output_for_mask


def gates_are_standard(cell):
    return cell.recurrent_activation is keras.activations.sigmoid


def fused(run, cell, sequences, mask):
    """The outputs of all steps by a fused cell, which knows no mask: steps that count come first, the state of each goes back
    to where it was, and on to the steps after it that do not count. `None` where there is no such cell."""
    weights = [ops.convert_to_tensor(weight) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)]
    if mask is None:
        return run(sequences, *weights)
    steps = ops.shape(sequences)[1]
    places = ops.expand_dims(ops.arange(steps, dtype="int32"), 0)
    order = ops.argsort(ops.where(mask, places, places + steps), axis=1)
    outputs = run(backend.take_places(sequences, order), *weights)
    if outputs is None:
        return None
    count = ops.cumsum(ops.cast(mask, "int32"), axis=1)
    outputs = backend.take_places(outputs, ops.maximum(count - 1, 0))
    return ops.where(ops.expand_dims(count, -1) > 0, outputs, ops.zeros((), outputs.dtype))
