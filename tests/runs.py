"""Runs of the real command line in a process of its own, for the tests."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

from bench.faults.common import bundle_weights, wait_for_checkpoint

__all__ = ["bundle_weights", "train", "train_and_kill", "triptych"]

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
    try:
        return wait_for_checkpoint(cwd, lambda: child.poll() is not None, after_epoch).parents[1]
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
