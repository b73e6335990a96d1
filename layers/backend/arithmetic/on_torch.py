"""PyTorch: fused kernels in the memory layout the tensors already have.

A contiguous `(N, H, W, C)` tensor seen as `(N, C, H, W)` is what torch calls channels-last: nothing need be copied, and
its kernels for processors are no slower in it.
"""

import math

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional

from . import plain
from .plain import GOLDEN, SPREAD, SPREAD_AGAIN, same_padding, window_counts


def channels_first(x):
    return x.permute(0, 3, 1, 2)


def channels_last(x):
    return x.permute(0, 2, 3, 1)


def padded(x, window, strides, padding, value=0.0):
    """`x` (channels first) and the padding left for the kernel, which can only pad both ends alike."""
    if padding == "valid":
        return x, (0, 0)
    widths = [same_padding(*sizes) for sizes in zip(x.shape[2:], window, strides, strict=True)]
    if all(before == after for before, after in widths) and value == 0.0:
        return x, tuple(before for before, _ in widths)
    (top, bottom), (left, right) = widths
    return functional.pad(x, (left, right, top, bottom), value=value), (0, 0)


def convolution(x, kernel, bias, strides, padding, dilation_rate):
    groups = x.shape[-1] // kernel.shape[2]
    window = [(size - 1) * rate + 1 for size, rate in zip(kernel.shape[:2], dilation_rate, strict=True)]
    x, width = padded(channels_first(x), window, strides, padding)
    kernel = kernel.permute(3, 2, 0, 1)
    return channels_last(functional.conv2d(x, kernel, bias, strides, width, dilation_rate, groups))


def depthwise_convolution(x, kernel, bias, strides, padding, dilation_rate):
    height, width, channels, multiplier = kernel.shape
    kernel = kernel.reshape(height, width, 1, channels * multiplier)
    return convolution(x, kernel, bias, strides, padding, dilation_rate)


def max_pooling(x, pool_size, strides, padding):
    x, width = padded(channels_first(x), pool_size, strides, padding, value=-torch.inf)
    return channels_last(functional.max_pool2d(x, pool_size, strides, width))


def average_pooling(x, pool_size, strides, padding):
    # Zeros are added by hand and not counted: Keras repeats the edge where the two ends differ (keras #23233).
    height, breadth = x.shape[1:3]
    x, width = padded(channels_first(x), pool_size, strides, padding)
    if padding == "valid":
        return channels_last(functional.avg_pool2d(x, pool_size, strides))
    x = functional.avg_pool2d(x, pool_size, strides, width, divisor_override=1)
    rows = window_counts(height, pool_size[0], strides[0])
    columns = window_counts(breadth, pool_size[1], strides[1])
    counts = torch.as_tensor(rows[:, None] * columns, dtype=x.dtype, device=x.device)
    return channels_last(x / counts)


def dense(x, kernel, bias):
    return functional.linear(x, kernel.t(), bias)


def batch_normalization(x, gamma, beta, epsilon):
    if x.device.type == "cpu":
        outputs, mean, variance = BatchNormalization.apply(plain.single(x), gamma, beta, epsilon)
        return outputs.to(x.dtype), mean, variance
    axis, single = x.ndim - 1, plain.single(x[:0]).dtype
    # Its gradient takes both or none.
    gamma = x.new_ones(x.shape[-1], dtype=single) if gamma is None else gamma
    beta = x.new_zeros(x.shape[-1], dtype=single) if beta is None else beta
    outputs, mean, inverse = torch.native_batch_norm(x.movedim(axis, 1), gamma, beta, None, None, True, 0.0, epsilon)
    mean, inverse = mean.detach(), inverse.detach()
    return outputs.movedim(1, axis), mean, inverse**-2 - epsilon


