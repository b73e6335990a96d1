"""Runs of the real command line in a process of its own, for the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np

HOUSE = Path(__file__).resolve().parents[1]


def command(*arguments):
    return [sys.executable, str(HOUSE / "triptych.py"), *map(str, arguments)]


def environment(backend=None):
    """Of a process that finds the house from any folder, on this backend where one is given."""
    return {**os.environ, "PYTHONPATH": str(HOUSE), **({"KERAS_BACKEND": backend} if backend else {})}


def triptych(*arguments, cwd, backend=None, check=0):
    """Run the command line; returns the finished process, its exit code checked against `check`."""
    done = subprocess.run(command(*arguments), cwd=cwd, env=environment(backend), capture_output=True, text=True, check=False)
    assert done.returncode == check, f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done


def train(*arguments, cwd, backend=None):
    """Train with `--json`; returns the object on standard output."""
    return json.loads(triptych("train", *arguments, "--json", cwd=cwd, backend=backend).stdout)


def train_and_kill(*arguments, cwd, after_epoch, backend=None):
    """Train, kill -9 as soon as the checkpoint of this epoch stands, and return the run's folder."""
    child = subprocess.Popen(
        command("train", *arguments), cwd=cwd, env=environment(backend), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    pattern, deadline = f"mlruns/runs/*/checkpoints/epoch-{after_epoch:05d}", time.monotonic() + 120
    try:
        while not (found := list(Path(cwd).glob(pattern))):
            assert child.poll() is None, "the run ended before it could be killed"
            assert time.monotonic() < deadline, "no checkpoint within two minutes"
            time.sleep(0.002)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    return found[0].parents[1]


def bundle_weights(folder):
    """Every array of a bundle's model, by its path in the file."""
    import io
    import zipfile

    arrays = {}
    with zipfile.ZipFile(Path(folder) / "model.keras") as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored) as file:

        def keep(name, item):
            if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
                arrays[name] = np.array(item)

        file.visititems(keep)
    return arrays
