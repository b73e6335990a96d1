"""Checkpoints: everything a run needs to go on to the very same weights, readable on every backend.

A checkpoint is a folder `epoch-00003` of `arrays.npz` (weights, optimizer, what the callbacks keep) and `state.json`
(epoch, history, callbacks, checksum). Dropout's seeds and the data order are not in it: they follow from (seed, epoch).
"""

import io
import shutil
import zipfile
from pathlib import Path

import keras
import numpy as np

from apps.common.errors import Diverged, UserError
from apps.common.files import new_folder, read_json, sha256, write_bytes, write_json

KEPT = 2


def save_checkpoint(folder, model, epoch, history, callbacks):
    """Write the checkpoint after `epoch` epochs under `folder`, whole or not at all, and keep the last two.

    Args:
        folder: The run's checkpoint folder.
        model: The compiled model in training.
        epoch: Number of epochs that are done.
        history: `{metric: [one value an epoch]}`.
        callbacks: Callbacks with state; each has `get_state() -> (plain, arrays)` and `set_state(plain, arrays)`.
    Raises:
        Diverged: A weight is not finite; the checkpoints before stay.
    """
    arrays = {f"weight_{i:05d}": variable for i, variable in enumerate(model.weights)}
    arrays |= {f"optimizer_{i:05d}": variable for i, variable in enumerate(model.optimizer.variables)}
    arrays = {name: keras.ops.convert_to_numpy(variable) for name, variable in arrays.items()}
    for name, array in arrays.items():
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            raise Diverged(f"{name.replace('_', ' ')} of the model is not finite", epoch - 1)
    states = {}
    for callback in callbacks:
        name = type(callback).__name__
        states[name], kept = callback.get_state()
        arrays |= {f"{name}_{key}": array for key, array in kept.items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    with new_folder(Path(folder) / f"epoch-{epoch:05d}") as made:
        write_bytes(made / "arrays.npz", buffer.getbuffer())
        state = {"epoch": epoch, "history": history, "callbacks": states, "backend": keras.backend.backend()}
        state["accumulated"] = accumulation(model)
        write_json(made / "state.json", {**state, "sha256": sha256(made / "arrays.npz")}, indent=None)
    for old in checkpoints(folder)[KEPT:]:
        shutil.rmtree(old, ignore_errors=True)


def checkpoints(folder):
    """The checkpoint folders under `folder`, newest first."""
    return sorted(Path(folder).glob("epoch-[0-9]*"), reverse=True)


def load_checkpoint(folder, model, callbacks, say):
    """Restore the newest checkpoint that is whole; a damaged one is named and the one before it is used.

    Returns: `(epochs done, history)`; `(0, {})` when there is none.
    """
    for path in checkpoints(folder):
        try:
            state = read_json(path / "state.json")
            if sha256(path / "arrays.npz") != state["sha256"]:
                raise ValueError("its checksum is wrong")
            with np.load(path / "arrays.npz", allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            say(f"checkpoint {path.name} is damaged ({error}): the one before it is used")
            continue
        _assign(model.weights, arrays, "weight", path)
        arrays = adapt_optimizer(model, arrays, state.get("accumulated", 1))
        _assign(model.optimizer.variables, arrays, "optimizer", path)
        for callback in callbacks:
            name = type(callback).__name__
            kept = {key.removeprefix(name + "_"): array for key, array in arrays.items() if key.startswith(name + "_")}
            if name in state["callbacks"]:
                callback.set_state(state["callbacks"][name], kept)
        return state["epoch"], state["history"]
    return 0, {}


def accumulation(model):
    """Steps whose gradients make one update."""
    return getattr(model.optimizer, "inner_optimizer", model.optimizer).gradient_accumulation_steps or 1


def adapt_optimizer(model, arrays, before):
    """The arrays of a checkpoint for an optimizer that takes more steps to an update than the `before` it was written with.

    It counts steps, so there are more of them; its sums of gradients, of which it may have had none, are larger.
    """
    ratio = accumulation(model) / before
    if ratio == 1:
        return arrays
    kept = {name: array for name, array in arrays.items() if not name.startswith("optimizer_")}
    old = [arrays[name] for name in sorted(arrays) if name.startswith("optimizer_")]
    for index, variable in enumerate(model.optimizer.variables):
        sums = variable.name == "gradient_accumulator"
        if sums and before == 1:
            value = np.zeros(variable.shape, keras.backend.standardize_dtype(variable.dtype))
        else:
            value = old.pop(0)
            value = (value * ratio).astype(value.dtype) if sums or variable.name == "iterations" else value
        kept[f"optimizer_{index:05d}"] = value
    return kept


def _assign(variables, arrays, kind, path):
    values = [arrays[name] for name in sorted(arrays) if name.startswith(kind + "_")]
    if [tuple(value.shape) for value in values] != [tuple(variable.shape) for variable in variables]:
        raise UserError(f"checkpoint {path}: its {kind} arrays do not fit this model; start a new run without --resume")
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
