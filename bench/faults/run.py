"""All faults, and the table of what was survived."""

import json
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from apps.common.files import write_text
from bench.faults import inputs, models, resume, store, surroundings, training
from bench.faults.common import Lost, Place


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong.

    Args:
        name: What the table calls it.
        ours: Function from a `Place` and the try's number that raises `Lost`, and may return a note.
        stock: The same for Keras as it comes, with `BackupAndRestore`; `None` where that has no answer.
        once: Whether it concerns no backend and is tried on the first one only.
    """

    name: str
    ours: Callable
    stock: Callable | None = None
    once: bool = False


CHECKPOINT, BUNDLE, STORE = "runs/*/checkpoints/.epoch-*.tmp", "runs/*/.bundle.*.tmp", "mlflow.db-journal"
FAULTS = (
    Fault("kill -9 at a random moment", resume.kill_at_random, resume.stock_stopped(signal.SIGKILL)),
    Fault("kill -9 in a checkpoint write", resume.kill_when(CHECKPOINT, 16), resume.stock_killed_in_backup),
    Fault("kill -9 in a bundle write", resume.kill_when(BUNDLE, 1)),
    Fault("kill -9 in an MLflow write", resume.kill_when(STORE, 12)),
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
    Fault("two runs in one folder", store.two_runs_in_one_folder),
    Fault("eight runs on one store", store.eight_runs_on_one_store),
    Fault("data changed before a resume", surroundings.changed_data),
    Fault("names with spaces and non-ASCII", surroundings.odd_names),
    Fault("read-only folder", surroundings.read_only_folder, once=True),
    Fault("port in use", surroundings.port_in_use, once=True),
    *(Fault(f"data: {name}", inputs.refused(name), once=True) for name in inputs.HOSTILE),
    *(Fault(f"model: {name}", models.refused(name)) for name in models.HOSTILE),
)


def attempt(function, place, number):
    """One try: `(lost or None, note)`."""
    try:
        return None, function(place, number)
    except Lost as error:
        return str(error), None


def measure(faults, backends, *, tries=1, seconds=600, first=0):
    """Inject faults and count.

    Args:
        faults: Of `FAULTS`.
        backends: Names.
        tries: Of each fault on each backend.
        seconds: After so long a fault begins no further try.
        first: Number of the first try.
    Returns: Rows `{fault, backend, tries, survived, lost, stock_tries, stock_survived, stock_lost, seconds, notes}`.
    """
    rows = []
    for index, backend in enumerate(backends):
        mine = [fault for fault in faults if not (fault.once and index)]
        place = Place(backend)
        try:
            for fault in mine:
                rows.append(_row(fault, place, tries, seconds, first))
                row = rows[-1]
                print(f"{backend:10} {row['fault']}: {row['survived']} of {row['tries']}  {row['notes']}", file=sys.stderr)
                place.clear()
        finally:
            place.close()
    _track(rows, backends)
    return rows


def _row(fault, place, tries, seconds, first):
    start, done, lost, notes = time.monotonic(), 0, [], Counter()
    while done < tries and (not done or time.monotonic() - start < seconds):
        failed, note = attempt(fault.ours, place, first + done)
        done += 1
        lost += [failed] if failed else []
        notes[note] += bool(note)
        if failed:
            print(f"{place.backend:10} {fault.name}, try {first + done - 1}: {failed}", file=sys.stderr)
    took, stock = time.monotonic() - start, {}
    if fault.stock:
        start, stock_done, stock_lost = time.monotonic(), 0, []
        while stock_done < done and (not stock_done or time.monotonic() - start < seconds):
            failed, _ = attempt(fault.stock, place, first + stock_done)
            stock_done += 1
            stock_lost += [failed] if failed else []
        stock = {"stock_tries": stock_done, "stock_survived": stock_done - len(stock_lost), "stock_lost": len(stock_lost)}
        notes.update(f"stock: {reason[:80]}" for reason in stock_lost)
    shown = [f"{count} x {note}" if done > 1 else note for note, count in notes.most_common(3) if note]
    return {
        "fault": fault.name,
        "backend": "any" if fault.once else place.backend,
        "tries": done,
        "survived": done - len(lost),
        "lost": len(lost),
        **{name: stock.get(name, "") for name in ("stock_tries", "stock_survived", "stock_lost")},
        "seconds": round(took),
        "notes": "; ".join([*dict.fromkeys(lost), *shown])[:300],
    }


def _track(rows, backends):
    """Keep the table as an MLflow run."""
    from apps.common.tracking import Tracker

    with tempfile.TemporaryDirectory() as folder:
        tracker = Tracker("faults", folder, name="faults", tags={"backends": ", ".join(backends)})
        tracker.metrics({name: sum(row[name] for row in rows) for name in ("tries", "survived", "lost")})
        write_text(Path(folder, "faults.json"), json.dumps(rows, indent=1))
        tracker.files(Path(folder, "faults.json"))
        tracker.end("FINISHED")


def write_page(path, rows):
    """The table as Markdown, with versions and date."""
    packages = ("keras", "tensorflow", "jax", "torch", "mlflow", "numpy", "h5py")
    stamp = ", ".join(f"{name} {version(name)}" for name in packages)
    heads = ("fault", "backend", "tries", "survived", "lost", "stock tries", "stock survived", "stock lost", "seconds", "notes")
    lines = [
        "# Faults",
        "",
        f"Written by `python -m bench.faults` on {date.today()}: Python {platform.python_version()}, {stamp}.",
        "",
        "A kill is survived when the resumed run ends with the very same weights, to the last bit, as a run that nobody",
        "disturbed, MLflow has the loss of every epoch, and no half-written file is left. What is refused must be refused in",
        "one line with exit code 2, with nothing run or written and memory bounded. *Stock* is Keras as it comes, `fit` with",
        "`BackupAndRestore`, held to the same: the weights of its own undisturbed run.",
        "",
        "| " + " | ".join(heads) + " |",
        "|" + "---|" * len(heads),
    ]
    for row in rows:
        cells = [str(row[name.replace(" ", "_")]).replace("|", "\\|").replace("\n", " ") for name in heads]
        lines.append("| " + " | ".join(cells) + " |")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "\n".join(lines) + "\n")
