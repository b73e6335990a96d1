"""How `fit` is fed: whole batches in an order that follows from (seed, epoch) alone."""

import sys
import time

import keras
import numpy as np

from apps.common.technique import steps_in


class Batches(keras.utils.PyDataset):
    """Shuffled whole batches of some examples; the order is a pure function of the seed and the epoch.

    So a run that goes on after a kill sees the batches an undisturbed run would have seen, on any backend. The last
    batch is filled up with the first examples of the epoch: a shorter one would compile a second time.
    """

    def __init__(self, examples, batch_size, seed, show=None):
        super().__init__()
        self.examples, self.seed, self.show = examples, seed, show
        self.batch_size = min(batch_size, len(examples))
        self.steps = steps_in(examples, batch_size)
        self.last_shown = 0.0
        self.set_epoch(0)

    def set_epoch(self, epoch):
        self.epoch = epoch
        self.order = np.random.default_rng([self.seed, 1, epoch]).permutation(len(self.examples))

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        if self.show and step and time.monotonic() - self.last_shown > 1:
            self.last_shown = time.monotonic()
            self.show(self.epoch, step, self.steps)
        start, size = step * self.batch_size, self.batch_size
        indices = self.order[start : start + size]
        if len(indices) < size:
            indices = np.concatenate([indices, self.order[: size - len(indices)]])
        return self.examples.take(indices)


class InOrder(keras.utils.PyDataset):
    """All examples in their order, the last batch filled up with copies of the first example of weight zero.

    Keras divides a batch's loss by its size, the filling included; the weights of the rest make up for it, so that the
    loss over all batches is the mean over the examples.
    """

    def __init__(self, examples, batch_size):
        super().__init__()
        self.examples, self.batch_size = examples, min(batch_size, len(examples))

    def __len__(self):
        return -(-len(self.examples) // self.batch_size)

    def __getitem__(self, step):
        start = step * self.batch_size
        indices = np.arange(start, start + self.batch_size)
        inside = indices < len(self.examples)
        x, y, weight = (*self.examples.take(np.where(inside, indices, 0)), None, None)[:3]
        share = len(self) * self.batch_size / len(self.examples)
        weight = (inside if weight is None else weight * inside) * np.float32(share)
        return x, y, weight


def predict_all(model, x, batch_size=256):
    """Outputs of the model for every row of `x` as NumPy, in batches of one size so that nothing compiles twice.

    Args:
        model: Any Keras model.
        x: Array, or dict of arrays, first axis the example.
        batch_size: Rows a batch.
    """
    size = len(next(iter(x.values())) if isinstance(x, dict) else x)
    whole = -(-size // batch_size) * batch_size if size > batch_size else size
    indices = np.minimum(np.arange(whole), size - 1)
    padded = {name: array[indices] for name, array in x.items()} if isinstance(x, dict) else x[indices]
    outputs = model.predict(padded, batch_size=min(batch_size, size), verbose=0)
    return keras.tree.map_structure(lambda array: np.asarray(array)[:size], outputs)


def show_step(epochs):
    """A line on standard error, about once a second, for epochs that take longer than that."""

    def show(epoch, step, steps):
        if sys.stderr.isatty():
            print(f"\repoch {epoch + 1}/{epochs}  step {step}/{steps} ", end="", file=sys.stderr, flush=True)

    return show
