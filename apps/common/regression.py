"""What every predictor of a number shares: its loss, and the report of its predictions."""

import keras
import numpy as np

from apps.common import figures
from apps.common.errors import UserError

LOSSES = {"auto": "mse", "mse": "mse", "mae": "mae", "huber": "huber"}


def number_loss(name):
    """The Keras loss between a standardised target and the output; `auto` is the mean squared error."""
    if name not in LOSSES:
        raise UserError(f"--loss {name}: the target is a number; expected auto, mse, mae or huber")
    return keras.losses.get(LOSSES[name])


def regression_report(predicted, true, unit):
    """Numbers and figures of predictions on a test split.

    Args:
        predicted, true: Arrays `(examples,)` in the target's own unit.
        unit: What the axes are called.
    Returns: `(metrics, figures)`: root mean squared error, mean absolute error, coefficient of determination.
    """
    error = predicted - true
    metrics = {
        "rmse": np.sqrt(np.mean(error**2)),
        "mae": np.mean(np.abs(error)),
        "r2": 1 - np.sum(error**2) / max(np.sum((true - true.mean()) ** 2), 1e-12),
    }
    return metrics, {
        "predictions": figures.scatter(true, predicted, f"true {unit}", f"predicted {unit}", "predictions", diagonal=True),
        "residuals": figures.scatter(predicted, error, f"predicted {unit}", "predicted - true", "residuals"),
    }
