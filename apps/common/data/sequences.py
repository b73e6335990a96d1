"""Sequences of any length, in batches of a few fixed lengths.

A length that was not seen before compiles a step anew, so each example is padded to the next of a few lengths, its
bucket, and batches hold examples of one bucket as far as that goes.
"""

from dataclasses import dataclass

import numpy as np

from apps.common.data import nested
from apps.common.data.fingerprint import digest, row_digests

CANDIDATES = 256  # lengths among which those of the buckets are chosen
SAVES = 0.02  # of the positions, that another bucket must save at least
WORTH = 10_000  # positions an epoch that it must save: on JAX a small network takes several seconds to compile for a length


@dataclass(frozen=True)
class Ragged:
    """One sequence an example, all lying in one array, which may be memory-mapped.

    Args:
        values: `(positions, ...)`, in which the sequences lie.
        starts, lengths: Where each begins, and how long it is.
        padding: What stands behind the end of a sequence in a batch.
    """

    values: np.ndarray
    starts: np.ndarray
    lengths: np.ndarray
    padding: float = 0

    def __len__(self):
        return len(self.lengths)

    def __getitem__(self, indices):
        """The sequence at a position; for a slice or an array of positions, the `Ragged` of these."""
        if np.ndim(indices) == 0 and not isinstance(indices, slice):
            return self.values[self.starts[indices] : self.starts[indices] + self.lengths[indices]]
        return Ragged(self.values, self.starts[indices], self.lengths[indices], self.padding)

    def padded(self, length):
        """`(sequences, length, ...)`: shorter ones are filled up, longer ones cut at their end."""
        made = np.full((len(self), length, *self.values.shape[1:]), self.padding, self.values.dtype)
        inside = self.inside(length)
        rows, positions = np.nonzero(inside)
        made[inside] = self.values[self.starts[rows] + positions]
        return made

    def inside(self, length):
        """bool `(sequences, length)`: whether a position belongs to the sequence."""
        return np.arange(length) < self.lengths[:, None]

    def mask(self):
        """The sequences of as many `True`, padded by `False`: an input for models whose values cannot show their padding."""
        return Ragged(np.ones(len(self.values), bool), self.starts, self.lengths, False)


def ragged(sequences, dtype=None, padding=0):
    """The `Ragged` of some arrays or lists, which may differ in their first axis alone.

    Args:
        sequences: A list of them.
        dtype: Type of the values; by default what NumPy makes of them.
        padding: What stands behind the end of a sequence in a batch.
    """
    arrays = [np.asarray(each, dtype) for each in sequences]
    lengths = np.array([len(each) for each in arrays], "int64")
    some = [each for each in arrays if len(each)]
    values = np.concatenate(some) if some else np.empty(0, dtype or "int32")
    return Ragged(values, np.cumsum(lengths) - lengths, lengths, padding)


def bucket_lengths(lengths, most=6, longest=None, worth=WORTH):
    """The few lengths to which sequences are padded, chosen so that the least is padded; the fewer, the fewer examples.

    Args:
        lengths: `(examples,)`, or `(examples, fields)` where an example has several sequences, such as a sentence and its
            translation; then the fields grow together, each in proportion to its longest.
        most: How many there may be. One that saves under 2 % of all positions is left out.
        longest: No bucket is longer; a number, or one a field.
        worth: Positions that one must save at least, whose step has to be compiled for it.
    Returns:
        Ascending lengths, `(buckets,)` or `(buckets, fields)`.
    """
    lengths = np.asarray(lengths)
    table = np.maximum(lengths.reshape(len(lengths), -1), 1)
    if longest is not None:
        table = np.minimum(table, longest)
    largest = table.max(0)
    scale = largest.max()
    # Of several fields the one that is longest for its kind decides, in positions of the longest field.
    size = np.ceil((table / largest).max(1) * scale - 1e-9).astype("int64")
    ends = _best_ends(size, most, worth)
    made = np.ceil(ends[:, None] * largest / scale - 1e-9).astype("int64")
    return made[:, 0] if lengths.ndim == 1 else made


