"""A bundle as an MLflow model: rows, texts, values, paths or pictures in base64 go in, what `predict` says comes out.

`mlflow.pyfunc.load_model("models:/tabular@newest")` and `mlflow models serve -m models:/tabular@newest --env-manager local`
find this module by the bundle's `MLmodel` file; nothing is pickled. The backend is `KERAS_BACKEND`, else the first installed.
"""

import base64
import binascii
import json
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np

from apps.common.app import inputs_of, load_app, task_name
from apps.common.bundles.answers import answer_items, item_of
from apps.common.bundles.bundle import check_about, load_model, open_bundle
from apps.common.errors import UserError
from apps.common.options import backends
from apps.common.options.declare import make_config, options_of

MODEL_FILE = "MLmodel"
COLUMN = {"files": "path", "texts": "text", "values": "input", "rows": None}
TYPES = {bool: "boolean", int: "long", float: "double", str: "string"}
# A grey picture of eight by eight pixels: a picture's example that can be sent as it is.
PICTURE = "iVBORw0KGgoAAAANSUhEUgAAAAgAAAAICAAAAADhZOFXAAAAEElEQVR42mNsYIAAJgaKGAAmCACQtTEKkQAAAABJRU5ErkJggg=="


def described(app, about, run_id, example):
    """The files that make a bundle an MLflow model, `{name: text}`: `MLmodel` and an example of its input.

    Args:
        app: The app's module.
        about: Of the bundle.
        run_id: The MLflow run, or `None`.
        example: An input as typed.
    """
    fields = example_fields(inputs_of(app).kind, example)
    # All are optional and of any type: what is missing or unreadable, the row's answer says.
    columns = [{"name": name, "type": "any", "required": False} for name in input_columns(app, about, fields)]
    flavor = {"loader_module": __name__, "data": ".", "python_version": "3.11"}
    model = {
        "artifact_path": "bundle",
        "flavors": {"python_function": flavor},
        "metadata": {"task": task_name(app), "inputs": inputs_of(app).kind, "example": example},
        "run_id": run_id or "",
        "signature": {"inputs": json.dumps(columns), "outputs": None, "params": _params(app)},
    }
    files = {}
    if fields:
        table = {"columns": list(fields), "data": [list(fields.values())]}
        example_file, serving = "input_example.json", "serving_input_example.json"
        model["saved_input_example_info"] = {
            "artifact_path": example_file,
            "serving_input_path": serving,
            "type": "dataframe",
            "pandas_orient": "split",
        }
        files = {example_file: json.dumps(table), serving: json.dumps({"dataframe_split": table})}
    return {MODEL_FILE: json.dumps(model, indent=1) + "\n", **files}  # JSON is YAML


def example_fields(kind, example):
    """An input as typed in a shell, as the fields of a row; a picture in base64 for files."""
    if kind == "files":
        return {"base64": PICTURE}
    try:
        words = shlex.split(example)
    except ValueError:  # a quote without its fellow
        words = [example]
    if kind == "rows":
        return {name: value for name, equals, value in (word.partition("=") for word in words) if equals}
    return {COLUMN[kind]: words[0]} if words else {}


def input_columns(app, about, fields=()):
    """The names of the signature's inputs; `fields` of an example are those of an app that keeps no record of them."""
    kind = inputs_of(app).kind
    if kind == "rows":
        return [name for name in about.get("columns", ()) if name != about.get("target")] or list(fields)
    return [COLUMN[kind], "base64"] if kind == "files" else [COLUMN[kind]]


def _params(app):
    """The signature's parameters: the options of the app's `predict`."""
    wanted = getattr(app, "PredictOptions", None)
    if wanted is None:
        return None
    params = []
    for name, option in options_of(wanted).items():
        several = isinstance(option.default, tuple)
        kind = type(option.default[0]) if several else option.kind
        default = list(option.default) if several else option.default
        params.append({"name": name, "type": TYPES[kind], "default": default, "shape": [-1] if several else None})
    return json.dumps(params)


