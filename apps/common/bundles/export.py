"""A bundle in another format. TensorFlow writes ONNX, SavedModel and LiteRT, torch its `.pt2`: where another backend runs, or
a GPU, from the portable `.keras` file in a process of its own. Then the new file's predictions are held against those of the
backend that was asked."""

import contextlib
import json
import logging
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np

from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.bundles.saved_model import FILE as SAVED_MODEL
from apps.common.errors import UserError, nearest
from apps.common.files import remove_left

FORMATS = {"onnx": "tensorflow", "saved_model": "tensorflow", "litert": "tensorflow", "torch": "torch"}
ENDINGS = {"onnx": ".onnx", "litert": ".tflite"}  # that Keras asks for
TOLERANCE = 1e-4
EXPORTED = "Models with one output can be, such as classifiers, and detectors and the generators of image-generation"
WHOLE = "model"  # the part that is used after training, of a model without others the whole
ANY = 6


def export(bundle, form, output, part=WHOLE):
    """Write the bundle's model as `form` and check it; nothing stays behind when the check fails.

    Args:
        bundle: An open `Bundle`.
        form: One of `FORMATS`.
        output: Path to write; must not be there yet.
        part: Name of one of the model's networks, as its `parts()` has them; by default what is used after training.
    Returns: `{"path", "format", "takes", "gives", "difference"}`: shapes by name, and the largest difference of an output from
        the original's.
    Raises:
        UserError: Unknown format, a package that is missing, a place that cannot be written, or Keras's own reason.
    """
    import importlib.util
    import shutil

    import keras

    from layers import backend

    output = Path(output)
    if form not in FORMATS:
        raise UserError(f"--format {form}: expected one of {', '.join(FORMATS)}. {nearest(form, FORMATS)}")
    if output.exists():
        raise UserError(f"--output {output}: is there already; name another place or remove it")
    if not output.absolute().parent.is_dir():
        raise UserError(f"--output {output}: the folder {output.parent} is not there; make it first")
    if SAVED_MODEL in getattr(bundle.about, "files", {}):
        raise UserError(f"--format {form}: this model begins with a SavedModel of TensorFlow's and cannot be exported whole")
    needed = [FORMATS[form]] + (["tf2onnx", "onnxruntime"] if form == "onnx" else [])
    missing = [name for name in needed if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"--format {form}: needs {', '.join(missing)}. Install: pip install -e '.[{FORMATS[form]},export]'")
    whole = load_model(bundle)
    model = deployed(whole, part)
    outputs = getattr(model, "outputs", ())
    if len(outputs) != 1:
        raise UserError(
            f"--format {form}: this model cannot be exported: {type(model).__name__} is trained by an objective of its own, over "
            f"several networks, none of which answers alone. {other_parts(whole)}"
        )
    inputs = sample_inputs(model)
    feed = inputs if len(inputs) > 1 else next(iter(inputs.values()))
    expected = keras.ops.convert_to_numpy(model(feed, training=False))
    remove_left(output)
    temporary = output.with_name(f".{output.stem}.{os.getpid()}{ENDINGS.get(form, '.tmp')}")
    own = FORMATS[form] == keras.backend.backend() and backend.device_kind() == "cpu"
    try:
        if own:
            with hushed():
                answer = written(lambda: model, form, temporary, inputs)
        else:
            answer = written_elsewhere(bundle, form, temporary, inputs, part)
        if "error" in answer:
            raise UserError(f"--format {form}: this model cannot be exported: {answer['error']}")
        difference = float(np.max(np.abs(np.array(answer["outputs"]).reshape(expected.shape) - expected)))
        if not difference <= TOLERANCE * max(1.0, float(np.abs(expected).max())):
            raise UserError(f"--format {form}: the exported model differs from the original by {difference:.2g}; not kept")
        os.replace(temporary, output)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)
    takes = {tensor.name: list(tensor.shape[1:]) for tensor in model.inputs}
    return {"path": str(output), "format": form, "takes": takes, "gives": list(outputs[0].shape[1:]), "difference": difference}


def summary_line(made):
    """What `export` returns, as people read it."""
    takes = " and ".join(f"{name} {shown_shape(shape)}" for name, shape in made["takes"].items())
    said = f"{made['path']}: {made['format']}, takes {takes}, gives {shown_shape(made['gives'])}"
    return f"{said}; largest difference from the original {made['difference']:.1e}"


def shown_shape(shape):
    """The shape of a row: `28 x 28 x 1`."""
    return " x ".join("any" if size is None else str(size) for size in shape) or "a number"


def deployed(model, part=WHOLE):
    """A model's part of this name; by default what is used after training: a generator, or a detector's boxes with scores.

    Raises:
        UserError: There is no such part.
    """
    if part == WHOLE:
        return model.deployed() if hasattr(model, "deployed") else getattr(model, "generator", model)
    parts = parts_of(model)
    if part not in parts:
        known = f"one of {', '.join(parts)}" if parts else "none: this model is exported whole"
        raise UserError(f"--part {part}: expected {known}. {nearest(part, parts) if parts else 'Leave it out'}")
    return parts[part]


def parts_of(model):
    return model.parts() if hasattr(model, "parts") else {}


