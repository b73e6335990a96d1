"""The matrix: every entry of a file of cases (`tests/cases.py`) on every backend, from the same weights, and how far they differ.

    triptych matrix [--only NAME] [--out docs/matrix.md] [--html matrix.html]

Each backend runs in processes of its own, one after the other, and writes what it measured; the files are then compared.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from apps.common.errors import UserError
from apps.common.files import write_json, write_text
from apps.common.options.backends import choose, installed, prepare
from apps.common.records.mlflow import Tracker
from bench import curves, matrix_page, parity
from bench.parity import BACKENDS, QUANTITIES, allowed

CASES = Path("tests", "cases.py")  # of the folder one stands in
HOUSE = Path(__file__).resolve().parents[1]
SUSPICIOUS = 1e-6  # in single precision; what lies further apart is measured in double precision as well


def compare(cases, folder, backends=BACKENDS):
    """The rows of the matrix, one for each of `cases` (`{name: case}`); those with a backend that wrote nothing are not `ok`.

    `outputs`, `loss`, `gradients` and `weights` are the largest difference of any two backends; `pairs` has each pair's.
    `predicts` is the worst of the bundles written by one backend and read by another, `continues` of the checkpoints;
    `where` names the layer at fault.
    """
    rows = []
    for name, case in cases.items():
        found = {backend: parity.load(folder, backend, name) for backend in backends}
        there = {backend: each for backend, each in found.items() if each}
        pairs = {}
        for a, b in itertools.combinations(there, 2):
            pairs[f"{a}-{b}"] = {each: parity.difference(there[a][each], there[b][each]) for each in QUANTITIES}
        row = {"case": name, "family": case.family}
        for quantity in QUANTITIES:
            row[quantity] = max((each[quantity] for each in pairs.values()), default=None)
        exchanged = [_exchanged(folder, backend, name) for backend in backends]
        row |= {kind: _worst(exchanged, kind) for kind in ("predicts", "continues")}
        row["double"] = _in_double(folder, backends, name)
        for backend in backends:
            row[f"{backend}_ms"] = round(there[backend]["milliseconds"], 2) if backend in there else None
        row["ok"] = len(there) == len(backends) and not beyond(row)
        row["where"] = "" if row["ok"] else _where(folder, there, row)
        rows.append(row | {"pairs": pairs})
    return rows


def beyond(row):
    """The quantities of a row that differ by more than its family's tolerance."""
    quantities = (*QUANTITIES, "predicts", "continues")
    return [q for q in quantities if row[q] is not None and not row[q] <= allowed(row["family"], q)]


def _exchanged(folder, backend, name):
    path = Path(folder, backend, "exchange.json")
    return json.loads(path.read_text()).get(name, {}) if path.exists() else {}


def _worst(exchanged, kind):
    return max((value for each in exchanged for value in each.get(kind, {}).values()), default=None)


def _in_double(folder, backends, name):
    """The largest difference of outputs, gradients and weights in double precision, or `None`."""
    found = [each for backend in backends if (each := parity.load(folder, f"{backend}-double", name))]
    pairs = itertools.combinations(found, 2)
    return max((parity.difference(a[q], b[q]) for a, b in pairs for q in ("outputs", "gradients", "weights")), default=None)


def _where(folder, there, row):
    """The first layer whose outputs differ on some pair of backends; else the last whose gradient does."""
    if len(there) < 2:
        return "a backend wrote nothing"
    for a, b in itertools.combinations(there, 2):
        paths = [Path(folder, backend, f"{row['case']}.trace.npz") for backend in (a, b)]
        if all(path.exists() for path in paths):
            left, right = map(parity.load_trace, paths)
            if found := parity.first_difference(left, right, allowed(row["family"], "outputs")):
                return f"outputs of {found[0]}, {a} and {b}: {found[1]:.0e}"
    for a, b in itertools.combinations(there, 2):
        if row["gradients"] is None:
            break
        if found := parity.where_gradients_part(there[a], there[b], allowed(row["family"], "gradients")):
            return f"gradient of {found[0]}, {a} and {b}: {found[1]:.0e}"
    return f"{', '.join(beyond(row))}: every layer and gradient of the first step agrees"


