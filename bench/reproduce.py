"""Published settings run again: ours beside the published number, per backend, with the spread over seeds."""

import datetime
import importlib
import json
import os
import re
import statistics
import subprocess
import sys
from pathlib import Path

from apps.common.app import recipes
from apps.common.errors import UserError
from apps.common.options.declare import is_active, make_config, options_of, to_plain
from bench import results

HOUSE = Path(__file__).resolve().parents[1]
PAGE = Path("docs", "results.md")  # of the folder one stands in
SUBJECTS = ("bench.adding",)  # what is measured beside the apps; each has `RECIPES` and takes an app's flags as a program


def every_recipe():
    """`{name: (app or subject, recipe)}`."""
    subjects = map(importlib.import_module, SUBJECTS)
    return recipes() | {name: (subject, recipe) for subject in subjects for name, recipe in subject.RECIPES.items()}


def reproduce(chosen, wanted, seeds=None, page=PAGE):
    """Run recipes on backends, each run in a process of its own, one after the other.

    Args:
        chosen: As `every_recipe` has them.
        wanted: Names of backends.
        seeds: Number of seeds in the place of the recipe's own.
        page: Markdown file that gets each row as soon as it is known; its rows of other recipes and backends stay.
    Returns: Rows with ours (mean), its spread (standard deviation), theirs, the tolerance and whether it is met.
    """
    rows = []
    for name, (app, recipe) in chosen.items():
        for backend in wanted:
            row = _row(name, app, recipe, backend, seeds)
            rows.append(row)
            results.update(page, [row])
            beside = f"theirs {row['theirs']}, control {row['control']}"
            print(f"{name} on {backend}: {row['ours']} ({beside}), met: {row['met']}; {page}", file=sys.stderr)
    return rows


def _row(name, app, recipe, backend, seeds):
    variants = [{"folds": recipe.folds, "fold": fold} for fold in range(recipe.folds)]
    variants = variants or [{"seed": seed} for seed in range(seeds or recipe.seeds)]
    found = [_train(app, backend, {"recipe": name, **variant}) for variant in variants]
    values = [result["metrics"][recipe.metric] for result in found]
    ours = statistics.fmean(values)
    control = _control(app, recipe, backend, variants) if recipe.control else _beside(name, recipe, found)
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
        "minutes": round(sum(result["seconds"] for result in found) / 60, 1),
        "date": datetime.date.today().isoformat(),
        "source": recipe.source,
    }


def _control(app, recipe, backend, variants):
    """The mean of the plain model beside it. It is no run of the recipe, so it is not tagged as one."""
    options = {"data": recipe.data, **_active(app, {**recipe.options, **recipe.control})}
    plain = to_plain(make_config(app.Config, options))
    given = {name: plain[name] for name in options}
    found = [_train(app, backend, {**given, **variant}) for variant in variants]
    return statistics.fmean(result["metrics"][recipe.metric] for result in found)


def _beside(name, recipe, found):
    """The mean of the app's own baseline that the recipe names, from the very runs; `None` where it names none."""
    if not recipe.beside:
        return None
    known = [result.get("baselines") or _bundle_of(result)["baselines"] for result in found]
    if any(recipe.beside not in each for each in known):
        raise UserError(f"{name}: the run has no baseline {recipe.beside!r}. It has: {', '.join(known[0]) or 'none'}")
    return statistics.fmean(each[recipe.beside][recipe.metric] for each in known)


def _bundle_of(result):
    return json.loads(Path(result["model"], "bundle.json").read_text())


def _active(app, options):
    """The options without those that the others make idle: a control is a plainer model with fewer of them."""
    known = options_of(app.Config)
    config = app.Config(**{name: known[name].parse(value) for name, value in options.items()})
    return {name: value for name, value in options.items() if is_active(config, known[name])}


def _train(app, backend, given):
    """What `triptych train --json` prints with these flags, `{name: plain value}`; or what a subject prints with them."""
    flags = []
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        flags.append(f"--{name.replace('_', '-')}={text}")
    task = app.__name__.rpartition(".")[2].replace("_", "-")
    program = ["-m", app.__name__] if app.__name__ in SUBJECTS else [str(HOUSE / "triptych.py"), "train", task]
    command = [sys.executable, *program, "--json", "--backend", backend, *flags]
    paths = filter(None, [str(HOUSE), os.environ.get("PYTHONPATH")])
    variables = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=variables)
    if done.returncode:
        raise UserError(f"{task} {' '.join(flags)} on {backend}: {reason(done.stderr)}")
    return json.loads(done.stdout)


def reason(text):
    """The line of what a failed command said that tells why: that of the error, though a traceback may go on after it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no reason given"]
    named = [line for line in lines if line.startswith("triptych: ") or re.match(r"[\w.]*(Error|Exception|Interrupt)\b", line)]
    return (named or lines)[-1].removeprefix("triptych: ")
