"""Do default options lose to plain methods? `python -m bench.defaults tabular DATA... [--folds 5] [--option name=value]`.

For each data set, ours with the default options beside the best of the app's baselines on the same split, as a Markdown table:
the app's metric, or R2 where that is an error. With `--out docs/defaults.md` the rows are added to that page (and kept beside it
as .json). Options are chosen with `--on validation`, where the test is not looked at: a fifth of the other examples, drawn by a
seed of its own, stands in its place.
"""

import argparse
import dataclasses
import json
import statistics
import sys
import time
from pathlib import Path

import keras
import numpy as np

from apps.common.app import load_app, metric_of
from apps.common.data.examples import split_indices
from apps.common.files import write_json, write_text
from apps.common.options.declare import make_config, options_of
from apps.common.training.batches import Batches, InOrder
from apps.common.training.callbacks import AfterEpoch, KeepBest, Validation
from apps.common.training.fit import make_model, settled, stateful_callbacks, train_epochs
from layers import backend

INNER_SEED = 17  # of the split that options are chosen on
COLUMNS = ("data", "learnt from", "tested on", "tries", "metric", "ours", "best baseline", "difference", "seconds a run",
           "backend", "chosen")  # fmt: skip
KEPT = "## How the defaults were chosen"  # from this heading on the page is written by hand
HEAD = """# Default options beside plain methods

Ours with nothing but `--data`, beside the best of the app's own baselines (for tables gradient boosting, for pictures a random
forest on shrunken pixels, for texts TF-IDF and logistic regression, for a graph spread labels or logistic regression, and the
commonest class or the mean), trained on the same rows and tested on the same. The numbers are means over the folds, or over seeds
where the data name their own test; `cut` is how many examples there were to learn from where it was not all. The chance of a row
is about the square root of p (1 - p) / test examples.
"""


def main():
    parser = argparse.ArgumentParser(prog="bench.defaults")
    parser.add_argument("task")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--folds", type=int, default=0, help="of which the first --tried are trained")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--tried", type=int, default=5)
    parser.add_argument("--cut", type=int, default=0, help="examples to learn from, validation among them; 0 for all")
    parser.add_argument("--on", choices=["test", "validation"], default="test")
    parser.add_argument("--option", action="append", default=[], help="name=value, in the place of a default")
    parser.add_argument("--out", type=Path, help="page that the rows are added to")
    parser.add_argument("--json", type=Path, help="read the baselines of this file where it has them, and add those it lacks")
    words = parser.parse_args()
    app, known = load_app(words.task), options_of(load_app(words.task).Config)
    options = {name: known[name].parse(value) for name, _, value in (pair.partition("=") for pair in words.option)}
    plain = Plain(words.json)
    print("| data | cut | ours | best baseline | difference | seconds |\n|---|---|---|---|---|---|", flush=True)
    differences = []
    for name in words.data:
        rows, seconds = [], 0.0
        folds = [{"folds": words.folds, "fold": fold} for fold in range(min(words.tried, words.folds))]
        for part in folds or [{"seed": seed} for seed in range(words.seeds)]:
            config = make_config(app.Config, {"data": name, **part, **options})
            whole = app.load_data(config)
            data = prepared(whole, words.cut, words.on, config.seed)
            cut = words.cut if words.cut < len(whole.train) + len(whole.validation) else 0
            started = time.monotonic()
            key, ours, about = trained(app, config, data)
            seconds += time.monotonic() - started
            best = plain.best(app, config, data, key, [words.task, name, words.cut, words.on, part])
            rows.append((ours, best))
        ours, best = (statistics.mean(values) for values in zip(*rows, strict=True))
        differences.append(ours - best)
        row = {"task": words.task, "data": name, "cut": cut, "metric": key, "ours": ours, "baseline": best,
               "tries": len(rows), "folds": words.folds, "seconds": seconds / len(rows), "backend": keras.backend.backend(),
               "chosen": about, "examples": [len(data.train) + len(data.validation), len(data.test)]}  # fmt: skip
        print(f"| {name} | {words.cut or ''} | {ours:.3f} | {best:.3f} | {ours - best:+.3f} | {row['seconds']:.0f} |"
              f" {about} {' '.join(f'{a:.3f}' for a, _ in rows)}", flush=True)  # fmt: skip
        if words.out:
            add_row(words.out, row)
    print(f"| mean | | | | {statistics.mean(differences):+.4f} | |")


