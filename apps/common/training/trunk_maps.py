"""`--pretrained` of a detector or a U-Net: the feature maps of a network that was trained as a classifier.

The network is one of `keras.applications` (`keras:NAME[=FILE]`), a vision transformer of Hugging Face (`hf:FOLDER`), or that of a
bundle of image-classification or contrastive. Its maps are those of the last layer at each stride, a transformer's its tokens.
"""

from dataclasses import dataclass
from pathlib import Path

import keras

from apps.common.bundles.bundle import open_bundle
from apps.common.errors import UserError
from apps.common.files import sha256
from apps.common.options.training import library_of
from apps.common.training.feature_maps import image_network
from apps.common.training.trunks import CAFFE, TRUNKS, named_network
from apps.common.training.vit_folder import vit_maps

MADE_OUTSIDE = (keras.layers.InputLayer, keras.layers.ZeroPadding2D, keras.layers.Cropping2D)  # no features of their own


@dataclass(frozen=True)
class Trunk:
    """A pretrained trunk.

    Args:
        model: From pixels in 0..255 to a list of maps, the finest first.
        layers: Those of its layers that have weights.
        digest: Of the file its weights come from.
    """

    model: keras.Model
    layers: list
    digest: str


def given_trunk(source, task, shape, strides):
    """The trunk that a source names for pictures of `shape`; `None` without one, or where a bundle of the same task is named.

    Such a bundle has weights for the whole of the model, which `compile_model` puts into their places.

    Args:
        source: As `--pretrained`.
        task: Of the app.
        shape: `(height, width, channels)` of the pictures.
        strides: Those whose maps are wanted, ascending. If the network has none as coarse as the first, its coarsest is given.
    Raises:
        UserError: The source is no such network, or it has no maps for such pictures.
    """
    if source is None or (not library_of(source) and open_bundle(source).task == task):
        return None
    if library_of(source) == "hf:":
        body, scaling, digest = vit_maps(source, shape[:2], strides)
        flipped = False
    else:
        body, scaling, digest, flipped = network_maps(source, shape, strides)
    inputs = x = keras.Input(shape, name="pixels")
    channels = body.inputs[0].shape[-1]
    if shape[-1] != channels:
        x = keras.layers.Concatenate()([x] * 3) if channels == 3 else keras.ops.mean(x, axis=-1, keepdims=True)
    if flipped:
        x = keras.ops.flip(x, axis=-1)  # its weights are for blue, green, red
    x = keras.layers.Rescaling(*scaling)(x)
    model = keras.Model(inputs, body(x), name="trunk")
    return Trunk(model, [layer for layer in body.layers if layer.weights], digest)


def network_maps(source, shape, strides):
    """Of a network of convolutions: from its inputs to its maps; factor and offset of those, digest, whether blue comes first."""
    option = f"--pretrained {source}"
    if library_of(source):
        name, file, network = named_network(source, (*shape[:2], 3))
        scaling, flipped = TRUNKS[name], TRUNKS[name] is CAFFE
        digest = sha256(Path(file).expanduser())[:24] if file else "imagenet"
    else:
        network, *scaling = image_network("--pretrained", source)
        network, flipped = resized(network, shape, option), False
        digest = sha256(open_bundle(source).folder / "model.keras")[:24]
    maps = maps_at(network, shape, strides)
    if not maps:
        raise UserError(
            f"{option}: has no feature maps that divide pictures of {shape[0]} x {shape[1]} pixels evenly; expected a network "
            "of convolutions. Choose another, or an --image-size that is a multiple of 32"
        )
    return keras.Model(network.inputs[0], maps), scaling, digest, flipped


def resized(network, shape, option):
    """The same network, with the same weights, for pictures of another size; without what only fits its own."""
    found = [layer.output for layer in network.layers if is_map(layer)]
    if not found:
        raise UserError(f"{option}: this network has no feature maps; expected one of convolutions, such as --model resnet")
    body = keras.Model(network.inputs[0], found)
    made = keras.models.clone_model(body, input_tensors=keras.Input((*shape[:2], body.inputs[0].shape[-1])))
    made.set_weights(body.get_weights())
    return made


def is_map(layer):
    return len(getattr(getattr(layer, "output", None), "shape", ())) == 4 and not isinstance(layer, MADE_OUTSIDE)


def maps_at(network, shape, strides):
    """The output of the last layer at each of these strides that there is; if there is none, at the next finer one."""
    found = {}
    for layer in network.layers:
        if is_map(layer) and layer.output.shape[-1] > 4:  # fewer are colours
            found[tuple(layer.output.shape[1:3])] = layer.output
    finer = [stride for stride in (4, 2, 1) if stride < strides[0]]
    sizes = {stride: tuple(-(-size // stride) for size in shape[:2]) for stride in (*strides, *finer)}
    # Of a small picture the last strides give maps of one size.
    chosen = list(dict.fromkeys(sizes[stride] for stride in strides if sizes[stride] in found))
    chosen = chosen or [sizes[stride] for stride in finer if sizes[stride] in found][:1]
    return [found[size] for size in chosen]
