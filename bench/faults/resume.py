"""A run that is killed, asked to stop or finds its checkpoint damaged ends, resumed, with the very same weights."""

import contextlib
import json
import os
import signal
import time

import numpy as np

from bench.faults.common import (
    EPOCHS,
    STOCK,
    TRAIN,
    arrays,
    bundle_weights,
    ended_as,
    equal,
    expect,
    run_folder,
    wait_for_checkpoint,
)

STOCK_CALL = {"call": "bench.faults.inside:stock"}
SIGNALS = {"SIGTERM": (signal.SIGTERM, 143), "Ctrl-C": (signal.SIGINT, 130)}


def moments(place, number):
    """The generator of one try's chances."""
    return np.random.default_rng([number, *place.backend.encode()])


def finish(place, folder):
    """Go on as a user would, until the run is finished, and hold its weights and its record against the undisturbed."""
    ended = place.run(*go_on(folder), cwd=folder)
    found = run_folder(folder)
    expect(equal(bundle_weights(found / "bundle"), place.undisturbed()[0]), "other weights than the undisturbed run's")
    left = [path.name for path in found.rglob("*.tmp")]
    expect(not left, f"half-written files are left: {left}")
    ours = [run for run in place.store_of(folder) if run["id"] == found.name]
    expect(ours and ours[0]["status"] == "FINISHED", "MLflow does not say that the run is finished")
    expect(ours[0]["steps"] == list(range(1, EPOCHS + 1)), f"MLflow has the loss of {len(ours[0]['steps'])} of {EPOCHS} epochs")
    return ended


def go_on(folder):
    """The command that starts the run in this folder, or goes on with it."""
    return (*TRAIN, *(("--resume", "last") if run_folder(folder) else ()))


def kill_at_random(place, number):
    """kill -9 at moments drawn from a whole run, one after the other; every fifth run makes its MLflow store, too."""
    chances, longest = moments(place, number), 0.7 * place.undisturbed()[1]
    folder = place.folder(store=number % 5 != 4)

    def until(run):
        time.sleep(chances.uniform(0, longest))

    place.kill_again_and_again(lambda: place.start(*go_on(folder), cwd=folder), until)
    finish(place, folder)


def kill_when(pattern, most=1):
    """kill -9 when a file of this pattern (in a run's folder or in `mlruns/`) is there, for the first to the `most`-th time."""

    def fault(place, number):
        chances, folder = moments(place, number), place.folder()

        def until(run):
            wait_for_sighting(run, folder, pattern, 1 + int(chances.integers(most)))
            return lambda: "inside" if any((folder / "mlruns").glob(pattern)) else "just after"

        words = place.kill_again_and_again(lambda: place.start(*go_on(folder), cwd=folder), until)
        finish(place, folder)
        return words

    return fault


def wait_for_sighting(run, folder, pattern, count):
    there = any((folder / "mlruns").glob(pattern))  # what the kill before has left is no sighting
    while count and not run.over():
        found = any((folder / "mlruns").glob(pattern))
        count -= found and not there
        there = found
        time.sleep(0.001)  # the run may have but this core


def stop_by(name):
    """The signal at a random moment: exit code, MLflow's word, the epoch's checkpoint; then the very same weights."""
    number_of_signal, code = SIGNALS[name]

    def fault(place, number):
        seconds, folder = place.undisturbed()[1], place.folder()
        run = place.start(*TRAIN, cwd=folder)
        time.sleep(moments(place, number).uniform(0.02, 0.8 * seconds))
        run.kill(number_of_signal)
        ended = ended_as(run.wait(), None)
        expect(ended.code in (code, 0), f"exit code {ended.code}, expected {code}")
        found = run_folder(folder)
        if found and ended.code:
            record = json.loads((found / "run.json").read_text())
            expect(record["status"] == "killed", f"its record says {record['status']}")
            states = {run["id"]: run["status"] for run in place.store_of(folder)}
            expect(states.get(found.name) == "KILLED", f"MLflow says {states.get(found.name)}")
            kept = len(list((found / "checkpoints").glob("epoch-*")))
            expect(kept or record["epoch"] == 0, "no checkpoint is left")
        finish(place, folder)
        return "in training" if found else "before the run was opened"

    return fault


