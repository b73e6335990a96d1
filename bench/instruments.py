"""`triptych bench`: each instrument in a process a reading, what it found as a table and as a record in MLflow.

An instrument is a module with `subjects()` (what `--only` chooses from), `measure(subject)`, which runs in a process of its own
and returns rows, and, where there is any need, the `ENVIRONMENT` of that process, whether it is `DETERMINISTIC` (it is),
`finish(rows)`, which adds what only all rows together tell, and `figure(rows)`.
"""

import importlib
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from apps.common.errors import UserError, nearest
from apps.common.files import write_json, write_text
from apps.common.options import backends
from apps.common.output import table
from apps.common.records.mlflow import Tracker
from bench import raw

INSTRUMENTS = {
    "speed": "median step time of fit beside raw native loops and stock Keras",
    "run": "what a run costs besides its steps: compiling, waiting for batches, tracking, checkpoints",
    "prediction": "ten thousand predictions of one row each: time beside a direct call, memory",
    "sampling": "drawing pictures in many steps beside the passes through the network that it needs",
    "generation": "32 texts continued side by side beside one after the other: tokens a second",
    "growth": "time and memory over an eight-fold range of sizes, with their slopes",
    "machinery": "what each hand-made piece buys: steps with and without it",
    "waiting": "whole commands from the prompt back to the prompt, and how long large data take to read",
    "accelerator": "tokens a second of GPT-2 small in bfloat16 on a GPU or TPU, and what share of its peak they are",
}
HOUSE = Path(__file__).resolve().parents[1]


def bench(name=None, backend=None, only=None, turns=None):
    """The rows of one instrument, which are printed by the command and kept as an MLflow run of the experiment `bench`.

    Args:
        name: One of `INSTRUMENTS`, or a task: `speed` for the families of this task. `None` is `speed` for all.
        backend: One backend; `None` for all that are installed.
        only: Comma-separated subjects.
        turns: At most this many turns of `speed`; `None` leaves it to how far they differ.
    Raises:
        UserError: No such instrument, subject or backend, or no such number of turns.
    """
    tasks = raw.tasks()
    if name not in (None, *INSTRUMENTS, *tasks):
        raise UserError(f"bench {name}: no such benchmark. {nearest(name, (*INSTRUMENTS, *tasks))}")
    chosen = name if name in INSTRUMENTS else "speed"
    if turns is not None and (chosen != "speed" or not turns.isdecimal() or int(turns) < 1):
        raise UserError(f"--turns {turns}: expected a whole number from 1, for fit beside raw loops (bench speed) only")
    instrument = importlib.import_module(f"bench.{chosen}")
    subjects = list(tasks[name] if name in tasks else instrument.subjects())
    wanted = [each.strip() for each in only.split(",")] if only else subjects
    for each in wanted:
        if each not in subjects:
            raise UserError(f"--only {each}: bench {name or chosen} has no such subject. {nearest(each, subjects)}")
    running = [backends.choose(backend)] if backend not in (None, "auto") else backends.installed()
    started, rows = time.monotonic(), []
    for each in running:
        for subject in wanted:
            print(f"{subject} on {each} ...", file=sys.stderr)
            rows += (read := in_child(each, chosen, subject, *([turns] if turns else [])))
            if len(wanted) * len(running) > 1:
                print(shown(read), file=sys.stderr)
    getattr(instrument, "finish", len)(rows)
    keep(chosen, rows, running, time.monotonic() - started, getattr(instrument, "figure", None))
    return without_readings(rows)


def in_child(backend, instrument, subject, *more):
    """The rows of `bench.INSTRUMENT.measure(subject, *more)`, from a process in which this backend runs."""
    own = getattr(importlib.import_module(f"bench.{instrument}"), "ENVIRONMENT", {})
    command = [sys.executable, "-m", "bench.instruments", backend, instrument, subject, *more]
    done = subprocess.run(command, env=environment(own), stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise UserError(f"bench {subject} on {backend} failed; its own words are above")
    return json.loads(done.stdout.strip().splitlines()[-1])


def environment(own):
    """Of a process that finds the house from any folder, and nothing in that folder, with these variables of its own."""
    path = os.pathsep.join(filter(None, [str(HOUSE), os.environ.get("PYTHONPATH")]))
    return {**os.environ, **own, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def prepare(running, deterministic=True):
    """In such a process: the backend, set for measuring; what is printed from here on goes to the file that is returned alone."""
    backends.prepare(running)
    from layers import backend

    output, sys.stdout = sys.stdout, sys.stderr
    backend.configure(deterministic=deterministic)
    backend.seed(0)
    return output


def child(running, instrument, subject, turns=None):
    """In the process of its own: print the rows."""
    module = importlib.import_module(f"bench.{instrument}")
    output = prepare(running, getattr(module, "DETERMINISTIC", True))
    try:
        rows = module.measure(subject, int(turns)) if turns else module.measure(subject)
    except UserError as error:
        sys.exit(str(error))
    print(json.dumps(rows), file=output)


def keep(name, rows, running, seconds, figure=None):
    """One MLflow run: a metric for each number of each row, the table as text and JSON, the picture."""
    tags = {"instrument": name, "backends": ", ".join(running), "machine": platform.platform(), "cores": os.cpu_count()}
    for package in ("triptych", "keras", *running):
        try:
            tags[f"version_{package}"] = version(package)
        except PackageNotFoundError:  # a source tree without its metadata
            continue
    with tempfile.TemporaryDirectory() as folder:
        tracker = Tracker("bench", folder, name=name, tags=tags)
        tracker.metrics({"seconds": seconds, **numbers(rows)})
        write_text(Path(folder, f"{name}.txt"), shown(rows) + "\n")
        write_json(Path(folder, f"{name}.json"), rows)
        for ending in ("txt", "json"):
            tracker.files(Path(folder, f"{name}.{ending}"))
        if figure:
            tracker.figure(figure(rows), f"{name}.png")
        tracker.end("FINISHED")


def numbers(rows):
    """`{subject.backend.column: number}` of all rows, and between them against what, where there are several."""
    found = {}
    for row in rows:
        words = [row[column].replace(",", "") for column in ("family", "subject", "model", "backend", "raw") if column in row]
        for column, value in row.items():
            if isinstance(value, int | float) and math.isfinite(value):
                found[".".join([*words, column])] = value
    return found


def without_readings(rows):
    """The rows as a table shows them: without the single readings that some of them hold."""
    plain = []
    for row in rows:
        plain.append({column: value for column, value in row.items() if not isinstance(value, list)})
    return plain


def shown(rows):
    """The rows as a table a person reads."""
    return table(without_readings(rows))


if __name__ == "__main__":
    child(*sys.argv[1:])