class BatchNormalization(torch.autograd.Function):
    """Torch's kernels around means of our own: its channels-last one adds up all rows of a channel in single precision, one
    after the other, and errs by a thousandth for the 200,000 rows of 256 images of 28 pixels."""

    @staticmethod
    def forward(context, x, gamma, beta, epsilon):
        mean = mean_of_rows(x)
        centred = x - mean
        variance = mean_of_rows(centred.mul_(centred))
        context.save_for_backward(x, gamma, mean, torch.rsqrt(variance + epsilon))
        context.epsilon = epsilon
        rows = x.reshape(-1, x.shape[-1])
        outputs = torch.native_batch_norm(rows, gamma, beta, mean, variance, False, 0.0, epsilon)[0].reshape(x.shape)
        context.mark_non_differentiable(mean, variance)
        return outputs, mean, variance

    @staticmethod
    def backward(context, upstream, *_):
        x, gamma, mean, inverse_deviation = context.saved_tensors
        rows, needs = (part.reshape(-1, x.shape[-1]) for part in (upstream, x)), context.needs_input_grad[:3]
        gradients = torch.ops.aten.native_batch_norm_backward(
            *rows, gamma, None, None, mean, inverse_deviation, True, context.epsilon, list(needs)
        )
        return gradients[0].reshape(x.shape) if needs[0] else None, *gradients[1:], None


def mean_of_rows(x):
    """The mean over all axes but the last, first of each example's rows: short sums round less."""
    return x.reshape(x.shape[0], -1, x.shape[-1]).mean(1).mean(0)


def layer_normalization(x, gamma, beta, epsilon):
    if x.device.type == "cpu":
        return functional.layer_norm(plain.single(x), x.shape[-1:], gamma, beta, epsilon).to(x.dtype)
    # The kernel computes in single precision whatever it is given, but wants one type for all.
    return functional.layer_norm(x, x.shape[-1:], gamma.to(x.dtype), beta.to(x.dtype), epsilon)


def logits(x, table):
    return functional.linear(x, table).to(torch.promote_types(x.dtype, torch.float32))


def attention(query, key, value, causal, mask):
    query, key, value = (part.transpose(1, 2) for part in (query, key, value))
    if mask is not None:
        mask = mask[:, None, None, :] if mask.ndim == 2 else mask[:, None]
        if causal:
            mask = mask & torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    x = functional.scaled_dot_product_attention(query, key, value, mask, is_causal=causal and mask is None)
    return x.transpose(1, 2)


def take_places(x, places):
    """By `gather`: an export with any number of rows cannot follow `take_along_dim`, which Keras has here."""
    return torch.gather(x, 1, places.long().unsqueeze(-1).expand(-1, -1, x.shape[-1]))


def take_rows(x, indices):
    return Taken.apply(x, indices.reshape(-1)).reshape(*indices.shape, *x.shape[1:])


class Taken(torch.autograd.Function):
    """`index_select`, whose own gradient adds one row after the other: 15 times slower than `segment_sum`."""

    generate_vmap_rule = True  # for gradients by example, as for all of these

    @staticmethod
    def forward(x, indices):
        return x.index_select(0, indices)

    @staticmethod
    def setup_context(context, inputs, outputs):
        context.save_for_backward(inputs[1])
        context.rows = len(inputs[0])

    @staticmethod
    def backward(context, upstream):
        return segment_sum(upstream, context.saved_tensors[0], context.rows), None


def weighted_rows(x, indices, weights):
    if x.device.type != "cpu" or x.dtype != weights.dtype:
        return plain.weighted_rows(x, indices, weights)
    return Weighted.apply(x, indices, weights)


