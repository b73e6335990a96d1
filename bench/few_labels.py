"""How few labels a network trained before needs: the score from scratch, on a frozen trunk and fine-tuned, by number of labels.

    python -m bench.few_labels TASK --pretrained SOURCE --data DATA [--counts 100,300,1000] [--seeds 3] [--steps 400]
        [--frozen-rate RATE] [options]

takes some minutes on two cores and writes a figure to `docs/gallery` and all that was measured to `docs/few-labels.md`. Every
run of a number of labels has the same network, vocabulary, labels, order and steps, ends with its last weights, and is judged
on the whole test split; only its first weights differ, and the learning rate of the head on a frozen trunk, where
`--frozen-rate` gives it one of its own. `--name` tells apart several of a task, `--before` is for the page the
command that SOURCE was made by, further options are those of `triptych train TASK`. The texts that the networks of the page
were trained on before are written by `python -m bench.few_labels corpus FILE`.
"""

import dataclasses
import gzip
import json
import shlex
import sys
import time
from pathlib import Path

import numpy as np

from apps.common.app import load_app, metric_of
from apps.common.errors import UserError
from apps.common.files import read_json, write_json, write_text
from apps.common.options.backends import choose, prepare
from apps.common.options.command_line import read_command_line, settle_switches
from apps.common.options.declare import make_config, options_of
from apps.common.output import say

DOCS = Path(__file__).resolve().parents[1] / "docs"
WAYS = {"from scratch": {"pretrained": None}, "frozen": {"freeze": True}, "fine-tuned": {}}
COLORS = {"from scratch": "#888888", "frozen": "#1f77b4", "fine-tuned": "#d62728"}


