"""Do default options lose to plain methods? `python -m bench.defaults tabular DATA... [--folds 5] [--option name=value]`.

For each data set, ours with the default options beside the best of the app's baselines on the same folds, as a Markdown table:
accuracy, or R2 where the target is a number.
"""

import argparse
import statistics
import time

from apps.common.app import load_app
from apps.common.options.declare import make_config, options_of
from apps.common.training.batches import Batches, InOrder
from apps.common.training.callbacks import KeepBest, Validation
from apps.common.training.fit import make_model, stateful_callbacks, train_epochs
from layers import backend


def main():
    parser = argparse.ArgumentParser(prog="bench.defaults")
    parser.add_argument("task")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--folds", type=int, default=5, help="of which the first --tried are trained")
    parser.add_argument("--tried", type=int, default=5)
    parser.add_argument("--option", action="append", default=[], help="name=value, in the place of a default")
    words = parser.parse_args()
    app, known = load_app(words.task), options_of(load_app(words.task).Config)
    options = {name: known[name].parse(value) for name, _, value in (pair.partition("=") for pair in words.option)}
    print("| data | ours | best baseline | difference | seconds |\n|---|---|---|---|---|", flush=True)
    differences = []
    for name in words.data:
        started, rows = time.monotonic(), []
        for fold in range(min(words.tried, words.folds)):
            config = make_config(app.Config, {"data": name, "folds": words.folds, "fold": fold, **options})
            rows.append(beside(app, config))
        ours, best = (statistics.mean(values) for values in zip(*rows, strict=True))
        differences.append(ours - best)
        seconds = time.monotonic() - started
        print(f"| {name} | {ours:.3f} | {best:.3f} | {ours - best:+.3f} | {seconds:.0f} |", flush=True)
    print(f"| mean | | | {statistics.mean(differences):+.3f} | |")


def beside(app, config):
    """`(ours, the best baseline)` on one fold."""
    data = app.load_data(config)
    model = make_model(app, config, data)
    stateful = stateful_callbacks(app, config, data)
    held = InOrder(data.validation, config.batch_size)
    validation = Validation(lambda: backend.evaluation(model, held))
    batches = Batches(data.train, config.batch_size, config.seed)
    train_epochs(model, batches, seed=config.seed, epochs=config.epochs, callbacks=[validation, *stateful])
    for each in stateful:
        if isinstance(each, KeepBest):
            each.restore(model)
    metrics = app.evaluate(model, data, config).metrics
    key = "accuracy" if "accuracy" in metrics else "r2"
    return float(metrics[key]), max(float(values[key]) for values in app.baselines(data, config).values())


if __name__ == "__main__":
    main()
