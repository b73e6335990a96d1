"""The adding problem: how far back a SimpleRNN, an LSTM and a GRU can learn, and how far back their gradient reaches.

    python -m bench.adding --length 200 --steps 2000          its page's numbers and picture
    triptych reproduce adding-problem                         600 steps, GRU beside the published number

A sequence has a random number at each step and two of the steps are marked; the target is the sum of the two numbers
(Hochreiter and Schmidhuber, 1997; as set by Bai et al., 2018, arXiv 1803.01271: one mark in each half). Always answering 1
has a mean squared error of 1/6 = 0.167. `docs/adding.md` has what came of it.
"""

import argparse
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.data.examples import Data, Examples
from apps.common.files import write_json
from apps.common.options.backends import choose, prepare
from apps.common.options.declare import make_config, option
from apps.common.options.training import Recipe, Training

CELLS = ("simple-rnn", "lstm", "gru")
HELD = 1_000  # sequences for validation, and as many others for the test


@dataclass(frozen=True)
class Config(Training):
    cell: Literal[CELLS] = option("gru", "what reads the sequence")
    length: int = option(200, "steps of a sequence", low=2, high=100_000)
    units: int = option(64, "units of the network", low=1, high=10_000)
    steps: int = option(2_000, "batches in all; an epoch's are seen again in each other", low=1)


# An epoch is a tenth of a run, after which gradients are looked at.
OPTIONS = {"epochs": 10, "batch_size": 32, "learning_rate": 5e-3, "schedule": "cosine", "warmup": 0.05, "clip_norm": 1.0}

RECIPES = {
    "adding-problem": Recipe(
        "GRU of 64 units on the adding problem of 600 steps; the LSTM beside it, the SimpleRNN in docs/adding.md",
        data="made by a generator", options={"length": 600, "steps": 4_000}, metric="mse", lower_is_better=True,
        published=5.3e-5, tolerance=1e-3, beside="lstm", source="Bai et al., 2018, arXiv 1803.01271, table 1, GRU", minutes=20,
    )
}  # fmt: skip


@dataclass(frozen=True)
class Additions(Examples):
    """`x` are the numbers `(sequences, steps)`, `y` the sums; `marks` the two marked steps of each, `(sequences, 2)`."""

    marks: np.ndarray = None

    def take(self, indices):
        numbers, marks = self.x[indices], self.marks[indices]
        marked = np.zeros_like(numbers)
        np.put_along_axis(marked, marks, 1, axis=1)
        return np.stack([numbers, marked], axis=-1), self.y[indices]


def additions(count, length, seed):
    """So many sequences, one step marked in each half."""
    generator = np.random.default_rng([seed, 40])
    numbers = generator.random((count, length), "float32")
    half = length // 2
    marks = np.stack([generator.integers(0, half, count), generator.integers(half, length, count)], axis=1)
    return Additions(numbers, np.take_along_axis(numbers, marks, 1).sum(1, keepdims=True), marks=marks)


