"""`--pretrained hf:FOLDER` of pictures: a vision transformer as Hugging Face writes it, built of our own layers."""

import re

import keras
import numpy as np

from apps.common.bundles.hugging_face import HuggingFace
from apps.common.errors import UserError

PREPROCESSOR = "preprocessor_config.json"
ACTIVATIONS = {"gelu": "gelu", "relu": "relu"}
# Where our layers (left) find their weights (right); {} is the number of a block. Parts joined by + lie in one matrix of ours.
LAYERS = {
    "patches/projection": "embeddings.patch_embeddings.projection",
    "block_{}/attention_norm": "encoder.layer.{}.layernorm_before",
    "block_{}/attention/query_key_value":
        "encoder.layer.{}.attention.attention.query + encoder.layer.{}.attention.attention.key + "
        "encoder.layer.{}.attention.attention.value",
    "block_{}/attention/output": "encoder.layer.{}.attention.output.dense",
    "block_{}/hidden_norm": "encoder.layer.{}.layernorm_after",
    "block_{}/hidden": "encoder.layer.{}.intermediate.dense",
    "block_{}/output": "encoder.layer.{}.output.dense",
    "norm": "layernorm",
    "logits": "classifier",
}  # fmt: skip
TABLES = {"class_token/token": "embeddings.cls_token", "positions/positions": "embeddings.position_embeddings"}


def vit_classifier(source, shape, names, pixels, dropout=0.0):
    """A classifier on the vision transformer of a folder.

    Its logits are the folder's own where its classes are the data's, name for name, and new where they are others.

    Args:
        source: `hf:FOLDER`.
        shape: `(height, width, channels)` of the pictures, of one or three channels.
        names: Of the classes.
        pixels: `(factor, offset)` that takes the network's inputs to pixels in 0..255.
        dropout: Share of the tokens dropped in training.
    Returns: The `keras.Model` from inputs of `shape` to logits; the layers of its trunk; the digest of the weights.
    Raises:
        UserError: The folder has no such network, or the pictures do not suit it.
    """
    from layers.models.vision.vit import patch_transformer

    folder = HuggingFace(source)
    folder.architecture(["vit"])
    sizes = {ours: folder.value(name) for ours, name in SIZES.items()}
    sides, size = tuple(shape[:2]), folder.value("image_size")
    if sides != (size, size):
        shown = f"sees {size} x {size} pixels, these pictures have {sides[0]} x {sides[1]}"
        raise UserError(f"{folder.name}: {shown}. Add --image-size {size}")
    folder.demand("num_channels", 3)
    folder.demand("qkv_bias", True)
    sizes["activation"] = ACTIVATIONS[folder.demand("hidden_act", *ACTIVATIONS)]
    sizes["epsilon"] = folder.value("layer_norm_eps", float, 1e-12)
    inputs = x = keras.Input(shape)
    x = keras.layers.Rescaling(*pixels)(x)
    if shape[-1] == 1:
        x = keras.layers.Concatenate()([x] * 3)
    elif shape[-1] != 3:
        raise UserError(f"{folder.name}: takes pictures of one or three channels, these have {shape[-1]}")
    x = keras.layers.Rescaling(*scaling(folder))(x)
    vit = patch_transformer((*sides, 3), len(names), sizes, dropout)
    tensors = {name.removeprefix("vit."): array for name, array in folder.tensors().items()}
    labels, trunk = folder.config.get("id2label") or {}, []
    same = [str(labels.get(str(place))) for place in range(len(labels))] == list(names) and "classifier.weight" in tensors
    for layer in vit.layers:
        if layer.weights and (same or layer.name != "logits"):
            for variable in layer.weights:
                variable.assign(array_for(folder, tensors, variable))
            trunk.append(layer)
    return keras.Model(inputs, vit(x), name="classifier"), trunk, folder.digest()


SIZES = {
    "patch_size": "patch_size", "width": "hidden_size", "depth": "num_hidden_layers", "num_heads": "num_attention_heads",
    "hidden_dim": "intermediate_size",
}  # fmt: skip


def scaling(folder):
    """Factor and offset of each channel that the folder's preprocessor applies to pixels in 0..255."""
    known = folder.json(PREPROCESSOR, {})
    factor = known.get("rescale_factor", 1 / 255) if known.get("do_rescale", True) else 1.0
    mean, deviation = known.get("image_mean", [0.5] * 3), known.get("image_std", [0.5] * 3)
    if not known.get("do_normalize", True):
        mean, deviation = [0.0] * 3, [1.0] * 3
    try:
        mean, deviation, factor = np.array(mean, float), np.array(deviation, float), float(factor)
        if mean.shape != (3,) or deviation.shape != (3,) or not (deviation > 0).all():
            raise ValueError("expected three numbers each")
    except (TypeError, ValueError) as error:
        raise UserError(f"{folder.name}: {PREPROCESSOR}: image_mean, image_std, rescale_factor: {error}") from None
    return (factor / deviation).tolist(), (-mean / deviation).tolist()


def array_for(folder, tensors, variable):
    """The array that a variable of ours is given.

    Raises:
        UserError: It is missing, or of another shape.
    """
    layer, _, kind = variable.path.rpartition("/")
    number = next(iter(re.findall(r"block_(\d+)", layer)), "")
    ours = re.sub(r"block_\d+", "block_{}", layer)
    if f"{ours}/{kind}" in TABLES:
        names = [TABLES[f"{ours}/{kind}"]]
    else:
        ending = "bias" if kind in ("bias", "beta") else "weight"
        names = [f"{part.replace('{}', number)}.{ending}" for part in LAYERS[ours].split(" + ")]
    missing = [name for name in names if name not in tensors]
    if missing:
        raise UserError(f"{folder.name}: has no tensor {missing[0]}, which config.json asks for; they do not belong together")
    array = np.concatenate([tensors[name] for name in names])
    if array.ndim == 4:  # (width, channels, rows, columns) of a patch, which ours reads row by row, pixel by pixel
        array = np.transpose(array, (2, 3, 1, 0)).reshape(-1, array.shape[0])
    elif kind == "kernel":
        array = array.T
    if array.size != int(np.prod(variable.shape)) or (array.ndim == 2 and array.shape != tuple(variable.shape)):
        raise UserError(
            f"{folder.name}: {names[0]} makes {array.shape}, config.json asks for {tuple(variable.shape)}; they do not belong "
            "together"
        )
    return array.reshape(variable.shape)
