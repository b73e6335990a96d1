"""Random numbers that are the same on every backend, and a step that draws them can be compiled or recorded.

`keras.random` hands over to each backend's own generators, whose numbers differ, and on torch seeds one from Python at each draw.
Here a number is a hash of its place, of the seed and of how many draws there were before (Salmon et al., 2011).
"""

import math

import keras
import numpy as np

ops = keras.ops


def uniform(shape, generator, low=0.0, high=1.0):
    """Numbers drawn evenly from `[low, high)`, 2^24 different ones at most.

    Args:
        shape: Of the result; integers, or scalar tensors such as a batch size not known beforehand.
        generator: A `keras.random.SeedGenerator`; each draw moves it on by one.
        low, high: Bounds.
    Returns: A float32 tensor; float64 where that is Keras's `floatx`.
    """
    size = math.prod(shape) if all(isinstance(each, int) for each in shape) else ops.prod(ops.stack(shape))
    first, second = ops.unstack(ops.cast(generator.next(), "int32"), 2)
    key = scramble(ops.bitwise_xor(scramble(first), second))
    bits = scramble(ops.bitwise_xor(scramble(ops.add(ops.arange(size, dtype="int32"), key)), key))
    number = np.float64 if keras.config.floatx() == "float64" else np.float32
    numbers = ops.cast(ops.bitwise_and(bits, 0xFFFFFF), number.__name__) * number((high - low) * 2.0**-24) + number(low)
    return ops.reshape(numbers, shape)


def normal(shape, generator):
    """Numbers of the standard normal distribution (Box and Muller, 1958); arguments as `uniform`."""
    radius = ops.sqrt(-2.0 * ops.log(1.0 - uniform(shape, generator)))
    return radius * ops.cos(2 * math.pi * uniform(shape, generator))


def scramble(x):
    """Mixes the 32 bits of each integer; one to one. The constants are those of Ellis's `lowbias32`."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B - (1 << 32))):
        x = ops.multiply(ops.bitwise_xor(x, shifted(x, shift)), np.int32(factor))
    return ops.bitwise_xor(x, shifted(x, 16))


def shifted(x, bits):
    """Shifted right, zeros coming in from the left though the integers have a sign."""
    return ops.bitwise_and(ops.right_shift(x, np.int32(bits)), np.int32((1 << (32 - bits)) - 1))
