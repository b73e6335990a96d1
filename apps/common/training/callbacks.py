"""What happens between epochs. No callback acts within an epoch: a per-batch hook makes every step wait for the device."""

import math
import sys
import time

import keras
import numpy as np

from apps.common.app import ContractError
from apps.common.errors import Diverged
from apps.common.training.checkpoint import save_checkpoint
from layers import backend

SOON = 0.25  # seconds for which epochs that have ended may wait for others, to be recorded with them
SHARE = 0.001  # of the time, that checkpoints may take where their number is left to us
POINTS = 1000  # of a curve in MLflow for each doubling of the epochs after the first; its charts show 320


class Callbacks(keras.callbacks.CallbackList):
    """The callbacks of a run, which are heard between epochs and, where they look at no number, before a batch.

    After one, `after_batch(batch, logs)` of those that have it gets the metrics as they lie on the device.

    Keras's own list reads the metrics back from the device after every batch, or hands them to a thread that does, a tenth of a
    millisecond a step, whether a callback wants them or not.
    """

    def __init__(self, callbacks, model, epochs):
        super().__init__(callbacks, add_history=True, model=model, epochs=epochs)
        unheard = keras.callbacks.Callback.on_train_batch_begin
        self.before_batches = [each for each in callbacks if type(each).on_train_batch_begin is not unheard]
        self.after_batches = [each.after_batch for each in callbacks if hasattr(each, "after_batch")]

    def on_train_batch_begin(self, batch, logs=None):
        for callback in self.before_batches:
            callback.on_train_batch_begin(batch)

    def on_train_batch_end(self, batch, logs=None):
        for after in self.after_batches:
            after(batch, logs)

    def on_test_batch_begin(self, batch, logs=None):
        pass

    def on_test_batch_end(self, batch, logs=None):
        pass


class Seeds(keras.callbacks.Callback):
    """Before each epoch, sets the data order and every dropout seed from (seed, epoch) alone."""

    def __init__(self, batches, seed):
        super().__init__()
        self.batches, self.seed = batches, seed

    def on_epoch_begin(self, epoch, logs=None):
        self.batches.set_epoch(epoch)
        set_seeds(self.states, self.seed, epoch)


    def set_model(self, model):
        super().set_model(model)
        self.states = seed_states(model)  # once: it is a walk through all layers


class Validation(keras.callbacks.Callback):
    """After each epoch, before the other callbacks: the metrics of the validation examples, as `val_...`.

    Args:
        make: Function without arguments that gives the function that evaluates; called once the first epoch has ended.
    """

    def __init__(self, make):
        super().__init__()
        self.make, self.evaluate = make, None

    def on_epoch_end(self, epoch, logs=None):
        self.evaluate = self.evaluate or self.make()
        logs.update({f"val_{name}": value for name, value in self.evaluate().items()})


def seed_states(model):
    """The states of all generators that a built model draws from."""
    return [variable for variable in model.variables if variable.path.endswith("seed_generator_state")]


def set_seeds(states, seed, epoch):
    """Every seed that is drawn from in an epoch, the same on every backend; `states` as `seed_states` gives them."""
    backend.seed(int(np.random.default_rng([seed, 3, epoch]).integers(2**31)))
    for index, state in enumerate(states):
        drawn = np.random.default_rng([seed, 2, epoch, index]).integers(0, 2**31, size=state.shape)
        state.assign(drawn.astype(keras.backend.standardize_dtype(state.dtype)))


class Carried(float):
    """A metric of an epoch in which it was not worked out: that of an earlier one, which says nothing of this one."""


def monitored(metric, logs):
    """The value of the app's metric in an epoch, so signed that the least is the best; `None` where it was not worked out.

    Raises:
        ContractError: The epoch has no such number.
    """
    if isinstance(logs.get(metric.monitor), Carried) or not math.isfinite(logs.get("loss", 0.0)):  # a run about to be ended
        return None
    if metric.monitor not in logs:
        raise ContractError(f"`METRIC` names {metric.monitor}, which is not among an epoch's numbers: {', '.join(logs)}")
    return metric.sign * float(logs[metric.monitor])


