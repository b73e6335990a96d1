"""MobileNet: inverted residual blocks around depthwise convolutions, for phones."""

import keras

from ... import BatchNormalization, Conv2D, Dense, DepthwiseConv2D, Dropout
from .._inputs import choose, image_input

__all__ = ["mobilenet"]

# A row is one block: kernel size, expansion, filters, squeeze-and-excitation, activation, strides.
# Table 2 of Sandler et al., 2018; tables 1 and 2 of Howard et al., 2019.
_V2 = (
    (3, 1, 16, False, "relu6", 1),
    *[(3, 6, 24, False, "relu6", strides) for strides in (2, 1)],
    *[(3, 6, 32, False, "relu6", strides) for strides in (2, 1, 1)],
    *[(3, 6, 64, False, "relu6", strides) for strides in (2, 1, 1, 1)],
    *[(3, 6, 96, False, "relu6", 1)] * 3,
    *[(3, 6, 160, False, "relu6", strides) for strides in (2, 1, 1)],
    (3, 6, 320, False, "relu6", 1),
)
_V3_SMALL = (
    (3, 1, 16, True, "relu", 2),
    (3, 72 / 16, 24, False, "relu", 2),
    (3, 88 / 24, 24, False, "relu", 1),
    *[(5, expansion, 40, True, "hard_swish", strides) for expansion, strides in ((4, 2), (6, 1), (6, 1))],
    *[(5, 3, 48, True, "hard_swish", 1)] * 2,
    *[(5, 6, 96, True, "hard_swish", strides) for strides in (2, 1, 1)],
)
_V3_LARGE = (
    (3, 1, 16, False, "relu", 1),
    *[(3, expansion, 24, False, "relu", strides) for expansion, strides in ((4, 2), (3, 1))],
    *[(5, 3, 40, True, "relu", strides) for strides in (2, 1, 1)],
    (3, 6, 80, False, "hard_swish", 2),
    *[(3, expansion, 80, False, "hard_swish", 1) for expansion in (2.5, 2.3, 2.3)],
    *[(3, 6, 112, True, "hard_swish", 1)] * 2,
    *[(5, 6, 160, True, "hard_swish", strides) for strides in (2, 1, 1)],
)
_VERSIONS = {"v2": _V2, "v3-small": _V3_SMALL, "v3-large": _V3_LARGE}


def mobilenet(image_shape, num_outputs, *, version="v2", width=1.0, dropout=0.2):
    """MobileNet V2, V3-Small or V3-Large with a width multiplier; V2 has 3,504,872 trainable parameters at width 1.

    A block widens its input with a 1 x 1 convolution, filters each channel by itself (a depthwise convolution), in V3
    weighs the channels by what the whole image says (squeeze-and-excitation), and narrows again; where the shape is
    kept, the input is added.

    Images of 64 pixels a side and more get the published network from `keras.applications` (without its own scaling of
    the pixels: give them from -1 to 1). For smaller ones the first convolution keeps the resolution, so that 28 x 28
    ends as 2 x 2 and not as a single pixel; all weights keep their shapes.

    Trainable parameters with 1000 classes: V2 3,504,872, V3-Small 2,542,856, V3-Large 5,483,032.

    Args:
        image_shape: `(height, width, channels)`, any size.
        num_outputs: Number of logits.
        version: `"v2"`, `"v3-small"` or `"v3-large"`.
        width: Factor on the filters of every block, rounded to multiples of 8.
        dropout: Fraction of the features dropped before the last layer in training.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    References: Sandler et al., 2018, arXiv 1801.04381; Howard et al., 2019, arXiv 1905.02244.
    """
    choose("version", version, _VERSIONS)
    inputs = image_input(image_shape)
    published = min(inputs.shape[1:3]) >= 64
    features = _published_features if published else _features
    x = features(inputs, version, width)
    x = keras.layers.GlobalAveragePooling2D()(x)
    if version != "v2":
        last_dim = {"v3-small": 1024, "v3-large": 1280}[version]
        x = Dense(_round(last_dim * max(width, 1.0)), activation="hard_swish")(x)
    x = Dropout(dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name=f"mobilenet_{version.replace('-', '_')}")


def _published_features(inputs, version, width):
    options = {"input_tensor": inputs, "alpha": width, "include_top": False, "weights": None}
    if version == "v2":
        model = keras.applications.MobileNetV2(**options)
    elif version == "v3-small":
        model = keras.applications.MobileNetV3Small(**options, include_preprocessing=False)
    else:
        model = keras.applications.MobileNetV3Large(**options, include_preprocessing=False)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.99  # .999 there, which needs thousands of steps before validation means anything
    return model.output


def _features(inputs, version, width, stem_strides=1):
    filters, activation = (_round(32 * width), "relu6") if version == "v2" else (16, "hard_swish")
    x = Conv2D(filters, 3, strides=stem_strides, padding="same", use_bias=False)(inputs)
    x = keras.layers.Activation(activation)(_normalize(x))
    for kernel_size, expansion, filters, squeeze, block_activation, strides in _VERSIONS[version]:
        shortcut = x
        hidden_dim = _round(x.shape[-1] * expansion)
        if expansion != 1:
            x = Conv2D(hidden_dim, 1, use_bias=False)(x)
            x = keras.layers.Activation(block_activation)(_normalize(x))
        x = DepthwiseConv2D(kernel_size, strides=strides, padding="same", use_bias=False)(x)
        x = keras.layers.Activation(block_activation)(_normalize(x))
        if squeeze:
            x = _squeeze_and_excite(x, _round(hidden_dim / 4))
        x = _normalize(Conv2D(_round(filters * width), 1, use_bias=False)(x))
        if shortcut.shape == x.shape:
            x = keras.layers.Add()([shortcut, x])
    last_filters = _round(1280 * max(width, 1.0)) if version == "v2" else _round(x.shape[-1] * 6)
    x = Conv2D(last_filters, 1, use_bias=False)(x)
    return keras.layers.Activation(activation)(_normalize(x))


def _squeeze_and_excite(x, squeezed_dim):
    weights = keras.layers.GlobalAveragePooling2D(keepdims=True)(x)
    weights = Conv2D(squeezed_dim, 1, activation="relu")(weights)
    weights = Conv2D(x.shape[-1], 1, activation="hard_sigmoid")(weights)
    return keras.layers.Multiply()([x, weights])


def _normalize(x):
    return BatchNormalization(epsilon=1e-3, momentum=0.99)(x)


def _round(filters):
    """Round to a multiple of 8, losing no more than a tenth."""
    rounded = max(8, int(filters + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * filters else rounded
