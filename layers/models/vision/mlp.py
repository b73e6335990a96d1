"""The multi-layer perceptron: dense layers, for inputs of any shape."""

import keras

from ... import BatchNormalization, Dense, Dropout

__all__ = ["mlp"]


def mlp(
    input_shape,
    num_outputs,
    *,
    hidden_dims=(256, 128, 100),
    activation="relu",
    dropout=0.0,
    batch_norm=False,
    skip=False,
):
    """Multi-layer perceptron: flattens its input; dropout, batch norm and skip connections as options.

    One hidden layer is `x <- dropout(act(norm(W x + b)))`; with `skip`, `x <- x + dropout(act(norm(W x + b)))` wherever
    the width does not change.

    Args:
        input_shape: Shape of one example, without the batch.
        num_outputs: Number of logits.
        hidden_dims: Width of each hidden layer.
        activation: Name of a Keras activation.
        dropout: Fraction of each hidden layer dropped in training.
        batch_norm: Whether each hidden layer is normalized before its activation; it then needs no bias.
        skip: Whether hidden layers whose input is as wide as their output add the two.
    Input shape: `(batch, *input_shape)`.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Rumelhart, Hinton and Williams, 1986.
    """
    inputs = keras.Input(tuple(input_shape), name="input")
    x = keras.layers.Flatten()(inputs) if len(inputs.shape) > 2 else inputs
    for hidden_dim in hidden_dims:
        shortcut = x
        x = Dense(hidden_dim, use_bias=not batch_norm)(x)
        if batch_norm:
            x = BatchNormalization()(x)
        x = keras.layers.Activation(activation)(x)
        x = Dropout(dropout)(x)
        if skip and shortcut.shape == x.shape:
            x = keras.layers.Add()([shortcut, x])
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="mlp")
