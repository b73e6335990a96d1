"""How far drawn pictures are from real ones in the features of InceptionV3, where its weights are at hand."""

import functools
from pathlib import Path

import numpy as np

from apps.common.errors import UserError

NAME, SIDE, AT_ONCE = "keras:InceptionV3", 299, 32


def check_source(source):
    """Refuse what names no weights, before a run rather than at its end."""
    name, _, file = source.partition("=")
    if name != NAME or (file and not Path(file).expanduser().is_file()):
        said = f"{file}: no such file" if name == NAME else f"expected {NAME} or {NAME}=FILE"
        raise UserError(f"--inception {source}: {said}. FILE holds its weights without the top (notop)")


@functools.cache
def inception(source):
    """The network from pictures uint8 `(height, width, channels)` of any one size to 2,048 features.

    Args:
        source: `keras:InceptionV3`, whose ImageNet weights Keras downloads, or `keras:InceptionV3=FILE`.
    Raises:
        UserError: The weights cannot be read.
    """
    import keras

    from apps.common.training.trunks import TRUNKS, trained_network

    network = trained_network(f"--inception {source}", "InceptionV3", source.partition("=")[2], (SIDE, SIDE, 3))
    pixels = keras.Input((None, None, 3))
    x = keras.layers.Resizing(SIDE, SIDE)(pixels)
    x = network(keras.layers.Rescaling(*TRUNKS["InceptionV3"])(x), training=False)
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(x), name="inception_features")


def inception_distance(source, images, real):
    """Fréchet distance of pictures uint8 `(n, height, width, channels)` to real ones.

    It is near the FID of the literature and not it: that one's network has other weights, of 2015, and is shown 50,000
    pictures. Reference: Heusel et al., 2017, arXiv 1706.08500.
    """
    from apps.common.reports.generated_images import frechet_distance
    from apps.common.training.batches import predict_all

    network = inception(source)
    found = []
    for pictures in (images, real):
        pictures = np.repeat(pictures, 3, axis=-1) if pictures.shape[-1] == 1 else pictures
        features = predict_all(network, pictures.astype("float32"), AT_ONCE).astype("float64")
        found += [features.mean(0), np.cov(features.T)]
    return frechet_distance(*found)