def matrix(cases=CASES, backends=None, only="", out=None, html=None):
    """Measure every case on each installed backend, compare, draw the apps' curves, and keep all of it in MLflow.

    Args:
        cases: The Python file whose `CASES` are compared.
        backends: Names of the backends; the installed ones when `None`.
        only: Part of the names of the cases; the apps' curves are left out then, unless it names an app.
        out: Markdown file to write.
        html: HTML file to write.
    Returns:
        The rows of `compare` and those of `curves.compare`.
    Raises:
        UserError: There is no such file, no case or app is called so, or a file cannot be written there.
        RuntimeError: A backend's process failed; the message holds the end of what it said.
    """
    for flag, path in (("--out", out), ("--html", html)):
        if path and not Path(path).absolute().parent.is_dir():
            raise UserError(f"{flag} {path}: the folder {Path(path).parent} is not there; make it first")
    cases, tasks = Path(cases).absolute(), curves.tasks(only)
    backends = list(backends or installed())
    prepare(choose(backends[0]))
    named = {name: case for name, case in parity.load_cases(cases).items() if only in name}
    if not tasks and not named:
        parity.chosen_cases(parity.load_cases(cases), only)
    with tempfile.TemporaryDirectory() as folder:
        rows = measured(cases, folder, backends, only) if named else []
        curve_rows, drawn = measured_curves(folder, backends, only) if tasks else ([], None)
        tracker = Tracker("matrix", folder, name="matrix", tags={"backends": ", ".join(backends)})
        tracker.metrics({"cases": len(rows), "agreeing": sum(row["ok"] for row in rows)})
        page = matrix_page.MatrixPage(rows, curve_rows, backends, drawn)
        for name, content in (("matrix.md", page.markdown()), ("matrix.html", page.html())):
            write_text(Path(folder, name), content)
            tracker.files(Path(folder, name))
        write_json(Path(folder, "matrix.json"), {"cases": rows, "curves": curve_rows})
        tracker.files(Path(folder, "matrix.json"))
        if drawn is not None:
            tracker.figure(drawn, "curves.png")
        tracker.end("FINISHED")
        for path, content in ((out, page.markdown), (html, page.html)):
            if path:
                write_text(path, content())
    return rows, curve_rows


def measured(cases, folder, backends, only):
    """The rows of the cases of a file, after every process they take."""
    chosen = parity.chosen_cases(parity.load_cases(cases), only)
    for backend in backends:
        _process("bench.parity", backend, "measure", cases, folder, only)
    for backend in backends:
        _process("bench.parity", backend, "exchange", cases, folder, only, *backends)
    rows = compare(chosen, folder, backends)
    unclear = [row["case"] for row in rows if _largest(row) > SUSPICIOUS]
    apart = [row["case"] for row in rows if not row["ok"]]
    for stage, names in (("double", unclear), ("trace", apart)):
        for backend in backends if names else ():
            _process("bench.parity", backend, stage, cases, folder, ",".join(names))
    return compare(chosen, folder, backends)


def _largest(row):
    return max(row[quantity] or 0.0 for quantity in QUANTITIES)


def measured_curves(folder, backends, only):
    """The rows of the apps' training curves, and their figure."""
    for backend in backends:
        _process("bench.curves", backend, "plain", folder, only)
    found = curves.load(folder, backends, "plain")
    unclear = [row["task"] for row in curves.compare(found, {}) if row["largest"] > curves.CLOSE]
    for backend in backends if unclear else ():
        _process("bench.curves", backend, "nudged", folder, ",".join(unclear))
    nudged = curves.load(folder, backends, "nudged")
    return curves.compare(found, nudged), curves.figure(found, nudged)


def _process(module, backend, stage, *arguments):
    print(f"{module.partition('.')[2]} on {backend}: {stage} ...", file=sys.stderr)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "KERAS_BACKEND": backend}
    environment["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # the later processes compile the same again
    if stage == "double":
        environment["JAX_ENABLE_X64"] = "1"
    command = [sys.executable, "-m", module, stage, *map(str, arguments)]
    result = subprocess.run(command, cwd=HOUSE, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"measuring on {backend} failed:\n{result.stderr[-2000:]}")
    for line in result.stderr.splitlines():
        if " in double precision on " in line:
            print(line, file=sys.stderr)


def shown(rows, curve_rows):
    """The rows as the command prints them: every pair folded into the worst, the curves after the cases."""
    plain = [{**row} for row in rows]
    for row in plain:
        del row["pairs"]
    for row in curve_rows:
        ok = row["why"] != "not known"
        part = f"part at step {row['part_at']}: " if row["part_at"] else ""
        plain.append(
            {"case": f"training {row['task']}", "family": f"{row['steps']} steps", "loss": row["largest"],
             "ok": ok, "where": part + row["why"]}
        )  # fmt: skip
    return list(map(_rounded, plain))


def _rounded(row):
    """The row with its small differences in two digits."""
    small = {key: value for key, value in row.items() if isinstance(value, float) and abs(value) < 1e-2}
    return {**row, **{key: float(f"{value:.1e}") for key, value in small.items()}}
