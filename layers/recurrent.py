"""Recurrent layers: Keras's own, with the same arguments, weights and numbers, and torch's fused cells."""

import keras

from . import backend

__all__ = ["GRU", "LSTM"]


@keras.saving.register_keras_serializable(package="triptych")
class LSTM(keras.layers.LSTM):
    """Long short-term memory. Torch runs its fused cell where nothing is masked, dropped, reversed or carried over.

    Args: those of `keras.layers.LSTM`.
    Input shape: `(batch, steps, features)`.
    Output shape: `(batch, units)`, or `(batch, steps, units)` with `return_sequences=True`.
    Reference: Hochreiter and Schmidhuber, 1997.
    """

    def call(self, sequences, initial_state=None, mask=None, training=False):
        outputs = None
        if is_plain(self, initial_state, mask):
            outputs = backend.lstm(sequences, *weights(self.cell))
        if outputs is None:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return outputs if self.return_sequences else outputs[:, -1]

    def start(self, batch_size):
        return self.get_initial_state(batch_size)

    def step(self, x, state, position):
        x, state = self.cell(x[:, 0], state)
        return x[:, None], state


@keras.saving.register_keras_serializable(package="triptych")
class GRU(keras.layers.GRU):
    """Gated recurrent unit. Torch runs its fused cell where nothing is masked, dropped, reversed or carried over.

    Args: those of `keras.layers.GRU`.
    Input shape: `(batch, steps, features)`.
    Output shape: `(batch, units)`, or `(batch, steps, units)` with `return_sequences=True`.
    Reference: Cho et al., 2014, arXiv 1406.1078.
    """

    def call(self, sequences, initial_state=None, mask=None, training=False):
        outputs = None
        if is_plain(self, initial_state, mask) and self.cell.reset_after:
            outputs = backend.gru(sequences, *weights(self.cell))
        if outputs is None:
            return super().call(sequences, initial_state=initial_state, mask=mask, training=training)
        return outputs if self.return_sequences else outputs[:, -1]


def is_plain(layer, initial_state, mask):
    """Whether a fused cell computes exactly what the layer was asked for."""
    cell = layer.cell
    standard = cell.activation is keras.activations.tanh and cell.recurrent_activation is keras.activations.sigmoid
    special = cell.dropout or cell.recurrent_dropout or layer.go_backwards or layer.return_state or layer.stateful
    return standard and cell.use_bias and not special and mask is None and initial_state is None


def weights(cell):
    return [keras.ops.convert_to_tensor(weight) for weight in (cell.kernel, cell.recurrent_kernel, cell.bias)]
