"""The feed-forward network that restyles a picture in one pass, as it was trained to for one style."""

import keras

from ... import Conv2D, InstanceNormalization
from .._inputs import image_input

__all__ = ["transformer_net"]

DAMPED = 0.1


def transformer_net(image_shape, *, width=32, depth=5, skip=False):
    """Image transformation network: down to a quarter of the size, residual blocks, and up by repeated pixels and convolutions.

    A picture whose sides are no multiples of 4 is padded with its own pixels mirrored, and the result cut back.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        width: Filters at full size; twice and four times as many below.
        depth: Number of residual blocks.
        skip: Whether a convolution of the picture itself is added at the end. The picture then need not be painted anew from
            what is left of it at a quarter of its size, which takes the paper's network thousands of steps.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: `(batch, height, width, channels)`, pixels in 0..255.
    Reference: Johnson et al., 2016, arXiv 1603.08155; instance normalisation: Ulyanov et al., 2016, arXiv 1607.08022;
        repeated pixels in the place of transposed convolutions: Odena et al., 2016, distill.pub/2016/deconv-checkerboard.
    """
    inputs = image_input(image_shape, minimum=4)
    extra = [-size % 4 for size in inputs.shape[1:3]]
    single = keras.config.floatx()
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for axis, more in enumerate(extra, start=1):
        if more:  # not `ops.pad`, whose mirrored borders are others on torch
            mirrored = keras.ops.flip(x, axis=axis)
            mirrored = mirrored[:, :more] if axis == 1 else mirrored[:, :, :more]
            x = keras.layers.Concatenate(axis=axis)([x, mirrored])
    whole = x
    for filters, kernel_size, strides in [(width, 9, 1), (2 * width, 3, 2), (4 * width, 3, 2)]:
        x = keras.layers.ReLU()(_normalised(x, filters, kernel_size, strides))
    for _ in range(depth):
        added = keras.layers.ReLU()(_normalised(x, 4 * width, 3))
        x = keras.layers.Add()([x, _normalised(added, 4 * width, 3)])
    for filters in (2 * width, width):
        x = keras.layers.ReLU()(_normalised(keras.layers.UpSampling2D()(x), filters, 3))
    x = Conv2D(inputs.shape[-1], 9, padding="same", dtype=single)(x)
    # In the last convolution some hundred weights add up to a pixel: undamped, the first steps of Adam drive the tanh to its
    # ends, where pixels stay, in glaring red and yellow.
    x = keras.layers.Rescaling(DAMPED, dtype=single)(x)
    if skip:
        x = keras.layers.Add(dtype=single)([x, Conv2D(inputs.shape[-1], 3, padding="same", dtype=single)(whole)])
    if any(extra):
        x = keras.layers.Cropping2D([(0, each) for each in extra], dtype=single)(x)
    x = keras.layers.Activation("tanh", dtype=single)(x)
    return keras.Model(inputs, keras.layers.Rescaling(127.5, 127.5, dtype=single)(x), name="transformer_net")


def _normalised(x, filters, kernel_size, strides=1):
    return InstanceNormalization()(Conv2D(filters, kernel_size, strides=strides, padding="same", use_bias=False)(x))
