"""CLIP for `triptych bench image-text`, on the default's drawn shapes with captions."""

from bench.own_network import family


def setting():
    from apps import image_text as app
    from apps.common.options.declare import make_config

    options = {"model": "clip"}
    return app, options, app.load_data(make_config(app.Config, options))


FAMILIES = {"clip": family(setting)}
