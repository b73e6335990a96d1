"""The matrix: every entry of `tests/cases.py` on every backend, from the same weights, and how far they differ.

    triptych matrix

Each backend runs in a process of its own and writes what it measured; the files are then compared.
"""

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from apps.common.backends import choose, prepare
from apps.common.errors import UserError, nearest
from apps.common.files import write_json
from apps.common.tracking import Tracker

BACKENDS = ("tensorflow", "jax", "torch")
QUANTITIES = ("outputs", "loss", "gradients", "weights")
STEPS = 5
ROOT = Path(__file__).resolve().parents[1]


def installed_backends():
    return [backend for backend in BACKENDS if importlib.util.find_spec(backend)]


def load_cases():
    """`CASES` of `tests/cases.py`, the very module the tests import."""
    if "cases" not in sys.modules:
        specification = importlib.util.spec_from_file_location("cases", ROOT / "tests" / "cases.py")
        sys.modules["cases"] = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(sys.modules["cases"])
    return sys.modules["cases"].CASES


def measure(case):
    """Build, predict and train a few steps from weights that are the same on every backend.

    Plain gradient descent with momentum: Adam divides a gradient by its own size, so that a weight whose gradient is
    zero but for rounding would move by the whole learning rate, in another direction on each backend.

    Returns:
        The trained model, and a dict: `outputs` (before training), `loss` (one a step), `gradients` (of the
        first step), `weights` (after the last), each a list of arrays; and `milliseconds`, the median of a later step.
    """
    import keras

    import layers
    from layers.initialization import undrawn

    with undrawn():
        model = case.build()
    layers.initialize(model, seed=0)
    model.compile(recording_sgd(), case.loss)
    model.optimizer.build(model.trainable_variables)
    outputs = [np.asarray(output) for output in keras.tree.flatten(model.predict_on_batch(case.inputs))]
    targets = case.targets
    if targets is None and case.loss is not None:
        shapes = [output.shape for output in outputs]
        targets = [np.random.default_rng([3, *shape]).normal(size=shape).astype("float32") for shape in shapes]
        targets = targets[0] if len(targets) == 1 else targets
    losses, gradients, seconds = [], [], []
    for step in range(STEPS):
        begin = time.perf_counter()
        model.reset_metrics()
        losses.append(float(model.train_on_batch(case.inputs, targets, return_dict=True)["loss"]))
        seconds.append(time.perf_counter() - begin)
        if step == 0:
            gradients = [keras.ops.convert_to_numpy(slot) for slot in model.optimizer.gradients]
    weights = [
        keras.ops.convert_to_numpy(v) for v in model.weights if "float" in keras.backend.standardize_dtype(v.dtype)
    ]
    return model, {
        "outputs": outputs,
        "loss": [np.array(losses)],
        "gradients": gradients,
        "weights": weights,
        "milliseconds": float(np.median(seconds[1:]) * 1e3),
    }


def recording_sgd():
    """Gradient descent that keeps the last gradients, so that the training step itself yields them."""
    import keras

    class RecordingSGD(keras.optimizers.SGD):
        gradients = ()

        def build(self, variables):
            super().build(variables)
            self.gradients = [self.add_variable_from_reference(v, name="gradient") for v in variables]

        def apply(self, grads, trainable_variables=None):
            for slot, gradient in zip(self.gradients, grads, strict=True):
                slot.assign(keras.ops.convert_to_tensor(gradient))
            return super().apply(grads, trainable_variables)

    return RecordingSGD(0.01, momentum=0.9)


def save(folder, backend, name, measurement):
    """Write one measurement to `folder/backend/name.npz`."""
    path = Path(folder, backend, f"{name}.npz")
    path.parent.mkdir(parents=True, exist_ok=True)
    arrays = {"milliseconds": np.array(measurement["milliseconds"])}
    for quantity in QUANTITIES:
        arrays |= {f"{quantity}.{index:04d}": array for index, array in enumerate(measurement[quantity])}
    np.savez(path, **arrays)


