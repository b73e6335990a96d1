"""`fit` against raw native loops: the same network, in one process a backend, in turns, medians.

`triptych bench image-classification` takes about ten minutes on two cores; `--only mlp --backend jax` under one.
"""

import importlib
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from apps.common import backends
from apps.common.errors import UserError, nearest

BATCH_SIZE, EXAMPLES, TURNS = 64, 16384, 5
# The options of the app, and the seconds a turn should take at least, so that a clock and an epoch's end weigh little.
FAMILIES = {
    "mlp": {"model": "mlp", "hidden_dims": (256, 128, 100), "batch_norm": False, "dropout": 0.0},
    "lenet": {"model": "lenet", "activation": "tanh", "dropout": 0.0},
    "resnet20": {"model": "resnet", "depth": 20},
    "vit": {"model": "vit", "patch_size": 7, "width": 192, "depth": 6, "dropout": 0.0},
}
TASKS = {
    "image-classification": tuple(FAMILIES),
    "text-generation": ("gpt", "lstm"),
    "graph": ("gcn",),
    "image-generation": ("vae", "dcgan"),
}


def bench(task=None, backend=None, only=None):
    """Median step times in milliseconds and the ratio of our `fit` to each raw loop.

    Args:
        task: One of `TASKS`; `None` for all.
        backend: One backend; `None` for all that are installed.
        only: Comma-separated families.
    Returns: Rows `{family, backend, ours_ms, raw, raw_ms, ratio, spread, stock_keras_ms, first_step_s, megabytes}`.
    """
    if task not in (None, *TASKS):
        raise UserError(f"bench {task}: no such benchmark. {nearest(task, TASKS)}")
    known = [family for families in TASKS.values() for family in families]
    families = [name.strip() for name in only.split(",")] if only else list(TASKS[task] if task else known)
    for name in families:
        if name not in known:
            raise UserError(f"--only {name}: no such family. {nearest(name, known)}")
    rows = []
    for each in [backends.choose(backend)] if backend not in (None, "auto") else backends.installed():
        for family in families:
            print(f"{family} on {each} ...", file=sys.stderr)
            rows += _child(each, family)
    return rows


def _child(backend, family):
    house = str(Path(__file__).resolve().parents[1])
    path = os.pathsep.join(filter(None, [house, os.environ.get("PYTHONPATH")]))
    code = f"from apps.common import backends; backends.prepare({backend!r}); from bench import speed; speed.measure({family!r})"
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"bench {family} on {backend} failed; its own words are above")
    return json.loads(done.stdout.strip().splitlines()[-1])


def measure(family):
    """In the child process: print the rows of one family on the running backend."""
    import keras

    from layers import backend

    output, sys.stdout = sys.stdout, sys.stderr
    backend.configure()
    backend.seed(0)
    name = keras.backend.backend()
    contenders, first = _contenders(name, family), {}
    for contender, runs in contenders.items():
        start = time.perf_counter()
        runs(1)
        first[contender] = time.perf_counter() - start
    steps = {contender: _steps(runs) for contender, runs in contenders.items()}
    times = {contender: [] for contender in contenders}
    for _ in range(TURNS):
        for contender, runs in contenders.items():
            times[contender].append(1000 * runs(steps[contender]) / steps[contender])
    medians = {contender: statistics.median(values) for contender, values in times.items()}
    rows = []
    for raw in contenders:
        if raw in ("ours", "stock"):
            continue
        ratios = [a / b for a, b in zip(times["ours"], times[raw], strict=True)]
        rows.append(
            {
                "family": family,
                "backend": name,
                "ours_ms": round(medians["ours"], 3),
                "raw": raw,
                "raw_ms": round(medians[raw], 3),
                "ratio": round(medians["ours"] / medians[raw], 3),
                "spread": f"{min(ratios):.2f}-{max(ratios):.2f}",
                "stock_keras_ms": round(medians["stock"], 3) if "stock" in medians else None,
                "stock_ratio": round(medians["stock"] / medians[raw], 3) if "stock" in medians else None,
                "first_step_s": round(first["ours"], 1),
                "megabytes": round(backend.peak_memory_bytes() / 1e6),
            }
        )
    print(json.dumps(rows), file=output)


