"""The part of an image classifier before its logits, scaled inputs included: what a model learns without labels."""

import importlib

import keras

from .. import ARCHITECTURES

ops = keras.ops


def image_encoder(architecture, image_shape, **options):
    """An architecture of `models.vision` from the image to the features its logits would be read from.

    Args:
        architecture: Its name, such as `"resnet"`.
        image_shape: `(height, width, channels)`.
        options: What else the architecture takes.
    Returns: A functional model to `(batch, features)`.
    Raises:
        ValueError: There is no such architecture, or its last layer is not a dense one.
    """
    models = importlib.import_module("layers.models")
    if architecture not in ARCHITECTURES:
        raise ValueError(f"`architecture` must be one of layers.models. Received: architecture={architecture!r}")
    classifier = getattr(models, architecture)(image_shape, 1, **options)
    last = classifier.layers[-1]
    if not isinstance(last, keras.layers.Dense) or len(last.input.shape) != 2:
        raise ValueError(f"`architecture` must be an image classifier. Received: architecture={architecture!r}")
    return keras.Model(classifier.inputs, last.input, name="encoder")


def scaled(x):
    """Pixels of 0..255 in -1..1."""
    return ops.cast(x, keras.config.floatx()) / 127.5 - 1.0