class KeepBest(keras.callbacks.Callback):
    """Keeps the weights of the epoch that was best by the app's metric on validation; `restore` puts them into the model.

    Of epochs that are equally good, as many are where a dozen examples are judged by their accuracy, the one of the least
    validation loss counts. Unlike Keras's early stopping, what it knows goes into the checkpoint, the best weights included.
    Epochs in which the metric is not worked out count for nothing.

    Args:
        metric: The app's `Metric`.
        patience: Epochs without progress after which training stops; 0 for never.
    """

    def __init__(self, metric, patience=0):
        super().__init__()
        self.metric, self.patience = metric, patience
        self.best, self.loss, self.best_epoch, self.best_weights = math.inf, math.inf, -1, {}
        self.waited, self.stopped = 0, False

    def on_epoch_end(self, epoch, logs=None):
        value, loss = monitored(self.metric, logs), float(logs.get("val_loss", math.inf))
        if value is None:
            return
        self.waited = 0 if value < self.best else self.waited + 1
        if (value, loss) < (self.best, self.loss):
            self.best, self.loss, self.best_epoch = value, loss, epoch
            self.best_weights = {str(i): np.array(w) for i, w in enumerate(self.model.get_weights())}
        if self.patience and self.waited >= self.patience:
            self.model.stop_training = self.stopped = True

    def restore(self, model):
        if self.best_weights:
            model.set_weights([self.best_weights[str(i)] for i in range(len(self.best_weights))])

    def get_state(self):
        plain = {"best": self.best, "loss": self.loss, "best_epoch": self.best_epoch, "waited": self.waited}
        return {**plain, "stopped": self.stopped}, self.best_weights

    def set_state(self, plain, arrays):
        self.best, self.loss, self.best_epoch = plain["best"], plain["loss"], plain["best_epoch"]
        self.waited, self.stopped, self.best_weights = plain.get("waited", 0), plain["stopped"], arrays


class Plateau(keras.callbacks.Callback):
    """Multiplies the learning rate by `factor` after `patience` epochs without progress of the app's metric.

    Epochs in which the metric is not worked out count for nothing.
    """

    def __init__(self, metric, factor, patience):
        super().__init__()
        self.metric, self.factor, self.patience = metric, factor, patience
        self.best, self.waited = math.inf, 0

    def on_epoch_end(self, epoch, logs=None):
        value = monitored(self.metric, logs)
        if value is None:
            return
        self.best, self.waited = (value, 0) if value < self.best else (self.best, self.waited + 1)
        if self.waited >= self.patience:
            self.waited = 0
            self.model.optimizer.learning_rate.assign(float(self.model.optimizer.learning_rate) * self.factor)

    def get_state(self):
        return {"best": self.best, "waited": self.waited}, {}

    def set_state(self, plain, arrays):
        self.best, self.waited = plain["best"], plain.get("waited", 0)


class GradientFlow(keras.callbacks.Callback):
    """Norm of the loss's gradient at each kernel, on one fixed batch after every epoch: vanishing and exploding show."""

    def __init__(self, batch):
        super().__init__()
        self.batch, self.norms = batch, []

    def on_epoch_end(self, epoch, logs=None):
        gradients = backend.gradients(self.model, *self.batch)
        self.norms.append(
            {
                variable.path: float(np.sqrt(np.sum(np.square(gradient, dtype="float64"))))
                for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True)
                if len(variable.shape) > 1
            }
        )

    def get_state(self):
        return {"norms": self.norms}, {}

    def set_state(self, plain, arrays):
        self.norms = plain["norms"]


class AfterEpoch(keras.callbacks.Callback):
    """What an app does after each epoch, before the other callbacks: the numbers it returns are metrics of the epoch.

    Where it returns nothing the last ones stand as `Carried`, in a run that is gone on with as well.

    Args:
        act: Function of (model, epoch, tracker) that returns `{metric: value}` or `None`.
        tracker: Where what it draws goes.
    """

    def __init__(self, act, tracker):
        super().__init__()
        self.act, self.tracker, self.last = act, tracker, {}

    def on_epoch_end(self, epoch, logs=None):
        if math.isfinite(logs["loss"]):  # or else the run is about to be ended
            found = self.act(self.model, epoch + 1, self.tracker)
            if found is not None:
                self.last = {name: float(value) for name, value in found.items()}
            logs.update(self.last if found is not None else {name: Carried(value) for name, value in self.last.items()})

    def get_state(self):
        return {"last": self.last}, {}

    def set_state(self, plain, arrays):
        self.last = plain["last"]


