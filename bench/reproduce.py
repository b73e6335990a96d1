"""Published settings run again: ours beside the published number, per backend, with the spread over seeds."""

import json
import statistics
import subprocess
import sys
from pathlib import Path

from apps.common.errors import UserError
from apps.common.options.declare import is_active, make_config, options_of, to_plain

HOUSE = Path(__file__).resolve().parents[1]


def reproduce(chosen, wanted, seeds=None):
    """Run recipes on backends, each run in a process of its own, one after the other.

    Args:
        chosen: `{recipe name: (app module, Recipe)}`.
        wanted: Names of backends.
        seeds: Number of seeds in the place of the recipe's own.
    Returns: Rows with ours (mean), its spread (standard deviation), theirs, the tolerance and whether it is met.
    """
    rows = []
    for name, (app, recipe) in chosen.items():
        for backend in wanted:
            row = _row(name, app, recipe, backend, seeds)
            rows.append(row)
            beside = f"theirs {row['theirs']}, control {row['control']}"
            print(f"{name} on {backend}: {row['ours']} ({beside}), met: {row['met']}", file=sys.stderr)
    return rows


def _row(name, app, recipe, backend, seeds):
    options = dict(recipe.options)
    variants = [{"folds": recipe.folds, "fold": fold} for fold in range(recipe.folds)]
    variants = variants or [{"seed": seed} for seed in range(seeds or recipe.seeds)]
    results = [_run(name, app, recipe.data, {**options, **variant}, backend) for variant in variants]
    values = [result["metrics"][recipe.metric] for result in results]
    control = None
    if recipe.control:
        plain = _active(app, {**options, **recipe.control})
        runs = [_run(name + "-control", app, recipe.data, {**plain, **variant}, backend) for variant in variants]
        control = statistics.fmean(result["metrics"][recipe.metric] for result in runs)
    ours = statistics.fmean(values)
    return {
        "recipe": name,
        "backend": backend,
        "metric": recipe.metric,
        "ours": round(ours, 4),
        "spread": round(statistics.stdev(values), 4) if len(values) > 1 else None,
        "theirs": recipe.published,
        "control": None if control is None else round(control, 4),
        "tolerance": recipe.tolerance if recipe.published is not None else (recipe.floor and f"at least {recipe.floor}"),
        "runs": f"{len(values)} {'folds' if recipe.folds else 'seed' if len(values) == 1 else 'seeds'}",
        "met": recipe.met(ours, control),
        "minutes": round(sum(result["seconds"] for result in results) / 60, 1),
        "source": recipe.source,
    }


def _active(app, options):
    """The options without those that the others make idle: a control is a plainer model with fewer of them."""
    known = options_of(app.Config)
    config = app.Config(**{name: known[name].parse(value) for name, value in options.items()})
    return {name: value for name, value in options.items() if is_active(config, known[name])}


def _run(name, app, data, options, backend):
    given = to_plain(make_config(app.Config, {"data": data, **options}))
    flags = []
    for key in ("data", *options):
        value = given[key]
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags += [f"--{key.replace('_', '-')}={text}"]
    task = app.__name__.rpartition(".")[2].replace("_", "-")
    command = [sys.executable, str(HOUSE / "triptych.py"), "train", task, "--json", "--backend", backend, *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(f"recipe {name} on {backend}: {lines[-1].removeprefix('triptych: ')}")
    return json.loads(done.stdout)
