"""Words of a text: dropped, found again in a question, pointed at, counted."""

import keras

from . import backend
from ._arguments import between, positive
from .dense import Dense
from .drawing import uniform

__all__ = ["NGramLogits", "SpanLogits", "WordDropout", "WordMatch"]

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
class NGramLogits(keras.layers.Layer):
    """A linear classifier over which words and which pairs of neighbours a text has: the wide part of "wide and deep".

    With a weight for each of the n words and of the n - 1 pairs, logits are
    `gain (sum_words / sqrt(n) + sum_pairs / sqrt(n - 1))`. A word's row is its id and a pair's is hashed, both modulo
    `num_rows`; what falls into one row shares its weights.

    Args:
        num_outputs: Number of logits.
        num_rows: Rows for words, and as many for pairs.
        gain: What weights are multiplied by. Adam moves the weight of a rare word in few of its steps only, by about the
            learning rate in each: with a gain of 10 it goes ten times as far as those of other layers do.
    Input shape: ids `(batch, tokens)`, up to a million; 0 is padding at the end.
    Output shape: `(batch, num_outputs)`.
    Raises:
        ValueError: A size is less than 1.
    Reference: Cheng et al., 2016, arXiv 1606.07792; pairs that are hashed: Joulin et al., 2016, arXiv 1607.01759.
    """

    def __init__(self, num_outputs, num_rows=65_521, gain=10.0, **kwargs):
        super().__init__(**kwargs)
        self.num_outputs = positive("num_outputs", num_outputs)
        self.num_rows = positive("num_rows", num_rows)
        self.gain = gain
        self.kernel_initializer = keras.initializers.Zeros()

    def build(self, input_shape):
        shape = (2 * self.num_rows, self.num_outputs)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)

    def call(self, tokens):
        words, pairs = self.parts(tokens)
        return ops.sum(words, axis=1) + ops.sum(pairs, axis=1)

    def contributions(self, tokens):
        """What each word adds to the logits, `(batch, tokens, num_outputs)`: its own part and half of each pair's."""
        words, pairs = self.parts(tokens)
        none = ops.zeros_like(words[:, :1])
        return words + (ops.concatenate([pairs, none], axis=1) + ops.concatenate([none, pairs], axis=1)) / 2

    def parts(self, tokens):
        """What words and pairs add, `(batch, tokens, num_outputs)` and `(batch, tokens - 1, num_outputs)`."""
        tokens = ops.cast(tokens, "int32")
        first, second = tokens[:, :-1], tokens[:, 1:]
        # Of the commonest 200 words no two pairs fall together; sums of products stay below 2^31.
        pairs = self.num_rows + ops.mod(first * 211 + second * 1621, self.num_rows)
        return self.added(ops.mod(tokens, self.num_rows), tokens), self.added(pairs, ops.minimum(first, second))

    def added(self, rows, present):
        counted = ops.cast(ops.greater(present, 0), self.compute_dtype)
        weights = ops.cast(backend.take_rows(ops.convert_to_tensor(self.kernel), rows), self.compute_dtype)
        number = ops.maximum(ops.sum(counted, axis=1, keepdims=True), 1)
        return weights * ops.expand_dims(self.gain * counted / ops.sqrt(number), -1)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor((tokens.shape[0], self.num_outputs), dtype=self.compute_dtype)


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