def _best_ends(size, most, worth):
    """The ends of at most so many intervals for which the sum of (examples in it) * (its end) is least."""
    ends = np.unique(size)
    if len(ends) > CANDIDATES:
        ends = np.unique(np.quantile(size, np.linspace(0, 1, CANDIDATES), method="higher"))
    below = np.concatenate([[0], np.searchsorted(np.sort(size), ends, side="right")])
    # cost[i, j]: the positions of one bucket of the examples above the i-th end, up to the (j + 1)-th.
    cost = (below[None, 1:] - below[:-1, None]) * ends[None, :].astype("float64")
    cost[np.tril_indices(len(ends), -1)] = np.inf
    best, came = [cost[0]], []
    for _ in range(min(most, len(ends)) - 1):
        through = best[-1][:-1, None] + cost[1:]
        came.append(through.argmin(0))
        best.append(through.min(0))
    totals = np.array([each[-1] for each in best])
    enough = int(np.flatnonzero(totals <= totals.min() + SAVES * totals[0])[0])
    count = 1 + min(enough, int((totals + worth * np.arange(len(totals))).argmin()))
    last, found = len(ends) - 1, []
    for step in reversed(range(count)):
        found.append(ends[last])
        if step:
            last = came[step - 1][last]
    return np.array(found[::-1])


def _said(bucket):
    """The lengths of a bucket's fields in words."""
    return "/".join(map(str, sorted(set(bucket.tolist()), reverse=True)))


def cut_notes(cut, what, most):
    """The line that counts the examples that are cut, or none.

    Args:
        cut: bool, one an example.
        what: What they are, for example `"test sentences"`.
        most: The longest there can be, in words.
    """
    return [f"{np.sum(cut)} of {len(cut)} {what} are longer than {most} and are cut there"] if np.any(cut) else []


