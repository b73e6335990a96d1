"""EfficientNet: inverted residual blocks whose width, depth and image size grow together."""

import math

import keras

from ... import BatchNormalization, Conv2D, Dense, DepthwiseConv2D, Dropout
from .._inputs import choose, image_input

__all__ = ["efficientnet"]

# The paper's compound scaling: factor on the width, factor on the depth, dropout.
_VARIANTS = {
    "b0": (1.0, 1.0, 0.2),
    "b1": (1.0, 1.1, 0.2),
    "b2": (1.1, 1.2, 0.3),
    "b3": (1.2, 1.4, 0.3),
    "b4": (1.4, 1.8, 0.4),
    "b5": (1.6, 2.2, 0.4),
    "b6": (1.8, 2.6, 0.5),
    "b7": (2.0, 3.1, 0.5),
}
# A row is one stage of B0 (table 1 of the paper): kernel size, blocks, filters, expansion, strides.
_STAGES = (
    (3, 1, 16, 1, 1),
    (3, 2, 24, 6, 2),
    (5, 2, 40, 6, 2),
    (3, 3, 80, 6, 2),
    (5, 3, 112, 6, 1),
    (5, 4, 192, 6, 2),
    (3, 1, 320, 6, 1),
)
_DROP_PATH = 0.2  # of the last block; the others get less, in proportion
_INITIALIZER = {
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


def efficientnet(image_shape, num_outputs, *, variant="b0", width=1.0, depth=1.0, dropout=None):
    """EfficientNet B0 to B7; B0 has 5,288,548 trainable parameters with 1000 classes.

    A block widens its input with a 1 x 1 convolution, filters each channel by itself (a depthwise convolution), weighs
    the channels by what the whole image says (squeeze-and-excitation), and narrows again; where the shape is kept, the
    input is added, and in training whole blocks are dropped at random (stochastic depth).

    Images of 64 pixels a side and more get the published network from `keras.applications`, whose own division of the
    pixels by 255 is undone first, so that images are scaled as for every other architecture here. For smaller images,
    or when `width` or `depth` is given, the same blocks are built here; below 64 pixels the first convolution keeps
    the resolution.

    Args:
        image_shape: `(height, width, channels)`, any size; 224 x 224 x 3 for B0 in the paper, 600 x 600 x 3 for B7.
        num_outputs: Number of logits.
        variant: `"b0"` to `"b7"`.
        width: Factor on the variant's filters, which are rounded to multiples of 8.
        depth: Factor on the variant's number of blocks a stage, rounded up.
        dropout: Fraction of the features dropped before the last layer in training; `None` takes the paper's.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Tan and Le, 2019, arXiv 1905.11946.
    """
    variant_width, variant_depth, variant_dropout = choose("variant", variant, _VARIANTS)
    inputs = image_input(image_shape)
    large = min(inputs.shape[1:3]) >= 64
    if large and width == 1.0 and depth == 1.0:
        pixels = keras.layers.Rescaling(255.0)(inputs)
        network = getattr(keras.applications, f"EfficientNet{variant.upper()}")
        x = network(input_tensor=pixels, include_top=False, weights=None).output
    else:
        x = _features(inputs, variant_width * width, variant_depth * depth, stem_strides=2 if large else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = Dropout(variant_dropout if dropout is None else dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name=f"efficientnet_{variant}")


def _features(inputs, width, depth, stem_strides):
    x = _convolution(inputs, _round(32 * width), 3, stem_strides)
    x = keras.layers.Activation("silu")(x)
    total, index = sum(math.ceil(depth * stage[1]) for stage in _STAGES), 0
    for kernel_size, num_blocks, filters, expansion, stage_strides in _STAGES:
        for block in range(math.ceil(depth * num_blocks)):
            strides = stage_strides if block == 0 else 1
            x = _block(x, kernel_size, _round(filters * width), expansion, strides, _DROP_PATH * index / total)
            index += 1
    x = _convolution(x, _round(1280 * width), 1)
    return keras.layers.Activation("silu")(x)


def _block(x, kernel_size, filters, expansion, strides, drop_path):
    shortcut = x
    in_filters = x.shape[-1]
    if expansion != 1:
        x = keras.layers.Activation("silu")(_convolution(x, in_filters * expansion, 1))
    x = DepthwiseConv2D(
        kernel_size, strides=strides, padding="same", use_bias=False, depthwise_initializer=_INITIALIZER
    )(x)
    x = keras.layers.Activation("silu")(BatchNormalization()(x))

    weights = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = Conv2D(max(1, in_filters // 4), 1, activation="silu", kernel_initializer=_INITIALIZER)(weights)
    weights = Conv2D(x.shape[-1], 1, activation="sigmoid", kernel_initializer=_INITIALIZER)(weights)
    x = keras.layers.Multiply()([x, weights])

    x = _convolution(x, filters, 1)
    if shortcut.shape == x.shape:
        x = Dropout(drop_path, noise_shape=(None, 1, 1, 1))(x)
        x = keras.layers.Add()([x, shortcut])
    return x


def _convolution(x, filters, kernel_size, strides=1):
    options = {"strides": strides, "padding": "same", "use_bias": False, "kernel_initializer": _INITIALIZER}
    return BatchNormalization()(Conv2D(filters, kernel_size, **options)(x))


def _round(filters):
    """Round to a multiple of 8, losing no more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
