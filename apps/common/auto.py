"""`--backend auto`: a few steps on each installed backend, each in a process of its own, and the fastest is taken."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from apps.common import backends
from apps.common.errors import UserError

STEPS = 30


def fastest(task, given):
    """The backend on which a training step of this task under these options takes the least time."""
    return _choose(["train", task, json.dumps({name: str(value) for name, value in given.items()})])


def fastest_for_bundle(bundle):
    """The backend on which this bundle predicts fastest."""
    return _choose(["bundle", str(bundle.folder.resolve()), ""])


def _choose(arguments):
    times = {}
    for name in backends.installed():
        environment = dict(os.environ)
        environment["KERAS_BACKEND"] = name
        code = f"from apps.common import backends; backends.prepare({name!r}); from apps.common import auto; auto.measure()"
        command = [sys.executable, "-c", code, *arguments]
        path = [str(Path(__file__).resolve().parents[2]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = child.stdout.strip().splitlines()
        if child.returncode == 0 and lines:
            times[name] = float(lines[-1])
        else:
            errors = [line for line in child.stderr.splitlines() if line.strip()] or [""]
            print(f"auto: {name} cannot run this: {errors[-1][:200]}", file=sys.stderr)
    if not times:
        raise UserError("--backend auto: no installed backend could run this; name one to see why, or run triptych doctor")
    best = min(times, key=times.get)
    shown = ", ".join(f"{name} {1000 * seconds:.2f} ms" for name, seconds in sorted(times.items(), key=lambda pair: pair[1]))
    print(f"auto: {best} ({shown} a step)", file=sys.stderr)
    return best


def measure():
    """In the child process: print the median time of a step in seconds."""
    kind, name, given = sys.argv[1:]
    output, sys.stdout = sys.stdout, sys.stderr
    seconds = _training_step(name, json.loads(given)) if kind == "train" else _prediction_step(name)
    print(seconds, file=output)


def _training_step(task, given):
    import importlib

    from apps.common import run
    from apps.common.batches import Batches
    from apps.common.options import make_config
    from layers import backend

    app = importlib.import_module("apps." + task.replace("-", "_"))
    config = make_config(app.Config, given)
    data = app.load_data(config)
    model = run.make_model(app, config, data)
    batches = Batches(data.train, config.batch_size, config.seed)
    few = _Few(batches, STEPS)
    model.fit(few, shuffle=False, verbose=0)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        model.fit(few, shuffle=False, verbose=0)
        backend.synchronize()
        times.append((time.perf_counter() - start) / STEPS)
    return statistics.median(times)


def _prediction_step(folder):
    from apps.common.bundle import load_model, open_bundle
    from apps.common.export import deployed, sample_inputs

    model = deployed(load_model(open_bundle(folder)))
    inputs = sample_inputs(model, rows=64)
    inputs = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    model.predict(inputs, verbose=0)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.predict(inputs, verbose=0)
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _Few(batches, steps):
    import keras

    class Few(keras.utils.PyDataset):
        """The first batches again and again, so that every backend takes the same number of steps."""

        def __len__(self):
            return steps

        def __getitem__(self, step):
            return batches[step % len(batches)]

    return Few()
