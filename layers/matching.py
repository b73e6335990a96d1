"""The best one-to-one assignment of predictions to targets, within a training step."""

import keras

from . import backend

__all__ = []

ops = keras.ops


def assign(costs):
    """The column of each row such that no column is taken twice and the sum of the costs is the smallest there is.

    Args:
        costs: `(batch, rows, columns)`, no more rows than columns; one that is not finite stands for a very high one.
    Returns: `(batch, rows)` int32, the column of each row. Without a gradient.
    Raises:
        ValueError: There are more rows than columns.
    Reference: Kuhn, 1955; Jonker and Volgenant, 1987; Crouse, 2016.
    """
    costs = ops.stop_gradient(ops.convert_to_tensor(costs))
    _, rows, columns = costs.shape
    if None not in (rows, columns) and rows > columns:  # TensorFlow forgets sizes that differ from call to call
        raise ValueError(f"`costs` must have a column for each row. Received: {rows} rows, {columns} columns")
    costs = ops.cast(costs, "float32")
    return backend.assign(ops.where(ops.isfinite(costs), costs, 1e6))
