"""What the tries have shown: counted, kept after each of them, added to by later calls, and shown as a page."""

import contextlib
import fcntl
import os
import platform
from collections import Counter
from datetime import date
from importlib.metadata import version
from pathlib import Path

from apps.common.files import read_json, write_json, write_text

BACKENDS = ("tensorflow", "jax", "torch")
PACKAGES = ("keras", "tensorflow", "jax", "torch", "mlflow", "numpy", "h5py")
KINDS = ("ours", "stock")
SECTIONS = {
    "": "Runs and their surroundings",
    "data: ": "Data",
    "odd: ": "Odd input",
    "model: ": "Model files",
}
INTRODUCTION = """\
# Faults

Written by `python -m bench.faults --out docs/faults.md`, which goes on where an earlier call ended: tries from
{first} to {last}; Python {python}, {versions}.

A **try** injects a fault into a run or a command of its own and holds what comes out against what must. It is **survived**
when everything below holds, and **lost** when anything does not.

* *Kills and signals*: gone on with by `--resume`, the run ends with the very same weights, to the last bit, as one that
  nobody disturbed; MLflow has the loss of every epoch and says FINISHED; no half-written file is left. A try of `kill -9`
  kills one run up to ten times, each time at another moment and gone on with in between; **kills** counts them. A signal
  must end in exit code 143 or 130, with the run marked KILLED and a checkpoint.
* *Damage*: what is damaged is found by its checksum and named; of checkpoints the one before is used, to the same weights.
* *NaN and memory*: stopped within ten steps with step, learning rate, layer and checkpoint named; the batch cut, said, and the
  weights as those of the whole batch within 2e-4.
* *MLflow*: the run ends as it would have, waits less than 5 s for the store in all, and no loss of any epoch is missing once
  the store is back.
* *Data and model files*: one line on standard error, exit code 2, nothing run, nothing read or written elsewhere, and less
  than 400 MB taken beyond an idle process.
* *Odd input*: one line and exit code 2, or, where it can be used, it is trained on and what was done is said; within 60 s and
  900 MB, in most cases far less.

**Stock** is Keras as it comes, `fit` with `BackupAndRestore`, held against its own undisturbed run in the same way; where
nothing stands it has no answer to the fault. Three numbers are TensorFlow / JAX / PyTorch; one number is of a fault that
concerns no backend (*any*). There are no tries with WAV or FASTA files: no task reads them.
"""


