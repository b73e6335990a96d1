"""Searches against random search at equal cost: `python -m bench.tuning TASK [--data ...] [--searches ...] [--seeds 3]`.

Every search gets the same space and the same number of epochs in all; the figure is the mean of the best score so far
over the seeds, with their spread. Takes the options of `triptych tune` that fix or choose what is searched. Hyperband's
trials are shorter, so it has more of them.
"""

import dataclasses
import importlib
import os
import sys
from pathlib import Path

import numpy as np

from apps.common.errors import UserError
from apps.common.files import write_json
from apps.common.options import backends
from apps.common.options.command_line import read_command_line, settle_switches, whole_number
from apps.common.options.declare import options_of
from apps.common.output import table
from apps.common.training.renewal import Grown, renew

SEARCHES = "bayesian,hyperband"


def compare(app, flags, given, searches, seeds):
    """`(rows, curves)`: the best score of each search for each seed, and its history over the epochs trained."""
    from tuning import command, report
    from tuning.search import Search

    trials = whole_number(flags, "trials", command.TRIALS)
    rows, curves = [], {}
    for name in ("random", *searches):
        for seed in range(seeds):
            request = command.read(app, {**flags, "search": name, "no_final": True}, {**given, "seed": str(seed)})
            plan = request.plan
            if name == "hyperband":  # its trials are of different lengths: as many as the same epochs pay for
                plan = dataclasses.replace(plan, trials=_affordable(plan, trials * plan.epochs))
            search = Search(app, plan)
            search.run()
            curve = report.curve(search)
            curves.setdefault(name, []).append(curve)
            scores = [score for _, score in curve if score is not None]
            best = (min if search.lower else max)(scores)
            row = {"search": name, "seed": seed, "trials": len(curve), "epochs": curve[-1][0], search.objective: best}
            rows.append(row)
            print(table([row]), file=sys.stderr, flush=True)
    return rows, curves, search.objective, search.lower


def _affordable(plan, epochs):
    """How many of Hyperband's trials these epochs pay for, its brackets taken in its own order."""
    from tuning.oracles import make_oracle

    oracle = make_oracle("hyperband", plan.space, "val_loss", "min", seed=0, trials=10_000, epochs=plan.epochs)
    count = spent = 0
    while True:
        trial = oracle.create_trial("planning")
        spent += oracle.epochs(trial, plan.epochs)
        if spent > epochs:
            return count
        count += 1
        oracle.update_trial(trial.trial_id, {"val_loss": float(count)})
        trial.status = "COMPLETED"
        oracle.end_trial(trial)


def summary(rows, objective):
    """One row a search: mean and spread of its best score over the seeds."""
    made = []
    for name in dict.fromkeys(row["search"] for row in rows):
        own = [row for row in rows if row["search"] == name]
        scores = np.array([row[objective] for row in own])
        epochs = int(np.mean([row["epochs"] for row in own]))
        made.append({"search": name, "seeds": len(own), "trials": own[0]["trials"], "epochs": epochs,
                     f"{objective} (mean)": float(scores.mean()), "spread": float(scores.std())})  # fmt: skip
    return made


def draw(curves, objective, lower):
    """Mean and spread over the seeds of the best score so far, a line a search."""
    from apps.common import figures

    figure, axis = figures.new()
    last = min(curve[-1][0] for each in curves.values() for curve in each)
    cost = np.arange(1, last + 1)
    for index, (name, each) in enumerate(curves.items()):
        lines = []
        for curve in each:
            ends, scores = zip(*[(end, score) for end, score in curve if score is not None], strict=True)
            best = (np.minimum if lower else np.maximum).accumulate(scores)
            place = np.searchsorted(ends, cost, side="right") - 1
            lines.append(np.where(place < 0, np.nan, np.array(best)[np.maximum(place, 0)]))
        mean, spread = np.mean(lines, 0), np.std(lines, 0)
        axis.plot(cost, mean, label=f"{name} ({len(lines)} seeds)", color=f"C{index}")
        axis.fill_between(cost, mean - spread, mean + spread, alpha=0.15, color=f"C{index}")
    axis.set(xlabel="epochs trained in all", ylabel=f"best {objective} so far", title="searches at equal cost")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return figure


def main(arguments):
    positionals, given = read_command_line(arguments, set())
    if len(positionals) != 1:
        raise UserError("bench.tuning: expected one TASK. See triptych list")
    app = importlib.import_module("apps." + positionals[0].replace("-", "_"))
    own = ("trials", "only", "fix", "trial_epochs", "workers")
    flags = {name: given.pop(name) for name in own if name in given}
    searches = given.pop("searches", SEARCHES).split(",")
    seeds, output = whole_number(given, "seeds", 3), Path(given.pop("output", "tuning"))
    given.pop("seeds", None)
    backends.prepare(backends.choose(given.pop("backend", None)))
    rows, curves, objective, lower = compare(app, flags, settle_switches(given, options_of(app.Config)), searches, seeds)
    write_json(output.with_suffix(".json"), {"rows": rows, "curves": curves})
    draw(curves, objective, lower).savefig(output.with_suffix(".png"), dpi=110, bbox_inches="tight")
    print(table(summary(rows, objective)))
    print(f"{output.with_suffix('.json')}, {output.with_suffix('.png')}")


if __name__ == "__main__":
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    try:
        main(sys.argv[1:])
    except Grown:
        renew()
    except UserError as error:
        sys.exit(f"bench.tuning: {error}")
