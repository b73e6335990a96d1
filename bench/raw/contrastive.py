"""SimCLR and BYOL for `triptych bench contrastive`: the recipes' encoder on images of Fashion-MNIST's shape."""

import functools

from bench.images import BATCH_SIZE, images
from bench.own_network import family


def setting(name):
    from apps import contrastive as app

    data = images()
    data.about.update(labelled=True)
    return app, {"model": name, "batch_size": BATCH_SIZE}, data


FAMILIES = {name: family(functools.partial(setting, name)) for name in ("simclr", "byol")}
