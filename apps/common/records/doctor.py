"""What is installed, which devices there are, what is missing and the command that mends it."""

import importlib.util
import json
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from apps.common.options.backends import BACKENDS
from apps.common.records.mlflow import ROOT, store_uri

EXTRAS = {
    "tensorflow": ("tensorflow", "tensorboard"),
    "jax": ("jax",),
    "torch": ("torch",),
    "export": ("onnx", "onnxruntime", "tf2onnx"),
    "bench": ("optax",),
    "test": ("pytest", "ruff"),
}
NEEDED = ("keras", "keras-tuner", "mlflow", "numpy", "pandas", "pillow", "pyarrow", "scikit-learn", "psutil", "matplotlib")


def examine():
    """Rows `{"what", "state", "detail", "mend"}`; `state` is ok, missing or broken."""
    rows = [_package(name, "pip install -r requirements.lock && pip install -e . --no-deps") for name in NEEDED]
    for extra, packages in EXTRAS.items():
        rows += [_package(name, f"pip install -e '.[{extra}]'") for name in packages]
    rows += [_devices(name) for name in BACKENDS if importlib.util.find_spec(name)]
    writable = os.access(ROOT if ROOT.exists() else Path(), os.W_OK)
    rows.append(_row("runs folder", "ok" if writable else "broken", str(ROOT.resolve()), "start in a folder you may write"))
    rows.append(_row("tracking store", "ok", store_uri(), ""))
    data = os.environ.get("TRIPTYCH_DATA")
    there = bool(data) and Path(data).is_dir()
    rows.append(_row("TRIPTYCH_DATA", "ok" if there else "missing", data or "", "export TRIPTYCH_DATA=folder of data sets"))
    return rows


def _row(what, state, detail, mend):
    return {"what": what, "state": state, "detail": detail, "mend": "" if state == "ok" else mend}


def _package(name, mend):
    try:
        return _row(name, "ok", version(name), "")
    except PackageNotFoundError:
        return _row(name, "missing", "", mend)


def _devices(name):
    """The devices a backend sees, asked in a process of its own."""
    code = "import json; from layers import backend; print(json.dumps(backend.devices()))"
    environment = {**os.environ, "KERAS_BACKEND": name, "TF_CPP_MIN_LOG_LEVEL": "3"}
    place = Path(__file__).resolve().parents[3]
    child = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=place, check=False)
    if child.returncode:
        last = child.stderr.strip().splitlines()[-1:] or [""]
        return _row(f"{name} devices", "broken", last[0][:160], f"pip install --force-reinstall {name}")
    return _row(f"{name} devices", "ok", ", ".join(json.loads(child.stdout.strip().splitlines()[-1])), "")
