"""The multi-layer perceptron for tables: categories through embeddings, then dense layers."""

import keras

from ... import BatchNormalization, Dense, Dropout, Embedding
from .._inputs import tabular_inputs

__all__ = ["tabular_mlp"]


def tabular_mlp(
    num_numeric,
    cardinalities,
    num_outputs,
    *,
    hidden_dims=(256, 128),
    activation="relu",
    dropout=0.1,
    batch_norm=False,
):
    """Multi-layer perceptron for tables; each categorical column has an embedding of its own.

    A column of `c` values is embedded in `min(50, (c + 1) // 2)` dimensions; all columns side by side are the input of
    hidden layers `x <- dropout(act(norm(W x + b)))`.

    Args:
        num_numeric: Number of numeric columns.
        cardinalities: Number of values of each categorical column.
        num_outputs: Number of logits; 1 for regression.
        hidden_dims: Width of each hidden layer.
        activation: Name of a Keras activation.
        dropout: Fraction of each hidden layer dropped in training.
        batch_norm: Whether each hidden layer is normalized before its activation; it then needs no bias.
    Input shape: a dict of `"numeric"`, `(batch, num_numeric)`, and `"categorical"`, `(batch, len(cardinalities))`,
        whole numbers in `[0, cardinality)`; a part without columns is left out.
    Output shape: `(batch, num_outputs)`, logits.
    Raises:
        ValueError: if there is no column.
    Reference: Guo and Berkhahn, 2016, arXiv 1604.06737.
    """
    inputs = tabular_inputs(num_numeric, cardinalities)
    columns = [inputs["numeric"]] if num_numeric else []
    for index, cardinality in enumerate(cardinalities):
        embedding = Embedding(cardinality, min(50, (cardinality + 1) // 2))
        columns.append(embedding(inputs["categorical"][:, index]))
    x = keras.layers.Concatenate()(columns) if len(columns) > 1 else columns[0]
    for hidden_dim in hidden_dims:
        x = Dense(hidden_dim, use_bias=not batch_norm)(x)
        if batch_norm:
            x = BatchNormalization()(x)
        x = keras.layers.Activation(activation)(x)
        x = Dropout(dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="tabular_mlp")
