"""Words of a text: dropped, found again in a question, pointed at."""

import keras

from ._arguments import between
from .dense import Dense
from .drawing import uniform

__all__ = ["SpanLogits", "WordDropout", "WordMatch"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class WordDropout(keras.layers.Layer):
    """In training, a random share of the words becomes the unknown word, which so learns what an unseen word may be.

    Args:
        rate: Share of the words.
        unknown: Id of the unknown word.
        seed: Of the draws.
    Input and output shape: ids of any shape; 0, the padding, stays.
    Raises:
        ValueError: `rate` is no share.
    Reference: Iyyer et al., 2015, "Deep Unordered Composition Rivals Syntactic Methods for Text Classification".
    """

    def __init__(self, rate, unknown=1, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate = between("rate", rate, 0, 1)
        self.unknown = unknown
        self.seed_generator = keras.random.SeedGenerator(seed) if rate else None

    def call(self, tokens, training=False):
        if not training or not self.rate:
            return tokens
        dropped = uniform(ops.shape(tokens), self.seed_generator) < self.rate
        unknown = ops.cast(self.unknown, tokens.dtype)
        return ops.where(ops.logical_and(dropped, ops.not_equal(tokens, 0)), unknown, tokens)

    def compute_output_spec(self, tokens, training=False):
        return keras.KerasTensor(tokens.shape, dtype=tokens.dtype)


@keras.saving.register_keras_serializable(package="triptych")
class WordMatch(keras.layers.Layer):
    """Which words of a text stand in a question as well: one or zero.

    Args:
        reserved: Ids below this one (padding 0, the unknown word 1) match nothing.
    Input shape: ids of the text `(batch, tokens)` and of the question `(batch, words)`.
    Output shape: `(batch, tokens, 1)`.
    Reference: Chen et al., 2017, arXiv 1704.00051, "exact match".
    """

    def __init__(self, reserved=2, **kwargs):
        super().__init__(**kwargs)
        self.reserved = reserved

    def call(self, tokens, question):
        same = ops.any(ops.equal(ops.expand_dims(tokens, 2), ops.expand_dims(question, 1)), axis=2, keepdims=True)
        known = ops.expand_dims(ops.greater_equal(tokens, self.reserved), 2)
        return ops.cast(ops.logical_and(same, known), self.compute_dtype)

    def compute_output_spec(self, tokens, question):
        return keras.KerasTensor((*tokens.shape, 1), dtype=self.compute_dtype)


@keras.saving.register_keras_serializable(package="triptych")
class SpanLogits(keras.layers.Layer):
    """Where an answer begins and where it ends in a text: `h' W_s q` and `h' W_e q` for each word h and the question q.

    Input shape: words `(batch, tokens, width)` and the question `(batch, features)`; `mask`, if given, `(batch, tokens)`.
    Output shape: `(batch, 2, tokens)`, in single precision; -1e9 where the mask is false.
    Reference: Chen et al., 2016, arXiv 1606.02858.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, x_shape, question_shape):
        self.width = x_shape[-1]
        self.projection = Dense(2 * self.width, name="projection", dtype=self.dtype_policy)
        self.projection.build(question_shape)

    def call(self, x, question, mask=None):
        queries = ops.reshape(self.projection.call(question), (-1, 2, self.width))
        logits = ops.cast(ops.matmul(queries, ops.swapaxes(x, 1, 2)), keras.config.floatx()) / self.width**0.5
        if mask is None:
            return logits
        return ops.where(ops.expand_dims(mask, 1), logits, ops.cast(-1e9, logits.dtype))

    def compute_mask(self, *_, **__):
        return None

    def compute_output_spec(self, x, question, mask=None):
        return keras.KerasTensor((x.shape[0], 2, x.shape[1]), dtype=keras.config.floatx())
