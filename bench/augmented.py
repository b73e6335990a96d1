"""What pictures of a generator bring a small training set: accuracy with and without them, on 100 to 1,000 labels of MNIST.

python -m bench.augmented [--labels 100,300,1000] [--seeds 3] [--data mnist]

The generator is trained on the same few labels as the classifier, on its training part alone: it sees no other picture. Beside
it stands what costs nothing, shifts of the real pictures. Writes docs/augment-with.md and docs/augment-with.png.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from apps.common import figures
from apps.common.data.examples import find_data
from apps.common.data.images.labelled import read_labelled_images
from bench.reproduce import HOUSE

PAGE = Path("docs", "augment-with.md")
STEPS = 800  # of every classifier, whatever it is given, so that more pictures do not mean more training
BATCH = 64
GENERATOR = {"model": "cvae", "width": 16, "batch_size": 32, "keep": "last"}
GENERATOR_STEPS = 2000
WAYS = {
    "as it is": {},
    "generated pictures, 1 to each": {"augment_times": 1},
    "generated pictures, 3 to each": {"augment_times": 3},
    "shifted": {"augment": "shift"},
    "shifted, generated, 1 to each": {"augment": "shift", "augment_times": 1},
}


def main():
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--labels", default="100,300,1000")
    asked.add_argument("--seeds", type=int, default=3)
    asked.add_argument("--data", default="mnist")
    asked.add_argument("--page", type=Path, default=PAGE)
    options = asked.parse_args()
    sizes, found = [int(size) for size in options.labels.split(",")], {}
    for size in sizes:
        for seed in range(options.seeds):
            for way, accuracy in few_labels(options.data, size, seed).items():
                found.setdefault((way, size), []).append(accuracy)
                print(f"{size} labels, seed {seed}, {way}: {accuracy:.4f}", file=sys.stderr, flush=True)
    write(options, sizes, found)


def few_labels(name, size, seed):
    """`{way: accuracy}` on the whole test set, from `size` labels of which a tenth is for validation."""
    with tempfile.TemporaryDirectory() as folder:
        few = Path(folder, "few.npz")
        save_few(name, size, seed, few)
        number = round(0.9 * size)  # what is left to train on beside validation
        epochs = max(1, round(GENERATOR_STEPS * GENERATOR["batch_size"] / number))
        generator = train("image-generation", folder, data=few, seed=seed, epochs=epochs, **GENERATOR)["model"]
        results = {}
        for way, given in WAYS.items():
            pictures = number * (1 + given.get("augment_times", 0))
            drawn = {"augment_with": generator} if "augment_times" in given else {}
            epochs = max(1, round(STEPS * BATCH / pictures))
            made = {"batch_size": BATCH, "schedule": "cosine", "keep": "last", **drawn, **given}
            trained = train("image-classification", folder, data=few, seed=seed, epochs=epochs, **made)
            results[way] = trained["metrics"]["accuracy"]
        return results


def save_few(name, size, seed, path):
    """So many labels of the training set, each class as often, and all of the test set."""
    splits = read_labelled_images(find_data(name)).splits
    train, test = splits["train"], splits["test"]
    draws, classes = np.random.default_rng([seed, 80]), np.unique(train.labels)
    chosen = [draws.permutation(np.flatnonzero(train.labels == each))[: size // len(classes)] for each in classes]
    rows = draws.permutation(np.concatenate(chosen))
    np.savez(path, x_train=train.images[rows], y_train=train.labels[rows], x_test=test.images, y_test=test.labels)


def train(task, folder, **options):
    """What `triptych train --json` prints."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    command = [sys.executable, str(HOUSE / "triptych.py"), "train", task, "--json", "--checkpoint-every=0", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def write(options, sizes, found):
    """The page and its figure."""
    rows = []
    for way in WAYS:
        cells = [f"{statistics.fmean(found[way, size]):.4f} ± {deviation(found[way, size]):.4f}" for size in sizes]
        rows.append(f"| {way} | {' | '.join(cells)} |")
    gains = {size: paired(found, "generated pictures, 1 to each", "as it is", size) for size in sizes}
    beside = {size: paired(found, "shifted, generated, 1 to each", "shifted", size) for size in sizes}
    command = f"python -m bench.augmented --labels {options.labels} --seeds {options.seeds} --data {options.data}"
    lines = [
        "# Generated pictures as training data",
        "",
        "`triptych train image-classification --augment-with BUNDLE` adds pictures that a conditional generator draws of each",
        "class to the training set, never to validation or test. Here the generator is trained on the very labels that the",
        "classifier has.",
        "",
        f"Accuracy on the whole test set of {options.data}, mean and deviation of {options.seeds} seeds (other labels, other",
        f"weights); every classifier takes about {STEPS} steps.",
        "",
        f"| training set | {' | '.join(f'{size} labels' for size in sizes)} |",
        f"|---|{'---|' * len(sizes)}",
        *rows,
        "",
        *(f"- {size} labels: {said(gains[size])} without shifts, {said(beside[size])} with them." for size in sizes),
        "",
        "![accuracy](augment-with.png)",
        "",
        f"Written by `{command}`.",
        "",
    ]
    options.page.parent.mkdir(parents=True, exist_ok=True)
    options.page.write_text("\n".join(lines))
    figure, axis = figures.new()
    for way in WAYS:
        means = [statistics.fmean(found[way, size]) for size in sizes]
        axis.errorbar(sizes, means, [deviation(found[way, size]) for size in sizes], marker="o", label=way, capsize=3)
    axis.set(xscale="log", xlabel="labels", ylabel="accuracy", title=f"{options.data}: what generated pictures bring")
    axis.set_xticks(sizes, list(map(str, sizes)))
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    figure.savefig(options.page.with_suffix(".png"), dpi=110, bbox_inches="tight")


def deviation(values):
    return statistics.stdev(values) if len(values) > 1 else 0.0


def paired(found, way, other, size):
    """Mean and standard error of the difference, seed by seed."""
    differences = [a - b for a, b in zip(found[way, size], found[other, size], strict=True)]
    return statistics.fmean(differences), deviation(differences) / len(differences) ** 0.5


def said(gain):
    """A gain in words: one within twice its error is none."""
    mean, error = gain
    points = f"{100 * mean:+.2f} points (standard error {100 * error:.2f})"
    if abs(mean) <= 2 * error:
        return f"no difference that can be told from chance, {points}"
    return f"one picture to each {'helps' if mean > 0 else 'harms'}, {points}"


if __name__ == "__main__":
    main()
