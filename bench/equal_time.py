"""Three ways to draw digits, trained for the same time: the VAE, the GAN and flow matching of the recipes side by side.

    python -m bench.equal_time [--seconds 240] [--seed 0] [--backend jax]

takes some twenty minutes of one core, most of it for training three networks, and writes their pictures to
`docs/gallery/equal-time-BACKEND.png` and their numbers to `docs/equal-time.md`. Time is processor time, as of a machine with
nothing else to do. Each has its recipe's options but for the number of epochs and how many pictures an epoch has, which are such
that its steps take so many seconds by those of its first ones; a schedule ends where the training does. Flow matching has half
its width and small batches: in three minutes the recipe's own takes 150 steps.
"""

import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

from apps.common.errors import UserError
from apps.common.files import read_json, write_json, write_text
from apps.common.options.backends import choose, prepare
from apps.common.options.command_line import read_command_line
from apps.common.options.declare import make_config
from apps.common.output import say

DOCS = Path(__file__).resolve().parents[1] / "docs"
WAYS = {"mnist-vae": "VAE", "mnist-gan": "GAN", "mnist-diffusion": "flow matching"}
# Chosen on the validation pictures: in three minutes their Fréchet distance is 50, with batches of 64 at 2e-3 it is 84.
CHANGES = {"mnist-diffusion": {"width": 8, "batch_size": 32, "learning_rate": 3e-3}}
TIMED = 30  # steps of an epoch that is timed, after one that is not


def measure(seconds, seed):
    """`({recipe: what came of it}, {recipe: pictures})` of each trained for so long."""
    from apps import image_generation as app
    from apps.common.reports.generated_images import sheet

    rows, pictures, data = {}, {}, None
    for name in WAYS:
        recipe = app.RECIPES[name]
        config = make_config(app.Config, {"data": recipe.data, "seed": seed, **recipe.options, **CHANGES.get(name, {})})
        data = data or app.load_data(config)  # one for all, and so one judge
        step = step_seconds(app, config, data)
        steps = max(1, round(seconds / step))
        epochs = -(-steps * config.batch_size // len(data.train))
        count = min(len(data.train), steps * config.batch_size // epochs)
        order = np.random.default_rng([seed, 90]).permutation(len(data.train))[:count]
        chosen = dataclasses.replace(config, epochs=epochs)
        model, used = trained(app, chosen, dataclasses.replace(data, train=data.train.subset(np.sort(order))))
        metrics = app.evaluate(model, data, chosen).metrics
        rows[name] = {"seconds": used, "steps": steps, "epochs": steps * config.batch_size / len(data.train)} | {
            key: float(metrics[key]) for key in ("frechet_own_features", "class_coverage", "diversity")
        }
        pictures[name] = sheet(model, data.about)["images"]
        say(f"{name}: {used:.0f} s, {steps} steps, Fréchet distance {rows[name]['frechet_own_features']:.1f}")
    judged = app.baselines(data, config)["pixel gaussian"]
    rows["control"] = {key: float(judged[key]) for key in ("frechet_own_features", "class_coverage", "diversity")}
    return rows, pictures


def step_seconds(app, config, data):
    """Processor seconds of a step, of those after the first ones."""
    few = data.train.subset(np.arange(min(len(data.train), TIMED * config.batch_size)))
    short = dataclasses.replace(config, epochs=2)
    _, used = trained(app, short, dataclasses.replace(data, train=few), after=1)
    return used / -(-len(few) // config.batch_size)


def trained(app, config, data, after=0):
    """`(model, processor seconds of its epochs after so many)`."""
    import keras

    from apps.common.training.batches import Batches
    from apps.common.training.fit import make_model, train_epochs
    from apps.common.training.optimizers import averaged_when_done

    class Clock(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == after:
                self.began = time.process_time()

    model, clock = make_model(app, config, data), Clock()
    with averaged_when_done(model):
        batches = Batches(data.train, config.batch_size, config.seed)
        train_epochs(model, batches, seed=config.seed, epochs=config.epochs, callbacks=[clock])
        used = time.process_time() - clock.began
    return model, used


def drawn(pictures, rows):
    """The sheets side by side."""
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(pictures), figsize=(4.2 * len(pictures), 4.5), layout="constrained")
    for axis, (name, images) in zip(axes, pictures.items(), strict=True):
        _, height, width, _ = images.shape
        tiled = images[:100, ..., 0].reshape(10, 10, height, width).swapaxes(1, 2).reshape(10 * height, 10 * width)
        axis.imshow(tiled, cmap="gray")
        row = rows[name]
        axis.set_title(f"{WAYS[name]}, {row['seconds']:.0f} s\nFréchet distance {row['frechet_own_features']:.1f}", fontsize=10)
        axis.axis("off")
    return figure


def page(records):
    """The Markdown of all that was measured."""
    lines = [
        "# At equal time",
        "",
        "The VAE, the GAN and flow matching of `mnist-vae`, `mnist-gan` and `mnist-diffusion`, each trained for the same",
        "processor time (`python -m bench.equal_time`): Fréchet distance in the features of our own classifier (less is better),",
        "the share of classes that samples cover as real digits do, and the spread of their features beside that of real ones.",
        "The control draws each pixel by itself. Flow matching has half its recipe's width and small batches, as chosen on the",
        "validation pictures; the rest is as in the recipes.",
    ]
    for backend, record in records.items():
        lines += ["", f"## {backend}", "", f"![{backend}](gallery/equal-time-{backend}.png)", ""]
        lines += ["| | seconds | steps | epochs | Fréchet distance | coverage | diversity |", "|---|---|---|---|---|---|---|"]
        for name, row in record["rows"].items():
            spent = [f"{row['seconds']:.0f}", f"{row['steps']:,}", f"{row['epochs']:.1f}"] if "seconds" in row else ["", "", ""]
            shown = [f"{row['frechet_own_features']:.1f}", f"{row['class_coverage']:.2f}", f"{row['diversity']:.2f}"]
            lines.append(f"| {' | '.join([WAYS.get(name, name), *spent, *shown])} |")
        lines += ["", f"One seed, {record['date']}: `{record['command']}`."]
    return "\n".join([*lines, ""])


def main(words):
    positionals, given = read_command_line(words, ())
    seconds, seed = float(given.pop("seconds", 240)), int(given.pop("seed", 0))
    backend = choose(given.pop("backend", None))
    if given or positionals:
        raise UserError(f"expected --seconds, --seed and --backend alone. Received: {' '.join([*positionals, *given])}")
    prepare(backend)
    rows, pictures = measure(seconds, seed)
    path = DOCS / "equal-time.json"
    command = f"python -m bench.equal_time --seconds {seconds:g} --seed {seed} --backend {backend}"
    record = {"rows": rows, "command": command, "date": time.strftime("%Y-%m-%d")}
    records = (read_json(path) if path.is_file() else {}) | {backend: record}
    write_json(path, records)
    drawn(pictures, rows).savefig(DOCS / "gallery" / f"equal-time-{backend}.png", dpi=70, bbox_inches="tight")
    write_text(DOCS / "equal-time.md", page(records))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except UserError as error:
        sys.exit(str(error))
