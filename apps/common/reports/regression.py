"""What every predictor of a number shares: the report of its predictions."""

import numpy as np

from apps.common import figures


def regression_report(predicted, true, unit):
    """Numbers and figures of predictions on a test split.

    Args:
        predicted, true: Arrays `(examples,)` in the target's own unit.
        unit: What the axes are called.
    Returns: `(metrics, figures)`: root mean squared error, mean absolute error, coefficient of determination.
    """
    return regression_metrics(predicted, true), {
        "predictions": figures.scatter(true, predicted, f"true {unit}", f"predicted {unit}", "predictions", diagonal=True),
        "residuals": figures.scatter(predicted, predicted - true, f"predicted {unit}", "predicted - true", "residuals"),
    }


def regression_metrics(predicted, true):
    """The numbers alone of `regression_report`."""
    error = predicted - true
    return {
        "rmse": np.sqrt(np.mean(error**2)),
        "mae": np.mean(np.abs(error)),
        "r2": 1 - np.sum(error**2) / max(np.sum((true - true.mean()) ** 2), 1e-12),
    }