def other_parts(model):
    """What can be done with a model that has no output of its own."""
    parts = parts_of(model)
    if parts:
        return f"Export one of them: {' or '.join(f'--part {name}' for name in parts)}"
    return f"{EXPORTED}; use predict, or MLflow, for this one"


def sample_inputs(model, rows=3):
    """Seeded inputs of the kind the model takes, by name: ids of ones with padding behind, pixels, or normal numbers.

    A dimension that is not known (nodes of a graph, tokens of a text) is `ANY` long.
    """
    generator = np.random.default_rng(0)
    made = {}
    for tensor in model.inputs:
        shape = (rows, *(ANY if size is None else size for size in tensor.shape[1:]))
        if tensor.dtype == "uint8":
            made[tensor.name] = generator.integers(0, 256, shape).astype("uint8")
        elif "int" in tensor.dtype:
            made[tensor.name] = np.ones(shape, tensor.dtype)  # of ids the least that is no padding
            made[tensor.name][..., 1:][..., -1:] = 0
        else:
            made[tensor.name] = generator.normal(size=shape).astype(tensor.dtype)
    return made


def written_elsewhere(bundle, form, path, inputs, part):
    """What `written` gives, from a process of the format's own backend, on the processor."""
    environment = {**os.environ, "KERAS_BACKEND": FORMATS[form], "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    arrays = path.with_suffix(".npz")
    try:
        np.savez(arrays, **inputs)
        command = [sys.executable, "-m", "apps.common.bundles.export", str(bundle.folder), form, str(path), str(arrays), part]
        child = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    finally:
        arrays.unlink(missing_ok=True)
    lines = child.stdout.strip().splitlines()
    if child.returncode == 0 and lines:
        return json.loads(lines[-1])
    lines = [line for line in child.stderr.strip().splitlines() if line.strip()] or ["no reason given"]
    return {"error": lines[-1][:300]}


@contextlib.contextmanager
def hushed():
    """What is written here to standard error, by C++ too, is not shown, but for what this program says itself."""
    sys.stderr.flush()
    shown, nothing = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    logging.disable(logging.CRITICAL)
    try:
        with open(os.dup(shown), "w", buffering=1) as speaking, contextlib.redirect_stderr(speaking), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(logging.NOTSET)
        os.dup2(shown, 2)
        os.close(shown)
        os.close(nothing)


def written(load, form, path, inputs):
    """`{"outputs"}`, the new file's own for `inputs`, or `{"error"}`, why it cannot be written.

    Args:
        load: Gives the model.
        form: One of `FORMATS`.
        path: To write.
        inputs: `{name: array}`.
    """
    try:
        return {"outputs": np.asarray(write(load(), form, str(path), inputs)).tolist()}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"}


def write(model, form, path, inputs):
    """Write the file and return its own predictions for `inputs`."""
    names = [tensor.name for tensor in model.inputs]
    ordered = [inputs[name] for name in names]
    feed = inputs if len(names) > 1 else ordered[0]
    model(feed)
    if form == "torch":
        return _write_torch(model, path, feed)
    keras_format = {"onnx": "onnx", "saved_model": "tf_saved_model", "litert": "litert"}[form]
    model.export(path, format=keras_format, verbose=False)
    if form == "onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        takes = [each.name for each in session.get_inputs()]
        return session.run(None, {name: inputs.get(name, ordered[i]) for i, name in enumerate(takes)})[0]
    import tensorflow

    if form == "saved_model":
        loaded = tensorflow.saved_model.load(path)  # held: its functions alone do not keep its variables
        return np.asarray(loaded.serve(feed))
    interpreter = tensorflow.lite.Interpreter(model_path=path)
    runner = interpreter.get_signature_runner()
    takes = runner.get_input_details()
    rows = []
    for row in range(len(ordered[0])):
        values = {name: inputs.get(name, ordered[i])[row : row + 1] for i, name in enumerate(takes)}
        rows.append(next(iter(runner(**values).values())))
    return np.concatenate(rows)


def _write_torch(model, path, feed):
    import torch

    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x, training=False)

    tensors = (
        {name: torch.from_numpy(array) for name, array in feed.items()} if isinstance(feed, dict) else torch.from_numpy(feed)
    )
    batch = torch.export.Dim("batch")
    shapes = {name: {0: batch} for name in tensors} if isinstance(tensors, dict) else {0: batch}
    with torch.no_grad():
        try:
            program = torch.export.export(Plain().eval(), (tensors,), dynamic_shapes=(shapes,))
        except torch._dynamo.exc.UserError as error:
            if error.error_type is not torch._dynamo.exc.UserErrorType.CONSTRAINT_VIOLATION:
                raise
            raise ValueError("an operation of it fixes the number of rows. Choose onnx or saved_model") from None
    torch.export.save(program, path)
    return torch.export.load(path).module()(tensors).detach().numpy()


if __name__ == "__main__":
    source, wanted, target, arrays_path, network = sys.argv[1:]
    with np.load(arrays_path, allow_pickle=False) as stored:
        given = {name: stored[name] for name in stored.files}
    print("\n" + json.dumps(written(lambda: deployed(load_model(open_bundle(source)), network), wanted, target, given)))
