"""Generation one token at a time: what a causal model has computed for earlier tokens is kept, not computed again."""

import keras
import numpy as np
from keras.src.backend import AutocastScope

from . import backend

__all__ = ["Decoder"]


class Decoder:
    """A causal functional model run a token at a time, in a compiled step whose shapes never change.

    The model's own graph is followed, and a layer that looks at earlier tokens (it has a `step`) gets what it kept of
    them: keys and values, or a recurrent state. So a token costs the same wherever it stands.

    Args:
        model: A built functional model from token ids `(batch, block_size)` to logits `(batch, block_size, entries)`.

    `decoder(token)` takes the next id and returns the logits of the one after it, `(entries,)`; `decoder.reset()`
    forgets everything. `position` is the number of tokens taken, at most `block_size`.
    """

    def __init__(self, model):
        self.model = model
        self.block_size = model.inputs[0].shape[1]
        self._layers = [layer for layer in model.layers if hasattr(layer, "step")]
        self._step = backend.compiled(self._run, model)
        self._empty = [layer.start(1) for layer in self._layers]
        self.reset()

    def reset(self):
        self.position, self._states = 0, self._empty

    def __call__(self, token):
        if self.position >= self.block_size:
            raise ValueError(f"A decoder takes `block_size` tokens between resets. Received: token {self.position + 1}")
        token, position = np.array([[token]], "int32"), np.array(self.position, "int32")
        logits, self._states = self._step(token, position, self._states)
        self.position += 1
        return keras.ops.convert_to_numpy(logits)[0, 0]

    def _run(self, token, position, states):
        states = {layer.name: state for layer, state in zip(self._layers, states, strict=True)}

        def one_token(layer):
            if layer.name not in states:
                return layer

            def step(x, **call_options):
                with AutocastScope(layer.compute_dtype):  # as Keras does around a layer's `call`
                    x, states[layer.name] = layer.step(x, states[layer.name], position)
                return x

            return step

        # Keras's own walk over a functional model, each layer replaced by its form for one token.
        logits = self.model._run_through_graph(token, one_token)
        return logits, [states[layer.name] for layer in self._layers]
