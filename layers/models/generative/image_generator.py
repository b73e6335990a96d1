"""A convolutional network from a latent vector to an image, and one that goes the other way."""

import math

import keras

from ... import BatchNormalization, Conv2D, Dense, PixelShuffle
from .._inputs import image_input

__all__ = ["image_encoder", "image_generator"]


def image_generator(image_shape, latent_dim, *, num_classes=0, width=32, depth=None):
    """Latent vector to image: a dense layer to a small picture, then convolutions that each double it by pixel shuffle.

    Args:
        image_shape: `(height, width, channels)` of the images, at least 4 pixels a side.
        latent_dim: Length of the latent vector.
        num_classes: Classes an image can be asked of; 0 for an unconditional generator.
        width: Channels of the largest hidden picture; each smaller one has twice as many.
        depth: Times the picture is doubled; by default as often as leaves at least 4 pixels a side.
    Input shape: `"latent"`, `(batch, latent_dim)`; with classes a dict of it and `"label"`, `(batch,)`, class indices.
    Output shape: `(batch, height, width, channels)`, logits: their sigmoid is the brightness in 0..1.
    Reference: Radford et al., 2016, arXiv 1511.06434, with sub-pixel convolutions in the place of transposed ones.
    """
    height, breadth, channels = image_input(image_shape, minimum=4).shape[1:]
    depth = depth or _doublings(image_shape)
    small = [-(-size // 2**depth) for size in (height, breadth)]
    inputs = x = keras.Input((latent_dim,), name="latent")
    if num_classes:
        label = keras.Input((), dtype="int32", name="label")
        inputs = {"latent": x, "label": label}
        x = keras.layers.Concatenate()([x, keras.ops.one_hot(label, num_classes, dtype=keras.config.floatx())])
    filters = width * 2 ** (depth - 1)
    x = Dense(small[0] * small[1] * filters, use_bias=False)(x)
    x = keras.layers.Reshape((*small, filters))(x)
    x = keras.layers.ReLU()(BatchNormalization(momentum=0.9)(x))
    for index in reversed(range(depth - 1)):
        x = Conv2D(4 * width * 2**index, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(BatchNormalization(momentum=0.9)(PixelShuffle()(x)))
    x = PixelShuffle(dtype=keras.config.floatx())(Conv2D(4 * channels, 3, padding="same", dtype=keras.config.floatx())(x))
    extra = [size * 2**depth - wanted for size, wanted in zip(small, (height, breadth), strict=True)]
    if any(extra):
        x = keras.layers.Cropping2D([(size // 2, size - size // 2) for size in extra], dtype=keras.config.floatx())(x)
    return keras.Model(inputs, x, name="generator")


def image_encoder(image_shape, num_outputs, *, width=32, depth=None, output_bias=True, name="encoder"):
    """Image to vector: strided convolutions with leaky ReLUs, each halving the picture, and a dense layer.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        num_outputs: Length of the output.
        width: Filters of the first convolution; each later one has twice as many.
        depth: Number of convolutions; by default as many as leave at least 4 pixels a side.
        output_bias: Whether the dense layer has a bias.
        name: What the model is called.
    Input shape: `(batch, height, width, channels)`, in -1..1.
    Output shape: `(batch, num_outputs)`.
    Reference: Radford et al., 2016, arXiv 1511.06434; without batch norm, which would tie the images of a batch together.
    """
    inputs = x = image_input(image_shape, minimum=4)
    for index in range(depth or _doublings(image_shape)):
        x = keras.layers.LeakyReLU(0.2)(Conv2D(width * 2**index, 4, strides=2, padding="same")(x))
    x = Dense(num_outputs, use_bias=output_bias, dtype=keras.config.floatx())(keras.layers.Flatten()(x))
    return keras.Model(inputs, x, name=name)


def _doublings(image_shape):
    """How often the smaller side can be halved and keep four pixels; at least once."""
    return max(1, int(math.log2(min(image_shape[:2]) / 4)))
