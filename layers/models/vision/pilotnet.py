"""PilotNet: from what a car's camera sees to how far its wheel is turned."""

import keras

from ... import Conv2D, Dense, Dropout
from .._inputs import image_input

__all__ = ["pilotnet"]


def pilotnet(image_shape=(66, 200, 3), num_outputs=1, *, width=24, hidden_dims=(100, 50, 10), dropout=0.0):
    """PilotNet: five convolutions and four dense layers, 252,219 weights at the paper's size.

    Args:
        image_shape: `(height, width, channels)`; the paper's is (66, 200, 3). Where a map is smaller than a kernel the
            convolution is padded.
        num_outputs: Numbers to predict; one is the steering.
        width: Filters of the first convolution; the paper's are 24, 36, 48, 64 and 64.
        hidden_dims: Widths of the dense layers before the last; without any that one sees the last map.
        dropout: Fraction dropped in training before each hidden dense layer; the paper has none.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: `(batch, num_outputs)`.
    Reference: Bojarski et al., 2016, arXiv 1604.07316; the activations as in Bojarski et al., 2017, arXiv 1704.07911.
    """
    inputs = image_input(image_shape)
    x = keras.layers.Rescaling(1 / 127.5, -1.0)(inputs)
    for share, kernel_size, strides in [(24, 5, 2), (36, 5, 2), (48, 5, 2), (64, 3, 1), (64, 3, 1)]:
        padding = "valid" if min(x.shape[1:3]) >= kernel_size else "same"
        filters = max(1, width * share // 24)
        x = Conv2D(filters, kernel_size, strides=strides, padding=padding, activation="relu")(x)
    x = keras.layers.Flatten()(x)
    for units in hidden_dims:
        x = Dense(units, activation="relu")(Dropout(dropout)(x) if dropout else x)
    outputs = Dense(num_outputs, dtype=keras.config.floatx(), name="steering")(x)
    return keras.Model(inputs, outputs, name="pilotnet")
