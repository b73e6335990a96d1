"""A bundle as an MLflow model: rows, texts, values, paths or pictures in base64 go in, what `predict` says comes out.

`mlflow.pyfunc.load_model("models:/tabular@newest")` and `mlflow models serve -m models:/tabular@newest --env-manager local`
find this module by the bundle's `MLmodel` file; nothing is pickled. The backend is `KERAS_BACKEND`, else the first installed.
"""

import base64
import binascii
import json
import sys
import tempfile
from pathlib import Path

from apps.common.app import inputs_of, load_app
from apps.common.bundles.answers import answer_items, item_of
from apps.common.bundles.bundle import check_about, load_model, open_bundle
from apps.common.options import backends

MODEL_FILE = "MLmodel"
COLUMN = {"files": "path", "texts": "text", "values": "input", "rows": None}


def model_file(task, kind, run_id, example):
    """The text of a bundle's `MLmodel`.

    Args:
        task: Of the bundle.
        kind: Of the app's `Inputs`.
        run_id: The MLflow run, or `None`.
        example: An input as typed, shown beside the signature.
    """
    column = COLUMN[kind]
    flavor = {"loader_module": __name__, "data": ".", "python_version": "3.11"}
    described = {
        "artifact_path": "bundle",
        "flavors": {"python_function": flavor},
        "metadata": {"task": task, "inputs": kind, "example": example},
        "run_id": run_id or "",
    }
    if column:
        columns = [{"name": column, "type": "string", "required": False}]
        if kind == "files":
            columns.append({"name": "base64", "type": "string", "required": False})
        described["signature"] = {"inputs": json.dumps(columns), "outputs": None, "params": None}
    return json.dumps(described, indent=1) + "\n"  # JSON is YAML


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
            data: A data frame, or rows as dicts: a column `path` or `base64` for files, `text` for texts, `input` for values,
                and the model's own columns for rows.
            params: `{option: value}` of the app's `PredictOptions`.
        """
        import pandas as pd

        rows = data.to_dict("records") if hasattr(data, "to_dict") else list(data)
        with tempfile.TemporaryDirectory(prefix="triptych-") as folder:
            words = [self._word(row, Path(folder), number) for number, row in enumerate(rows)]
            options = self._options(params)
            if self.inputs.kind == "values":
                found = self.app.predict(self.model, words, self.about, *options)
            else:
                items = iter([item_of(word, self.inputs) for word in words])
                found = list(answer_items(self.app, self.model, self.about, items, options))
        return pd.DataFrame(found)

    def _options(self, params):
        wanted = getattr(self.app, "PredictOptions", None)
        if wanted is None:
            return ()
        from apps.common.options.declare import make_config

        return (make_config(wanted, params or {}),)

    def _word(self, row, folder, number):
        if self.inputs.kind == "rows":
            return {name: "" if value is None or value != value else str(value) for name, value in row.items()}
        if self.inputs.kind == "files" and row.get("base64"):
            path = folder / f"input-{number}"
            try:
                path.write_bytes(base64.b64decode(row["base64"], validate=True))
            except (binascii.Error, ValueError):
                path.write_bytes(b"")  # which the app finds unreadable, and says so in its row
            return str(path)
        return str(row.get(COLUMN[self.inputs.kind], next(iter(row.values()), "")))
