"""Whole training curves of every app, the same seed on each backend, laid over one another: where they part, and why.

    python -m bench.curves plain|nudged FOLDER [TASK]

Where curves part, each backend alone trains once more from weights moved by a ten-millionth, which is the size of a rounding:
if the two curves of one part as far, the difference between the backends is rounding, magnified by training.
"""

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from apps.common.files import write_json
from apps.common.options.backends import choose, prepare

STEPS = 100
CLOSE = 1e-4  # of the loss: curves as near as this are rounding
NUDGE = 1e-7
PARTED = 1e-2  # of the loss: what a person would see in the figure


def tasks(only=""):
    """`{task: module}` of every app whose name holds `only`, or one of several names with commas between them."""
    folder = Path(__file__).resolve().parents[1] / "apps"
    names = {path.stem.replace("_", "-"): f"apps.{path.stem}" for path in sorted(folder.glob("[!_]*.py"))}
    chosen = only.split(",")
    return {task: module for task, module in names.items() if _holds_any(task, chosen)}


def _holds_any(task, parts):
    return any(part in task for part in parts)


def curve(app, nudged=False, steps=STEPS):
    """The loss of each step of the app's training with its default options, as `fit` would take them.

    Args:
        app: The app's module.
        nudged: Whether each initial weight is moved by `NUDGE` of itself, up or down.
        steps: Steps at most.
    Returns: The losses.
    """
    from apps.common.options.declare import make_config
    from apps.common.training import run
    from apps.common.training.batches import Batches
    from apps.common.training.callbacks import seed_states, set_seeds

    config = make_config(app.Config, {})
    data = app.load_data(config)
    config, _ = run.settled(app, config, data)
    model = run.make_model(app, config, data)
    if nudged:
        for index, weight in enumerate(model.trainable_variables):
            signs = np.random.default_rng([4, index]).choice([-NUDGE, NUDGE], weight.shape)
            weight.assign(weight * (1 + signs).astype("float32"))
    batches = Batches(data.train, config.batch_size, config.seed)
    losses = []
    for step in range(min(steps, len(batches) * config.epochs)):
        epoch, place = divmod(step, len(batches))
        if place == 0:
            batches.set_epoch(epoch)
            set_seeds(seed_states(model), config.seed, epoch)
        model.reset_metrics()
        losses.append(float(model.train_on_batch(*batches[place], return_dict=True)["loss"]))
    return losses


def apart(left, right):
    """The relative difference of two curves at each step."""
    left, right = np.asarray(left), np.asarray(right)
    return np.abs(left - right) / np.maximum(np.abs(left), 1e-6)


def compare(found, nudged):
    """One row an app: how far the curves of any two backends lie apart, at which step they part, and why.

    Args:
        found: `{task: {backend: {"losses"}}}`.
        nudged: The same from nudged weights for the tasks that part.
    """
    rows = []
    for task, curves in found.items():
        far = _farthest(curves)
        own = {backend: apart(curves[backend]["losses"], each["losses"]).max() for backend, each in nudged.get(task, {}).items()}
        unsteady = max(own, key=own.get, default=None)
        parted = np.flatnonzero(far > PARTED)
        row = {
            "task": task,
            "steps": len(far),
            "at_first": float(far[0]),
            "at_last": float(far[-1]),
            "largest": float(far.max()),
            "largest_nudged": float(own[unsteady]) if own else None,
            "part_at": int(parted[0]) + 1 if len(parted) else None,
            "why": "",
        }
        if own and own[unsteady] > far.max() / 10:
            row["why"] = (
                f"rounding, which training magnifies: {unsteady} alone parts from itself by "
                f"{own[unsteady]:.0%} when its first weights are moved by {NUDGE:.0e}"
            )
        elif len(parted):
            row["why"] = "not known"
        rows.append(row)
    return rows


def _farthest(curves):
    losses = [each["losses"] for each in curves.values()]
    pairs = [(a, b) for index, a in enumerate(losses) for b in losses[index + 1 :]]
    return np.max([apart(a, b) for a, b in pairs], axis=0) if pairs else np.array([])


def figure(found, nudged):
    """The curves of each app over one another, and under them how far they lie apart; and each backend from itself, nudged."""
    from apps.common import figures

    drawn, panels = figures.new(4.2 * len(found), 6.4, 2, len(found))
    panels = np.reshape(panels, (2, len(found)))
    styles = {"tensorflow": ("#ff8f00", "-"), "jax": ("#5e35b1", "--"), "torch": ("#d32f2f", ":")}
    for column, (task, curves) in enumerate(found.items()):
        top, bottom = panels[:, column]
        for backend, each in curves.items():
            color, line = styles[backend]
            top.plot(range(1, len(each["losses"]) + 1), each["losses"], line, color=color, label=backend, linewidth=1.6)
        far = {"between backends": _farthest(curves)}
        for backend, each in nudged.get(task, {}).items():
            far[f"{backend} nudged by {NUDGE:.0e}"] = apart(curves[backend]["losses"], each["losses"])
        for label, values in far.items():
            bottom.semilogy(range(1, len(values) + 1), np.maximum(values, 1e-9), label=label)
        bottom.legend(frameon=False)
        bottom.axhline(PARTED, color="0.6", linewidth=0.8, linestyle="--")
        top.set(title=task, ylabel="loss of a step" if not column else "")
        bottom.set(xlabel="step", ylabel="largest relative difference" if not column else "", ylim=(1e-9, 10))
        for axis in (top, bottom):
            axis.grid(alpha=0.3)
    panels[0, 0].legend(frameon=False)
    return drawn


def load(folder, backends, kind):
    """`{task: {backend: curve}}` of what the processes wrote."""
    found = {}
    for backend in backends:
        path = Path(folder, backend, f"curves-{kind}.json")
        for task, each in (json.loads(path.read_text()) if path.exists() else {}).items():
            found.setdefault(task, {})[backend] = each
    return found


def main(kind, folder, only=""):
    backend = choose()
    prepare(backend)
    from layers import backend as running

    running.configure()
    made = {}
    for task, module in tasks(only).items():
        made[task] = {"losses": curve(importlib.import_module(module), nudged=kind == "nudged")}
    path = Path(folder, backend)
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / f"curves-{kind}.json", made)


if __name__ == "__main__":
    main(*sys.argv[1:])
