"""The part of an image classifier before its logits, scaled inputs included: what a model learns without labels."""

import importlib

import keras
import numpy as np

from .. import ARCHITECTURES

ops = keras.ops


def image_encoder(architecture, image_shape):
    """An architecture of `models.vision` from the image in -1..1 to the features its logits would be read from.

    Args:
        architecture: Its name, such as `"resnet"`, or a dict of its `"name"`, of what else it takes, such as `"depth"`, and of
            the `"mean"` and `"deviation"` of each channel's brightness in 0..1, by which images are then standardised.
        image_shape: `(height, width, channels)`.
    Returns: A functional model to `(batch, features)`.
    Raises:
        ValueError: There is no such architecture, or its last layer is not a dense one.
    """
    models = importlib.import_module("layers.models")
    options = dict(architecture) if isinstance(architecture, dict) else {"name": architecture}
    architecture, mean, deviation = (options.pop(name, None) for name in ("name", "mean", "deviation"))
    if architecture not in ARCHITECTURES:
        raise ValueError(f"`architecture` must be one of layers.models. Received: architecture={architecture!r}")
    classifier = getattr(models, architecture)(image_shape, 1, **options)
    last = classifier.layers[-1]
    if not isinstance(last, keras.layers.Dense) or len(last.input.shape) != 2:
        raise ValueError(f"`architecture` must be an image classifier. Received: architecture={architecture!r}")
    if mean is None:
        return keras.Model(classifier.inputs, last.input, name="encoder")
    mean, deviation = np.array(mean), np.array(deviation)
    inputs = keras.Input(image_shape, name="image")
    scale, offset = 0.5 / deviation, (0.5 - mean) / deviation
    standardise = keras.layers.Rescaling(scale.tolist(), offset.tolist(), name="standardise", dtype=keras.config.floatx())
    trunk = keras.Model(classifier.inputs, last.input, name="trunk")
    return keras.Model(inputs, trunk(standardise(inputs)), name="encoder")


def scaled(x):
    """Pixels of 0..255 in -1..1."""
    return ops.cast(x, keras.config.floatx()) / 127.5 - 1.0
