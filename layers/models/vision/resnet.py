"""ResNet: blocks that learn what to add to their input."""

import keras

from ... import BatchNormalization, Conv2D, Dense, MaxPooling2D
from .._inputs import choose, image_input

__all__ = ["resnet"]

# Blocks in each stage (table 1 and section 4.2 of the paper). A stage halves the image and doubles the filters.
_IMAGENET = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}
_CIFAR = {20: (3, 3, 3), 32: (5, 5, 5), 56: (9, 9, 9)}


def resnet(image_shape, num_outputs, *, depth=18, width=None, stem="auto"):
    """ResNet of depth 18, 34, 50 (the ImageNet family) or 20, 32, 56 (the CIFAR family, a fortieth of the size).

    A block is `x <- relu(F(x) + S(x))` with `F` two 3 x 3 convolutions (depth 50: 1 x 1, 3 x 3, 1 x 1). `S` is the
    identity; where the shape changes it is a 1 x 1 convolution in the ImageNet family, and free of weights in the CIFAR
    family: every other pixel, with zeros for the new channels (the paper's option A). Depth 50 halves the image in its
    3 x 3 convolution, not in the 1 x 1 before it, as most implementations do since 2016.

    Trainable parameters with 1000 classes: 18 has 11,689,512, 34 has 21,797,672, 50 has 25,557,032;
    with 10 classes: 20 has 269,722, 32 has 464,154, 56 has 853,018.

    Args:
        image_shape: `(height, width, channels)`, any size.
        num_outputs: Number of logits.
        depth: Number of layers with weights: 18, 34, 50, 20, 32 or 56.
        width: Filters of the first stage; `None` takes the paper's: 64 (ImageNet family) or 16 (CIFAR family).
        stem: The first convolution: `"large"` is 7 x 7 with stride 2 and a pool, a quarter of the resolution;
            `"small"` is 3 x 3 at full resolution; `"auto"` is small for the CIFAR family and under 64 pixels a side.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: He, Zhang, Ren and Sun, 2015, arXiv 1512.03385.
    """
    stages = choose("depth", depth, _IMAGENET | _CIFAR)
    block = _bottleneck_block if depth == 50 else _basic_block
    shortcut = _convolution_shortcut if depth in _IMAGENET else _zero_padding_shortcut
    width = width or (64 if depth in _IMAGENET else 16)
    inputs = image_input(image_shape)
    small = depth in _CIFAR or min(inputs.shape[1:3]) < 64
    small = choose("stem", stem, {"auto": small, "small": True, "large": False})

    if small:
        x = keras.layers.ReLU()(_convolution(inputs, width, 3))
    else:
        x = keras.layers.ReLU()(_convolution(inputs, width, 7, strides=2))
        x = MaxPooling2D(3, strides=2, padding="same")(x)
    for stage, num_blocks in enumerate(stages):
        for index in range(num_blocks):
            x = block(x, width * 2**stage, 2 if stage > 0 and index == 0 else 1, shortcut)
    x = keras.layers.GlobalAveragePooling2D()(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name=f"resnet{depth}")


def _basic_block(x, filters, strides, shortcut):
    residual = keras.layers.ReLU()(_convolution(x, filters, 3, strides))
    residual = _convolution(residual, filters, 3)
    x = keras.layers.Add()([residual, shortcut(x, filters, strides)])
    return keras.layers.ReLU()(x)


def _bottleneck_block(x, filters, strides, shortcut):
    residual = keras.layers.ReLU()(_convolution(x, filters, 1))
    residual = keras.layers.ReLU()(_convolution(residual, filters, 3, strides))
    residual = _convolution(residual, 4 * filters, 1)
    x = keras.layers.Add()([residual, shortcut(x, 4 * filters, strides)])
    return keras.layers.ReLU()(x)


def _convolution_shortcut(x, filters, strides):
    """Option B: a 1 x 1 convolution where the shape changes."""
    if strides == 1 and x.shape[-1] == filters:
        return x
    return _convolution(x, filters, 1, strides)


def _zero_padding_shortcut(x, filters, strides):
    """Option A: every other pixel, with zeros for the channels that are new."""
    if strides > 1:
        x = x[:, ::strides, ::strides]
    missing = filters - x.shape[-1]
    return keras.ops.pad(x, ((0, 0), (0, 0), (0, 0), (0, missing))) if missing else x


def _convolution(x, filters, kernel_size, strides=1):
    options = {"strides": strides, "padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(Conv2D(filters, kernel_size, **options)(x))
