"""The convolutional autoencoder for `triptych bench autoencoding`, on images of Fashion-MNIST's shape."""

from bench.images import BATCH_SIZE, images
from bench.own_network import family


def setting():
    from apps import autoencoding as app

    return app, {"model": "convolutional", "width": 16, "batch_size": BATCH_SIZE}, images()


FAMILIES = {"autoencoder": family(setting)}
