"""EDSR: residual blocks without batch norm that say what the enlarged picture has and the coarse one lacks."""

import keras

from ... import Conv2D, PixelShuffle
from .._inputs import image_input
from ._enlarged import added_to_repeated, nearly_zero

__all__ = ["edsr"]


def edsr(image_shape, *, factor=3, width=32, depth=4, scale=0.1):
    """Enhanced deep residual network for super-resolution.

    A block is `x + scale * conv(relu(conv(x)))`; the input of the first block is added to the output of the last, and the
    small picture, each pixel repeated, to the large one. With a factor of 4 the picture is doubled twice, as in the paper.

    Args:
        image_shape: `(height, width, channels)` of the small picture.
        factor: How many times higher and wider the picture becomes.
        width: Filters; 64 in the paper's small form, 256 in its large one.
        depth: Number of blocks; 16 and 32.
        scale: What a block adds is multiplied by it.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: `(batch, factor * height, factor * width, channels)`, brightness, 0..1 but not clipped.
    Reference: Lim et al., 2017, arXiv 1707.02921; the picture added at the end: Kim et al., 2015, arXiv 1511.04587.
    """
    inputs = image_input(image_shape)
    channels, single = inputs.shape[-1], keras.config.floatx()
    picture = keras.layers.Rescaling(1 / 255, dtype=single)(inputs)
    first = x = Conv2D(width, 3, padding="same")(keras.layers.Rescaling(2.0, -1.0)(picture))
    for _ in range(depth):
        residual = Conv2D(width, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
        residual = Conv2D(width, 3, padding="same")(residual)
        x = keras.layers.Add()([x, keras.layers.Rescaling(scale)(residual)])
    x = keras.layers.Add()([first, Conv2D(width, 3, padding="same")(x)])
    for step in [2, 2] if factor == 4 else [factor]:
        x = PixelShuffle(step)(Conv2D(width * step**2, 3, padding="same")(x))
    x = Conv2D(channels, 3, padding="same", kernel_initializer=nearly_zero(), dtype=single)(x)
    return keras.Model(inputs, added_to_repeated(x, picture, factor), name="edsr")
