"""A network within a model as a model of its own: what is exported of one that owns its objective."""

import keras

__all__ = ["from_pixels"]


def from_pixels(network, *after, name):
    """A functional model of pixels in 0..255.

    Args:
        network: A model of one image in -1..1.
        after: Layers, or functions of `keras.ops`, through which its output goes.
        name: Of the model.
    """
    image = keras.Input(network.inputs[0].shape[1:], name="image")
    x = network(keras.layers.Rescaling(1 / 127.5, -1.0, dtype=keras.config.floatx())(image))
    for each in after:
        x = each(x)
    return keras.Model(image, x, name=name)
