"""The folder of a run: its options, its lock, its checkpoints and its bundle, whether MLflow is there or not."""

import contextlib
import fcntl
import shutil
import sys
import threading
import time
import uuid

from apps.common.errors import UserError, nearest
from apps.common.files import read_json, write_json
from apps.common.records.mlflow import ROOT
from apps.common.records.sending import read_calls, write_calls

RUNS = ROOT / "runs"
_updating = threading.Lock()


class Run:
    """A run on the disk, held by a lock for as long as its process lives.

    Args:
        run_id: Its name, the MLflow run id where there is one.
    """

    def __init__(self, run_id):
        self.id, self.folder = run_id, RUNS / run_id
        self.checkpoints, self.bundle = self.folder / "checkpoints", self.folder / "bundle"
        self._lock = None

    @property
    def record(self):
        return read_json(self.folder / "run.json")

    def update(self, **changes):
        with _updating:  # the thread that talks to MLflow writes the run's id
            record = self.record if (self.folder / "run.json").exists() else {}
            write_json(self.folder / "run.json", {**record, **changes, "changed": time.time()})

    def hold(self):
        """Take the run's lock; `False` when a living process has it. The system lets go of it however that one ends."""
        self._lock = open(self.folder / "lock", "w")  # noqa: SIM115  held for the life of the process
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            self._lock = None
            return False
        for path in [*self.folder.glob(".*.tmp"), *self.checkpoints.glob(".*.tmp")]:  # what a kill left half-written
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        return True

    def release(self):
        if self._lock:
            self._lock.close()
            self._lock = None


def open_run(task, options, run_id=None, **facts):
    """A new run's folder, held; named after the MLflow run where there is one."""
    run = Run(run_id or uuid.uuid4().hex)
    try:
        run.folder.mkdir(parents=True)
    except OSError as error:
        raise UserError(f"{RUNS.resolve()}: cannot be written ({error.strerror}); start in a folder you may write") from None
    run.hold()
    run.update(task=task, options=options, status="running", epoch=0, created=time.time(), **facts)
    return run


def find_run(name, task):
    """The run that `--resume NAME` means, held: an id, the start of one, or `last`.

    Raises:
        UserError: No such run, a run of another task, one still running, or one without a record.
    """
    found = [path for path in all_runs() if _record(path).get("task") == task]
    if name == "last":
        if not found:
            raise UserError(f"--resume last: there is no run of {task} under {RUNS.resolve()}; start one without --resume")
        path = max(found, key=lambda each: read_json(each / "run.json")["created"])
    else:
        matches = [path for path in found if path.name.startswith(name)]
        if len(matches) != 1:
            what = "several runs start so" if matches else f"no run of {task} is called so"
            hint = nearest(name, [path.name for path in found]) if found else "Start one without --resume."
            raise UserError(f"--resume {name}: {what}. {hint}")
        path = matches[0]
    run = Run(path.name)
    if not run.hold():
        raise UserError(f"--resume {name}: run {run.id} is still running; wait for it or stop it first")
    return run


def _record(folder):
    """What a run's record says; nothing where it is damaged."""
    with contextlib.suppress(OSError, ValueError):
        return read_json(folder / "run.json")
    return {}


def all_runs():
    return [path for path in RUNS.glob("*") if (path / "run.json").is_file()] if RUNS.is_dir() else []


def mark_dead_runs():
    """Runs whose process is gone without a word are marked KILLED, here and (by the next sending) in MLflow; their ids."""
    dead = []
    for path in all_runs():
        with contextlib.suppress(OSError, ValueError):
            run = Run(path.name)
            if run.record.get("status") != "running" or not run.hold():
                continue
            run.update(status="killed")
            write_calls(path, [*read_calls(path), ("end", ("KILLED", int(time.time() * 1000)))]).close()
            run.release()
            dead.append(run.id)
    for name in dead:
        print(f"run {name[:8]} had been killed; --resume {name[:8]} goes on with it", file=sys.stderr)
    return dead