def prepared(data, cut, on, seed):
    """The data with at most `cut` examples to learn from, and a part of them as the test where that is not to be seen."""
    if on == "validation":
        rest, inside = split_indices(labels_of(data.train), (0.2,), INNER_SEED + seed)
        data = dataclasses.replace(data, train=data.train.subset(rest), test=data.train.subset(inside))
    if not cut or len(data.train) + len(data.validation) <= cut:
        return data
    parts = {}
    for name, count in (("train", round(0.9 * cut)), ("validation", cut - round(0.9 * cut))):
        part = getattr(data, name)
        _, chosen = split_indices(labels_of(part), (count / len(part),), seed)
        parts[name] = part.subset(chosen)
    return dataclasses.replace(data, **parts)


def labels_of(examples):
    """Classes to stratify by, or nothing to tell the examples apart by."""
    y = np.asarray(examples.y)
    return y if y.dtype.kind in "iu" and y.ndim == 1 else np.zeros(len(examples), int)


def trained(app, config, data):
    """`(key of the metric, ours on the test, what was chosen by the data)`."""
    config, said = settled(app, config, data)
    model = make_model(app, config, data)
    stateful = stateful_callbacks(app, config, data)
    if hasattr(app, "on_epoch"):
        stateful.insert(0, AfterEpoch(lambda *arguments: app.on_epoch(*arguments, data, config), None))
    held = InOrder(data.validation, config.batch_size)
    validation = Validation(lambda: backend.evaluation(model, held))
    batches = Batches(data.train, config.batch_size, config.seed)
    train_epochs(model, batches, seed=config.seed, epochs=config.epochs, callbacks=[validation, *stateful])
    for each in stateful:
        if isinstance(each, KeepBest):
            each.restore(model)
    metric, metrics = metric_of(app, data.about), app.evaluate(model, data, config).metrics
    key = metric.name if metric.higher_is_better else "r2"
    return key, float(metrics[key]), said


class Plain:
    """What the baselines reach, remembered in a file: they do not change with our options."""

    def __init__(self, path=None):
        self.path = path
        self.found = json.loads(path.read_text()) if path and path.exists() else {}

    def best(self, app, config, data, key, words):
        name = json.dumps(words)
        if name not in self.found:
            self.found[name] = max(float(values[key]) for values in app.baselines(data, config).values() if key in values)
            if self.path:
                write_json(self.path, self.found)
        return self.found[name]


def add_row(path, row):
    """Add a row to the page and to its record, in the place of an older one."""
    record = path.with_suffix(".json")
    rows = json.loads(record.read_text(encoding="utf-8")) if record.exists() else []
    same = ("task", "data", "cut")
    rows = [each for each in rows if any(each[name] != row[name] for name in same)]
    rows.append(row)
    write_json(record, rows)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, page(rows, text[text.find(KEPT) :] if KEPT in text else ""))


def page(rows, kept=""):
    """The page of these rows: a table for each task with the mean of its differences, and what was written by hand."""
    lines = [HEAD]
    for task in dict.fromkeys(row["task"] for row in rows):
        chosen = sorted((row for row in rows if row["task"] == task), key=lambda row: (row["data"], -(row["cut"] or 1e9)))
        lines += [f"## {task}", "", f"| {' | '.join(COLUMNS)} |", "|" + "---|" * len(COLUMNS)]
        for row in chosen:
            seeds = f"{row['tries']} seed{'s' * (row['tries'] > 1)}"
            tries = f"{row['tries']} of {row['folds']} folds" if row["folds"] else seeds
            learnt, tested = row["examples"]
            cells = [Path(row["data"]).name, f"{learnt:,}" + (" (cut)" if row["cut"] else ""), f"{tested:,}", tries,
                     row["metric"], f"{row['ours']:.3f}", f"{row['baseline']:.3f}", f"{row['ours'] - row['baseline']:+.3f}",
                     f"{row['seconds']:.0f}", row["backend"], row["chosen"]]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        differences = [row["ours"] - row["baseline"] for row in chosen]
        least = min(chosen, key=lambda row: row["ours"] - row["baseline"])
        lines += ["", f"Mean difference {statistics.mean(differences):+.4f}; the least is {min(differences):+.3f}, "
                  f"{Path(least['data']).name}.", ""]  # fmt: skip
    return "\n".join([*lines, kept.rstrip()]).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
