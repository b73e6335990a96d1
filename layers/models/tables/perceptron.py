"""The perceptron: one layer of units, for inputs of any shape and for tables."""

import keras

from ... import Dense
from .._inputs import choose, tabular_inputs

__all__ = ["perceptron", "tabular_perceptron"]

# The step and the sigmoid belong to the loss, which needs the sums under them; a ReLU is part of the model.
_ACTIVATIONS = {"step": None, "sigmoid": None, "relu": "relu"}


def perceptron(input_shape, num_outputs, *, unit="step"):
    """Perceptron: one unit for each output, nothing hidden.

    A unit weighs its inputs: `a = W'x + b`. What follows is decided by `unit`, and the output is what its loss takes:

    - `"step"`: `a`, for `layers.PerceptronLoss`, under which gradient descent is Rosenblatt's rule;
    - `"sigmoid"`: `a`, the logit, for cross-entropy: logistic regression;
    - `"relu"`: `max(0, a)`.

    Args:
        input_shape: Shape of one example, without the batch.
        num_outputs: Number of units.
        unit: `"step"`, `"sigmoid"` or `"relu"`.
    Input shape: `(batch, *input_shape)`.
    Output shape: `(batch, num_outputs)`; the largest is the class, or with one unit the sign decides.
    Reference: Rosenblatt, 1958.
    """
    activation = choose("unit", unit, _ACTIVATIONS)
    inputs = keras.Input(tuple(input_shape), name="input")
    x = keras.layers.Flatten()(inputs) if len(inputs.shape) > 2 else inputs
    outputs = Dense(num_outputs, activation=activation, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, outputs, name="perceptron")


def tabular_perceptron(num_numeric, cardinalities, num_outputs, *, unit="step"):
    """Perceptron for tables: every value of a categorical column is an input of its own, one or zero.

    Args:
        num_numeric: Number of numeric columns.
        cardinalities: Number of values of each categorical column.
        num_outputs: Number of units.
        unit: `"step"`, `"sigmoid"` or `"relu"`, as for `perceptron`.
    Input shape: a dict of `"numeric"`, `(batch, num_numeric)`, and `"categorical"`, `(batch, len(cardinalities))`,
        whole numbers in `[0, cardinality)`; a part without columns is left out.
    Output shape: `(batch, num_outputs)`.
    Raises:
        ValueError: if there is no column.
    """
    activation = choose("unit", unit, _ACTIVATIONS)
    inputs = tabular_inputs(num_numeric, cardinalities)
    columns = [inputs["numeric"]] if num_numeric else []
    for index, cardinality in enumerate(cardinalities):
        columns.append(keras.ops.one_hot(inputs["categorical"][:, index], cardinality))
    x = keras.layers.Concatenate()(columns) if len(columns) > 1 else columns[0]
    outputs = Dense(num_outputs, activation=activation, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, outputs, name="tabular_perceptron")