class Weighted(torch.autograd.Function):
    """Torch's bag of embeddings, which never makes the rows; its own gradient is slow as above."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x, indices, weights):
        return functional.embedding_bag(indices, x, per_sample_weights=weights, mode="sum")

    @staticmethod
    def setup_context(context, inputs, outputs):
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context, upstream):
        x, indices, weights = context.saved_tensors
        rows = (weights.unsqueeze(-1) * upstream.unsqueeze(1)).reshape(-1, x.shape[1])
        by_x = segment_sum(rows, indices.reshape(-1), len(x))
        return by_x, None, (take_rows(x, indices) @ upstream.unsqueeze(-1)).squeeze(-1) if context.needs_input_grad[2] else None


def segment_sum(x, segments, num_segments):
    if x.device.type != "cpu":
        return x.new_zeros(num_segments, *x.shape[1:]).index_add(0, segments, x)
    # `scatter_add` of whole rows, which torch sees by the stride of the index, sorts the segments and adds without branches.
    rows = x.reshape(len(x), math.prod(x.shape[1:]))
    index = segments.long().unsqueeze(-1).expand_as(rows)
    return rows.new_zeros(num_segments, rows.shape[1]).scatter_add(0, index, rows).reshape(num_segments, *x.shape[1:])


def segment_max(x, segments, num_segments):
    index = segments.long().reshape(-1, *[1] * (x.ndim - 1)).expand_as(x)
    return x.new_full((num_segments, *x.shape[1:]), -torch.inf).scatter_reduce(0, index, x, "amax")


def lstm(x, kernel, recurrent_kernel, bias):
    if x.device.type != "cpu":
        return None
    state = x.new_zeros(1, x.shape[0], recurrent_kernel.shape[0])
    weights = [kernel.t().contiguous(), recurrent_kernel.t().contiguous(), bias, torch.zeros_like(bias)]
    return torch._VF.lstm(x.contiguous(), (state, state), weights, True, 1, 0.0, True, False, True)[0]


def gru(x, kernel, recurrent_kernel, bias):
    if x.device.type != "cpu":
        return None
    state = x.new_zeros(1, x.shape[0], recurrent_kernel.shape[0])

    def reordered(weight):  # Keras keeps the gates as update, reset, new; torch as reset, update, new
        update, reset, new = weight.chunk(3, dim=-1)
        return torch.cat([reset, update, new], dim=-1)

    weights = [reordered(kernel).t().contiguous(), reordered(recurrent_kernel).t().contiguous()]
    weights += [reordered(bias[0]), reordered(bias[1])]
    return torch._VF.gru(x.contiguous(), state, weights, True, 1, 0.0, True, False, True)[0]


def random_bits(generator, shape):
    """`plain.random_bits` in place: 13 ms for 28 of a large mask, .08 for .25 of a small one. A recorded step gains nothing by it
    (1.04 of `plain`'s, an MLP with dropout), but there the state that `plain` moves on does not go on as it was after a kill."""
    state = generator.state.value
    first, second = (state & 0x7FFFFFFF).unbind()
    x = torch.arange(math.prod(shape), dtype=torch.int32, device=state.device).mul_(GOLDEN)
    x.bitwise_xor_(first + second * SPREAD_AGAIN)
    with torch.no_grad():
        state[1] += 1
    x.bitwise_xor_((x >> 16).bitwise_and_(0xFFFF)).mul_(SPREAD)
    x.bitwise_xor_((x >> 15).bitwise_and_(0x1FFFF)).mul_(SPREAD_AGAIN)
    return x.view(shape)


def drop(x, mask, rate):
    return x * mask.to(x.dtype).mul_(1.0 / (1.0 - rate))


@torch.library.custom_op("triptych::assign", mutates_args=())
def assign(costs: torch.Tensor) -> torch.Tensor:
    """SciPy's algorithm as one operation that a step can be recorded with: a loop by values it could not, and one of as many
    steps as there may be takes 100 ms and half a minute to record. The costs come from the device for it."""
    matrices = costs.detach().cpu().numpy()
    columns = np.stack([linear_sum_assignment(each)[1] for each in matrices])
    return torch.from_numpy(columns.astype("int32")).to(costs.device)


@assign.register_fake
def _(costs):
    return costs.new_empty(costs.shape[:2], dtype=torch.int32)
