"""Images of Fashion-MNIST's shape, made from a seed, for the networks that are measured."""

import numpy as np

BATCH_SIZE, EXAMPLES = 64, 16_384


def images(count=EXAMPLES):
    """The `Data` of an app for images."""
    from apps.common.data.examples import Data, Examples

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 28, 28, 1), "uint8")
    train = Examples(pixels, generator.integers(0, 10, count))
    about = {"class_names": list("0123456789"), "image_shape": [28, 28, 1], "mean": [0.0], "deviation": [1.0]}
    return Data(train, None, None, about)
