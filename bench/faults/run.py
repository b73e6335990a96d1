"""All faults, and how they are tried."""

import json
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apps.common.files import write_text
from bench.faults import inputs, models, odd, resume, store, surroundings, training
from bench.faults.common import Lost, Place


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        name: What the table calls it.
        ours: Function from a `Place` and the try's number that raises `Lost`, and may return a note or several.
        stock: The same for Keras as it comes, with `BackupAndRestore`; `None` where that has no answer.
        once: Whether it concerns no backend and is tried on the first one only.
    """

    name: str
    ours: Callable
    stock: Callable | None = None
    once: bool = False


CHECKPOINT, BUNDLE, STORE = "runs/*/checkpoints/.epoch-*.tmp", "runs/*/.bundle.*.tmp", "mlflow.db-journal"
FAULTS = (
    Fault("kill -9 at a random moment", resume.kill_at_random, resume.stock_killed),
    Fault("kill -9 in a checkpoint write", resume.kill_when(CHECKPOINT, 4), resume.stock_killed_in_backup),
    Fault("kill -9 in a bundle write", resume.kill_when(BUNDLE)),
    Fault("kill -9 in an MLflow write", resume.kill_when(STORE, 4)),
    Fault("SIGTERM", resume.stop_by("SIGTERM"), resume.stock_stopped(signal.SIGTERM)),
    Fault("Ctrl-C", resume.stop_by("Ctrl-C"), resume.stock_stopped(signal.SIGINT)),
    Fault("SIGTERM while importing", surroundings.stopped_early),
    Fault("checkpoint cut short", resume.damaged_checkpoint(resume.cut), resume.stock_damaged(resume.cut)),
    Fault("bit flipped in a checkpoint", resume.damaged_checkpoint(resume.flip), resume.stock_damaged(resume.flip)),
    Fault("bundle cut short", resume.damaged_bundle(resume.cut)),
    Fault("bit flipped in a bundle", resume.damaged_bundle(resume.flip)),
    Fault("NaN loss from the first epoch", training.diverging),
    Fault("NaN loss after some epochs", training.slowly_diverging),
    Fault("out of memory", training.out_of_memory),
    Fault("out of memory with one example", training.out_of_memory_at_one),
    Fault("full disk", surroundings.full_disk),
    Fault("MLflow down at the start", store.down_at_the_start),
    Fault("MLflow down in the middle", store.down_in_the_middle),
    Fault("MLflow down for good", store.down_for_good),
    Fault("MLflow frozen", store.frozen),
    Fault("MLflow's SQLite file damaged", store.damaged_store),
    Fault("two runs in one folder", store.two_runs_in_one_folder),
    Fault("eight runs on one store", store.eight_runs_on_one_store),
    Fault("data changed before a resume", surroundings.changed_data),
    Fault("names with spaces and non-ASCII", surroundings.odd_names),
    Fault("read-only folder", surroundings.read_only_folder, once=True),
    Fault("port in use", surroundings.port_in_use, once=True),
    *(Fault(f"data: {name}", inputs.refused(name), once=True) for name in inputs.HOSTILE),
    *(Fault(f"odd: {name}", odd.met(name)) for name in odd.ODD),
    Fault("odd: a malformed message to a search's chief", odd.malformed_message),
    Fault("odd: predict killed while it writes", odd.killed_predict),
    *(Fault(f"model: {name}", models.refused(name)) for name in models.HOSTILE),
)


def attempt(function, place, number):
    """One try: `{"lost": why or None, "notes": [words], "kills", "seconds"}`."""
    start, place.kills = time.monotonic(), 0
    found = {"lost": None, "notes": []}
    try:
        said = function(place, number) or []
        found["notes"] = [said] if isinstance(said, str) else said
    except Lost as error:
        found["lost"] = str(error)
    except Exception as error:  # what a try expects to find may be missing in as many ways as there are
        found["lost"] = f"{type(error).__name__}: {error}"
    finally:
        place.clear()
    return {**found, "kills": place.kills, "seconds": time.monotonic() - start}


def measure(faults, backends, record, *, tries=1, seconds=600, first=0):
    """Inject faults and count, going on from what the record has.

    Args:
        faults: Of `FAULTS`.
        backends: Names.
        record: The `Record` to add to.
        tries: Of each fault on each backend, those in the record among them.
        seconds: After so long a fault begins no further try; its stock takes no longer.
        first: Number of the first try.
    """
    for index, backend in enumerate(backends):
        place = Place(backend)
        try:
            for fault in faults:
                if not (fault.once and index):
                    _inject(fault, place, record, tries, seconds, first)
        finally:
            place.close()
    _track(record.table([fault.name for fault in faults], backends), backends)


def _inject(fault, place, record, tries, seconds, first):
    where = "any" if fault.once else place.backend
    for kind, function in (("ours", fault.ours), ("stock", fault.stock)):
        start, now = time.monotonic(), 0
        while function and record.tries(fault.name, where, kind) < tries and (not now or time.monotonic() - start < seconds):
            number, now = first + record.tries(fault.name, where, kind), now + 1
            found = attempt(function, place, number)
            record.add(fault.name, where, kind, found)
            outcome = (found["lost"] and f"LOST: {found['lost']}") or "; ".join(found["notes"]) or "survived"
            print(f"{place.backend:10} {fault.name}, {kind} {number}: {outcome}", file=sys.stderr, flush=True)


def _track(rows, backends):
    """Keep the table as an MLflow run."""
    from apps.common.records.mlflow import Tracker

    with tempfile.TemporaryDirectory() as folder:
        tracker = Tracker("faults", folder, name="faults", tags={"backends": ", ".join(backends)})
        tracker.metrics({name: sum(row[name] for row in rows) for name in ("tries", "survived", "lost")})
        write_text(Path(folder, "faults.json"), json.dumps(rows, indent=1))
        tracker.files(Path(folder, "faults.json"))
        tracker.end("FINISHED")
