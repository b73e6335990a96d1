"""Sequences that still know the texts they were made of."""

from dataclasses import dataclass

import numpy as np

from apps.common.data import nested
from apps.common.data.sequences import Sequences

LONGEST = 4096  # tokens of a text that is only read, whatever the lengths in training


@dataclass(frozen=True)
class Annotated(Sequences):
    """`Sequences` with a record an example: the words themselves, which reports and baselines go by.

    Args: those of `Sequences`, and
        records: One of any kind an example.
    """

    records: tuple = ()

    def subset(self, indices):
        parts = (nested.rows(tree, indices) for tree in (self.x, self.y, self.weight))
        return Annotated(*parts, self.buckets, tuple(self.records[index] for index in indices))


def with_room(buckets, longest):
    """The buckets, and where the longest text does not go into the last of them one more, a power of two.

    Args:
        buckets: `(buckets,)`, or `(buckets, fields)`.
        longest: The longest text, of each field.
    """
    buckets = np.asarray(buckets)
    if np.all(longest <= buckets[-1]):
        return buckets
    more = np.minimum(LONGEST, 2 ** np.ceil(np.log2(np.maximum(longest, 1))).astype(int))
    return np.concatenate([buckets, np.maximum(more, buckets[-1])[None]])
