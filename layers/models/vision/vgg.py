"""VGG: nothing but 3 x 3 convolutions and pooling, deep."""

import keras

from ... import BatchNormalization, Conv2D, Dense, Dropout, MaxPooling2D
from .._inputs import choose, image_input

__all__ = ["vgg"]

# Convolutions in each of the five stages; with the three dense layers they make the depth (table 1 of the paper).
_STAGES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}


def vgg(image_shape, num_outputs, *, depth=16, width=64, batch_norm=False, dropout=0.5):
    """VGG of depth 11, 13, 16 or 19; VGG-16 has 138,357,544 parameters for 224 x 224 and 1000 classes.

    Images of 64 pixels a side and more get the paper's two hidden dense layers of 4096; smaller ones a single one of
    512, and no pool halves a map of one pixel.

    The weights, in their order, are those of `keras.applications.VGG16` and `VGG19`, which compute the same numbers.

    Args:
        image_shape: `(height, width, channels)`, any size; 224 x 224 x 3 in the paper.
        num_outputs: Number of logits.
        depth: Number of layers with weights: 11, 13, 16 or 19.
        width: Filters of the first stage; each stage doubles them, up to eight times as many.
        batch_norm: Whether each convolution is normalized before its ReLU.
        dropout: Fraction of each hidden dense layer dropped in training.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Simonyan and Zisserman, 2014, arXiv 1409.1556.
    """
    stages = choose("depth", depth, _STAGES)
    inputs = x = image_input(image_shape)
    for stage, num_convolutions in enumerate(stages):
        for _ in range(num_convolutions):
            x = Conv2D(width * min(2**stage, 8), 3, padding="same", kernel_initializer="he_uniform")(x)
            if batch_norm:
                x = BatchNormalization()(x)
            x = keras.layers.ReLU()(x)
        if min(x.shape[1:3]) > 1:
            x = MaxPooling2D(2)(x)
    x = keras.layers.Flatten()(x)
    hidden_dims = (64 * width, 64 * width) if min(inputs.shape[1:3]) >= 64 else (8 * width,)
    for hidden_dim in hidden_dims:
        x = Dense(hidden_dim, activation="relu")(x)
        x = Dropout(dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name=f"vgg{depth}")
