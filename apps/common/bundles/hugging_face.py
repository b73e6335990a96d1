"""A folder as Hugging Face writes it: its configuration and its tensors, by NumPy. Nothing in it is executed, no pickle is read.

`--pretrained hf:FOLDER` of any task reads through here; which architecture is built of it, and which tensor goes where, is said
elsewhere (`language_networks` for BERT and GPT-2).
"""

from functools import cached_property
from pathlib import Path

import numpy as np

from apps.common.errors import UserError, nearest
from apps.common.files import read_json, sha256

WEIGHTS, SHARDS = "model.safetensors", "model.safetensors.index.json"
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.msgpack", "*.h5")
ADVICE = "expected config.json, the tokenizer's files and model.safetensors, as `save_pretrained` writes them"
# Older files call the weights of a norm so.
FORMERLY = {"gamma": "weight", "beta": "bias"}


class HuggingFace:
    """The folder that `hf:FOLDER` names.

    Args:
        source: What the user wrote.
    Raises:
        UserError: There is no such folder, or no readable config.json in it.
    """

    def __init__(self, source):
        self.name, self.path = f"--pretrained {source}", Path(source.removeprefix("hf:")).expanduser()
        if not self.path.is_dir():
            raise UserError(f"{self.name}: no such folder; {ADVICE}")
        self.config = self.json("config.json")

    def json(self, name, default=None):
        """The object in a JSON file of the folder; `default`, where one is given, if the file is not there.

        Raises:
            UserError: It is not there, or no JSON object.
        """
        if not (self.path / name).is_file():
            if default is not None:
                return default
            raise UserError(f"{self.name}: has no {name}; {ADVICE}")
        try:
            found = read_json(self.path / name)
            if not isinstance(found, dict):
                raise ValueError("expected an object")
        except (OSError, ValueError) as error:
            raise UserError(f"{self.name}: {name} cannot be read ({error}); restore the file") from None
        return found

    def architecture(self, known):
        """The `model_type` of the configuration, which must be among those `known`."""
        kind = self.config.get("model_type")
        if kind not in known:
            raise UserError(f"{self.name}: an architecture this task does not read: {kind!r}. {nearest(str(kind), known)}")
        return kind

    def value(self, name, kind=int, default=None):
        """An entry of the configuration, of this type.

        Raises:
            UserError: It is missing and has no default, or is of another type, or a number that is not positive.
        """
        found = self.config.get(name)
        found = default if found is None else found
        right = isinstance(found, int | float if kind is float else kind) and not (isinstance(found, bool) and kind is not bool)
        if not right or (kind in (int, float) and found <= 0):
            words = {int: "a positive whole number", float: "a positive number", str: "a word", bool: "true or false"}
            raise UserError(f"{self.name}: config.json: {name}: expected {words[kind]}. Received: {found!r}")
        return found

    def demand(self, name, *values):
        """Refuses a configuration whose entry is not one of these values; a missing one is the first."""
        found = self.config.get(name, values[0])
        if found not in values:
            shown = " or ".join(map(repr, values))
            raise UserError(f"{self.name}: config.json: {name} {found!r} is not supported; expected {shown}")
        return found

    @cached_property
    def files(self):
        """The safetensors files.

        Raises:
            UserError: There is none.
        """
        if (self.path / WEIGHTS).is_file():
            return [self.path / WEIGHTS]
        if (self.path / SHARDS).is_file():
            parts = self.json(SHARDS).get("weight_map")
            names = sorted(set(parts.values())) if isinstance(parts, dict) else []
            if names and all(isinstance(name, str) and (self.path / name).is_file() for name in names):
                return [self.path / Path(name).name for name in names]
            raise UserError(f"{self.name}: {SHARDS} names files that are not there; restore them")
        pickled = sorted(file.name for pattern in PICKLED for file in self.path.glob(pattern))
        if pickled:
            raise UserError(
                f"{self.name}: {pickled[0]} may hold code and is never read; write {WEIGHTS} instead, by transformers' "
                "save_pretrained"
            )
        raise UserError(f"{self.name}: has no {WEIGHTS}; {ADVICE}")

    def tensors(self):
        """Every tensor of floating-point numbers, `{name: float32 array}`.

        Raises:
            UserError: A file is damaged.
        """
        import ml_dtypes  # noqa: F401  teaches NumPy bfloat16
        from safetensors.numpy import load_file

        found = {}
        for file in self.files:
            try:
                found |= load_file(file)
            except Exception as error:  # of no class of its own
                raise UserError(f"{self.name}: {file.name} cannot be read ({str(error)[:160]}); restore the file") from None
        floating = {name: array for name, array in found.items() if "float" in array.dtype.name}
        return {renamed(name): np.asarray(array, "float32") for name, array in floating.items()}

    def digest(self):
        """Of the weights' first file."""
        return sha256(self.files[0])[:24]


def renamed(name):
    """The name of a tensor as it is today."""
    *front, last = name.split(".")
    return ".".join([*front, FORMERLY.get(last, last)])
