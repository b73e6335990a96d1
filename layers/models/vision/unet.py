"""U-Net: a picture goes down to a small map and up again, and each step up sees the map of its size on the way down."""

import keras

from ... import BatchNormalization, Conv2D, MaxPooling2D
from .._inputs import choose, image_input

__all__ = ["unet"]


def unet(image_shape, num_classes, *, width=16, depth=3, block="plain", attention=False, trunk=None):
    """U-Net: logits of a class for every pixel.

    Going down, two 3 x 3 convolutions and a pool that halves the map; going up, the map doubled (each pixel repeated, then a
    convolution, in the place of a transposed one) and joined with the one of its size. A picture whose sides are no
    multiples of `2^depth` is padded with zeros (after scaling: grey) and the logits are cut back.

    Args:
        image_shape: `(height, width, channels)`, any size.
        num_classes: Number of classes.
        width: Filters at full size; they double with each step down.
        depth: Steps down.
        block: `"plain"`, or `"residual"`, whose input is added to its output.
        attention: Whether a gate, which sees the coarser map, scales each pixel of the map that is joined.
        trunk: A `keras.Model` in the place of the way down, from pixels in 0..255 (of the padded size) to a list of maps, each
            half as large as the one before or smaller still. What it does not give (full size, steps beyond its last) is made
            as without it.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: `(batch, height, width, num_classes)`, logits.
    Reference: Ronneberger et al., 2015, arXiv 1505.04597; residual: Zhang et al., 2017, arXiv 1711.10684; gates: Oktay et
        al., 2018, arXiv 1804.03999.
    """
    convolutions = choose("block", block, {"plain": _plain, "residual": _residual})
    inputs = image_input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    extra = [-size % 2**depth for size in inputs.shape[1:3]]
    borders = [(each // 2, each - each // 2) for each in extra]
    if any(extra):
        x = keras.layers.ZeroPadding2D(borders)(x)
    passed = _on_the_way_down(x, depth, width, convolutions, trunk)
    x = passed.pop()
    for level in reversed(range(depth)):
        beside = _gated(passed[level], x) if attention and passed[level] is not None else passed[level]
        x = keras.layers.ReLU()(_normalised(keras.layers.UpSampling2D()(x), width * 2**level, 3))
        x = convolutions(x if beside is None else keras.layers.Concatenate()([x, beside]), width * 2**level)
    logits = Conv2D(num_classes, 1, dtype=keras.config.floatx(), name="logits")(x)
    if any(extra):
        logits = keras.layers.Cropping2D(borders, dtype=keras.config.floatx())(logits)
    return keras.Model(inputs, logits, name="unet")


def _on_the_way_down(x, depth, width, convolutions, trunk):
    """The map of each level, `depth + 1` of them; `None` where the trunk has none of that size but coarser ones."""
    size = x.shape[1:3]
    given = {}
    if trunk is not None:
        found = trunk(keras.layers.Rescaling(127.5, 127.5)(x))
        given = {tuple(each.shape[1:3]): each for each in (found if isinstance(found, list | tuple) else [found])}
    levels = [given.get((size[0] // 2**level, size[1] // 2**level)) for level in range(depth + 1)]
    last = max((level for level, each in enumerate(levels) if each is not None), default=-1)
    for level in range(depth + 1):
        if level > last and level > 0:
            x = MaxPooling2D(2)(levels[level - 1])
        if level > last or (level == 0 and levels[0] is None):
            levels[level] = convolutions(x, width * 2**level)
    return levels


def _plain(x, filters):
    for _ in range(2):
        x = keras.layers.ReLU()(_normalised(x, filters, 3))
    return x


def _residual(x, filters):
    residual = keras.layers.ReLU()(_normalised(x, filters, 3))
    residual = _normalised(residual, filters, 3)
    return keras.layers.ReLU()(keras.layers.Add()([residual, _normalised(x, filters, 1)]))


def _gated(x, coarse):
    """`x` times a number in 0..1 for each pixel: `sigmoid(psi relu(W_x x + W_g g))`, g the coarser map."""
    filters = max(1, x.shape[-1] // 2)
    above = keras.layers.UpSampling2D()(_normalised(coarse, filters, 1))
    hidden = keras.layers.ReLU()(keras.layers.Add()([_normalised(x, filters, 1), above]))
    return keras.layers.Multiply()([x, Conv2D(1, 1, activation="sigmoid")(hidden)])


def _normalised(x, filters, kernel_size):
    options = {"padding": "same", "use_bias": False, "kernel_initializer": "he_normal"}
    return BatchNormalization(momentum=0.9, epsilon=1e-5)(Conv2D(filters, kernel_size, **options)(x))
