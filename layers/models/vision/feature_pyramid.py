"""A small residual trunk, and the feature pyramid that gives its fine maps the sight of the coarse ones."""

import math

import keras

from ... import BatchNormalization, Conv2D
from .._inputs import image_input

__all__ = ["feature_pyramid", "residual_trunk"]

PRIOR = -math.log((1 - 0.01) / 0.01)  # the bias of a head's logits: at first nothing is anything (Lin et al., 2017)


def residual_trunk(image_shape, *, width=16, num_levels=3, blocks=1):
    """Feature maps of a picture at strides 8, 16, 32 and so on, by residual blocks.

    Args:
        image_shape: `(height, width, channels)`, any size.
        width: Channels at strides 2 and 4; they double with each stride after that, up to 8 times as many.
        num_levels: Number of maps.
        blocks: Residual blocks at each stride.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: A list of `(batch, ceil(height / stride), ceil(width / stride), channels)`, the finest first.
    Reference: He et al., 2015, arXiv 1512.03385.
    """
    inputs = image_input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    x = keras.layers.ReLU()(normalised(x, width, 3, strides=2))
    x = _stage(x, width, blocks)
    maps = []
    for level in range(num_levels):
        x = _stage(x, width * min(8, 2 ** (level + 1)), blocks)
        maps.append(x)
    return keras.Model(inputs, maps, name="trunk")


def feature_pyramid(image_shape, *, width=16, channels=64, num_levels=3, trunk=None):
    """Maps of as many channels each, every one the sum of the trunk's own and the next coarser of these, made larger.

    Args:
        image_shape: `(height, width, channels)`, any size.
        width: Of the `residual_trunk`.
        channels: Of each map.
        num_levels: Number of maps, at strides 8, 16, 32 and so on; those beyond the trunk's are strided convolutions.
        trunk: A `keras.Model` that takes pixels in 0..255 and gives a list of maps, the finest first; a small residual one of
            three levels by default. Where even its coarsest map is finer than stride 8, residual blocks go on from there.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: A list of `(batch, ..., ..., channels)`, the finest first.
    Raises:
        ValueError: The trunk has no map at stride 8, but coarser ones.
    Reference: Lin et al., 2016, arXiv 1612.03144.
    """
    trunk = trunk or residual_trunk(image_shape, width=width, num_levels=min(3, num_levels))
    inputs = image_input(image_shape)
    found = trunk(inputs)
    found = list(found)[:num_levels] if isinstance(found, list | tuple) else [found]
    finest = tuple(-(-size // 8) for size in inputs.shape[1:3])
    if found[-1].shape[1] > finest[0] or found[-1].shape[2] > finest[1]:
        found = [_reduced(found[-1], finest)]
    if tuple(found[0].shape[1:3]) != finest:
        raise ValueError(
            f"`trunk` must give a map of {finest[0]} x {finest[1]} cells first, at stride 8. Received: {found[0].shape[1:3]}, of "
            f"a picture of {inputs.shape[1:3]}. Choose a size that is a multiple of 32, or another trunk."
        )
    maps = [normalised(x, channels, 1) for x in found]
    for index in reversed(range(len(maps) - 1)):
        maps[index] = keras.layers.Add()([maps[index], enlarged(maps[index + 1], maps[index].shape[1:3])])
    maps = [keras.layers.ReLU()(normalised(x, channels, 3)) for x in maps]
    while len(maps) < num_levels:
        maps.append(keras.layers.ReLU()(normalised(maps[-1], channels, 3, strides=2)))
    return keras.Model(inputs, maps, name="feature_pyramid")


def enlarged(x, size):
    """Each pixel doubled in both directions as often as it takes, and cut to `size`."""
    while x.shape[1] < size[0] or x.shape[2] < size[1]:
        x = keras.layers.UpSampling2D()(x)
    extra = [have - wanted for have, wanted in zip(x.shape[1:3], size, strict=True)]
    return keras.layers.Cropping2D([(0, each) for each in extra])(x) if any(extra) else x


def _reduced(x, size):
    """Residual blocks, each of which halves the map, until it is no larger than `size`."""
    while x.shape[1] > size[0] or x.shape[2] > size[1]:
        x = _stage(x, min(512, 2 * x.shape[-1]), 1)
    return x


def _stage(x, filters, blocks):
    for index in range(blocks):
        strides = 2 if index == 0 else 1
        residual = keras.layers.ReLU()(normalised(x, filters, 3, strides))
        residual = normalised(residual, filters, 3)
        shortcut = normalised(x, filters, 1, strides) if strides > 1 else x
        x = keras.layers.ReLU()(keras.layers.Add()([residual, shortcut]))
    return x


def normalised(x, filters, kernel_size, strides=1):
    """A convolution with batch norm."""
    options = {"strides": strides, "padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(Conv2D(filters, kernel_size, **options)(x))
