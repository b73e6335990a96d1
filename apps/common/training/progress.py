"""Where a run stands, and how long it will go on."""

import heapq
import sys
import time

import keras


class Progress(keras.callbacks.Callback):
    """Where an epoch stands and how long the run will go on: each second on a terminal, else every fifteen.

    It acts when a batch begins and looks at nothing but the clock, so no step waits for the device.

    Args:
        epochs: Of the run.
        steps: Of an epoch.
        shapes: Of the batches there are, for each of which a step is compiled.
    """

    def __init__(self, epochs, steps, shapes=1):
        super().__init__()
        self.epochs, self.steps, self.epoch = epochs, steps, 0
        self.terminal = sys.stderr.isatty()
        self.pause = 1.0 if self.terminal else 15.0
        self.shown = time.monotonic()
        self.pace = Pace(shapes)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self.pace.epoch_begins(time.monotonic())
        if self.terminal:
            self.shown = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        self.shown = time.monotonic()  # the recorder has a line for it

    def on_train_batch_begin(self, batch, logs=None):
        now = time.monotonic()
        self.pace.step_begins(now)
        if now - self.shown > self.pause:
            self.shown = now
            left = self.pace.seconds((self.epochs - self.epoch) * self.steps - batch, self.epochs - self.epoch)
            time_left = "" if left is None else f"  about {readable_seconds(left)} left"
            line = f"epoch {self.epoch + 1}/{self.epochs}  step {batch}/{self.steps}{time_left}"
            print(f"\r{line} " if self.terminal else line, end="" if self.terminal else "\n", file=sys.stderr, flush=True)


class Pace:
    """How long what is left will take, by the steps there were but for those in which one was compiled.

    So many steps as there are shapes are left out, the longest; and of the ends of epochs the first, at which what validates
    is compiled.

    Args:
        shapes: Of the batches there are.
    """

    def __init__(self, shapes):
        self.longest = [0.0] * shapes  # a heap
        self.count, self.total, self.before = 0, 0.0, None
        self.ends = []

    def step_begins(self, now):
        if self.before is not None:
            self.count += 1
            self.total += now - self.before
            heapq.heappushpop(self.longest, now - self.before)
        self.before = now

    def epoch_begins(self, now):
        """After the last step of an epoch come its end, validation and record."""
        if self.before is not None:
            self.ends.append(now - self.before)
        self.before = None

    def seconds(self, steps, epochs):
        """Those of so many steps and ends of epochs; `None` as long as most steps there were had to be compiled."""
        usual = self.count - len(self.longest)
        if usual < len(self.longest):
            return None
        ends = self.ends[1:]
        return steps * (self.total - sum(self.longest)) / usual + epochs * (sum(ends) / len(ends) if ends else 0.0)


def readable_seconds(seconds):
    """A duration as people say it, for example `3 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
