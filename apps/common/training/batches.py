"""How `fit` is fed: whole batches in an order that follows from (seed, epoch) alone.

A loss is a sum over what counts divided by how much counts. Keras divides by the number of all losses of a batch; the
weights are scaled here so that this comes to the same, on every backend.
"""

import functools

import keras
import numpy as np

from apps.common.data import nested
from apps.common.data.examples import Examples
from apps.common.training.optimizers import steps_in
from layers import backend


class Batches(keras.utils.PyDataset):
    """Shuffled whole batches of some examples; the order is a pure function of the seed and the epoch.

    So a run that goes on after a kill sees the batches an undisturbed run would have seen, on any backend. The last
    batch is filled up with the first examples of the epoch: a shorter one would compile a second time. What examples with
    a `plan` leave open is filled up with copies that count nothing.

    With `parts` each batch comes as that many smaller ones, one after the other.
    """

    def __init__(self, examples, batch_size, seed, parts=1):
        super().__init__()
        self.examples, self.seed, self.parts = examples, seed, parts
        self.batch_size = min(batch_size, len(examples)) // parts
        self.steps = steps_in(examples, batch_size) * parts
        self.ahead = getattr(examples, "ahead", 0)
        self.set_epoch(0)

    def set_epoch(self, epoch):
        self.epoch = epoch
        if hasattr(self.examples, "set_epoch"):
            self.examples.set_epoch(epoch)
        generator = np.random.default_rng([self.seed, 1, epoch])
        if hasattr(self.examples, "plan"):
            order = planned(self.examples, self.batch_size * self.parts, generator)
        elif hasattr(self.examples, "order"):
            order = self.examples.order(generator)
        else:
            order = generator.permutation(len(self.examples))
        self.table = np.resize(order, (self.steps, self.batch_size))

    def __len__(self):
        return self.steps

    def __getitem__(self, step):
        x, y, weight = taken(self.examples, self.table[step])
        if weight is None:
            return (x,) if y is None else (x, y)
        sums = map_sums(weight) if self.parts == 1 else self.sums_of_whole(step)
        return x, y, scaled(weight, self.parts, sums)

    def sums_of_whole(self, step):
        """The sums of the weights of the batch that this step is a part of."""
        first = step - step % self.parts
        return map_sums(taken(self.examples, self.table[first : first + self.parts].reshape(-1))[2])

    def index_table(self):
        """The examples of each step of this epoch, `(steps, batch_size)`."""
        return self.table

    @property
    def num_shapes(self):
        """How many shapes of batches there are."""
        return len(steps_by_kind(self.examples, self.table))

    def samples(self):
        """One batch of each shape there is."""
        return [self[step] for step in steps_by_kind(self.examples, self.table)]

    def arrays(self):
        """The whole split as `fit` takes it, or `None` where a batch is not just rows of arrays in memory."""
        plain = isinstance(self.examples, Examples) and self.examples.weight is None
        return self.examples.take(slice(None)) if plain else None

    def constant(self):
        """The batch that every step of every epoch sees, or `None`: a single example, such as one whole graph, is one."""
        return self[0] if len(self.examples) == 1 and not hasattr(self.examples, "set_epoch") else None


class InOrder(keras.utils.PyDataset):
    """All examples in their order, or in that of their `plan`; the last batch is filled up with copies of weight zero.

    Keras takes the mean over the batches; the weights are scaled by one number, so that this is the sum over all that
    counts in all the examples, divided by how much that is.
    """

    def __init__(self, examples, batch_size):
        super().__init__()
        self.examples, self.batch_size = examples, batch_size
        self.ahead = getattr(examples, "ahead", 0)
        self.table = planned(examples, batch_size)

    def __len__(self):
        return len(self.table)

    def __getitem__(self, step):
        x, y, weight = taken(self.examples, self.table[step])
        if weight is None:
            weight = np.float32(self.table[step] >= 0)
        return x, y, scaled(weight, len(self), self.sums)

    @functools.cached_property
    def sums(self):
        """How much counts in all the examples, nested as their weights are."""
        if len(self.examples.take(np.arange(1))) < 3:
            return float(len(self.examples))
        if isinstance(self.examples, Examples):
            return map_sums(self.examples.weight)
        each = [map_sums(taken(self.examples, indices)[2]) for indices in self.table]
        return nested.map_leaves(lambda *sums: sum(sums), *each)

    def samples(self):
        """One batch of each shape there is."""
        return [self[step] for step in steps_by_kind(self.examples, self.table)]

    def arrays(self):
        """None: the filling up is not a gathering of rows."""

    def constant(self):
        """The only batch, or `None` where there are several."""
        return self[0] if len(self) == 1 else None


