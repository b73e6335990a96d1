"""What a run costs besides its steps: compiling, waiting for batches, tracking and checkpoints; and what compiles again.

`triptych bench run` takes about nine minutes on two cores. It is the code of `triptych train` that runs here, `run.fit`, with a
tracker on a store of its own.
"""

import contextlib
import dataclasses
import os
import statistics
import tempfile
import threading
import time

import numpy as np

from bench import raw
from bench.family import Fit
from bench.turns import in_turns, quartiles

EPOCHS, SECONDS = 4, 4.0  # of the run that is measured, in all
SINGLE = 1999  # epochs where each is a single step: MLflow gets every one of so many
ENVIRONMENT = {"JAX_ENABLE_COMPILATION_CACHE": "false"}


def subjects():
    return tuple(raw.families("run"))


def setting(name):
    return raw.families()[name].setting()


def measure(name):
    """The costs of one family on the running backend.

    Returns: `[{subject, backend, step_ms, compile_s, stall, stall_spread, checkpoint_ms, tracking_ms, end_ms, usual_steps,
        cost, compiled_again}]`. `compile_s` is the first step less a later one, no compilation being kept from earlier
        processes; `stall` the share of a step that is gone when the same batch is given at each step; the milliseconds are
        of one epoch's end, the work of the tracking thread included, and `cost` their share of an epoch of `usual_steps`;
        `end_ms` is what is left to send when the last epoch is over, for each epoch; `compiled_again` counts what was
        compiled, traced or recorded after the first epoch.
    """
    import keras

    from layers import backend

    backend.compilations()
    timed, compiling = steps_of(name)
    step = timed()
    stalled = stall(name, step)
    found = epochs(name, step)
    step = (step + timed()) / 2  # before and after, since a machine's speed drifts by more than what is measured
    usual = raw.families()[name].usual_steps
    return [
        {
            "subject": name,
            "backend": keras.backend.backend(),
            "step_ms": round(1000 * step, 3),
            "compile_s": round(compiling, 2),
            "stall": stalled[0],
            "stall_spread": stalled[1],
            "checkpoint_ms": round(1000 * found["checkpoint"], 2),
            "tracking_ms": round(1000 * found["tracking"], 2),
            "usual_steps": usual,
            "end_ms": round(1000 * found["end"], 2),
            "cost": round((found["checkpoint"] + found["tracking"]) / (usual * step), 4),
            "compiled_again": found["compiled_again"],
        }
    ]


def steps_of(name):
    """`(function that takes the seconds of a step, seconds that the first one takes longer)`."""
    fit = Fit(*setting(name))
    first = fit.run(1)
    steps = max(4, min(256, int(0.5 / (fit.run(4) / 4))))
    fit.run(steps)

    def timed():
        return statistics.median(fit.run(steps) / steps for _ in range(5))

    return timed, first - timed()


def stall(name, step):
    """`(share, range)` of a step's time that is gone when the same batch, made beforehand, is given at each step."""
    from apps.common.training.batches import Batches

    class Same(Batches):
        """The first batch, over and over."""

        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.first = super().__getitem__(0)

        def __getitem__(self, step):
            return self.first

        def constant(self):
            return self.first

    steps = max(4, min(256, int(0.5 / step)))
    fits = {"own": Fit(*setting(name)), "same": Fit(*setting(name), batches=Same)}
    for fit in fits.values():
        fit.run(steps)
    times = in_turns({name: lambda fit=fit: fit.run(steps) for name, fit in fits.items()}, most=15)
    low, share, high = quartiles(times["same"], times["own"])
    wide = " wide" if high - low > 0.1 else ""
    return round(max(0.0, 1 - share), 3), f"{1 - high:.2f}-{1 - low:.2f}{wide}"


def epochs(name, step):
    """`{checkpoint, tracking, end, compiled_again}` of a run of several epochs: seconds of an epoch's end, and a count."""
    import keras

    from apps.common.options.declare import make_config
    from apps.common.records.folder import open_run
    from apps.common.records.mlflow import Tracker
    from apps.common.training import callbacks, run
    from layers import backend

    app, options, data = setting(name)
    count = SINGLE if len(data.train) == 1 else EPOCHS
    config, _ = run.settled(app, make_config(app.Config, {**options, "epochs": count}), data)
    data = shortened(data, config.batch_size, max(4, int(SECONDS / EPOCHS / step)))
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        model = run.make_model(app, config, data)
        tracker = Tracker("bench", None, name=name)
        opened = open_run("bench", {}, tracker.run_id, mlflow_run_id=tracker.run_id)
        tracker.attach(opened)
        tracker.params(dataclasses.asdict(config))
        tracker.sender.settle()
        clock = next(time.pthread_getcpuclockid(each.ident) for each in threading.enumerate() if each.name == "tracking")
        before = time.clock_gettime(clock)
        with (
            watched(callbacks.Seeds, "on_epoch_begin", backend.compilations) as counts,
            watched(callbacks.EpochRecorder, "on_epoch_end") as ends,
            watched(callbacks, "save_checkpoint") as saves,
        ):
            run.fit(app, config, data, model, opened, tracker, until=config.epochs)
        compiled_again = backend.compilations() - counts[1][1]
        sending = time.clock_gettime(clock) - before
        start = time.perf_counter()
        tracker.end("FINISHED")
        end = time.perf_counter() - start
        opened.release()
        keras.backend.clear_session()
    _, *later = ends
    checkpoint = sum(seconds for seconds, _ in saves) / config.epochs
    whole = sum(seconds for seconds, _ in later) / len(later) + sending / config.epochs
    return {
        "checkpoint": checkpoint,
        "tracking": max(0.0, whole - checkpoint),
        "end": end / config.epochs,
        "compiled_again": compiled_again,
    }


def shortened(data, batch_size, steps):
    """The data with `steps` steps an epoch, and some examples for validation."""
    train = data.train
    if len(train) == 1:
        return dataclasses.replace(data, validation=train)
    size = min(len(train), steps * batch_size)
    if hasattr(train, "per_epoch"):
        parts = [dataclasses.replace(train, per_epoch=count) for count in (size, 2 * batch_size)]
    else:
        parts = [train.subset(np.arange(count)) for count in (size, 2 * batch_size)]
    return dataclasses.replace(data, train=parts[0], validation=parts[1])


@contextlib.contextmanager
def watched(owner, name, note=lambda: None):
    """A list that gets `(seconds, note())`, the note taken beforehand, of each call of `owner.name` while this lasts."""
    calls, original = [], getattr(owner, name)

    def timed(*arguments, **keywords):
        noted, start = note(), time.perf_counter()
        try:
            return original(*arguments, **keywords)
        finally:
            calls.append((time.perf_counter() - start, noted))

    setattr(owner, name, timed)
    try:
        yield calls
    finally:
        setattr(owner, name, original)
