"""The default table model on the app's default data, for single-row prediction; nobody has written its training by hand."""

from bench.family import Family


def setting():
    """`(app, options, data)` of the app's own defaults."""
    from apps import tabular
    from apps.common.options.declare import make_config

    return tabular, {}, tabular.load_data(make_config(tabular.Config, {}))


FAMILIES = {"tabular": Family(setting, loops={}, measured_by=("prediction",))}
