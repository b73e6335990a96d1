"""What a network that is measured declares, and our `fit` of it as a run has it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

EVERYWHERE = ("speed", "run", "prediction")


@dataclass(frozen=True)
class Family:
    """A network that an app can build and that is measured beside the same one written by hand.

    Args:
        setting: `setting()` is `(app, options, data)` under which the app trains it, the data of a well-known size and
            made from a seed.
        loops: `{backend: loops}`; `loops(data)` is `{what the table calls it: run}` for each way to write it by hand, and
            `run(steps)` trains so many steps and returns their seconds.
        stock: `stock(data)` is the `run` of the same network from Keras's own layers, or `None`.
        torch_network: `torch_network()` is the same network in `torch.nn`, which takes images as `(rows, channels, height,
            width)` from 0 to 1; `None` where nobody has written one.
        usual_steps: Steps of an epoch in the field's usual setting.
        measured_by: The benchmarks that take it up when no family is asked for.
    """

    setting: Callable
    loops: dict[str, Callable]
    stock: Callable | None = None
    torch_network: Callable | None = None
    usual_steps: int = 938  # the 60,000 images of MNIST's kind in batches of 64
    measured_by: tuple[str, ...] = EVERYWHERE


@dataclass(frozen=True)
class Growth:
    """A quantity along which time and memory are read over an eight-fold range.

    Args:
        prepare: `prepare(size)` is a function that does the work once and returns its seconds.
        along: What the size counts, such as `tokens`.
        largest: The largest size.
        readings: Readings of each size; a first one is left out where there are several.
    """

    prepare: Callable
    along: str
    largest: int
    readings: int = 5


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

        self.config, _ = run.settled(app, make_config(app.Config, options), data)
        self.model = run.make_model(app, self.config, data)
        self.batches = (batches or Batches)(data.train, self.config.batch_size, 0)
        callbacks = [Seeds(self.batches, 0), Watch(len(self.batches))]
        self.callbacks = Callbacks(callbacks, self.model, epochs=1)
        self.feed = backend.feed(self.batches)
        backend.accelerate_steps(self.model)

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
