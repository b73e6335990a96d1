"""Random numbers that are the same on every backend, and a step that draws them can be compiled or recorded.

`keras.random` hands over to each backend's own generators, whose numbers differ, and on torch seeds one from Python at each draw.
Here a number is a hash of its place, of the seed and of how many draws there were before (Salmon et al., 2011):
`backend.random_bits`, from which all of these are made.
"""

import functools
import math

import keras
import numpy as np

from . import backend

ops = keras.ops

NODES = 1025  # of the table of quantiles of `beta`


def uniform(shape, generator, low=0.0, high=1.0):
    """Numbers drawn evenly from `[low, high)`, 2^24 different ones at most.

    Args:
        shape: Of the result; integers, or scalar tensors such as a batch size not known beforehand.
        generator: A `keras.random.SeedGenerator`; each draw moves it on by one.
        low, high: Bounds.
    Returns: A float32 tensor; float64 where that is Keras's `floatx`.
    """
    upper = ops.bitwise_and(ops.right_shift(backend.random_bits(generator, shape), np.int32(8)), np.int32(0xFFFFFF))
    number = np.float64 if keras.config.floatx() == "float64" else np.float32
    return ops.cast(upper, number.__name__) * number((high - low) * 2.0**-24) + number(low)


def normal(shape, generator):
    """Numbers of the standard normal distribution (Box and Muller, 1958); arguments as `uniform`."""
    radius = ops.sqrt(-2.0 * ops.log(1.0 - uniform(shape, generator)))
    return radius * ops.cos(2 * math.pi * uniform(shape, generator))


def beta(shape, generator, alpha):
    """Numbers of the distribution `Beta(alpha, alpha)`, by its inverse distribution function at uniform ones.

    The function is interpolated between 1,025 quantiles, most of them near 0 and 1. A number is the quantile of a
    probability that is off by 3e-6 in the mean and 3e-4 at most, for alpha from 0.2 to 10.

    Args:
        shape, generator: As for `uniform`.
        alpha: Positive number, both parameters of the distribution.
    """
    place = ops.arcsin(ops.sqrt(uniform(shape, generator))) * ((NODES - 1) * 2 / math.pi)
    before = ops.minimum(ops.floor(place), NODES - 2.0)
    table, index = ops.convert_to_tensor(beta_quantiles(alpha).astype(keras.config.floatx())), ops.cast(before, "int32")
    share = place - before
    return (1.0 - share) * ops.take(table, index) + share * ops.take(table, index + 1)


@functools.lru_cache(maxsize=16)
def beta_quantiles(alpha):
    """The quantiles of `Beta(alpha, alpha)` at the probabilities `sin^2(pi t / 2)`, t evenly from 0 to 1."""
    from scipy.special import betaincinv  # half a second, for Mixup alone

    return betaincinv(alpha, alpha, np.sin(np.linspace(0.0, math.pi / 2, NODES)) ** 2)


def dropout_mask(shape, generator, rate):
    """Booleans of this shape, false for a share `rate` of them; arguments as `uniform`."""
    return backend.random_bits(generator, shape) >= round(rate * 2**32) - 2**31
