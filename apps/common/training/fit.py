"""Training, written once: batches -> seeds -> callbacks -> `fit` by the fastest steps the backend has."""

import math
import random

import keras
import numpy as np

from apps.common.app import metric_of, task_name
from apps.common.bundles.model_file import weights_bounded
from apps.common.data.reading import USABLE_SHARE, available_memory
from apps.common.errors import UserError
from apps.common.output import say
from apps.common.training.batches import Batches, InOrder
from apps.common.training.callbacks import (
    AfterEpoch,
    Callbacks,
    EpochRecorder,
    GradientFlow,
    KeepBest,
    Plateau,
    Seeds,
    Validation,
)
from apps.common.training.checkpoint import load_checkpoint
from apps.common.training.optimizers import averaged_when_done
from apps.common.training.progress import Progress
from apps.common.training.watch import Watch
from layers import backend
from layers.initialization import undrawn


def settled(app, config, data):
    """`(config, why)`: the options that were left open as the app settles them by the data, and a line that says so."""
    return app.settle(config, data) if hasattr(app, "settle") else (config, "")


def make_model(app, config, data):
    """The compiled model of the app under the config's precision, distribution and seed.

    Raises:
        UserError: The options make no model.
    """
    config, _ = settled(app, config, data)
    keras.utils.clear_session(free_memory=False)
    random.seed(config.seed)  # where Keras draws the seeds of layers that were given none
    np.random.seed(config.seed)
    keras.config.set_dtype_policy(config.precision)
    devices = len(backend.devices())
    if config.distribute == "data" and config.batch_size % devices:
        raise UserError(f"--batch-size {config.batch_size}: expected a multiple of the {devices} devices of --distribute data")
    # Weights, their gradient and two moments of an optimizer, in single precision.
    most = int(USABLE_SHARE * available_memory() / 16)
    too_many = "more weights than the {numbers:,} that this machine's memory can train; choose a smaller model"
    try:
        with backend.distribution(config.distribute), undrawn(), weights_bounded(most, too_many):
            return app.build_model(config, data)
    except ValueError as error:
        raise UserError(f"{task_name(app)}: this model cannot be built: {error}") from None


def prepare(app, model, data, config):
    """What the app does once to a new model before its first epoch."""
    if hasattr(app, "prepare"):
        app.prepare(model, data, config)


def train_epochs(model, batches, *, seed, epochs, start=0, callbacks=(), accelerate=True):
    """`fit` over epochs whose data order and dropout seeds follow from (seed, epoch) alone.

    Args:
        model: A compiled model.
        batches: `Batches`.
        seed: Of the run.
        epochs: Number of epochs in all.
        start: Epochs that are done already.
        callbacks: Heard between epochs, after the seeds have been set.
        accelerate: Whether steps are taken in the backend's fastest way.
    """
    if accelerate:
        backend.accelerate_steps(model)
    heard = Callbacks([Seeds(batches, seed), *callbacks], model, epochs)
    model.fit(backend.feed(batches), epochs=epochs, initial_epoch=start, shuffle=False, verbose=0, callbacks=heard)


def fit(app, config, data, model, run, tracker, interrupts=None, *, until=None):
    """Train from the run's newest checkpoint, if there is one; `({metric: [an epoch]}, gradient norms, best epoch)`.

    The best epoch, counted from one, is whose weights the model ends with; `None` where it is the last one's by choice.
    With `until`, stop after that many epochs of a longer run, without a word, as a trial of a search does.
    """
    stateful = stateful_callbacks(app, config, data)
    on_epoch = getattr(app, "on_epoch", None)
    if on_epoch:  # first, since the others may look at its numbers
        stateful.insert(0, AfterEpoch(lambda *arguments: on_epoch(*arguments, data, config), tracker))
    done, history = load_checkpoint(run.checkpoints, model, stateful, say)
    if not done:
        prepare(app, model, data, config)
    epochs, quiet = until or config.epochs, until is not None
    if done and not quiet:
        say(f"going on after epoch {done} of {config.epochs}, written by the {run.record['backend']} backend")
    run.update(backend=keras.backend.backend())
    batches = Batches(data.train, config.batch_size, config.seed, config.parts)
    watch = Watch(len(batches))
    if interrupts:
        interrupts.epochs(watch.remaining)
    recorder = EpochRecorder(
        run,
        tracker,
        stateful,
        history,
        epochs=epochs,
        every=config.checkpoint_every,
        steady=config.schedule == "constant" and not config.warmup,
        quiet=quiet,
        interrupts=interrupts,
    )
    callbacks = [watch]
    if data.validation is not None:
        held = InOrder(data.validation, max(1, config.batch_size // config.parts))
        # Made at the first epoch's end, when `fit` has built the metrics.
        callbacks.insert(0, Validation(lambda: backend.evaluation(model, held)))
    if not quiet:
        callbacks.append(Progress(epochs, len(batches), batches.num_shapes))
    best = next((each for each in stateful if isinstance(each, KeepBest)), None)
    with backend.distribution(config.distribute), averaged_when_done(model):
        try:
            train_epochs(
                model,
                batches,
                seed=config.seed,
                epochs=epochs,
                start=epochs if best and best.stopped else done,
                callbacks=[*callbacks, *stateful, recorder],
                accelerate=config.compile != "off",
            )
        finally:
            recorder.record()
    if interrupts:
        interrupts.epochs(None)
    if best:
        best.restore(model)
    norms = next((each.norms for each in stateful if isinstance(each, GradientFlow)), [])
    return history, norms, best.best_epoch + 1 if best and math.isfinite(best.best) else None


def stateful_callbacks(app, config, data):
    """The callbacks with a memory, which a checkpoint keeps."""
    found = []
    if data.validation is not None and (config.early_stopping or config.keeps_best):
        found.append(KeepBest(metric_of(app, data.about), config.early_stopping))
    if config.schedule == "plateau":
        found.append(Plateau(metric_of(app, data.about), config.decay_rate, config.decay_epochs))
    if config.gradient_flow:
        size = max(1, min(len(data.train), config.batch_size) // config.parts)
        found.append(GradientFlow(Batches(data.train, size, config.seed)[0]))
    return found