class Record:
    """Counts of each fault on each backend, ours and stock.

    Args:
        order: Names of the faults in the order of the page.
        page: The Markdown file to write after every try; the counts lie beside it as JSON. Without it nothing is written.
    """

    def __init__(self, order, page=None):
        self.order = order
        self.page = page and Path(page)
        self.rows = {}
        if page:
            self.page.parent.mkdir(parents=True, exist_ok=True)
            self._read()

    def tries(self, fault, backend, kind):
        """How many there were."""
        return self.rows.get((fault, backend), {}).get(kind, {}).get("tries", 0)

    def add(self, fault, backend, kind, try_):
        """Count one try: `{"lost": why or None, "notes": [words], "kills", "seconds"}`."""
        with self._held():
            counts = self._counts(fault, backend, kind)
            counts["tries"] += 1
            counts["kills"] += try_["kills"]
            counts["lost"] += try_["lost"] is not None
            counts["seconds"] = round(counts["seconds"] + try_["seconds"], 1)
            for note in [try_["lost"]] if try_["lost"] else try_["notes"]:
                counts["notes"][note] = counts["notes"].get(note, 0) + 1
            counts["first"], counts["last"] = counts.get("first", str(date.today())), str(date.today())

    def forget(self, fault, backend):
        """As if it had never been tried, when what it showed has been mended."""
        with self._held():
            self.rows.pop((fault, backend), None)

    def table(self, faults, backends):
        """Rows `{fault, backend, tries, kills, survived, lost, stock tries, stock survived, seconds a try, notes}`."""
        shown = []
        for (fault, backend), row in self.rows.items():
            if fault in faults and backend in (*backends, "any"):
                ours, stock = row["ours"], row.get("stock")
                shown.append(
                    {
                        "fault": fault,
                        "backend": backend,
                        "tries": ours["tries"],
                        "kills": ours["kills"] or "",
                        "survived": ours["tries"] - ours["lost"],
                        "lost": ours["lost"],
                        "stock tries": stock["tries"] if stock else "",
                        "stock survived": stock["tries"] - stock["lost"] if stock else "",
                        "seconds a try": round(ours["seconds"] / max(1, ours["tries"]), 1),
                        "notes": notes(row)[:200],
                    }
                )
        return shown

    def markdown(self):
        """The page."""
        dates = [counts[end] for row in self.rows.values() for counts in row.values() for end in ("first", "last")]
        versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
        said = {"first": min(dates, default="-"), "last": max(dates, default="-"), "python": platform.python_version()}
        lines = [INTRODUCTION.format(**said, versions=versions)]
        lines += [*_markdown(("backend", *_heads()), self._totals()), ""]
        for prefix, title in SECTIONS.items():
            faults = dict.fromkeys(fault for fault, _ in self.rows if _prefix(fault) == prefix)
            rows = [self._row(fault, fault.removeprefix(prefix)) for fault in faults]
            empty = {head for head in _heads() if not any(row[head] for row in rows)}
            heads = [head for head in ("fault", *_heads(), "notes") if head not in empty]
            lines += [f"## {title}", "", *_markdown(heads, rows), ""] if rows else []
        return "\n".join(lines)

    def _totals(self):
        for backend in dict.fromkeys(backend for _, backend in self.rows):
            rows = [row for (_, each), row in self.rows.items() if each == backend]
            yield {"backend": backend, **{head: str(sum(_count(row, head) or 0 for row in rows)) for head in _heads()}}

    def _row(self, fault, name):
        backends = ["any"] if (fault, "any") in self.rows else BACKENDS
        rows = [self.rows.get((fault, each), {}) for each in backends]
        cells = {}
        for head in _heads():
            values = [_count(row, head) for row in rows]
            there = any(value is not None for value in values)
            cells[head] = " / ".join("-" if value is None else str(value) for value in values) if there else ""
        return {"fault": name, **cells, "notes": "; ".join(dict.fromkeys(filter(None, map(notes, rows))))[:300]}

    def _counts(self, fault, backend, kind):
        row = self.rows.setdefault((fault, backend), {})
        return row.setdefault(kind, {"tries": 0, "kills": 0, "lost": 0, "seconds": 0.0, "notes": {}})

    @contextlib.contextmanager
    def _held(self):
        """Read again what other calls have added since; write when it has been changed."""
        if not self.page:
            yield
            return
        folder = os.open(self.page.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            self._read()
            yield
            place = {fault: index for index, fault in enumerate(self.order)}
            self.rows = dict(sorted(self.rows.items(), key=lambda pair: (place.get(pair[0][0], len(place)), pair[0][1])))
            rows = [{"fault": fault, "backend": backend, **row} for (fault, backend), row in self.rows.items()]
            write_json(self.page.with_suffix(".json"), rows)
            write_text(self.page, self.markdown())
        finally:
            os.close(folder)

    def _read(self):
        kept = self.page.with_suffix(".json")
        rows = read_json(kept) if kept.exists() else []
        self.rows = {(row.pop("fault"), row.pop("backend")): row for row in rows}


def notes(row):
    """What was lost, and the commonest words of what was not; stock's after ours."""
    shown = []
    for kind in KINDS:
        counts = Counter(row.get(kind, {}).get("notes", {}))
        start = "stock: " if kind == "stock" else ""
        shown += [f"{start}{count} x {note}" if count > 1 else start + note for note, count in counts.most_common(3)]
    return "; ".join(shown)


def _heads():
    return ("tries", "kills", "survived", "lost", "stock tries", "stock survived")


def _count(row, head):
    """The number under this heading; `None` where there is none, as in an empty row."""
    kind, name = ("stock", head.removeprefix("stock ")) if head.startswith("stock") else ("ours", head)
    if kind not in row:
        return None
    if name == "survived":
        return row[kind]["tries"] - row[kind]["lost"]
    return row[kind][name] or (None if name == "kills" else 0)


def _prefix(fault):
    return next((prefix for prefix in SECTIONS if prefix and fault.startswith(prefix)), "")


def _markdown(heads, rows):
    def cell(value):
        return str(value).replace("|", "\\|").replace("\n", " ")

    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    return lines + ["| " + " | ".join(cell(row[head]) for head in heads) + " |" for row in rows]