class EpochRecorder(keras.callbacks.Callback):
    """Last of the epoch's callbacks: history, the line on the screen, tracking, the checkpoint; stops on NaN or a signal.

    Args:
        run: The open run (`apps.common.records.folder.Run`).
        tracker: Where the metrics go.
        stateful: The callbacks whose state belongs in a checkpoint.
        history: What earlier parts of the run recorded.
        epochs: Epochs in all.
        every: Epochs between checkpoints; 0 for as many as take a thousandth of the time.
        steady: Whether the learning rate is the same all along.
        quiet: Whether nothing is printed.
        interrupts: The `Interrupts` that may ask the run to stop, or `None`.
    """

    def __init__(self, run, tracker, stateful, history, *, epochs, every, steady=False, quiet=False, interrupts=None):
        super().__init__()
        self.run, self.tracker, self.stateful, self.history = run, tracker, stateful, history
        self.epochs, self.every, self.steady, self.started = epochs, every, steady, time.monotonic()
        self.shown, self.interrupts = math.inf if quiet else 0.0, interrupts
        self.waiting, self.recorded = [], 0.0
        self.rate, self.kept, self.keeping = None, time.monotonic(), 0.01  # a guess, until one has been written

    def set_model(self, model):
        super().set_model(model)
        self.stopping = model  # Keras's `self.model` does more than to name it, 10 us each time

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        now, done, loss = time.monotonic(), epoch + 1, float(logs["loss"])
        if not math.isfinite(loss):
            raise Diverged(f"the loss became {loss}", epoch)
        last = done == self.epochs or self.stopping.stop_training
        self.waiting.append((done, now, now - self.started, self.learning_rate(), last, logs))
        shows = now - self.shown >= 0.5 or (last and self.shown < math.inf)  # epochs of a few milliseconds would scroll by
        asked = self.interrupts is not None and self.interrupts.received is not None
        keeps = last or asked or self.is_due(done, now)
        if keeps or shows or now - self.recorded > SOON:  # what a checkpoint has behind it is logged by no resumed run again
            values = self.record()
            self.recorded = now
        if shows:
            self.shown = now
            shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items() if name != "seconds")
            start = "\r" if sys.stderr.isatty() else ""
            print(f"{start}epoch {done}/{self.epochs}  {values['seconds']:.1f} s  {shown}", file=sys.stderr, flush=True)
        if keeps:
            save_checkpoint(self.run.checkpoints, self.model, done, self.history, self.stateful)
            self.run.update(epoch=done)
            self.kept = time.monotonic()
            self.keeping = self.kept - now
        if asked:
            self.interrupts.stop_if_asked()

    def record(self):
        """Put the epochs that wait into the history and hand them to the tracker; returns the numbers of the last one.

        One line of the tracker's file for all takes less than one for each, and so does Python that runs again at once.
        """
        epochs, values, offset = [], {}, time.time() - time.monotonic()
        for done, ended, seconds, rate, last, logs in self.waiting:
            values = {name: float(value) for name, value in logs.items()} | {"learning_rate": rate, "seconds": seconds}
            for name, value in values.items():
                self.history.setdefault(name, []).append(value)
            if last or is_recorded(done):
                epochs.append([done, int(1000 * (ended + offset)), values])
        self.waiting = []
        if epochs:
            self.tracker.epochs(epochs)
        return values

    def learning_rate(self):
        """The optimizer's; to read it from the device takes up to a tenth of a millisecond, so once where it is steady."""
        if self.rate is None or not self.steady:
            self.rate = float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))
        return self.rate

    def is_due(self, done, now):
        """Whether a checkpoint belongs after `done` epochs."""
        return done % self.every == 0 if self.every else now - self.kept >= self.keeping / SHARE


def is_recorded(done):
    """Whether MLflow gets the epoch: each of the first 2000, every second one up to 4000, every fourth up to 8000, ..."""
    return done % (1 << max(0, (done // POINTS).bit_length() - 1)) == 0
