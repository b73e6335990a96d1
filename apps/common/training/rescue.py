"""What `fit` cannot do by itself: survive a lack of memory, and say where a loss stopped being finite."""

import contextlib
import copy
import functools
import math
import time

import keras
import numpy as np

from apps.common.errors import Diverged, UserError
from apps.common.training.batches import Batches
from apps.common.training.checkpoint import checkpoints, load_checkpoint
from apps.common.training.fit import train_epochs
from layers import backend
from layers.backend import keras_private

ADVICE = "Lower --learning-rate or give --clip-norm 1"
REPLAY_SECONDS = 120.0


def split_batches(config, parts):
    """The config whose batches are computed in this many parts; gradients are averaged over the parts, so that the
    effective batch stays."""
    config = copy.copy(config)
    object.__setattr__(config, "parts", parts)
    return config


def more_parts(batch_size, parts):
    """The fewest parts, at least twice as many, that a batch divides into; `None` when it is down to single examples."""
    return next((count for count in range(2 * parts, batch_size + 1) if batch_size % count == 0), None)


def after_lack_of_memory(config, examples, parts, say):
    """The config to go on with after a step did not fit: its batches halved.

    Raises:
        UserError: A single example does not fit.
    """
    size = min(config.batch_size, len(examples))
    more = more_parts(size, parts)
    if more is None:
        raise UserError(
            "out of memory with a single example a step: choose a smaller model or smaller inputs, or --precision mixed_bfloat16"
        )
    say(
        f"out of memory with {size // parts} examples a step: going on with {size // more}, gradients averaged over "
        f"{more} steps, so that the effective batch stays {size}"
    )
    return split_batches(config, more)


def explain(error, make_model, config, examples, folder, say):
    """A `Diverged` whose message also names the learning rate, the first bad layer and the checkpoint that was kept.

    Args:
        error: What `Watch` or a checkpoint raised.
        make_model: Function without arguments: the compiled model with its initial weights.
        config, examples: What `fit` was given.
        folder: The run's checkpoint folder.
    """
    kept = checkpoints(folder)
    where = f"the last finite checkpoint is {kept[0]}" if kept else "no epoch had ended yet, so there is no checkpoint"
    rate, layer = None, None
    if error.step is not None:
        say("looking for the first layer that went wrong: the steps before it are computed again")
        with contextlib.suppress(Diverged):
            rate, layer = _replay(error, make_model, config, examples, folder)
    at = f" at learning rate {rate:.3g}" if rate is not None else ""
    bad = f"; first bad: {layer}" if layer else ""
    return UserError(f"{error}{at}{bad}. {ADVICE}; {where}")


def _replay(error, make_model, config, examples, folder):
    """`(learning rate, what went wrong first)` at the bad step, or the step before it where the weights were bad already."""
    for step in (error.step, error.step - 1):
        if step < 0:
            break
        model = make_model()
        done, _ = load_checkpoint(folder, model, [], lambda line: None)
        batches = Batches(examples, config.batch_size, config.seed, config.parts)
        whole, start = batches.steps, time.monotonic()
        for epoch in range(done, error.epoch + 1):
            batches.steps = whole if epoch < error.epoch else step
            if batches.steps and time.monotonic() - start < REPLAY_SECONDS:
                fast = config.compile != "off"
                train_epochs(model, batches, seed=config.seed, epochs=epoch + 1, start=epoch, accelerate=fast)
        batches.steps = whole
        batches.set_epoch(error.epoch)
        rate = float(keras.ops.convert_to_numpy(model.optimizer.learning_rate))
        bad = first_bad(model, batches[step])
        if bad:
            return rate, bad
    return rate, None


def first_bad(model, batch):
    """What is not finite first in a step on this batch: an input, a layer's output, the loss, a gradient; or `None`."""
    x, y, weight = (*batch, None, None)[:3]
    if not all(map(_finite, keras.tree.flatten(batch))):
        return "the data of this step"
    if not all(_finite(each) for each in model.trainable_variables):
        return None  # everything that follows is bad: the step before tells more
    found = first_bad_output(model, x)
    if found:
        return found
    _, loss, gradients = backend.loss_and_gradients(model, x, y, weight)
    if not math.isfinite(loss):
        return "the loss, every layer's output being finite"
    # The gradient flows backwards, so the last layer with a bad one is the first that went wrong.
    bad = [each.path for each, gradient in zip(model.trainable_variables, gradients, strict=True) if not _finite(gradient)]
    return f"the gradient of {bad[-1]}" if bad else "the update of the weights, every gradient being finite"


def first_bad_output(model, x):
    """The first layer whose output is not finite, parts within a layer before the layer; or `None`.

    A block enters its parts by `call` as well as by Keras's `__call__`, so each layer's own `call` is watched.
    """
    found, layers = [], keras_private.all_layers(model, include_self=False)

    def watch(layer, call):
        @functools.wraps(call)
        def watched(*arguments, **options):
            outputs = call(*arguments, **options)
            if not found and not all(map(_finite, keras.tree.flatten(outputs))):
                found.append(f"the output of layer {layer.path}")
            return outputs

        return watched

    for layer in layers:
        vars(layer)["call"] = watch(layer, layer.call)
    try:
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=True)
    finally:
        for layer in layers:
            vars(layer).pop("call", None)
    return found[0] if found else None


def _finite(value):
    array = np.asarray(keras.ops.convert_to_numpy(value)) if value is not None else np.zeros(1)
    return not np.issubdtype(array.dtype, np.inexact) or bool(np.isfinite(array).all())
