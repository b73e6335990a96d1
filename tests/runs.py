"""Runs of the real command line, for the tests: in a process of its own, or in a fork of one that has everything imported."""

import atexit
import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from stores import put_store

from bench.faults.common import bundle_weights, wait_for_checkpoint
from bench.faults.server import Server

__all__ = ["bundle_weights", "forked", "train", "train_and_kill", "triptych"]

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


@functools.cache
def server():
    """One for all tests of this process: what a run imports takes longer than what a test has it do."""
    import keras

    folder = tempfile.mkdtemp(prefix="runs-")
    made = Server(keras.backend.backend(), folder)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    atexit.register(made.close)
    return made


def forked(*arguments, cwd, check=0):
    """As `triptych`, on the running backend, by fork: a second or two where a new process takes eight."""
    if arguments[0] in ("train", "tune") and check == 0:
        put_store(cwd)
    ended = server().run(*arguments, cwd=cwd)
    assert ended.code == check, f"exit code {ended.code}\n{ended.out[-3000:]}\n{ended.err[-3000:]}"
    return types.SimpleNamespace(returncode=ended.code, stdout=ended.out, stderr=ended.err)


def train(*arguments, cwd, run=forked):
    """Train with `--json`; returns the object on standard output."""
    return json.loads(run("train", *arguments, "--json", cwd=cwd).stdout)


def train_and_kill(*arguments, cwd, after_epoch):
    """Train, kill -9 as soon as the checkpoint of this epoch stands, and return the run's folder."""
    put_store(cwd)
    child = server().start("train", *arguments, cwd=cwd)
    try:
        return wait_for_checkpoint(cwd, child.over, after_epoch).parents[1]
    finally:
        child.kill()
        child.wait()
