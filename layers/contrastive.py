"""Losses that draw embeddings of the same thing together and those of different things apart."""

import keras

ops = keras.ops


def unit(x):
    """Vectors of length one, in single precision at least: `x / |x|` along the last axis."""
    x = ops.cast(x, keras.config.floatx())
    return x * ops.rsqrt(ops.sum(ops.square(x), axis=-1, keepdims=True) + 1e-12)


def nt_xent(first, second, temperature):
    """Normalised temperature-scaled cross-entropy: each view must find the other among all other views of the batch.

    With z the unit vectors of all 2n views, the loss of view i whose partner is j is
    `-log(exp(z_i z_j / t) / sum_(k != i) exp(z_i z_k / t))`; an example's is the mean over its two views.

    Args:
        first, second: `(n, features)`, embeddings of the two views of each example.
        temperature: t.
    Returns: `(n,)`.
    Reference: Chen et al., 2020, arXiv 2002.05709.
    """
    first, second = unit(first), unit(second)
    z = ops.concatenate([first, second], axis=0)
    places = ops.arange(ops.shape(z)[0], dtype="int32")
    itself = ops.equal(ops.expand_dims(places, 0), ops.expand_dims(places, 1))
    similarities = ops.where(itself, -1e9, ops.matmul(z, ops.transpose(z)) / temperature)
    among_all = ops.split(ops.logsumexp(similarities, axis=-1), 2)
    return 0.5 * sum(among_all) - ops.sum(first * second, axis=-1) / temperature


def symmetric_loss(first, second, scale):
    """Each row of `first` must find its partner in `second` among all rows, and the other way round.

    Args:
        first, second: `(n, features)`, unit vectors, the same row of both a pair.
        scale: What their products are multiplied with: one divided by the temperature.
    Returns: `(n,)`, the mean of the two cross-entropies of each pair.
    Reference: Radford et al., 2021, arXiv 2103.00020.
    """
    logits = scale * ops.matmul(first, ops.transpose(second))
    same = ops.sum(first * second, axis=-1) * scale
    return 0.5 * (ops.logsumexp(logits, axis=0) + ops.logsumexp(logits, axis=1)) - same


def regression_loss(prediction, target):
    """`2 - 2 cos(prediction, target)`, the squared distance of the unit vectors: `(n, features)` each to `(n,)`."""
    return 2.0 - 2.0 * ops.sum(unit(prediction) * unit(target), axis=-1)
