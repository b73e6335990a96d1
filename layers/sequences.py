"""Sequences of different lengths in one batch: which tokens count, one vector for all of them, the other way round.

Padding stands at the end of a sequence; a mask `(batch, tokens)` is true where a token counts.
"""

import keras

from . import backend
from ._arguments import positive
from .convolution import Conv2D

__all__ = ["MaxConvolution", "PaddingMask", "ReverseSequences", "SequencePooling"]

ops = keras.ops

POOLINGS = ("mean", "max", "last", "first")


@keras.saving.register_keras_serializable(package="triptych")
class PaddingMask(keras.layers.Layer):
    """Which tokens count: those whose id is not that of padding.

    Args:
        padding: The id that fills sequences up.
    Input shape: ids `(batch, tokens)`.
    Output shape: booleans `(batch, tokens)`.
    """

    def __init__(self, padding=0, **kwargs):
        super().__init__(**kwargs)
        self.padding = padding

    def call(self, tokens):
        return ops.not_equal(tokens, self.padding)

    def compute_output_spec(self, tokens):
        return keras.KerasTensor(tokens.shape, dtype="bool")


@keras.saving.register_keras_serializable(package="triptych")
class SequencePooling(keras.layers.Layer):
    """One vector for a sequence, from the tokens that count; zeros for a sequence of padding alone.

    Args:
        kind: `"mean"` or `"max"` of each feature, or the `"last"` or `"first"` token.
    Input shape: `(batch, ..., tokens, width)`; `mask`, if given, `(batch, ..., tokens)`.
    Output shape: `(batch, ..., width)`.
    Raises:
        ValueError: There is no such kind.
    """

    def __init__(self, kind="mean", **kwargs):
        super().__init__(**kwargs)
        if kind not in POOLINGS:
            raise ValueError(f"`kind` must be one of {', '.join(map(repr, POOLINGS))}. Received: kind={kind!r}")
        self.kind = kind
        self.supports_masking = True

    def call(self, x, mask=None):
        mask = ops.ones_like(x[..., 0], dtype="bool") if mask is None else mask
        if self.kind == "max":
            lowest = -1e30 if keras.backend.standardize_dtype(x.dtype) != "float16" else -6e4
            highest = ops.max(ops.where(ops.expand_dims(mask, -1), x, ops.cast(lowest, x.dtype)), axis=-2)
            return ops.where(ops.any(mask, axis=-1, keepdims=True), highest, ops.zeros_like(highest))
        counted = ops.cast(mask, x.dtype)
        if self.kind == "mean":
            shares = counted / ops.maximum(ops.sum(counted, axis=-1, keepdims=True), 1.0)
        else:
            order = ops.cumsum(ops.cast(mask, "int32"), axis=-1)
            place = 1 if self.kind == "first" else order[..., -1:]
            shares = ops.cast(ops.logical_and(mask, ops.equal(order, place)), x.dtype)
        return ops.sum(x * ops.expand_dims(shares, -1), axis=-2)

    def compute_mask(self, *_, **__):
        return None

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-2], input_shape[-1])


@keras.saving.register_keras_serializable(package="triptych")
class ReverseSequences(keras.layers.Layer):
    """Each sequence from its last token that counts to its first; the padding stays behind it.

    Input and output shape: `(batch, tokens, width)`; `mask`, if given, `(batch, tokens)`, true up to a sequence's length.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.supports_masking = True

    def call(self, x, mask=None):
        if mask is None:
            return ops.flip(x, axis=1)
        places = ops.expand_dims(ops.arange(ops.shape(x)[1], dtype="int32"), 0)
        lengths = ops.sum(ops.cast(mask, "int32"), axis=1, keepdims=True)
        order = ops.where(places < lengths, lengths - 1 - places, places)
        return backend.take_places(x, order)

    def compute_mask(self, *_, **__):
        return None

    def compute_output_shape(self, input_shape):
        return input_shape


@keras.saving.register_keras_serializable(package="triptych")
class MaxConvolution(keras.layers.Layer):
    """Filters over neighbouring tokens, and of each the largest answer among the tokens that count.

    Args:
        filters: Number of filters.
        window: Tokens a filter sees; beyond both ends of a sequence there are zeros.
        activation: Name of the activation.
    Input shape: `(batch, tokens, width)`, or `(batch, words, tokens, width)`; `mask`, if given, without the last axis.
    Output shape: `(batch, filters)`, or `(batch, words, filters)`.
    Reference: Collobert et al., 2011, arXiv 1103.0398; Kim, 2014, arXiv 1408.5882.
    """

    def __init__(self, filters, window, activation="relu", **kwargs):
        super().__init__(**kwargs)
        self.filters = positive("filters", filters)
        # In two dimensions, the first of which is one filter high: the words, or a single one.
        size = (1, positive("window", window))
        self.convolution = Conv2D(
            filters, size, padding="same", activation=activation, name="convolution", dtype=self.dtype_policy
        )
        self.pooling = SequencePooling("max", name="pooling", dtype=self.dtype_policy)
        self.supports_masking = True

    def build(self, input_shape):
        self.convolution.build((None, None, None, input_shape[-1]))

    def call(self, x, mask=None):
        if mask is not None:
            x = ops.where(ops.expand_dims(mask, -1), x, ops.zeros((), x.dtype))
        whole = ops.expand_dims(x, 1) if len(x.shape) == 3 else x
        found = self.convolution.call(whole)
        found = ops.squeeze(found, 1) if len(x.shape) == 3 else found
        return self.pooling.call(found, mask)

    def compute_mask(self, *_, **__):
        return None

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-2], self.filters)
