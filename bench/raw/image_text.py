"""CLIP and Flamingo for `triptych bench image-text`, on the defaults' drawn shapes with captions and with questions."""

import functools

from bench.own_network import family


def setting(model):
    from apps import image_text as app
    from apps.common.options.declare import make_config

    options = {"model": model}
    return app, options, app.load_data(make_config(app.Config, options))


FAMILIES = {model: family(functools.partial(setting, model)) for model in ("clip", "flamingo")}
