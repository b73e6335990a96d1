"""LeNet-5, the convolutional network that read cheques."""

import keras

from ... import AveragePooling2D, Conv2D, Dense, Dropout
from .._inputs import image_input

__all__ = ["lenet5"]


def lenet5(image_shape, num_outputs, *, activation="tanh", dropout=0.0):
    """LeNet-5: two 5 x 5 convolutions with average pooling and three dense layers; 61,706 parameters for digits.

    Images under 32 pixels a side are padded with zeros to 32, as the paper pads 28 x 28 digits. Two things differ from
    the paper, as they do in most reimplementations: every map of the third layer (C3) sees every map below it, where
    the paper leaves some connections out, and pooling has no weights of its own.

    Args:
        image_shape: `(height, width, channels)`, any size.
        num_outputs: Number of logits.
        activation: Name of a Keras activation.
        dropout: Fraction of each hidden dense layer dropped in training; none in the paper.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: LeCun, Bottou, Bengio and Haffner, 1998, "Gradient-based learning applied to document recognition".
    """
    inputs = x = image_input(image_shape)
    missing = [max(0, 32 - size) for size in inputs.shape[1:3]]
    if any(missing):
        x = keras.layers.ZeroPadding2D([(size // 2, size - size // 2) for size in missing])(x)
    x = Conv2D(6, 5, activation=activation)(x)  # C1
    x = AveragePooling2D(2)(x)  # S2
    x = Conv2D(16, 5, activation=activation)(x)  # C3
    x = AveragePooling2D(2)(x)  # S4
    x = keras.layers.Flatten()(x)
    for hidden_dim in (120, 84):  # C5, a convolution over the whole map, and F6
        x = Dense(hidden_dim, activation=activation)(x)
        x = Dropout(dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="lenet5")