def _contenders(name, family):
    """What is timed, as `{name: function from a number of steps to seconds}`; `stock` where Keras has such a network."""
    if family in TASKS["text-generation"]:
        from bench import raw_text

        return raw_text.contenders(name, family)
    if family == "gcn":
        from bench import raw_gcn

        return raw_gcn.contenders(name)
    data = _data()
    if family in TASKS["image-generation"]:
        from bench import raw_gan

        raw = raw_gan.loops(name, family, data, BATCH_SIZE)
        return {"ours": Fit(*raw_gan.app_options(family), data).run, **raw}
    raw = {name: loop.run for name, loop in _raw_loops(name, family, data).items()}
    return {"ours": Fit(*_app(family), data).run, "stock": StockFit(family, data).run, **raw}


def _steps(runs, seconds=1.0):
    """Steps that take about a second, at most one pass over the examples."""
    runs(3)
    each = runs(8) / 8
    return int(min(EXAMPLES // BATCH_SIZE, max(8, seconds / each)))


def _data():
    from apps.common.data import Data, Examples

    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (EXAMPLES, 28, 28, 1)).astype("uint8")
    train = Examples(images, generator.integers(0, 10, EXAMPLES))
    about = {"class_names": list("0123456789"), "image_shape": [28, 28, 1], "mean": [0.0], "deviation": [1.0]}
    return Data(train, None, None, about)


def _app(family):
    return importlib.import_module("apps.image_classification"), {
        "batch_size": BATCH_SIZE, "learning_rate": 1e-3, **FAMILIES[family]
    }  # fmt: skip


class Fit:
    """Our `fit` as a run feeds it: whole epochs of batches in seeded order, the callbacks of a run.

    Args:
        app: The app's module.
        options: Its options, by name.
        data: The app's `Data`.
    """

    def __init__(self, app, options, data):
        from apps.common import run
        from apps.common.batches import Batches
        from apps.common.callbacks import Callbacks, Seeds
        from apps.common.options import make_config
        from apps.common.rescue import Watch
        from layers import backend

        self.config = make_config(app.Config, options)
        self.model = run.make_model(app, self.config, data)
        self.batches = Batches(data.train, self.config.batch_size, 0)
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


class StockFit:
    """Keras as it comes: its own layers in the place of ours, arrays given to `fit`."""

    def __init__(self, family, data):
        import keras

        ours = Fit(*_app(family), data).model
        ours.compiled = False  # the clone is compiled anew
        self.data = data.train

        def stock(layer):
            parents = [each for each in type(layer).__mro__ if each.__module__.startswith("keras.")]
            own = type(layer).__module__.startswith("layers.")
            return (parents[0] if own and parents[0] is not keras.layers.Layer else type(layer)).from_config(layer.get_config())

        def clone(model):
            return keras.models.clone_model(
                model, clone_function=lambda layer: clone(layer) if isinstance(layer, keras.Model) else stock(layer)
            )

        self.model = clone(ours)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])

    def run(self, steps):
        x, y = self.data.x[: steps * BATCH_SIZE], self.data.y[: steps * BATCH_SIZE]
        start = time.perf_counter()
        self.model.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
        return time.perf_counter() - start


def _raw_loops(name, family, data):
    """The native loops of a backend, by what they are called in the table."""
    raw = importlib.import_module(f"bench.raw_{name}")
    images, labels = data.train.x, data.train.y
    if name == "torch":
        eager = raw.Loop(family, images, labels, BATCH_SIZE)
        return {"torch eager": eager, "torch.compile": raw.Loop(family, images, labels, BATCH_SIZE, compiled=True)}
    loop = raw.Loop(Fit(*_app(family), data).model, images, labels.astype("int32"), BATCH_SIZE)
    return {"jax.jit, donated": loop} if name == "jax" else {"tf.function": loop}
