"""The layers' arithmetic in `keras.ops`: what a backend without a faster way of its own runs."""

import math

import keras
import numpy as np

from .assignment import assign as assign  # what `_best` finds here

ops = keras.ops

# Odd numbers that spread the bits of a counter: the golden ratio, and the two of lowbias32; as signed 32-bit integers.
GOLDEN, SPREAD, SPREAD_AGAIN = 0x9E3779B1 - 2**32, 0x7FEB352D, 0x846CA68B - 2**32


def convolution(x, kernel, bias, strides, padding, dilation_rate):
    x = ops.conv(x, kernel, strides, padding, "channels_last", dilation_rate)
    return x if bias is None else ops.add(x, bias)


def depthwise_convolution(x, kernel, bias, strides, padding, dilation_rate):
    x = ops.depthwise_conv(x, kernel, strides, padding, "channels_last", dilation_rate)
    return x if bias is None else ops.add(x, bias)


def max_pooling(x, pool_size, strides, padding):
    return ops.max_pool(x, pool_size, strides, padding, "channels_last")


def average_pooling(x, pool_size, strides, padding):
    return ops.average_pool(x, pool_size, strides, padding, "channels_last")


def dense(x, kernel, bias):
    x = ops.matmul(x, kernel)
    return x if bias is None else ops.add(x, bias)


def gelu(x):
    return ops.gelu(x, approximate=False)


def single(x):
    """`x` in single precision at least."""
    return ops.cast(x, keras.backend.result_type(x.dtype, "float32"))


def logits(x, table):
    """`(batch, tokens, width)` times `(vocabulary, width)`: `(batch, tokens, vocabulary)` in single precision at least, whatever
    the factors are in."""
    return single(ops.matmul(x, ops.transpose(table)))


def batch_normalization(x, gamma, beta, epsilon):
    """`(outputs, mean, variance)`, the last two in single precision at least: the square of a half-precision number overflows."""
    whole = single(x)
    mean, variance = ops.moments(whole, axes=list(range(len(x.shape) - 1)))
    return ops.cast(ops.batch_normalization(whole, mean, variance, -1, beta, gamma, epsilon), x.dtype), mean, variance


def layer_normalization(x, gamma, beta, epsilon):
    return ops.cast(ops.layer_normalization(single(x), gamma, beta, -1, epsilon), x.dtype)


def attention(query, key, value, causal, mask):
    scale = 1.0 / math.sqrt(query.shape[-1])
    if mask is not None:
        mask = mask[:, None, None, :] if len(mask.shape) == 2 else mask[:, None]
    return ops.dot_product_attention(query, key, value, mask=mask, scale=scale, is_causal=causal)


def random_bits(generator, shape):
    """Signed 32-bit integers, every bit drawn evenly: a hash (lowbias32) of each one's place and the generator's state.

    Only integer arithmetic that wraps around, so it is the same on every backend. The upper bits are mixed best: the last
    step of lowbias32, which is for the lower ones, is left out. The generator, a `SeedGenerator`, moves on by one.
    """
    seed = ops.cast(ops.bitwise_and(generator.next(), 0x7FFFFFFF), "int32")
    size = math.prod(shape) if all(isinstance(each, int) for each in shape) else ops.prod(ops.stack(shape))
    x = ops.bitwise_xor(ops.arange(size, dtype="int32") * GOLDEN, seed[0] + seed[1] * SPREAD_AGAIN)
    x = ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 16), 0xFFFF)) * SPREAD
    x = ops.bitwise_xor(x, ops.bitwise_and(ops.right_shift(x, 15), 0x1FFFF)) * SPREAD_AGAIN
    return ops.reshape(x, shape)


def drop(x, mask, rate):
    """`x / (1 - rate)` where the mask is true, zero elsewhere."""
    return ops.where(mask, x * (1.0 / (1.0 - rate)), ops.zeros((), x.dtype))


def take_places(x, places):
    """The features at some places of each sequence: `(batch, tokens, features)` and `(batch, n)` to `(batch, n, features)`."""
    return ops.take_along_axis(x, ops.expand_dims(places, -1), axis=1)


def take_rows(x, indices):
    """The rows of `x` at `indices`, of any shape; a row taken twice has the sum of both gradients."""
    return ops.take(x, indices, axis=0)


def weighted_rows(x, indices, weights):
    """`y_i = sum_k weights_ik x[indices_ik]`, both `(rows, entries)`: a product with a sparse matrix."""
    return ops.sum(take_rows(x, indices) * ops.expand_dims(weights, -1), axis=1)


def segment_sum(x, segments, num_segments):
    return ops.segment_sum(x, segments, num_segments)


def segment_max(x, segments, num_segments):
    return ops.segment_max(x, segments, num_segments)


def lstm(x, kernel, recurrent_kernel, bias):
    """`(batch, steps, features)` -> `(batch, steps, units)`. All steps' inputs are multiplied at once, not one in each."""

    def step(state, gates):
        hidden, memory = state
        i, f, g, o = ops.split(gates + ops.matmul(hidden, recurrent_kernel), 4, axis=-1)
        memory = ops.sigmoid(f) * memory + ops.sigmoid(i) * ops.tanh(g)
        hidden = ops.sigmoid(o) * ops.tanh(memory)
        return (hidden, memory), hidden

    gates = ops.swapaxes(ops.matmul(x, kernel) + bias, 0, 1)
    zeros = ops.zeros_like(gates[0, :, : recurrent_kernel.shape[0]])
    return ops.swapaxes(ops.scan(step, (zeros, zeros), gates)[1], 0, 1)


def gru(x, kernel, recurrent_kernel, bias):
    """As `lstm`; the reset gate is applied after the product (`reset_after`)."""

    def step(hidden, gates):
        update, reset, new = ops.split(gates, 3, axis=-1)
        inner = ops.matmul(hidden, recurrent_kernel) + bias[1]
        inner_update, inner_reset, inner_new = ops.split(inner, 3, axis=-1)
        update = ops.sigmoid(update + inner_update)
        new = ops.tanh(new + ops.sigmoid(reset + inner_reset) * inner_new)
        hidden = update * hidden + (1 - update) * new
        return hidden, hidden

    gates = ops.swapaxes(ops.matmul(x, kernel) + bias[0], 0, 1)
    zeros = ops.zeros_like(gates[0, :, : recurrent_kernel.shape[0]])
    return ops.swapaxes(ops.scan(step, zeros, gates)[1], 0, 1)


def same_padding(size, window, stride):
    """Zeros before and after one axis, so that it has `ceil(size / stride)` windows."""
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def window_counts(size, window, stride):
    """How many of the values under each `"same"` window of one axis are data and not padding."""
    before, after = same_padding(size, window, stride)
    inside = np.pad(np.ones(size, "float32"), (before, after))
    return np.array([inside[start : start + window].sum() for start in range(0, len(inside) - window + 1, stride)])
