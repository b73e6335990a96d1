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
    sizes = sizes_of(folder)
    sides, size = tuple(shape[:2]), folder.value("image_size")
    if sides != (size, size):
        shown = f"sees {size} x {size} pixels, these pictures have {sides[0]} x {sides[1]}"
        raise UserError(f"{folder.name}: {shown}. Add --image-size {size}")
    inputs = x = keras.Input(shape)
    x = keras.layers.Rescaling(*pixels)(x)
    if shape[-1] == 1:
        x = keras.layers.Concatenate()([x] * 3)
    elif shape[-1] != 3:
        raise UserError(f"{folder.name}: takes pictures of one or three channels, these have {shape[-1]}")
    x = keras.layers.Rescaling(*scaling(folder))(x)
    vit = patch_transformer((*sides, 3), len(names), sizes, dropout)
    tensors = tensors_of(folder)
    labels, trunk = folder.config.get("id2label") or {}, []
    same = [str(labels.get(str(place))) for place in range(len(labels))] == list(names) and "classifier.weight" in tensors
    for layer in vit.layers:
        if layer.weights and (same or layer.name != "logits"):
            for variable in layer.weights:
                variable.assign(array_for(folder, tensors, variable))
            trunk.append(layer)
    return keras.Model(inputs, vit(x), name="classifier"), trunk, folder.digest()


def vit_maps(source, sides, strides):
    """The tokens of the patches as maps of features, for pictures of any size that the patches divide.

    A vision transformer has one map, of the stride of its patches. Finer ones are it with each cell repeated, coarser ones the
    largest of its cells (Li et al., 2022, arXiv 2203.16527, who learn both; here the convolutions that follow do). Its positions
    are interpolated where the pictures have another size than it was trained on.

    Args:
        source: `hf:FOLDER`.
        sides: `(height, width)` of the pictures.
        strides: Those wanted, ascending; none finer than 8 is given where there are coarser ones.
    Returns: The `keras.Model` from pixels in 0..255 to a list of maps without their scaling; factor and offset of that; the
        digest of the weights.
    Raises:
        UserError: The folder has no such network, or the pictures do not suit it.
    """
    from layers import MaxPooling2D
    from layers.models.vision.vit import patch_transformer

    folder = HuggingFace(source)
    sizes = sizes_of(folder)
    patch = sizes["patch_size"]
    if patch not in (4, 8, 16, 32):
        raise UserError(f"{folder.name}: patches of {patch} pixels; as a trunk one of 4, 8, 16 or 32 is expected")
    if any(side % patch for side in sides):
        shown = f"its patches of {patch} pixels do not divide pictures of {sides[0]} x {sides[1]}"
        raise UserError(f"{folder.name}: {shown}. Choose an --image-size that is a multiple of {patch}")
    vit = patch_transformer((*sides, 3), 1, sizes, 0.0)
    grid = tuple(side // patch for side in sides)
    x = keras.layers.Reshape((*grid, sizes["width"]), name="map")(vit.get_layer("norm").output[:, 1:])
    maps = []
    for stride in (stride for stride in strides if stride >= min(8, strides[-1])):
        finer, coarser = max(1, patch // stride), max(1, stride // patch)
        made = keras.layers.UpSampling2D(finer)(x) if finer > 1 else x
        maps.append(MaxPooling2D(coarser, padding="same")(made) if coarser > 1 else made)
    body = keras.Model(vit.inputs[0], maps)
    tensors, name = tensors_of(folder), TABLES["positions/positions"]
    if name in tensors:
        tensors[name] = resized_positions(tensors[name].reshape(-1, sizes["width"]), grid)
    for layer in body.layers:
        for variable in layer.weights:
            variable.assign(array_for(folder, tensors, variable))
    return body, scaling(folder), folder.digest()


def resized_positions(table, grid):
    """A table of positions, the class token's first, for a grid of other patches, by Pillow's bicubic filter."""
    from PIL import Image

    own = round((len(table) - 1) ** 0.5)
    if (own, own) == grid or own * own != len(table) - 1:
        return table
    planes = table[1:].reshape(own, own, -1).astype("float32")
    planes = [Image.fromarray(planes[..., index]).resize(grid[::-1], Image.Resampling.BICUBIC) for index in range(table.shape[1])]
    return np.concatenate([table[:1], np.stack([np.asarray(each) for each in planes], -1).reshape(-1, table.shape[1])])


def sizes_of(folder):
    """The sizes of a folder's vision transformer, as `patch_transformer` takes them.

    Raises:
        UserError: It is none, or of another kind than ours.
    """
    folder.architecture(["vit"])
    folder.demand("num_channels", 3)
    folder.demand("qkv_bias", True)
    sizes = {ours: folder.value(name) for ours, name in SIZES.items()}
    sizes["activation"] = ACTIVATIONS[folder.demand("hidden_act", *ACTIVATIONS)]
    sizes["epsilon"] = folder.value("layer_norm_eps", float, 1e-12)
    return sizes


def tensors_of(folder):
    """The tensors of a folder by the names they have in a transformer that stands alone."""
    return {name.removeprefix("vit."): array for name, array in folder.tensors().items()}


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