def measure(app, config, counts, seeds, steps, frozen_rate=None):
    """The app's metric on test for each number of labels, way and seed: `(rows, metric name, seconds)`.

    Args:
        app: The app's module.
        config: Its `Config`, with `pretrained`.
        counts: Numbers of labels; those the data do not have are all there are.
        seeds: How many choices of labels and first weights.
        steps: Steps of each run, at least one epoch.
        frozen_rate: Learning rate on a frozen trunk, where it is another one.
    """
    from apps.common.training.fit import settled

    rows, started = [], time.monotonic()
    ways = WAYS | {"frozen": WAYS["frozen"] | ({"learning_rate": frozen_rate} if frozen_rate else {})}
    whole = app.load_data(config)
    metric = metric_of(app, whole.about)
    for count in sorted({min(count, len(whole.train)) for count in counts}):
        for seed in range(seeds):
            data = dataclasses.replace(whole, train=some_of(whole.train, count, seed))
            chosen, _ = settled(app, config, data)
            epochs = -(-steps // -(-len(data.train) // chosen.batch_size))
            for way, changes in ways.items():
                score = trained(app, dataclasses.replace(chosen, seed=seed, epochs=epochs, **changes), data)[metric.name]
                rows.append({"labels": len(data.train), "way": way, "seed": seed, "score": float(score)})
                say(f"{count} labels, {way}, seed {seed}: {metric.name} {score:.4f}")
            for name, values in app.baselines(data, chosen).items() if hasattr(app, "baselines") else ():
                rows.append({"labels": len(data.train), "way": name, "seed": seed, "score": float(values[metric.name])})
    return rows, metric.name, round(time.monotonic() - started)


def some_of(examples, count, seed):
    """So many of the examples, the classes in their shares where there are any."""
    from apps.common.data.examples import split_indices

    if count >= len(examples):
        return examples
    classes = isinstance(examples.y, np.ndarray) and examples.y.ndim == 1 and np.issubdtype(examples.y.dtype, np.integer)
    labels = examples.y if classes else np.zeros(len(examples))
    return examples.subset(split_indices(labels, (count / len(examples),), seed)[1])


def trained(app, config, data):
    """The metrics on test of one run, which leaves nothing behind."""
    from apps.common.training.batches import Batches
    from apps.common.training.fit import make_model, train_epochs

    model = make_model(app, config, data)
    train_epochs(model, Batches(data.train, config.batch_size, config.seed), seed=config.seed, epochs=config.epochs)
    return app.evaluate(model, data, config).metrics


def summary(rows):
    """`{way: [(labels, mean, least, most)]}`."""
    found = {}
    for way in dict.fromkeys(row["way"] for row in rows):
        for count in sorted({row["labels"] for row in rows}):
            scores = [row["score"] for row in rows if (row["way"], row["labels"]) == (way, count)]
            found.setdefault(way, []).append((count, float(np.mean(scores)), min(scores), max(scores)))
    return found


def drawn(record):
    """Score against number of labels, a line each way, the seeds' spread around it; plain methods are dotted."""
    from apps.common import figures

    figure, axis = figures.new(6.0, 3.8)
    for way, points in summary(record["rows"]).items():
        counts, means, least, most = map(list, zip(*points, strict=True))
        if way in WAYS:
            axis.fill_between(counts, least, most, color=COLORS[way], alpha=0.15, linewidth=0)
            axis.plot(counts, means, "o-", color=COLORS[way], label=way)
        else:
            axis.plot(counts, means, ":", linewidth=1, label=way)
    axis.set(xscale="log", xlabel="labelled examples", ylabel=record["metric"], title=record["name"])
    axis.set_xticks(counts, map(str, counts))
    axis.minorticks_off()
    axis.legend(fontsize=8)
    return figure


def page(records):
    """The Markdown of all that was measured."""
    lines = ["# Few labels", "", "What a network trained before is worth where labels are few (`python -m bench.few_labels`)."]
    lines += [
        "For each number of labels and seed the three ways have the same network, vocabulary, labels, order and steps (a head on "
        "a frozen trunk has a learning rate of its own where the command says so); each "
        "ends with its last weights and is judged on the whole test split. Beside them stand the task's plain methods.",
        "",
    ]
    for record in records.values():
        lines += [f"## {record['name']}", "", f"![{record['name']}](gallery/few-labels-{record['name']}.png)", ""]
        found = summary(record["rows"])
        counts = [str(count) for count, *_ in next(iter(found.values()))]
        lines += [f"| {record['metric']} by labels | " + " | ".join(counts) + " |", "|---" * (len(counts) + 1) + "|"]
        for way, points in found.items():
            shown = [f"{mean:.3f} ({least:.3f}-{most:.3f})" if least < most else f"{mean:.3f}" for _, mean, least, most in points]
            lines.append(f"| {way} | " + " | ".join(shown) + " |")
        lines += ["", f"Mean, least and most of {record['seeds']} seeds, {record['seconds']} s on {record['backend']}.", ""]
        lines += [f"    {line}" for line in (record["before"], record["command"]) if line] + [""]
    return "\n".join(lines)


def write_corpus(path, root):
    """The texts that the networks of the page are trained on first: no text of a test split, and no label.

    Reviews (rt-polarity, less the sentences that SST-2 holds out), TREC's training questions, English captions (Multi30k) and
    summaries of papers (SciTLDR), in an order by seed.
    """
    root, lines = Path(root), []
    texts = root / "text_cls" / "data"

    def labelled(name):
        content = (texts / name).read_text(encoding="utf-8", errors="replace")
        return [line.partition(" ")[2].strip() for line in content.splitlines()]

    def letters(text):
        return "".join(filter(str.isalnum, text.lower()))

    held = {letters(line) for name in ("stsa.binary.dev", "stsa.binary.test") for line in labelled(name)}
    lines += [line for line in labelled("rt-polarity.all") if letters(line) not in held]
    lines += labelled("TREC.train.all")
    captions = gzip.decompress((root / "multi30k" / "data" / "task1" / "raw" / "train.en.gz").read_bytes())
    lines += captions.decode().splitlines()
    for line in (root / "scitldr" / "train.jsonl").read_text(encoding="utf-8").splitlines():
        lines += json.loads(line)["source"]
    lines = list(dict.fromkeys(" ".join(line.split()) for line in lines if line.strip()))
    order = np.random.default_rng(0).permutation(len(lines))
    write_text(path, "\n".join(lines[place] for place in order) + "\n")
    say(f"{path}: {len(lines)} lines, {sum(map(len, lines)) / 1e6:.1f} million characters")


def main(words):
    positionals, given = read_command_line(words, ())
    if positionals[:1] == ["corpus"]:
        import os

        return write_corpus(positionals[1], os.environ["TRIPTYCH_DATA"])
    app = load_app(positionals[0])
    counts = [int(count) for count in given.pop("counts", "100,300,1000").split(",")]
    seeds, steps = int(given.pop("seeds", 3)), int(given.pop("steps", 400))
    frozen_rate = given.pop("frozen_rate", None)
    name, before = given.pop("name", positionals[0]), given.pop("before", "")
    prepare(choose(given.pop("backend", None)))
    config = make_config(app.Config, settle_switches(given, options_of(app.Config)))
    if config.pretrained is None:
        raise UserError("--pretrained is missing: what the runs begin with")
    import keras

    rows, metric, seconds = measure(app, config, counts, seeds, steps, frozen_rate and float(frozen_rate))
    shown = ["BUNDLE" if word == config.pretrained and not config.library else word for word in words]
    command = f"python -m bench.few_labels {shlex.join(shown)}"
    record = {"name": name, "metric": metric, "seeds": seeds, "seconds": seconds, "backend": keras.backend.backend(),
              "command": command, "before": before, "rows": rows}  # fmt: skip
    path = DOCS / "few-labels.json"
    records = (read_json(path) if path.is_file() else {}) | {name: record}
    write_json(path, records)
    drawn(record).savefig(DOCS / "gallery" / f"few-labels-{name}.png", dpi=90, bbox_inches="tight")
    write_text(DOCS / "few-labels.md", page(records))
    return records


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