def chosen_cases(only):
    """The cases whose name holds `only`.

    Raises:
        UserError: There is none.
    """
    cases = load_cases()
    chosen = {name: case for name, case in cases.items() if only in name}
    if not chosen:
        raise UserError(f"--only {only}: no case is called so. {nearest(only, cases)}")
    return chosen


def record(folder, only=""):
    """Measure every case whose name holds `only` on the running backend and write the files `compare` reads."""
    import keras

    for name, case in chosen_cases(only).items():
        save(folder, keras.backend.backend(), name, measure(case)[1])


def load(folder, backend, name):
    """One measurement as `measure` returned it, or `None` if there is none."""
    path = Path(folder, backend, f"{name}.npz")
    if not path.exists():
        return None
    with np.load(path) as arrays:
        measurement = {
            quantity: [arrays[key] for key in sorted(arrays) if key.startswith(f"{quantity}.")]
            for quantity in QUANTITIES
        }
        return measurement | {"milliseconds": float(arrays["milliseconds"])}


def difference(left, right):
    """The largest difference of two lists of arrays, relative to their largest value (or 1e-3 where that is less)."""
    if [array.shape for array in left] != [array.shape for array in right]:
        return np.inf
    scale = max([1e-3, *(float(np.abs(array).max()) for array in left if array.size)])
    differences = [float(np.abs(a.astype("float64") - b).max()) for a, b in zip(left, right, strict=True) if a.size]
    return max(differences, default=0.0) / scale


def compare(folder, backends=BACKENDS, only=""):
    """The rows of the matrix: for each case the largest difference between any two backends, and the step times.

    A case that was not recorded on every backend is a row that is not `ok`. For a case whose training is random only
    the outputs are compared.
    """
    rows = []
    for name, case in chosen_cases(only).items():
        measurements = {backend: load(folder, backend, name) for backend in backends}
        row = {"case": name}
        missing = [backend for backend, measurement in measurements.items() if measurement is None]
        pairs = [(measurements[a], measurements[b]) for i, a in enumerate(backends) for b in backends[i + 1 :]]
        for quantity in QUANTITIES:
            compared = not missing and (quantity == "outputs" or not case.random)
            row[quantity] = (
                max((difference(a[quantity], b[quantity]) for a, b in pairs), default=0.0) if compared else None
            )
        for backend in backends:
            row[f"{backend}_ms"] = (
                None if measurements[backend] is None else round(measurements[backend]["milliseconds"], 2)
            )
        allowed = {"outputs": 1, "loss": 1, "gradients": 10, "weights": 10}
        within = [row[q] <= factor * case.tolerance for q, factor in allowed.items() if row[q] is not None]
        row["ok"] = not missing and all(within)
        rows.append(row)
    return rows


def matrix(backends=None, only=""):
    """Measure every case on each installed backend, one process a backend, compare, and keep the table in MLflow.

    Args:
        backends: Names of the backends; the installed ones when `None`.
        only: Part of the names of the cases.
    Returns:
        The rows of `compare`.
    Raises:
        RuntimeError: A backend's process failed; the message holds the end of what it said.
    """
    backends = list(backends or installed_backends())
    prepare(choose(backends[0]))
    with tempfile.TemporaryDirectory() as folder:
        for backend in backends:
            print(f"measuring on {backend} ...", file=sys.stderr)
            environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ, "KERAS_BACKEND": backend}
            command = [sys.executable, "-m", "bench.matrix", folder, only]
            result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
            if result.returncode:
                raise RuntimeError(f"measuring on {backend} failed:\n{result.stderr[-2000:]}")
        rows = compare(folder, backends, only)
        tracker = Tracker("matrix", folder, name="matrix", tags={"backends": ", ".join(backends)})
        tracker.metrics({"cases": len(rows), "agreeing": sum(row["ok"] for row in rows)})
        write_json(Path(folder, "matrix.json"), rows)
        tracker.files(Path(folder, "matrix.json"))
        tracker.end("FINISHED")
    return rows


if __name__ == "__main__":
    record(*sys.argv[1:])
