"""AlexNet, the network that won ImageNet in 2012."""

import keras

from ... import Conv2D, Dense, Dropout, MaxPooling2D
from .._inputs import image_input

__all__ = ["alexnet"]


def alexnet(image_shape, num_outputs, *, width=96, dense_dim=4096, dropout=0.5):
    """AlexNet: five convolutions and two wide dense layers; 62,378,344 parameters for 227 x 227 and 1000 classes.

    The paper's layers in one tower: its convolutions in two halves were a matter of two graphics cards, and its local
    response normalization, which has no weights, is left out as in Krizhevsky's own later version (2014, arXiv
    1404.5997). Images under 67 pixels a side keep their resolution in the first convolution (3 x 3 in place of 11 x 11
    with stride 4) and are halved three times.

    Args:
        image_shape: `(height, width, channels)`, at least 8 pixels a side; 227 x 227 x 3 in the paper.
        num_outputs: Number of logits.
        width: Filters of the first convolution; the others keep the paper's ratios to it.
        dense_dim: Width of the two hidden dense layers.
        dropout: Fraction of the input of each hidden dense layer dropped in training.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Krizhevsky, Sutskever and Hinton, 2012, "ImageNet classification with deep convolutional neural
        networks".
    """
    inputs = image_input(image_shape, minimum=8)
    large = min(inputs.shape[1:3]) >= 67  # the fewest of which the paper's strides and pools leave a pixel
    first = {"kernel_size": 11, "strides": 4} if large else {"kernel_size": 3, "padding": "same"}
    second = {"kernel_size": 5 if large else 3, "padding": "same"}
    pool_size = 3 if large else 2

    x = Conv2D(width, activation="relu", **first)(inputs)
    x = MaxPooling2D(pool_size, strides=2)(x)
    x = Conv2D(width * 8 // 3, activation="relu", **second)(x)
    x = MaxPooling2D(pool_size, strides=2)(x)
    x = Conv2D(width * 4, 3, padding="same", activation="relu")(x)
    x = Conv2D(width * 4, 3, padding="same", activation="relu")(x)
    x = Conv2D(width * 8 // 3, 3, padding="same", activation="relu")(x)
    x = MaxPooling2D(pool_size, strides=2)(x)
    x = keras.layers.Flatten()(x)
    for _ in range(2):
        x = Dropout(dropout)(x)
        x = Dense(dense_dim, activation="relu")(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="alexnet")
