"""What `fit` cannot do by itself: survive a lack of memory, and say where a loss stopped being finite."""

import contextlib
import copy
import math
import time

import keras
import numpy as np

from apps.common.errors import Diverged, UserError
from apps.common.training.batches import Batches
from apps.common.training.callbacks import Callbacks, Seeds
from apps.common.training.checkpoint import checkpoints, load_checkpoint
from layers import backend

ADVICE = "Lower --learning-rate or give --clip-norm 1"
REPLAY_SECONDS = 120.0


class Watch(keras.callbacks.Callback):
    """Stops training within ten steps of a loss that is not finite, and never waits for the step that is being computed.

    It keeps the running mean of the epoch's loss as the device gives it, which stays NaN once it is, and looks at every
    fourth one four steps late, when it has long been computed.
    """

    every = 4

    def __init__(self, steps):
        super().__init__()
        self.steps, self.epoch, self.step, self.recent, self.started, self.lasted = steps, 0, 0, [], None, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch, self.step, self.recent, self.started = epoch, 0, [], time.monotonic()

    def after_batch(self, batch, logs):
        """`logs` hold tensors, which nobody has read yet."""
        self.step = batch + 1
        self.recent.append((batch, logs["loss"]))
        if len(self.recent) == 2 * self.every:
            self._look(self.recent[: self.every])
            del self.recent[: self.every]

    def on_epoch_end(self, epoch, logs=None):
        """Before the epoch's numbers are kept."""
        self.lasted, self.started = time.monotonic() - self.started, None
        self._look(self.recent)

    def _look(self, means):
        if means and not math.isfinite(_number(means[-1][1])):
            step, loss = next((step, mean) for step, mean in means if not math.isfinite(_number(mean)))
            raise Diverged(f"the loss became {_number(loss)}", self.epoch, step)

    def remaining(self):
        """Seconds to the end of the epoch, by the last one or by the steps so far; `None` between epochs."""
        if self.started is None:
            return None
        passed = time.monotonic() - self.started
        if self.lasted is not None:
            return max(0.0, self.lasted - passed)
        return passed * (self.steps - self.step) / self.step if self.step else math.inf


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
        if config.compile != "off":
            backend.hasten(model)
        batches = Batches(examples, config.batch_size, config.seed, config.parts)
        whole, seeds, start = batches.steps, Seeds(batches, config.seed), time.monotonic()
        for epoch in range(done, error.epoch + 1):
            batches.steps = whole if epoch < error.epoch else step
            if batches.steps and time.monotonic() - start < REPLAY_SECONDS:
                once = {"epochs": epoch + 1, "initial_epoch": epoch, "shuffle": False, "verbose": 0}
                model.fit(backend.feed(batches), callbacks=Callbacks([seeds], model, epoch + 1), **once)
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
    found = []
    original = keras.layers.Layer.__call__

    def call(layer, *arguments, **options):
        outputs = original(layer, *arguments, **options)
        if not found and not all(map(_finite, keras.tree.flatten(outputs))):
            found.append(f"the output of layer {layer.path}")
        return outputs

    keras.layers.Layer.__call__ = call
    try:
        model(keras.tree.map_structure(keras.ops.convert_to_tensor, x), training=True)
    finally:
        keras.layers.Layer.__call__ = original
    if found:
        return found[0]
    _, loss, gradients = backend.loss_and_gradients(model, x, y, weight)
    if not math.isfinite(loss):
        return "the loss, every layer's output being finite"
    # The gradient flows backwards, so the last layer with a bad one is the first that went wrong.
    bad = [each.path for each, gradient in zip(model.trainable_variables, gradients, strict=True) if not _finite(gradient)]
    return f"the gradient of {bad[-1]}" if bad else "the update of the weights, every gradient being finite"


def _number(mean):
    return float(keras.ops.convert_to_numpy(mean))


def _finite(value):
    array = np.asarray(keras.ops.convert_to_numpy(value)) if value is not None else np.zeros(1)
    return not np.issubdtype(array.dtype, np.inexact) or bool(np.isfinite(array).all())