def planned(examples, batch_size, generator=None):
    """The examples of each batch, `(batches, batch_size)`; `~i` stands for a copy of example i that counts nothing."""
    if hasattr(examples, "plan"):
        batches = examples.plan(batch_size, generator)
    else:
        batches = np.split(np.arange(len(examples)), range(batch_size, len(examples), batch_size))
    return np.stack([np.concatenate([each, np.full(batch_size - len(each), ~each[0])]) for each in batches])


def taken(examples, indices):
    """`(x, y, weight)` of a row of `planned`; `None` for what the examples do not have."""
    counts = indices >= 0
    x, y, weight = (*examples.take(np.where(counts, indices, ~indices)), None, None)[:3]
    if weight is None:
        return x, y, np.float32(counts) if hasattr(examples, "plan") else None
    return x, y, nested.map_leaves(lambda each: each * counts.reshape(-1, *[1] * (each.ndim - 1)), weight)


def steps_by_kind(examples, table):
    """The first step of each shape that batches have."""
    if not hasattr(examples, "kind"):
        return [0]
    kinds = [examples.kind(np.where(indices < 0, ~indices, indices)) for indices in table]
    return [kinds.index(kind) for kind in dict.fromkeys(kinds)]


def map_sums(weight):
    return nested.map_leaves(lambda each: float(np.sum(each, dtype="float64")), weight)


def scaled(weight, batches, sums):
    """The weights whose mean over so many batches, in Keras's way, is the sum over what counts divided by `sums`."""
    return nested.map_leaves(
        lambda each, total: np.float32(each * (each.size * batches / total if total else 0.0)), weight, sums
    )


def predict_all(model, x, batch_size=256):
    """Outputs of the model for every row of `x` as NumPy, in batches of one size so that nothing compiles twice.

    Args:
        model: Any Keras model.
        x: Array, or dict, tuple or list of arrays, first axis the example.
        batch_size: Rows a batch.
    """
    size = len(nested.leaves(x)[0])
    forward, batch_size = backend.forward(model), min(batch_size, size)
    parts = []
    for first in range(0, size, batch_size):
        batch = x
        if size > batch_size:
            batch = nested.rows(x, np.minimum(np.arange(first, first + batch_size), size - 1))
        parts.append(keras.tree.map_structure(keras.ops.convert_to_numpy, forward(batch)))
    if len(parts) == 1:
        return parts[0]
    return keras.tree.map_structure(lambda *arrays: np.concatenate(arrays)[:size], *parts)


def predict_examples(model, examples, batch_size=256):
    """Outputs of the model for every example in the examples' order, whatever the batches they come in.

    Args:
        model: Any Keras model.
        examples: Any examples; of sequences each batch has the length of its bucket.
        batch_size: Examples a batch.
    Returns:
        As the model's output: arrays, first axis the example; where batches differ in their shape, a list with an array an
        example, at the end of which the padding still stands.
    """
    forward, rows = backend.forward(model), []
    order = planned(examples, min(batch_size, len(examples)))
    for indices in order:
        outputs = forward(taken(examples, indices)[0])
        rows.append(keras.tree.map_structure(keras.ops.convert_to_numpy, outputs))
    places = np.argsort(np.where(order.reshape(-1) < 0, len(examples), order.reshape(-1)), kind="stable")[: len(examples)]

    def gathered(*batches):
        flat = [row for batch in batches for row in batch]
        found = [flat[place] for place in places]
        return np.stack(found) if len({row.shape for row in found}) == 1 else found

    return nested.map_leaves(gathered, *rows)
