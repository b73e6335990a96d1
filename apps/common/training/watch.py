"""Whether a run's loss is still a number, and how long its epoch will take."""

import math
import time

import keras

from apps.common.errors import Diverged


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


def _number(mean):
    return float(keras.ops.convert_to_numpy(mean))
