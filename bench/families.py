"""The networks that are measured, as their apps build them, on data of well-known sizes that a seed makes."""

import time

import numpy as np

BATCH_SIZE, EXAMPLES = 64, 16384
TASKS = {
    "image-classification": ("mlp", "lenet", "resnet20", "vit"),
    "text-generation": ("gpt", "lstm"),
    "graph": ("gcn",),
    "image-generation": ("vae", "dcgan"),
}
FAMILIES = tuple(family for families in TASKS.values() for family in families)
IMAGES = {
    "mlp": {"model": "mlp", "hidden_dims": (256, 128, 100), "batch_norm": False, "dropout": 0.0},
    "lenet": {"model": "lenet", "activation": "tanh", "dropout": 0.0},
    "resnet20": {"model": "resnet", "depth": 20},
    "vit": {"model": "vit", "patch_size": 7, "width": 192, "depth": 6, "dropout": 0.0},
}


def setting(family):
    """`(app, options, data)` of a family, or of `tabular`, which is the app's own default."""
    if family == "tabular":
        from apps import tabular
        from apps.common.options.declare import make_config

        return tabular, {}, tabular.load_data(make_config(tabular.Config, {}))
    if family in TASKS["text-generation"]:
        from bench import raw_text

        return raw_text.setting(family)
    if family in TASKS["graph"]:
        from bench import raw_gcn

        return raw_gcn.setting()
    if family in TASKS["image-generation"]:
        from bench import raw_gan

        return *raw_gan.app_options(family), images()
    from apps import image_classification as app

    return app, {"batch_size": BATCH_SIZE, "learning_rate": 1e-3, **IMAGES[family]}, images()


def images(count=EXAMPLES):
    """Images of Fashion-MNIST's shape."""
    from apps.common.data.examples import Data, Examples

    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (count, 28, 28, 1), "uint8")
    train = Examples(pixels, generator.integers(0, 10, count))
    about = {"class_names": list("0123456789"), "image_shape": [28, 28, 1], "mean": [0.0], "deviation": [1.0]}
    return Data(train, None, None, about)


class Fit:
    """Our `fit` as a run feeds it: whole epochs of batches in seeded order, the callbacks of a run.

    Args:
        app: The app's module.
        options: Its options, by name.
        data: The app's `Data`.
        batches: What makes the batches, called as `Batches` is; that by default.
    """

    def __init__(self, app, options, data, batches=None):
        from apps.common.options.declare import make_config
        from apps.common.training import run
        from apps.common.training.batches import Batches
        from apps.common.training.callbacks import Callbacks, Seeds
        from apps.common.training.watch import Watch
        from layers import backend

        self.config = make_config(app.Config, options)
        self.model = run.make_model(app, self.config, data)
        self.batches = (batches or Batches)(data.train, self.config.batch_size, 0)
        callbacks = [Seeds(self.batches, 0), Watch(len(self.batches))]
        self.callbacks = Callbacks(callbacks, self.model, epochs=1)
        self.feed = backend.feed(self.batches)
        backend.hasten(self.model)

    def run(self, steps):
        """Seconds of `steps` steps; the epoch is cut to that length beforehand."""
        from layers import backend

        if steps != self.batches.steps:
            self.batches.steps = steps
            self.batches.set_epoch(0)
            self.feed = backend.feed(self.batches)
        start = time.perf_counter()
        self.model.fit(self.feed, shuffle=False, verbose=0, callbacks=self.callbacks)
        return time.perf_counter() - start
