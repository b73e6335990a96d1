"""The cross-entropy of a large vocabulary without the matrix of all logits."""

import keras

from . import backend
from ._arguments import positive
from .backend import language

__all__ = ["LinearCrossEntropy"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class LinearCrossEntropy(keras.layers.Layer):
    """`-log softmax(W x)[y]` of each token, the logits made for some tokens at a time and again on the way back.

    Args:
        vocabulary_size: Number of entries.
        chunk_size: Tokens whose logits are in memory at once.
    Input shape: `(batch, tokens, width)` and the ids of the targets `(batch, tokens)`.
    Output shape: `(batch, tokens)`, of single precision at least.
    Reference: Wijmans et al., 2024, arXiv 2411.09009, which goes further; by chunks as in Liger, arXiv 2410.10989.
    """

    def __init__(self, vocabulary_size, chunk_size=1024, **kwargs):
        super().__init__(**kwargs)
        self.vocabulary_size = positive("vocabulary_size", vocabulary_size)
        self.chunk_size = positive("chunk_size", chunk_size)
        self.table_initializer = keras.initializers.RandomNormal(stddev=0.02)

    def build(self, x_shape, targets_shape):
        self.table = self.add_weight(
            name="table", shape=(self.vocabulary_size, x_shape[-1]), initializer=self.table_initializer
        )

    def call(self, x, targets):
        return linear_cross_entropy(x, ops.convert_to_tensor(self.table), targets, self.chunk_size)

    def compute_output_spec(self, x, targets):
        return keras.KerasTensor(targets.shape, dtype=keras.backend.result_type(self.compute_dtype, "float32"))


def linear_cross_entropy(x, table, targets, chunk_size=1024):
    """As the layer, with a table `(vocabulary, width)` that may be an embedding's."""
    tokens = ops.shape(targets)
    rows = ops.reshape(x, (-1, x.shape[-1]))
    # A copy: TensorFlow wants a variable, which `convert_to_tensor` leaves as it is, to stand among the gradients by itself.
    losses = chunked(rows, ops.copy(table), ops.reshape(ops.cast(targets, "int32"), (-1,)), chunk_size)
    return ops.reshape(losses, tokens)


def chunked(rows, table, targets, chunk_size):
    """The cross-entropy of each row, `(rows,)`; on the way back the logits of a chunk are made again, not kept."""
    count = ops.shape(rows)[0]
    chunk_size = min(count, chunk_size) if isinstance(count, int) else chunk_size
    padding = -count % chunk_size

    def chunks(x):
        x = ops.pad(x, [[0, padding], *[[0, 0]] * (len(x.shape) - 1)])
        return ops.reshape(x, (-1, chunk_size, *x.shape[1:]))

    def whole(x):
        return ops.reshape(x, (-1, *x.shape[2:]))[:count]

    @ops.custom_gradient
    def cross_entropy(rows, table):
        # Else TensorFlow, outside a compiled step, records what the gradient below replaces, and keeps all logits for it.
        rows, table = ops.stop_gradient(rows), ops.stop_gradient(table)

        def losses_of_chunk(rows, targets):
            logits = backend.logits(rows, table)
            chosen = ops.squeeze(ops.take_along_axis(logits, ops.expand_dims(targets, -1), axis=-1), -1)
            return ops.logsumexp(logits, axis=-1) - chosen, ops.zeros((), logits.dtype)

        def gradients_of_chunk(rows, targets, upstream):
            logits = backend.logits(rows, table)
            shares = ops.softmax(logits, axis=-1)
            hits = ops.equal(ops.arange(logits.shape[-1], dtype="int32"), ops.expand_dims(targets, -1))
            by_logits = (shares - ops.cast(hits, shares.dtype)) * ops.expand_dims(upstream, -1)
            by_rows = ops.matmul(by_logits, ops.cast(table, by_logits.dtype))
            return by_rows, ops.matmul(ops.transpose(by_logits), ops.cast(rows, by_logits.dtype))

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            total = ops.zeros(table.shape, upstream.dtype)
            given = [chunks(rows), chunks(targets), chunks(upstream)]
            by_rows, by_table = language.accumulate(gradients_of_chunk, total, given)
            return ops.cast(whole(by_rows), rows.dtype), ops.cast(by_table, table.dtype)

        total = ops.zeros((), keras.backend.result_type(rows.dtype, "float32"))
        losses, _ = language.accumulate(losses_of_chunk, total, [chunks(rows), chunks(targets)])
        return whole(losses), gradient

    return cross_entropy(rows, table)
