"""The bundle: a folder with the trained model and everything prediction needs. Nothing in it is ever executed.

`model.keras` (loaded with `safe_mode=True`), `bundle.json` (task, options, about, metrics, versions, checksums), figures.
"""

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from apps.common.data.examples import About
from apps.common.errors import UserError
from apps.common.figures import save as save_figure
from apps.common.files import new_folder, read_json, sha256, write_bytes, write_json, write_text
from apps.common.records.folder import RUNS, all_runs
from apps.common.records.mlflow import client

FORMAT = 1
DIGESTS = "digests.npz"


@dataclass(frozen=True)
class Bundle:
    """A bundle whose record has been checked; `load_model` brings the network."""

    folder: Path
    task: str
    options: dict
    about: dict
    metrics: dict
    versions: dict
    data: dict = field(default_factory=dict)

    def digests(self):
        """What the examples of each split are known by, `{split: uint64 array}`; empty for a bundle that has none."""
        path = self.folder / DIGESTS
        if not path.is_file():
            return {}
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}


def save_bundle(folder, model, record, figures, *, digests=None, texts=None, pictures=None):
    """Write a bundle, whole or not at all.

    Args:
        folder: Where it goes; an older one there is replaced.
        model: The trained Keras model; its optimizer stays behind in the checkpoint.
        record: `task`, `run_id`, `options`, `about` (whose `files`, if it has any, become files), `metrics`, `versions`.
        figures: `{name: matplotlib figure}`.
        digests: `{split: uint64 array}`, what the examples are known by.
        texts, pictures: `{file name: content}` of what else lies in it: `README.md`, `MLmodel`, an example.
    """
    with new_folder(folder) as made:
        model.compile(optimizer=None, loss=None)
        model.save(made / "model.keras")
        files = getattr(record["about"], "files", {})
        for name, content in {**files, **(pictures or {})}.items():
            write_bytes(made / name, content)
        if digests:
            np.savez(made / DIGESTS, **digests)
        for name, text in (texts or {}).items():
            write_text(made / name, text)
        for name, figure in figures.items():
            save_figure(figure, made / f"{name}.png", {"Run": str(record.get("run_id"))})
        checksums = {file.name: sha256(file) for file in sorted(made.iterdir())}
        record = {"format": FORMAT, **record, "files": sorted(files)}
        checksums["bundle.json"] = record_digest(record)
        write_json(made / "bundle.json", {**record, "checksums": checksums})


def record_digest(record):
    """Checksum of a bundle's record: of everything in `bundle.json` besides the checksums."""
    content = {key: value for key, value in record.items() if key != "checksums"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def open_bundle(name, task=None):
    """The bundle that MODEL names: a folder, a run id (or its start), or `registered-name@alias`.

    Raises:
        UserError: It is not there, incomplete, changed since it was written, or of another task than `task`.
    """
    folder = _locate(name)
    try:
        record = read_json(folder / "bundle.json", largest=16_000_000)
        needed = [record[key] for key in ("task", "options", "about", "metrics", "versions")]
        bundle = Bundle(folder, *needed, record.get("data", {}))
        files = list(record.get("files", ()))
        checksums = dict(record["checksums"])
        if not all(isinstance(part, dict) for part in (bundle.options, bundle.about, bundle.metrics, bundle.versions)):
            raise TypeError("expected objects under options, about, metrics and versions")
    except FileNotFoundError:
        raise UserError(f"{name}: not a bundle (no bundle.json in it). Give the folder that `train` printed") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder / 'bundle.json'}: cannot be read ({error}); train again or restore it") from None
    if task is not None and bundle.task != task:
        raise UserError(f"{name}: a bundle of {bundle.task}, expected one of {task}")
    for file, expected in checksums.items():
        if Path(file).name != file or not (folder / file).is_file():
            raise UserError(f"{folder / file}: missing from the bundle; restore it or train again")
        if (record_digest(record) if file == "bundle.json" else sha256(folder / file)) != expected:
            raise UserError(f"{folder / file}: its checksum is wrong, the file was changed or damaged; restore it or train again")
    unchecked = {"model.keras", "bundle.json", *files} - checksums.keys()
    if unchecked:
        raise UserError(f"{folder / 'bundle.json'}: has no checksum of {min(unchecked)}; restore it or train again")
    origin = {"Run": str(record["run_id"])} if record.get("run_id") else {}  # bundles of earlier versions do not name it
    origin["SHA-256 of model.keras"] = checksums["model.keras"]
    about = About(bundle.about, {name: (folder / name).read_bytes() for name in files}, origin)
    return replace(bundle, about=about)


def check_about(app, bundle):
    """Refuse a record whose `about` the app cannot have written, where it can tell, though the checksums are right.

    Raises:
        UserError: Naming the entry.
    """
    if hasattr(app, "check_about"):
        app.check_about(bundle.about)


def load_model(bundle):
    """The Keras model of a bundle, never compiled, never with code of the file's own.

    Raises:
        UserError: The file holds code (a Lambda layer, an unknown class), more than it says, or is damaged.
    """
    import keras

    import layers
    from apps.common.bundles.model_file import check_model_file, weights_bounded
    from layers.initialization import undrawn

    layers.register()
    path = bundle.folder / "model.keras"
    try:
        with weights_bounded(check_model_file(path)), undrawn():
            return keras.saving.load_model(path, compile=False, safe_mode=True)
    except UserError:
        raise
    except Exception as error:  # a file that means harm fails in as many ways as there are readers
        first = str(error).strip().splitlines()[0][:300] if str(error).strip() else type(error).__name__
        raise UserError(f"{path}: refused: {first} Only models saved by `triptych train` are loaded") from None


def _locate(name):
    path = Path(name).expanduser()
    if (path / "bundle.json").is_file() or path.is_dir():
        return path
    if path.exists():
        raise UserError(f"{name}: a file, expected a bundle folder, a run id or name@alias")
    if "@" in str(name):
        return _registered(name)
    matches = [run for run in all_runs() if len(name) >= 4 and run.name.startswith(name)]
    if len(matches) > 1:
        raise UserError(f"{name}: several runs start so; give more of the id")
    if matches and (matches[0] / "bundle").is_dir():
        return matches[0] / "bundle"
    if matches:
        raise UserError(f"{name}: this run has no bundle yet; finish it with train --resume {name}")
    return _download(name)


def _registered(name):
    model, _, alias = str(name).partition("@")
    try:
        version = client().get_model_version_by_alias(model, alias)
    except Exception as error:  # a store fails in as many ways as there are stores
        raise UserError(f"{name}: no such registered model and alias ({str(error).splitlines()[0][:160]})") from None
    local = RUNS / version.run_id / "bundle"
    return local if local.is_dir() else _download(version.run_id)


def _download(run_id):
    if re.fullmatch("[0-9a-f]{32}", run_id):
        with contextlib.suppress(Exception):  # a store fails in as many ways as there are stores
            client()
            import mlflow

            return Path(mlflow.artifacts.download_artifacts(run_id=run_id, artifact_path="bundle"))
    raise UserError(f"{run_id}: no bundle folder, run id or name@alias is called so. `triptych compare` shows the runs")

