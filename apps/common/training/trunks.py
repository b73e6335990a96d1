"""`--pretrained keras:NAME`: the networks of `keras.applications` without their top, as trunks of image models."""

from pathlib import Path

import keras

from apps.common.errors import UserError, nearest
from apps.common.files import sha256

CAFFE = ([1.0] * 3, [-103.939, -116.779, -123.68])  # of blue, green, red
IMAGENET = ([1 / 255 / deviation for deviation in (0.229, 0.224, 0.225)], [-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225])
SIGNED, OWN = ([1 / 127.5] * 3, [-1.0] * 3), ([1.0] * 3, [0.0] * 3)  # `OWN`: the network scales pixels itself
# What each takes pixels in 0..255 to (its `preprocess_input`): factor and offset.
TRUNKS = {
    "MobileNet": SIGNED, "MobileNetV2": SIGNED, "MobileNetV3Small": OWN, "MobileNetV3Large": OWN, "EfficientNetB0": OWN,
    "EfficientNetB1": OWN, "EfficientNetV2B0": OWN, "EfficientNetV2S": OWN, "ConvNeXtTiny": OWN, "ConvNeXtSmall": OWN,
    "DenseNet121": IMAGENET, "DenseNet169": IMAGENET, "NASNetMobile": SIGNED, "InceptionV3": SIGNED, "Xception": SIGNED,
    "ResNet50V2": SIGNED, "ResNet101V2": SIGNED, "ResNet50": CAFFE, "ResNet101": CAFFE, "VGG16": CAFFE, "VGG19": CAFFE,
}  # fmt: skip


def keras_classifier(source, shape, num_classes, pixels, dropout=0.0):
    """A classifier on a trunk of `keras.applications`, its weights those of ImageNet or of a file.

    Args:
        source: `keras:NAME`, which Keras downloads the weights of, or `keras:NAME=FILE`, a file of them without the top.
        shape: `(height, width, channels)`, of one or three channels.
        pixels: `(factor, offset)` that takes the network's inputs to pixels in 0..255.
        dropout: Share of the pooled features dropped in training.
    Returns:
        The `keras.Model` from inputs of `shape` to logits; the layers of its trunk; the digest of the weights' file.
    Raises:
        UserError: There is no such network, or its weights cannot be read, or the pictures do not suit it.
    """
    from layers import Dense, Dropout

    if shape[-1] not in (1, 3):
        raise UserError(f"--pretrained {source}: takes pictures of one or three channels, these have {shape[-1]}")
    name, file, network = named_network(source, (*shape[:2], 3))
    inputs = x = keras.Input(shape)
    x = keras.layers.Rescaling(*pixels)(x)
    if shape[-1] == 1:
        x = keras.layers.Concatenate()([x] * 3)
    if TRUNKS[name] is CAFFE:
        x = keras.ops.flip(x, axis=-1)
    x = keras.layers.Rescaling(*TRUNKS[name])(x)
    trunk = getattr(keras.applications, name)(include_top=False, weights=None, input_tensor=x)
    trunk.set_weights(network.get_weights())
    features = keras.layers.GlobalAveragePooling2D(name="features")(trunk.output)
    logits = Dense(num_classes, name="logits")(Dropout(dropout, name="dropout")(features))
    model = keras.Model(inputs, logits, name=name.lower())
    return model, [layer for layer in trunk.layers if layer.weights], sha256(Path(file).expanduser())[:24] if file else "imagenet"


def named_network(source, shape):
    """Name, weights' file and network of `keras:NAME[=FILE]`, for pictures of `shape`."""
    name, _, file = source.removeprefix("keras:").partition("=")
    if name not in TRUNKS:
        raise UserError(f"--pretrained {source}: expected keras:NAME or keras:NAME=FILE. {nearest(name, TRUNKS)}")
    return name, file, trained_network(f"--pretrained {source}", name, file, shape)


def trained_network(option, name, file, shape):
    """The network of `keras.applications` without its top, its weights from a file or those that Keras downloads.

    Args:
        option: What the user wrote, for a message.
        name: Of the network.
        file: Of the weights; empty for those of ImageNet.
        shape: `(height, width, 3)` of the pictures.
    """
    try:
        network = getattr(keras.applications, name)(include_top=False, weights=None if file else "imagenet", input_shape=shape)
        if file:
            network.load_weights(Path(file).expanduser())
    except Exception as error:  # a file or a download fails in as many ways as there are
        said = " ".join(str(error).split())[:160]
        if "Input size must be" in said:
            raise UserError(f"{option}: {said}. Enlarge the pictures by --image-size 96 or more") from None
        advice = f"give keras:{name}=FILE, the file of its weights without the top (notop)"
        raise UserError(f"{option}: the weights cannot be read ({said}); {advice}") from None
    return network
