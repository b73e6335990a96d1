"""Words copied from a text: a distribution over a vocabulary mixed with one over the places of the text."""

import keras

from . import backend
from ._arguments import positive

__all__ = ["CopyMixture", "ShortList"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class ShortList(keras.layers.Layer):
    """Ids beyond a vocabulary replaced by that of the unknown word.

    Args:
        vocabulary_size: Number of entries.
        unknown: The id that stands for all others.
    Input and output shape: ids of any shape.
    """

    def __init__(self, vocabulary_size, unknown=1, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = positive("vocabulary_size", vocabulary_size)
        self.unknown = unknown

    def call(self, ids):
        return ops.where(ids < self.vocabulary_size, ids, self.unknown)

    def compute_output_spec(self, ids):
        return keras.KerasTensor(ids.shape, dtype=ids.dtype)


@keras.saving.register_keras_serializable(package="triptych")
class CopyMixture(keras.layers.Layer):
    """`log p(w) = log (g softmax(z)_w + (1 - g) sum of a_i over the places i where w stands)`, g = sigmoid of a number.

    Args:
        num_entries: Number of entries, as many as there are logits or more; what is above them can only be copied.
    Input shape: logits z `(batch, steps, entries)`, the number `(batch, steps, 1)`, weights a `(batch, steps, tokens)`, which sum
        to one, and the ids of the text `(batch, tokens)`.
    Output shape: `(batch, steps, num_entries)`.
    Reference: See et al., 2017, arXiv 1704.04368, equations 8 and 9.
    """

    def __init__(self, num_entries, **kwargs):
        super().__init__(**kwargs)
        self.num_entries = positive("num_entries", num_entries)

    def call(self, logits, generating, weights, ids):
        generated = ops.sigmoid(generating)
        shares = generated * ops.softmax(logits, axis=-1)
        shares = ops.pad(shares, [[0, 0], [0, 0], [0, self.num_entries - logits.shape[-1]]])
        batch, steps, tokens = ops.shape(weights)
        places = ops.expand_dims(ops.arange(batch * steps, dtype="int32") * self.num_entries, -1)
        of_steps = ops.broadcast_to(ops.expand_dims(ops.cast(ids, "int32"), 1), (batch, steps, tokens))
        segments = ops.reshape(places + ops.reshape(of_steps, (batch * steps, tokens)), (-1,))
        copied = ops.reshape(ops.cast((1.0 - generated) * weights, shares.dtype), (-1,))
        copied = backend.segment_sum(copied, segments, batch * steps * self.num_entries)
        return ops.log(shares + ops.reshape(copied, (batch, steps, self.num_entries)) + 1e-10)

    def compute_output_shape(self, logits_shape, generating_shape, weights_shape, ids_shape):
        return (*logits_shape[:-1], self.num_entries)