def _load_pyfunc(path):
    """What MLflow calls to load the bundle in this folder."""
    if "keras" not in sys.modules:
        backends.prepare(backends.choose())
    bundle = open_bundle(path)
    app = load_app(bundle.task)
    check_about(app, bundle)
    return Served(app, load_model(bundle), bundle.about)


class Served:
    """A loaded bundle, which predicts for the rows of a data frame.

    Args:
        app: The app's module.
        model, about: Of the bundle.
    """

    def __init__(self, app, model, about):
        self.app, self.model, self.about = app, model, about
        self.inputs = inputs_of(app)

    def predict(self, data, params=None):
        """A data frame with one row of answers for each row of `data`, in their order.

        Args:
            data: A data frame, columns as arrays, or rows (dicts, or bare inputs): a column `path` or `base64` for files, `text`
                for texts, `input` for values, and the model's own columns for rows.
            params: `{option: value}` of the app's `PredictOptions`.
        Raises:
            MlflowException: The input, or an option, is not as it must be.
        """
        import pandas as pd
        from mlflow.exceptions import MlflowException

        try:
            with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
                words = [self._word(row, Path(folder), number) for number, row in enumerate(self._rows(data))]
                found = self._answers(words, self._options(params)) if words else []
        except UserError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from None
        names = dict.fromkeys(name for row in found for name in row)
        # None and not NaN where a row has nothing under a name: JSON knows no NaN.
        return pd.DataFrame({name: _series([row.get(name) for row in found]) for name in names})

    def _answers(self, words, options):
        if self.inputs.kind == "values":
            return list(self.app.predict(self.model, words, self.about, *options))
        items = iter([item_of(word, self.inputs) for word in words])
        return list(answer_items(self.app, self.model, self.about, items, options))

    def _options(self, params):
        wanted = getattr(self.app, "PredictOptions", None)
        if wanted is None:
            return ()
        known = options_of(wanted)
        given = {name: tuple(value) if isinstance(value, list) else value for name, value in (params or {}).items()}
        # MLflow fills in the defaults, of which some need others.
        changed = {name: value for name, value in given.items() if name not in known or value != known[name].default}
        return (make_config(wanted, changed),)

    def _rows(self, data):
        """The rows of what MLflow hands over, as dicts."""
        import pandas as pd

        if isinstance(data, dict):
            data = pd.DataFrame(data if any(np.ndim(value) for value in data.values()) else [data])
        if isinstance(data, pd.DataFrame):
            if not len(data.columns):  # MLflow leaves out what the signature does not name, and with all columns all rows
                known = input_columns(self.app, self.about) or ["those of the signature"]
                raise UserError(f"no rows with any of the model's columns: {', '.join(known[:12])}")
            return data.to_dict("records")
        column = COLUMN[self.inputs.kind]
        rows = []
        for row in data if isinstance(data, list) else np.atleast_1d(data).tolist():
            if not isinstance(row, dict) and not column:
                raise UserError("expected rows with the names of their columns, as dataframe_records or dataframe_split")
            rows.append(row if isinstance(row, dict) else {column: row})
        return rows

    def _word(self, row, folder, number):
        row = {str(name): "" if _is_missing(value) else value for name, value in row.items()}
        if self.inputs.kind == "rows":
            return {name: str(value) for name, value in row.items()}
        if self.inputs.kind == "files" and row.get("base64"):
            path = folder / f"input-{number}"
            try:
                path.write_bytes(base64.b64decode(row["base64"], validate=True))
            except (binascii.Error, ValueError, TypeError):
                path.write_bytes(b"")  # which the app finds unreadable, and says so in its row
            return str(path)
        return str(row.get(COLUMN[self.inputs.kind], ""))


def _is_missing(value):
    return value is None or (isinstance(value, float) and value != value)


def _series(values):
    import pandas as pd

    return pd.Series(values, dtype=object if any(value is None for value in values) else None)