def kill_after_checkpoints(place, folder, options=()):
    """A run killed once it has two checkpoints; returns their folders, newest first."""
    run = place.start(*TRAIN, *options, cwd=folder)
    wait_for_checkpoint(folder, run.over, epoch=4)
    run.kill()
    run.wait()
    found = sorted((folder / "mlruns").glob("runs/*/checkpoints/epoch-*"), reverse=True)
    expect(len(found) >= 2, "the run was over before it could be killed")
    return found


def cut(path, chances):
    os.truncate(path, int(chances.integers(max(1, path.stat().st_size))))


def flip(path, chances):
    content = bytearray(path.read_bytes())
    content[chances.integers(max(1, len(content)))] ^= 1 << int(chances.integers(8))
    path.write_bytes(content)


def damaged_checkpoint(damage):
    """The newest checkpoint is damaged: named, the one before it is used, the very same weights at the end."""

    def fault(place, number):
        folder, chances = place.folder(), moments(place, number)
        newest = kill_after_checkpoints(place, folder)[0]
        damage(newest / ("arrays.npz" if number % 3 else "state.json"), chances)
        ended = finish(place, folder)
        expect(f"checkpoint {newest.name} is damaged" in ended.err, "the damage was not seen")

    return fault


def damaged_bundle(damage):
    """A file of the bundle is damaged: refused in one line by its checksum; the other bundle still predicts."""

    def fault(place, number):
        folder, chances = place.folder(), moments(place, number)
        names = ("model.keras", "bundle.json")
        place.run(*TRAIN[:2], "--epochs", 1, cwd=folder)
        bundle = run_folder(folder) / "bundle"
        row = [f"{name} (cm)=1" for name in ("sepal length", "sepal width", "petal length", "petal width")]
        place.run("predict", bundle, *row, cwd=folder)
        damage(bundle / names[number % 2], chances)
        ended = place.run("predict", bundle, *row, cwd=folder, code=2)
        expect(names[number % 2] in ended.err, "the line does not name the file")

    return fault


# --- the same for Keras's own BackupAndRestore


def finish_stock(place, folder):
    ended = place.server.run(*STOCK, cwd=folder, **STOCK_CALL)
    expect(ended.code == 0, "cannot be resumed: " + (ended.err.strip().splitlines() or ["?"])[-1][:120])
    expect(equal(arrays(folder / "final.npz"), place.undisturbed_stock()[0]), "other weights than the undisturbed run's")


def start_stock(place, folder):
    return place.start(*STOCK, cwd=folder, **STOCK_CALL)


def stock_killed(place, number):
    chances, longest = moments(place, number), 0.7 * place.undisturbed_stock()[1]
    folder = place.folder(store=False)
    place.kill_again_and_again(lambda: start_stock(place, folder), lambda run: time.sleep(chances.uniform(0, longest)))
    finish_stock(place, folder)


def stock_stopped(number_of_signal):
    def fault(place, number):
        seconds, folder = place.undisturbed_stock()[1], place.folder(store=False)
        run = start_stock(place, folder)
        time.sleep(moments(place, number).uniform(0, seconds))
        run.kill(number_of_signal)
        run.wait()
        finish_stock(place, folder)

    return fault


def stock_backup(folder):
    return folder / "backup" / "latest.weights.h5"


def stock_killed_in_backup(place, number):
    chances, folder = moments(place, number), place.folder(store=False)

    def until(run):
        before, wanted = None, 1 + int(chances.integers(4))
        while not run.over() and wanted:
            with contextlib.suppress(OSError):
                now = stock_backup(folder).stat().st_mtime_ns
                wanted -= now != before
                before = now
            time.sleep(0.001)

    place.kill_again_and_again(lambda: start_stock(place, folder), until)
    finish_stock(place, folder)


def stock_damaged(damage):
    def fault(place, number):
        folder = place.folder(store=False)
        run = start_stock(place, folder)
        while not run.over() and not stock_backup(folder).exists():
            time.sleep(0.001)
        time.sleep(0.2)
        run.kill()
        run.wait()
        expect(stock_backup(folder).exists(), "the run was over before it could be killed")
        damage(stock_backup(folder), moments(place, number))
        finish_stock(place, folder)

    return fault
