"""Model files that mean harm: refused in one line, nothing run, nothing read or written, memory bounded.

Each is a bundle whose checksums are right, as somebody who means harm would write it.
"""

import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np

from apps.common import files
from bench.faults.common import expect

MARK = "code-of-the-file-was-run"
MEGABYTES = 400  # what a refused model may take beyond an idle process
ROW = [f"{name} (cm)=1" for name in ("sepal length", "sepal width", "petal length", "petal width")]


def write_honest(folder):
    """The bundle of a small untrained model of the irises."""
    from apps import tabular
    from apps.common.bundles.bundle import save_bundle
    from apps.common.options.declare import make_config
    from apps.common.training import run as life

    config = make_config(tabular.Config, {"hidden_dims": (4,), "model": "mlp"})
    data = tabular.load_data(config)
    record = {"task": "tabular", "options": life.to_plain(config), "about": data.about, "metrics": {}, "versions": {}}
    save_bundle(folder, life.make_model(tabular, config, data), record, {})


def sign(folder):
    """Give a bundle the checksums of what it holds now."""
    from apps.common.bundles.bundle import record_digest

    record = files.read_json(folder / "bundle.json")
    record["checksums"] = {"bundle.json": record_digest(record)}
    if (folder / "model.keras").is_file():
        record["checksums"]["model.keras"] = files.sha256(folder / "model.keras")
    files.write_json(folder / "bundle.json", record)


def rewrite(folder, changes, compression=zipfile.ZIP_STORED):
    """The model's archive with these members in the place of, or besides, its own; `None` leaves one out."""
    path = folder / "model.keras"
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w", compression, compresslevel=1) as new:
        for name, content in {**members, **changes}.items():
            if content is not None:
                new.writestr(name, content)


