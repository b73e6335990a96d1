"""`--backend auto`: a few steps on each installed backend, each in a process of its own, and the fastest is taken."""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from apps.common.app import load_app
from apps.common.errors import UserError
from apps.common.options import backends
from apps.common.options.declare import options_of

STEPS = 30
LONG = 60.0  # seconds a run must take as it is before a compiler, which itself takes up to forty, is tried


def fastest(app, task, given, settled=False):
    """The backend on which this run takes the least time, and `given` with the `--compile` that goes with it.

    Where `--compile` is left to us, a run of more than a minute is also tried compiled (torch.compile, XLA on TensorFlow).
    With `settled` that is left as it is: a run that is gone on with, or a search whose trials are short.
    """
    free = not settled and options_of(app.Config)["compile"].parse(given.get("compile", "auto")) == "auto"
    words = json.dumps({name: str(value) for name, value in given.items()})
    backend, compiled = _choose(["train", task, words, "free" if free else "settled"])
    return backend, {**given, "compile": "on"} if compiled else given


def fastest_for_bundle(bundle):
    """The backend on which this bundle predicts fastest."""
    return _choose(["bundle", str(bundle.folder.resolve()), "", "settled"])[0]


def _choose(arguments):
    """`(backend, whether compiled)` of the least seconds in all."""
    found = []
    for name in backends.installed():
        environment = dict(os.environ)
        environment["KERAS_BACKEND"] = name
        code = (
            f"from apps.common.options import backends; backends.prepare({name!r}); "
            "from apps.common.training import auto; auto.measure()"
        )
        command = [sys.executable, "-c", code, *arguments]
        path = [str(Path(__file__).resolve().parents[3]), environment.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, path))
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        lines = child.stdout.strip().splitlines()
        if child.returncode == 0 and lines:
            found += [{"backend": name, **each} for each in json.loads(lines[-1])]
        else:
            errors = [line for line in child.stderr.splitlines() if line.strip()] or [""]
            print(f"auto: {name} cannot run this: {errors[-1][:200]}", file=sys.stderr)
    if not found:
        raise UserError("--backend auto: no installed backend could run this; name one to see why, or run triptych doctor")
    found.sort(key=lambda each: each["in_all"])
    shown = ", ".join(
        f"{each['backend']} {1000 * each['step']:.2f} ms" + (f" compiled in {each['first']:.0f} s" if each["compiled"] else "")
        for each in found
    )
    best = found[0]
    chosen = f"{best['backend']}{' compiled' if best['compiled'] else ''}"
    print(f"auto: {chosen} ({shown} a step; the least in all, its first step too, stands first)", file=sys.stderr)
    return best["backend"], best["compiled"]


def measure():
    """In the child process: print what was measured, `[{compiled, first, step, in_all}]` in seconds."""
    kind, name, given, freedom = sys.argv[1:]
    output, sys.stdout = sys.stdout, sys.stderr
    found = _training(name, json.loads(given), freedom == "free") if kind == "train" else [_prediction(name)]
    print(json.dumps(found), file=output)


def _training(task, given, free):
    from apps.common.options.declare import make_config
    from layers import backend

    app = load_app(task)
    config = make_config(app.Config, given)
    data = app.load_data(config)
    found = [_steps(app, config, data)]
    if free and backend.compiles_when_asked() and found[0]["in_all"] > LONG:
        try:
            found.append(_steps(app, make_config(app.Config, {**given, "compile": "on"}), data))
        except Exception as error:  # no C compiler, or an operation that the compiler does not know
            print(f"auto: cannot be compiled: {error}", file=sys.stderr)
    return found


def _steps(app, config, data):
    """`{compiled, first, step, in_all}`: seconds of the first step, of a later one and of all of the run's."""
    from apps.common.training.batches import Batches
    from apps.common.training.fit import make_model, settled, train_epochs
    from layers import backend

    backend.configure(deterministic=config.compile != "on")
    config, _ = settled(app, config, data)
    model = make_model(app, config, data)
    batches = Batches(data.train, config.batch_size, config.seed)
    total = config.epochs * len(batches)
    if config.compile != "off":
        backend.accelerate_steps(model)  # once: it begins anew with each call

    def seconds(steps):
        if batches.steps != steps:
            batches.steps = steps
            batches.set_epoch(0)
        start = time.perf_counter()
        train_epochs(model, batches, seed=0, epochs=1, accelerate=False)
        backend.synchronize()
        return time.perf_counter() - start

    first = seconds(1)
    seconds(STEPS)
    step = statistics.median(seconds(STEPS) for _ in range(3)) / STEPS
    return {"compiled": config.compile == "on", "first": first, "step": step, "in_all": first + total * step}


def _prediction(folder):
    from apps.common.bundles.bundle import load_model, open_bundle
    from apps.common.bundles.export import deployed, sample_inputs

    model = deployed(load_model(open_bundle(folder)))
    inputs = sample_inputs(model, rows=64)
    inputs = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    model.predict(inputs, verbose=0)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.predict(inputs, verbose=0)
        times.append(time.perf_counter() - start)
    step = statistics.median(times)
    return {"compiled": False, "first": 0.0, "step": step, "in_all": step}