@dataclass(frozen=True)
class Sequences:
    """Examples of which some inputs or targets are sequences of any length.

    A batch is padded to the bucket of its longest example. What lies behind the end of a target's sequence has weight
    zero, so that a loss for each position is divided by the positions there are.

    Args:
        x, y: As of `Examples`; each leaf is a `Ragged`, or an array with one row an example.
        weight: One number an example, or nested as `y` is, where a leaf may also be a `Ragged` with a number a position.
        buckets: `bucket_lengths` of the `lengths` of the training examples; all splits have the same.
    """

    x: object
    y: object = None
    weight: object = None
    buckets: np.ndarray | None = None

    def __post_init__(self):
        lengths = self.lengths()
        buckets = bucket_lengths(lengths) if self.buckets is None else self.buckets
        buckets = np.asarray(buckets).reshape(-1, 1) if np.ndim(buckets) < 2 else np.asarray(buckets)
        object.__setattr__(self, "buckets", np.broadcast_to(buckets, (len(buckets), lengths.shape[1])))
        # The first bucket into which all fields go; what is longer than the last goes into the last, and is cut.
        fits = np.stack([np.searchsorted(self.buckets[:, field], column) for field, column in enumerate(lengths.T)])
        object.__setattr__(self, "bucket", np.minimum(fits.max(0), len(self.buckets) - 1))

    def __len__(self):
        return len(nested.leaves(self.x)[0])

    def lengths(self):
        """Those of the sequences of each example, `(examples, fields)`: the inputs' before the targets'."""
        fields = [leaf.lengths for leaf in nested.leaves((self.x, self.y)) if isinstance(leaf, Ragged)]
        if not fields:
            raise ValueError("`x` or `y` must have a `Ragged`, else these are plain `Examples`.")
        return np.stack(fields, axis=1)

    def take(self, indices):
        """The batch at these positions, padded to the bucket of the longest: `(x, y, weight)`."""
        x, y, weight = (nested.rows(tree, indices) for tree in (self.x, self.y, self.weight))
        lengths = iter(self.buckets[self.kind(indices)])
        # A field has its place in the order of the leaves, which is not that in which a dict is gone through.
        size = {id(leaf): int(next(lengths)) for leaf in nested.leaves((x, y)) if isinstance(leaf, Ragged)}

        def pad(leaf):
            return leaf.padded(size[id(leaf)]) if isinstance(leaf, Ragged) else leaf

        def weigh(target, given):
            if not isinstance(target, Ragged):
                return np.float32(np.ones(len(indices)) if given is None else given)
            inside = target.inside(size[id(target)]).astype("float32")
            if given is None:
                return inside
            return inside * (given.padded(inside.shape[1]) if isinstance(given, Ragged) else np.float32(given)[:, None])

        if weight is None or isinstance(weight, (Ragged, np.ndarray)):
            weights = nested.map_leaves(lambda target: weigh(target, weight), y)
        else:
            weights = nested.map_leaves(weigh, y, weight)
        return nested.map_leaves(pad, x), nested.map_leaves(pad, y), weights

    def subset(self, indices):
        """The same kind of examples at these positions only, with the same buckets."""
        return Sequences(*(nested.rows(tree, indices) for tree in (self.x, self.y, self.weight)), self.buckets)

    def plan(self, batch_size, generator=None):
        """The batches of an epoch: of one bucket each; what is left of a bucket goes with the next longer one.

        So their number and their lengths are the same in every epoch, and only the last may have to be filled up.

        Args:
            batch_size: Examples a batch.
            generator: NumPy's, for the order; without one examples and batches come in theirs.
        """
        order = np.arange(len(self)) if generator is None else generator.permutation(len(self))
        order = order[np.argsort(self.bucket[order], kind="stable")]
        batches = np.split(order, range(batch_size, len(order), batch_size))
        return batches if generator is None else [batches[place] for place in generator.permutation(len(batches))]

    def kind(self, indices):
        """Which of the shapes the batch of these examples has."""
        return int(self.bucket[indices].max())

    def padding_share(self, batch_size):
        """The share of the positions of an epoch in which nothing stands."""
        computed = sum(int(self.buckets[self.kind(batch)].sum()) for batch in self.plan(batch_size)) * batch_size
        return 1 - np.minimum(self.lengths(), self.buckets[-1]).sum() / computed

    def notes(self, batch_size):
        """Lines about lengths, padding and what was cut."""
        return [self.padding_note(batch_size), *cut_notes(self.is_cut(), "sequences", _said(self.buckets[-1]))]

    def padding_note(self, batch_size):
        """The line about lengths and padding."""
        said = ", ".join(map(_said, self.buckets))
        return f"sequences in batches of length {said}; {self.padding_share(batch_size):.0%} of them is padding"

    def is_cut(self):
        """bool `(examples,)`: whether a sequence of the example does not go into the last bucket."""
        return (self.lengths() > self.buckets[-1]).any(1)

    def fingerprint(self):
        """A digest of all the examples, whatever their buckets."""
        return digest(self.example_digests())

    def example_digests(self, targets=True):
        """As `fingerprint.example_digests`: of sequences as they are, neither padded nor cut."""

        def objects(leaf, indices):
            if not isinstance(leaf, Ragged):
                return leaf[indices]
            made = np.empty(len(indices), object)
            for row, index in enumerate(indices):
                made[row] = leaf[index]
            return made

        found = []
        trees = (self.x, self.y)[: 1 + (targets and self.y is not None)]
        for indices in np.split(np.arange(len(self)), range(4096, len(self), 4096)):
            batch = nested.map_leaves(lambda leaf, rows=indices: objects(leaf, rows), trees)
            found.append(row_digests(batch))
        return np.concatenate(found)
