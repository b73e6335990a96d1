"""How `fit` is fed: whole batches in an order that follows from (seed, epoch) alone."""

import keras
import numpy as np

from apps.common.data.examples import Examples
from apps.common.training.optimizers import steps_in
from layers import backend


class Batches(keras.utils.PyDataset):
    """Shuffled whole batches of some examples; the order is a pure function of the seed and the epoch.

    So a run that goes on after a kill sees the batches an undisturbed run would have seen, on any backend. The last
    batch is filled up with the first examples of the epoch: a shorter one would compile a second time.

    With `parts` each batch comes as that many smaller ones, one after the other.
    """

    def __init__(self, examples, batch_size, seed, parts=1):
        super().__init__()
        self.examples, self.seed = examples, seed
        self.batch_size = min(batch_size, len(examples)) // parts
        self.steps = steps_in(examples, batch_size) * parts
        self.set_epoch(0)

    def set_epoch(self, epoch):
        self.epoch = epoch
        generator = np.random.default_rng([self.seed, 1, epoch])
        own_order = getattr(self.examples, "order", None)
        order = own_order(generator) if own_order else generator.permutation(len(self.examples))
        self.table = np.resize(order, (self.steps, self.batch_size))

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        return self.examples.take(self.table[step])

    def index_table(self):
        """The examples of each step of this epoch, `(steps, batch_size)`."""
        return self.table

    def arrays(self):
        """The whole split as `fit` takes it, or `None` where the examples are not arrays in memory."""
        return self.examples.take(slice(None)) if isinstance(self.examples, Examples) else None

    def constant(self):
        """The batch that every step of every epoch sees, or `None`: a single example, such as one whole graph, is one."""
        return self[0] if len(self.examples) == 1 else None


class InOrder(keras.utils.PyDataset):
    """All examples in their order, the last batch filled up with copies of the first example of weight zero.

    Keras divides a batch's loss by its size, the filling included; the weights of the rest make up for it, so that the
    loss over all batches is the mean over the examples.
    """

    def __init__(self, examples, batch_size):
        super().__init__()
        self.examples, self.batch_size = examples, batch_size

    def __len__(self):
        return -(-len(self.examples) // self.batch_size)

    def __getitem__(self, step):
        start = step * self.batch_size
        indices = np.arange(start, start + self.batch_size)
        inside = indices < len(self.examples)
        x, y, weight = (*self.examples.take(np.where(inside, indices, 0)), None, None)[:3]
        share = len(self) * self.batch_size / len(self.examples)
        if weight is not None:  # a number an example, or one for each of its nodes, tokens or pixels
            inside = weight * inside.reshape(-1, *[1] * (weight.ndim - 1))
        return x, y, inside * np.float32(share)

    def arrays(self):
        """None: the filling up is not a gathering of rows."""

    def constant(self):
        """The only batch, or `None` where there are several."""
        return self[0] if len(self) == 1 else None


def predict_all(model, x, batch_size=256):
    """Outputs of the model for every row of `x` as NumPy, in batches of one size so that nothing compiles twice.

    Args:
        model: Any Keras model.
        x: Array, or dict of arrays, first axis the example.
        batch_size: Rows a batch.
    """
    size = len(next(iter(x.values())) if isinstance(x, dict) else x)
    forward, batch_size = backend.forward(model), min(batch_size, size)
    parts = []
    for first in range(0, size, batch_size):
        batch = x
        if size > batch_size:
            rows = np.minimum(np.arange(first, first + batch_size), size - 1)
            batch = {name: array[rows] for name, array in x.items()} if isinstance(x, dict) else x[rows]
        parts.append(keras.tree.map_structure(keras.ops.convert_to_numpy, forward(batch)))
    if len(parts) == 1:
        return parts[0]
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays)[:size], *parts)
