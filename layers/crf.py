"""Linear-chain conditional random field: the tags of a sequence judged together."""

import keras
import numpy as np

from ._arguments import positive
from .backend import language

__all__ = ["CRF"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class CRF(keras.layers.Layer):
    """`log p(y | e)` of tags y with emissions e, `s(y) = start[y_1] + sum_t e_t[y_t] + sum_t A[y_t-1, y_t] + end[y_n]`.

    `log p(y | e) = s(y) - log sum_y' exp s(y')`, the sum over all sequences of tags by the forward algorithm.

    Args:
        num_tags: Number of tags.
    Input shape: emissions `(batch, tokens, num_tags)` and tags `(batch, tokens)`, integers; `mask`, if given,
        `(batch, tokens)`, true up to a sequence's length. What tags stand where it is false does not matter.
    Output shape: `(batch,)`, zero for a sequence without a token.
    Reference: Lafferty et al., 2001; before a recurrent network: Lample et al., 2016, arXiv 1603.01360.
    """

    def __init__(self, num_tags, **kwargs):
        super().__init__(**kwargs)
        self.num_tags = positive("num_tags", num_tags)
        # In single precision whatever the layer's: small differences of large sums decide.
        self.autocast = False

    def build(self, *_, **__):
        tags = self.num_tags
        self.transitions = self.add_weight(name="transitions", shape=(tags, tags), initializer="zeros")
        self.first = self.add_weight(name="first", shape=(tags,), initializer="zeros")
        self.last = self.add_weight(name="last", shape=(tags,), initializer="zeros")

    def call(self, emissions, tags, mask=None):
        emissions = ops.cast(emissions, keras.config.floatx())
        transitions, first, last = (ops.convert_to_tensor(each) for each in (self.transitions, self.first, self.last))
        mask = ops.ones_like(tags, dtype="bool") if mask is None else mask
        counted = ops.cast(mask, emissions.dtype)
        chosen = ops.one_hot(ops.where(mask, tags, ops.zeros_like(tags)), self.num_tags, dtype=emissions.dtype)
        chosen = chosen * ops.expand_dims(counted, -1)
        following = ops.concatenate([counted[:, 1:], ops.zeros_like(counted[:, :1])], axis=1)
        ends = chosen * ops.expand_dims(counted - following, -1)
        pairs = ops.matmul(chosen[:, :-1], transitions) * chosen[:, 1:]
        score = ops.sum(emissions * chosen, axis=(1, 2)) + ops.sum(pairs, axis=(1, 2))
        score = score + ops.matmul(chosen[:, 0], first) + ops.matmul(ops.sum(ends, axis=1), last)
        found = score - self.log_partition(emissions, mask, transitions, first, last)
        return ops.where(mask[:, 0], found, ops.zeros_like(found))

    def log_partition(self, emissions, mask, transitions, first, last):
        """`log sum_y exp s(y)`: of all ways to each tag of a token, from those to the tags of the one before."""

        def step(ways, inputs):
            emission, counts = inputs
            onward = ops.logsumexp(ops.expand_dims(ways, -1) + transitions, axis=1) + emission
            return ops.where(ops.expand_dims(counts, -1), onward, ways)

        steps = [ops.swapaxes(emissions, 0, 1), ops.swapaxes(mask, 0, 1)]
        # The first token has no transition; the ways to it, as if it were not there, are the state.
        steps[1] = ops.concatenate([ops.zeros_like(steps[1][:1]), steps[1][1:]], axis=0)
        ways = language.scan(step, first + emissions[:, 0], steps)[-1]
        return ops.logsumexp(ways + last, axis=-1)

    def decode(self, emissions, mask=None):
        """The likeliest tags (Viterbi), by NumPy.

        Args:
            emissions: `(batch, tokens, num_tags)`.
            mask: `(batch, tokens)`, true up to a sequence's length; all when `None`.
        Returns:
            Integers `(batch, tokens)`, 0 where the mask is false.
        """
        transitions, first, last = (keras.ops.convert_to_numpy(each) for each in (self.transitions, self.first, self.last))
        emissions = np.asarray(emissions, "float64")
        batch, tokens, _ = emissions.shape
        mask = np.ones((batch, tokens), bool) if mask is None else np.asarray(mask, bool)
        ways, before = first + emissions[:, 0], np.zeros((tokens, batch, self.num_tags), "int32")
        stay = np.arange(self.num_tags)
        for place in range(1, tokens):
            candidates = ways[:, :, None] + transitions
            counts = mask[:, place, None]
            before[place] = np.where(counts, candidates.argmax(1), stay)
            ways = np.where(counts, candidates.max(1) + emissions[:, place], ways)
        tag = (ways + last).argmax(-1)
        tags = np.zeros((batch, tokens), "int32")
        for place in range(tokens - 1, -1, -1):
            tags[:, place] = tag
            tag = before[place][np.arange(batch), tag]
        return np.where(mask, tags, 0).astype("int32")

    def compute_mask(self, *_, **__):
        return None

    def compute_output_shape(self, emissions_shape, tags_shape):
        return (emissions_shape[0],)