def load_data(config, about=None):
    """Sequences made from the seed, as many for training as an epoch takes."""
    count = -(-config.steps // config.epochs) * config.batch_size
    parts = [additions(size, config.length, 3 * config.seed + place) for place, size in enumerate((count, HELD, HELD))]
    return Data(*parts, {}, [], "adding-problem")


def build_model(config, data):
    """`(number, mark)` of each step -> recurrent layer -> one number."""
    import keras

    from apps.common.training.optimizers import compile_model
    from layers import GRU, LSTM, Dense, SimpleRNN

    cell = {"simple-rnn": SimpleRNN, "lstm": LSTM, "gru": GRU}[config.cell]
    sequence = keras.Input((config.length, 2))
    x = cell(config.units, name=config.cell.replace("-", "_"))(sequence)
    return compile_model(keras.Model(sequence, Dense(1, name="sum")(x)), config, data.train, loss="mse")


def reach(model, examples):
    """`(steps,)`: the norm of the loss's gradient by the input of each step, the mean over the examples."""
    import keras

    from layers import backend

    x, y = examples.take(np.arange(min(64, len(examples))))
    target = keras.ops.convert_to_tensor(y)

    def losses(inputs):
        return keras.ops.square(model(inputs, training=True) - target)

    found = keras.ops.convert_to_numpy(backend.gradient(losses, keras.ops.convert_to_tensor(x)))
    return np.sqrt(np.square(found.astype("float64")).sum(-1)).mean(0)


def trained(cell, **options):
    """One network trained: what it reached, its curves and its gradients.

    Returns: `{"cell", "length", "weights", "test_mse", "validation_mse": [an epoch], "reach": {"before", "after"},
        "norms": [a dict {kernel: norm} an epoch], "seconds"}`.
    """
    import keras

    from apps.common.training.batches import Batches, InOrder
    from apps.common.training.callbacks import GradientFlow, Validation
    from apps.common.training.fit import make_model, train_epochs
    from layers import backend

    started = time.monotonic()
    config = make_config(Config, {**OPTIONS, "cell": cell, **options})
    data = load_data(config)
    model = make_model(sys.modules[__name__], config, data)
    before = reach(model, data.validation)
    flow, history = GradientFlow(Batches(data.train, config.batch_size, config.seed)[0]), []

    class Told(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            history.append(logs["val_loss"])
            print(f"{cell} {config.length} epoch {epoch + 1} {logs}", file=sys.stderr, flush=True)

    held, tested = (InOrder(part, 100) for part in (data.validation, data.test))
    validation = Validation(lambda: backend.evaluation(model, held))
    batches = Batches(data.train, config.batch_size, config.seed)
    train_epochs(model, batches, seed=config.seed, epochs=config.epochs, callbacks=[validation, flow, Told()])
    return {
        "cell": cell,
        "length": config.length,
        "weights": model.count_params(),
        "test_mse": backend.evaluation(model, tested)()["loss"],
        "validation_mse": history,
        "reach": {"before": rounded(before), "after": rounded(reach(model, data.validation))},
        "norms": [{name: rounded([norm])[0] for name, norm in each.items()} for each in flow.norms],
        "seconds": round(time.monotonic() - started, 1),
    }


def rounded(values):
    return [float(f"{value:.3g}") for value in values]


def figure(rows):
    """Above, the norm of the gradient by the input of each step, before and after training; below, the error on validation."""
    from apps.common import figures

    lengths = sorted({row["length"] for row in rows})
    drawn, panels = figures.new(5.0 * len(lengths), 7.0, 2, len(lengths))
    for axes, length in zip(np.reshape(panels, (2, -1)).T, lengths, strict=True):
        for row in (each for each in rows if each["length"] == length):
            color = f"C{CELLS.index(row['cell'])}"
            for name, style in (("before", ":"), ("after", "-")):
                norms = np.maximum(row["reach"][name], 1e-16)
                axes[0].semilogy(range(1, length + 1), norms, style, color=color, label=f"{row['cell']} {name} training")
            axes[1].semilogy(range(1, len(row["validation_mse"]) + 1), row["validation_mse"], color=color, marker=".")
        axes[0].set(xlabel="step of the sequence", ylabel="gradient by the input of a step (norm)", title=f"{length} steps")
        axes[0].legend(frameon=False, fontsize=7)
        axes[1].axhline(1 / 6, color="0.6", linestyle="--", linewidth=0.8)
        axes[1].set(xlabel="tenth of the run", ylabel="squared error; dashed: always 1")
        for axis in axes:
            axis.grid(alpha=0.3)
    return drawn


def main():
    parser = argparse.ArgumentParser(prog="bench.adding")
    parser.add_argument("--backend", default=None)
    parser.add_argument("--cells", default=",".join(CELLS))
    parser.add_argument("--length", default="200")
    parser.add_argument("--steps", default="2000")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--learning-rate", default=str(OPTIONS["learning_rate"]))
    parser.add_argument("--folder", default="docs", help="where adding.json and adding.png are; other rows of it stay")
    parser.add_argument("--recipe", choices=RECIPES, help="its options, but for what is given here")
    parser.add_argument("--json", action="store_true", help="print the errors as one object and write nothing")
    given = parser.parse_args()
    if given.recipe:
        parser.set_defaults(**RECIPES[given.recipe].options)
        given = parser.parse_args()
    prepare(choose(given.backend))
    from layers import backend

    backend.configure(deterministic=True)
    if given.json:
        print(json.dumps(errors(given)))
    else:
        write_page(given)


def errors(given):
    """What a recipe is judged by: the error of the GRU, those of the others beside it."""
    rows = {cell: trained(cell, **options_of(given)) for cell in given.cells.split(",")}
    found = {cell: {"mse": row["test_mse"]} for cell, row in rows.items()}
    return {"metrics": found.pop("gru"), "baselines": found, "seconds": rows["gru"]["seconds"]}


def options_of(given):
    return {name: getattr(given, name) for name in ("length", "steps", "seed", "learning_rate")}


def write_page(given):
    """Train the networks and put them among those of `adding.json`; draw all of the backend."""
    import keras

    file = Path(given.folder, "adding.json")
    rows = json.loads(file.read_text()) if file.exists() else []
    for cell in given.cells.split(","):
        row = trained(cell, **options_of(given))
        row |= {"backend": keras.backend.backend(), "steps": int(given.steps), "learning_rate": float(given.learning_rate)}
        key = ("cell", "length", "backend")
        rows = [each for each in rows if any(each[name] != row[name] for name in key)] + [row]
        print(cell, row["length"], row["test_mse"])
        write_json(file, sorted(rows, key=lambda each: (each["length"], CELLS.index(each["cell"]), each["backend"])))
    shown = [row for row in rows if row["backend"] == keras.backend.backend()]
    figure(shown).savefig(Path(given.folder, "adding.png"), dpi=90, bbox_inches="tight")


if __name__ == "__main__":
    main()
