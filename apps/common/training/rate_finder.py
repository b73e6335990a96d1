"""The learning-rate range test."""

import math

import numpy as np


def find_learning_rate(model, batches, low=1e-7, high=10.0, steps=120):
    """Learning-rate range test: the rate rises geometrically each step until the loss diverges (Smith, 2017).

    Args:
        model: A compiled model; its weights are used up.
        batches: Function from a step to the batch `(x, y[, weight])`.
        low, high: First and last learning rate.
        steps: Number of steps at most.
    Returns: `(rates, smoothed losses, suggestion)`; the suggestion is the rate of the steepest fall of the loss.
    """
    growth = (high / low) ** (1 / (steps - 1))
    model.optimizer.learning_rate = low
    rates, losses, mean = [], [], 0.0
    for step in range(steps):
        rate = low * growth**step
        model.optimizer.learning_rate.assign(rate)
        model.reset_metrics()
        loss = model.train_on_batch(*batches(step))
        loss = float(loss[0] if isinstance(loss, list | tuple) else loss)
        mean = 0.9 * mean + 0.1 * loss
        smoothed = mean / (1 - 0.9 ** (step + 1))
        if not math.isfinite(loss) or (losses and smoothed > 4 * min(losses)):
            break
        rates.append(rate)
        losses.append(smoothed)
    slopes = np.gradient(np.array(losses), np.log(rates)) if len(rates) > 4 else np.array([0.0])
    return rates, losses, float(rates[int(np.argmin(slopes))]) if rates else low