def change_layer(folder, **changes):
    """The configuration with other words for one of its layers."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    layers = config["config"]["layers"]
    layers[-1] = {**layers[-1], **changes}
    rewrite(folder, {"config.json": json.dumps(config)})


def config_of(folder):
    with zipfile.ZipFile(folder / "model.keras") as archive:
        return json.loads(archive.read("config.json"))


def change_weights(folder, change):
    """The HDF5 file of the weights, changed by `change(file)`."""
    with zipfile.ZipFile(folder / "model.keras") as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored, "a") as file:
        change(file)
    rewrite(folder, {"model.weights.h5": stored.getvalue()})


def first_kernel(file):
    found = []
    file.visititems(lambda name, item: found.append(item) if isinstance(item, h5py.Dataset) and item.ndim == 2 else None)
    return found[0]


def replaced(make):
    """A change of the weights that puts something else in the place of the first kernel."""

    def change(file):
        kernel = first_kernel(file)
        group, name, shape = kernel.parent, kernel.name.rpartition("/")[2], kernel.shape
        del group[name]
        make(group, name, shape)

    return lambda folder: change_weights(folder, change)


def lambda_layer(folder):
    import keras

    path, inputs = str(folder.parent / MARK), keras.Input((4,))
    keras.Model(inputs, keras.layers.Lambda(lambda x: (open(path, "w").close(), x)[1])(inputs)).save(folder / "model.keras")
    Path(path).unlink(missing_ok=True)


def layer(home, class_name, **config):
    return lambda folder: change_layer(folder, module=home, class_name=class_name, registered_name=None, config=config)


def own_module(folder):
    """A module beside the bundle that leaves a mark when it is imported."""
    (folder.parent / "evil_layers.py").write_text(f"open({MARK!r}, 'w').close()\nclass Evil: pass\n")
    change_layer(folder, module="evil_layers", class_name="Evil", registered_name=None, config={"name": "evil"})


def wide_layer(folder):
    """A layer of 40 GB that the weights do not hold."""
    config = config_of(folder)
    for each in config["config"]["layers"]:
        if each["class_name"] == "Dense":
            each["config"]["units"] = 2_000_000_000
            break
    rewrite(folder, {"config.json": json.dumps(config)})


def tower(folder):
    """A configuration nested a hundred thousand deep."""
    rewrite(folder, {"config.json": '{"a":' * 100_000 + "1" + "}" * 100_000})


def bomb(name, size):
    def write(folder):
        rewrite(folder, {name: bytes(size)}, zipfile.ZIP_DEFLATED)

    return write


class _Pickled:
    def __reduce__(self):
        return os.system, (f"touch {MARK}",)


def pickled(folder):
    (folder / "model.keras").write_bytes(pickle.dumps(_Pickled()))


def object_arrays(folder):
    """Weights as an .npz of pickled objects, which Keras would also take."""
    held = io.BytesIO()
    np.savez(held, weights=np.array([_Pickled()], dtype=object))
    rewrite(folder, {"model.weights.h5": None, "model.weights.npz": held.getvalue()})


def mlflow_model(folder):
    """An MLflow model whose loader is a module beside it, in the place of a bundle."""
    (folder.parent / "evil_loader.py").write_text(f"open({MARK!r}, 'w').close()\ndef _load_pyfunc(path): pass\n")
    (folder / "MLmodel").write_text("flavors:\n  python_function:\n    loader_module: evil_loader\n    code: .\n")
    (folder / "model.keras").unlink()


def pointing_outside(folder):
    rewrite(folder, {f"../../{MARK}": b"written from outside"})


def many_groups(folder):
    """Groups that hold one another."""
    change_weights(folder, lambda file: file.create_group("a").__setitem__("b", file["/"]))


def deep_record(folder):
    (folder / "bundle.json").write_text("[" * 100_000)


def long_record(folder):
    with open(folder / "bundle.json", "w", encoding="utf-8") as file:
        file.write("[" + "[]," * 100_000_000 + "0]")


def odd_record(folder):
    record = files.read_json(folder / "bundle.json")
    files.write_json(folder / "bundle.json", {**record, "options": [], "about": "text"})


UNSIGNED = {"a record 100,000 deep": deep_record, "a record of 300 MB": long_record}
HOSTILE = {
    **UNSIGNED,
    "a record of other types": odd_record,
    "a Lambda layer": lambda_layer,
    "os.system as a layer": layer("os", "system", command=f"touch {MARK}"),
    "subprocess.Popen as a layer": layer("subprocess", "Popen", args=["touch", MARK]),
    "eval as an activation": lambda folder: change_layer(
        folder, module="builtins", class_name="function", config="eval", registered_name="eval"
    ),
    "keras.utils.get_file as a function": lambda folder: change_layer(
        folder, module="keras.utils", class_name="function", config="get_file", registered_name="get_file"
    ),
    "a module of its own": own_module,
    "a TFSMLayer": layer("keras.layers", "TFSMLayer", name="t", filepath="/tmp", call_endpoint="serving_default"),
    "a TorchModuleWrapper": layer("keras.layers", "TorchModuleWrapper", module={"class_name": "__bytes__", "config": {}}),
    "a StringLookup of /etc/passwd": layer("keras.layers", "StringLookup", name="s", vocabulary="/etc/passwd"),
    "an external HDF5 link": replaced(
        lambda group, name, shape: group.__setitem__(name, h5py.ExternalLink("/etc/passwd", "/a"))
    ),
    "HDF5 data kept in another file": replaced(
        lambda group, name, shape: group.create_dataset(name, shape, "f4", external=[("/etc/passwd", 0, 4096)])
    ),
    "a soft HDF5 link": replaced(lambda group, name, shape: group.__setitem__(name, h5py.SoftLink("/"))),
    "HDF5 groups in a circle": many_groups,
    "an HDF5 shape bomb": replaced(
        lambda group, name, shape: group.create_dataset(name, (300_000, 300_000), "f4", chunks=(1000, 1000))
    ),
    "a compressed HDF5 bomb": replaced(
        lambda group, name, shape: group.create_dataset(name, (20_000, 20_000), "f4", chunks=(2000, 2000), compression="gzip")
    ),
    "a layer of 40 GB": wide_layer,
    "a configuration 100,000 deep": tower,
    "a zip bomb for weights": bomb("model.weights.h5", 600_000_000),
    "a zip bomb for a configuration": bomb("config.json", 600_000_000),
    "a member called ../": pointing_outside,
    "a pickle": pickled,
    "pickled object arrays": object_arrays,
    "an MLflow model with a loader": mlflow_model,
}  # fmt: skip


def refused(name):
    """The fault of this hostile model."""

    def fault(place, number):
        folder = place.folder(store=False)
        known = place.root / f"bundle-{name.replace('/', '_')}"
        if not known.exists():
            known.mkdir()
            place.run(name, known / "bundle", cwd=known, call="bench.faults.inside:hostile_bundle")
        before = {path for path in known.rglob("*") if "__pycache__" not in path.parts}
        ended = place.run("predict", known / "bundle", *ROW, cwd=known, code=2)
        lines = ended.err.strip().splitlines()
        expect(len(lines) == 1, f"{len(lines)} lines")
        written = [str(path) for each in (known, folder) for path in each.rglob("*") if path not in before]
        expect(not written, f"files were written: {written[:3]}")
        taken = place.beyond_idle(ended)
        expect(taken < MEGABYTES, f"it took {taken:.0f} MB")
        reason = lines[0].partition("bundle.json: ")[2] or lines[0].partition("refused: ")[2]
        return reason.partition(" Only models saved")[0][:100]

    return fault
