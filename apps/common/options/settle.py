"""Options that are left open until the data are there: how many examples a step, and how many passes."""

import dataclasses
import math


def settled_steps(config, count, *, steps, epochs, batches=()):
    """`(config, why)` with the batch size and the epochs that so many examples want, where none were asked for.

    Args:
        config: A `Config` whose `epochs` and `batch_size` may be `None`.
        count: Examples to train on.
        steps: About how many steps a run takes.
        epochs: `(fewest, most)`.
        batches: `((most examples, batch size), ...)` in order, the last for any number, where the batch size may be `None`.
    """
    found = {}
    if config.batch_size is None:
        found["batch_size"] = next(size for most, size in batches if most is None or count < most)
    if config.epochs is None:
        size = found.get("batch_size", config.batch_size)
        fewest, most = epochs
        found["epochs"] = min(most, max(fewest, math.ceil(steps / math.ceil(count / size))))
    if not found:
        return config, ""
    words = {"batch_size": "batches of {}", "epochs": "{} epochs"}
    said = " and ".join(words[name].format(value) for name, value in found.items())
    return dataclasses.replace(config, **found), f"{said}, by the number of training examples ({count:,})"
