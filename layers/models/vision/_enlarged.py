"""What the networks that enlarge a picture end with."""

import keras


def nearly_zero():
    """For the last convolution: Glorot's, a thirtieth as wide.

    The network starts as the repeated picture, not as that and noise of many times what it is to add.
    """
    return keras.initializers.VarianceScaling(1e-3, "fan_avg", "uniform")


def added_to_repeated(x, picture, factor):
    """`x`, what a network says, added to the small picture, each pixel repeated (Kim et al., 2015, arXiv 1511.04587).

    Args:
        x: `(batch, factor * height, factor * width, channels)`.
        picture: `(batch, height, width, channels)`, brightness 0..1.
        factor: How many times higher and wider the picture becomes.
    """
    single = keras.config.floatx()
    return keras.layers.Add(dtype=single)([x, keras.layers.UpSampling2D(factor, dtype=single)(picture)])
