"""A `.keras` file judged before Keras reads it: names, sizes, the classes it asks for, the links its weights hold.

Keras refuses code under `safe_mode`, but takes gigabytes on the word of a file. Here a model may only ask for what the
file really holds.
"""

import contextlib
import io
import json
import math
import zipfile

import h5py

from apps.common.data.reading import readable_size, require_memory

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
MAX_CONFIG = 64_000_000
MAX_EXPANSION = 100  # Keras stores its members as they are; numbers seldom compress to a hundredth
# Classes of Keras that run what they are given, or read files.
FORBIDDEN = {
    "Lambda", "TFSMLayer", "TorchModuleWrapper", "JaxLayer", "FlaxLayer", "StringLookup", "IntegerLookup", "TextVectorization",
    "__lambda__", "__typespec__",
}  # fmt: skip
FUNCTIONS = ("builtins", "keras.activations", "keras.src.activations", "keras.losses", "keras.metrics")


def check_model_file(path):
    """The numbers (of all weights together) a model file holds, after a look at everything in it.

    Raises:
        ValueError: It holds what no model of ours does, or declares more than it holds.
        UserError: It does not fit into memory.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        strange = sorted({each.filename for each in members} - MEMBERS)
        if strange or len(members) != len(MEMBERS):
            raise ValueError(f"it holds {strange[0]!r}" if strange else "its parts are missing or given twice")
        for each in members:
            if each.file_size > 1_000_000 and each.file_size > MAX_EXPANSION * each.compress_size:
                sizes = f"{readable_size(each.compress_size)} to {readable_size(each.file_size)}"
                raise ValueError(f"{each.filename} unpacks from {sizes}")
        if archive.getinfo("config.json").file_size > MAX_CONFIG:
            raise ValueError(f"its config.json is larger than {readable_size(MAX_CONFIG)}")
        require_memory(3 * sum(each.file_size for each in members), path, "Use a smaller model")
        check_classes(json.loads(archive.read("config.json")))
        return check_weights(archive.read("model.weights.h5"))


def check_classes(config):
    """Refuse a configuration that names a class or function from outside of Keras and this package."""
    waiting = [config]
    while waiting:
        value = waiting.pop()
        waiting += value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if not isinstance(value, dict) or not isinstance(value.get("class_name", {}), str):
            continue
        name, module = value["class_name"], value.get("module")
        if name in FORBIDDEN:
            raise ValueError(f"it holds a {name}, which may run code or read files")
        if name == "function" and module not in FUNCTIONS:
            raise ValueError(f"it names a function of {module!r}")
        ours = str(value.get("registered_name")).startswith("triptych>")
        if module not in (None, "builtins", "keras") and not str(module).startswith("keras.") and not ours:
            raise ValueError(f"it names the class {name!r} of {module!r}")


def check_weights(content):
    """The numbers in an HDF5 file, whose groups and data sets must lie in it, as they are, once."""
    numbers, seen = 0, set()
    with h5py.File(io.BytesIO(content), "r") as file:
        waiting = [file]
        while waiting:
            group = waiting.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise ValueError(f"its weights hold a link, {name!r}")
                item = group[name]
                address = h5py.h5o.get_info(item.id).addr
                if address in seen:
                    raise ValueError(f"its weights hold {name!r} twice")
                seen.add(address)
                if isinstance(item, h5py.Group):
                    waiting.append(item)
                    continue
                if not isinstance(item, h5py.Dataset) or item.dtype.kind not in "biufcV" or item.dtype.hasobject:
                    raise ValueError(f"its weights hold {name!r}, which is no array of numbers")
                if item.is_virtual or item.external or item.id.get_storage_size() < item.nbytes:
                    raise ValueError(f"its weights declare {readable_size(item.nbytes)} for {name!r} and do not hold them")
                numbers += item.size
    return numbers


SPARE = 10_000  # numbers: an encoder is a classifier whose logits are made and left out


@contextlib.contextmanager
def weights_bounded(numbers, what="more weights than the {numbers:,} numbers it holds"):
    """While it lasts, layers may make weights of so many numbers in all, and a few that are left out again.

    Args:
        numbers: At most.
        what: What a model that wants more is said to ask for.
    """
    import keras

    original, made = keras.layers.Layer.add_weight, 0

    def add_weight(layer, shape=None, *arguments, **options):
        nonlocal made
        made += math.prod(shape or ())
        if made > numbers + SPARE:
            raise ValueError(f"it asks for {what.format(numbers=numbers)} (layer {layer.name})")
        return original(layer, shape, *arguments, **options)

    keras.layers.Layer.add_weight = add_weight
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = original
