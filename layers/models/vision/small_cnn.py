"""A small convolutional network: convolution, batch norm and pooling, twice, and a dense head."""

import math

import keras

from ... import BatchNormalization, Conv2D, Dense, Dropout, MaxPooling2D
from .._inputs import image_input

__all__ = ["small_cnn"]


def small_cnn(image_shape, num_outputs, *, filters=(32, 64), dense_dim=24, dropout=0.3, batch_norm=True):
    """Two convolution layers with pooling and a dense layer: under 100,000 parameters for 28 x 28 images.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        num_outputs: Number of logits.
        filters: Filters of each 3 x 3 convolution; each is followed by a pool that halves the image.
        dense_dim: Width of the hidden dense layer; `None` for none.
        dropout: Fraction of the features dropped before each dense layer in training.
        batch_norm: Whether each convolution is normalized before its ReLU; it then needs no bias.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    """
    inputs = x = image_input(image_shape, minimum=2 ** len(filters))
    for num_filters in filters:
        x = Conv2D(num_filters, 3, padding="same", use_bias=not batch_norm)(x)
        if batch_norm:
            x = BatchNormalization(momentum=0.9)(x)  # statistics settle within a short epoch, too
        x = keras.layers.ReLU()(x)
        x = MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    x = Dropout(dropout)(x)
    if dense_dim is not None:
        x = Dense(dense_dim, activation="relu")(x)
        x = Dropout(dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="small_cnn")


def filters_of(image_shape):
    """Filters for pictures of this size, as many as leave about four pixels a side.

    What is flattened is then small: a dense layer over thousands of numbers takes steps so large that its units die.
    """
    return (32, 64, 128, 128, 128)[: max(2, round(math.log2(min(image_shape[:2]) / 4)))]
