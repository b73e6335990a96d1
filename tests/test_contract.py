"""What every app promises, on the entries of `app_cases.py`: from data to prediction, through kills, searches and exports.

Training, evaluation and prediction run on every backend. What belongs to the run and not to the app runs on one of them, so
chosen that each check meets all three; `TRIPTYCH_EVERYTHING=1` (`make test-all`) runs everything on everything.
"""

import functools
import importlib.util
import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np
import pytest
from app_cases import APP_CASES
from one_backend import mostly, share
from runs import bundle_weights, environment, forked, train, train_and_kill

import triptych
from apps.common.app import ARGUMENTS, ContractError, checked, inputs_of, load_app, metric_of, tasks
from apps.common.bundles import answers
from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.options.declare import make_config

BACKEND = keras.backend.backend()
KEYS = {"task", "backend", "run_id", "model", "metrics", "seconds"}
FILE_TASKS = [task for task in sorted(APP_CASES) if inputs_of(load_app(task)).kind == "files"]
every_app = pytest.mark.parametrize("task", sorted(APP_CASES))


def on_one_backend(check):
    """Run the check of each app on one backend: another one for the next check of the same app."""
    return pytest.mark.parametrize("task", share(sorted(APP_CASES), check.__name__))(check)


@functools.cache
def place(task):
    """A folder with the data of the app."""
    folder = Path(tempfile.mkdtemp(prefix=f"{task}-"))
    APP_CASES[task].write(folder)
    return folder


@functools.cache
def trained(task):
    """The result of the app's run, made once."""
    return train(task, *APP_CASES[task].options, cwd=place(task))


@functools.cache
def predicted(task, model):
    case = APP_CASES[task]
    done = forked("predict", model, *case.inputs, *case.predict_options, "--json", cwd=place(task))
    return json.loads(done.stdout)["predictions"]


def test_every_app_has_an_entry():
    assert set(tasks()) == set(APP_CASES)


@every_app
def test_training_ends_in_one_object_and_a_whole_bundle(task):
    result = trained(task)
    assert result.keys() == KEYS and (result["task"], result["backend"]) == (task, BACKEND)
    assert all(isinstance(value, float) for value in result["metrics"].values())
    app, bundle = load_app(task), open_bundle(place(task) / result["model"])
    assert metric_of(app, bundle.about).name in result["metrics"], "the app's METRIC is what `evaluate` reports"
    assert {"bundle.json", "model.keras", "curves.png"} <= {path.name for path in bundle.folder.iterdir()}


@every_app
def test_evaluation_repeats_the_metrics_of_training(task):
    answer = json.loads(forked("evaluate", trained(task)["model"], "--json", cwd=place(task)).stdout)
    assert answer.keys() == KEYS
    assert answer["metrics"] == pytest.approx(trained(task)["metrics"], rel=1e-4, abs=1e-5, nan_ok=True)


@every_app
def test_prediction_gives_one_row_for_each_input(task):
    case, rows = APP_CASES[task], predicted(task, trained(task)["model"])
    assert len(rows) == (case.rows or len(case.inputs)) and all(isinstance(row, dict) for row in rows)


@on_one_backend
def test_the_run_of_a_model_predicts_as_its_bundle_does(task):
    assert predicted(task, trained(task)["run_id"][:10]) == predicted(task, trained(task)["model"])


@pytest.mark.parametrize("task", share(FILE_TASKS, "files of one name"))
def test_what_is_written_of_two_inputs_of_one_name_is_two_files(task, tmp_path, monkeypatch):
    bundle, first = open_bundle(place(task) / trained(task)["model"]), Path(APP_CASES[task].inputs[0])
    paths = [tmp_path / folder / first.name for folder in ("here", "there")]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes((place(task) / first).read_bytes())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(answers, "CHUNK", 1)  # inputs come to the app in parts
    app = load_app(task)
    options = (app.PredictOptions(),) if hasattr(app, "PredictOptions") else ()
    one, other = answers.answer(app, load_model(bundle), bundle.about, map(str, paths), options)
    files = [name for name, value in one.items() if name != "input" and isinstance(value, str) and Path(value).is_file()]
    assert one.keys() == other.keys() and not [name for name in files if one[name] == other[name]]


@on_one_backend
def test_a_killed_run_resumes_to_the_very_same_weights(task, tmp_path):
    options = APP_CASES[task].options
    APP_CASES[task].write(tmp_path)
    killed = train_and_kill(task, *options, cwd=tmp_path, after_epoch=1)
    resumed = train(task, *options, "--resume", "last", cwd=tmp_path)
    assert resumed["run_id"] == killed.name
    expected, found = bundle_weights(place(task) / trained(task)["model"]), bundle_weights(tmp_path / resumed["model"])
    assert expected.keys() == found.keys() and expected
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@on_one_backend
def test_a_search_of_two_trials_ends_in_the_better_one(task, tmp_path):
    case = APP_CASES[task]
    case.write(tmp_path)
    options = (*case.options, "--only", case.search, "--trials", "2", "--no-final", "--json")
    result = json.loads(forked("tune", task, *options, cwd=tmp_path).stdout)
    assert [row["status"] for row in result["rows"]] == ["completed", "completed"], result["rows"]
    scores = [row[result["objective"]] for row in result["rows"]]
    assert result["best"][result["objective"]] in (min(scores), max(scores))


@on_one_backend
def test_half_precision_trains_evaluates_and_is_bundled(task, tmp_path):
    APP_CASES[task].write(tmp_path)
    result = train(task, *APP_CASES[task].options, "--precision", "mixed_bfloat16", cwd=tmp_path)
    metric = metric_of(load_app(task), open_bundle(tmp_path / result["model"]).about).name
    assert np.isfinite(result["metrics"][metric])


@pytest.mark.parametrize("task", mostly("tensorflow", sorted(APP_CASES)))  # which writes it without a second process
@pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in ("tensorflow", "tf2onnx", "onnxruntime")),
    reason="ONNX is written by TensorFlow and tf2onnx and run by onnxruntime",
)
def test_an_onnx_export_computes_the_same_or_says_why_not(task, tmp_path):
    exported(task, tmp_path / "model.onnx", "onnx", APP_CASES[task].exports)


@pytest.mark.parametrize("task", mostly("torch", sorted(APP_CASES)))
@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="torch writes its own format")
def test_an_export_to_torch_computes_the_same_or_says_why_not(task, tmp_path):
    case = APP_CASES[task]
    exported(task, tmp_path / "model.pt2", "torch", case.exports_torch if case.exports is True else case.exports)


def exported(task, output, form, possible):
    """The model in another format, or one line that says why not."""
    arguments = ("export", trained(task)["model"], "--format", form, "--output", output, "--json")
    done = forked(*arguments, cwd=place(task), check=0 if possible is True else 2)
    if possible is True:
        # In units of the outputs, up to 255 of pixels; the command itself refuses 1e-4 of the largest.
        assert json.loads(done.stdout)["difference"] <= 1e-3 and output.is_file()
    else:
        # On a slow machine there are also lines of what takes so long.
        said = [line for line in done.stderr.strip().splitlines() if not line.endswith(" so far")]
        assert len(said) == 1 and "Traceback" not in done.stderr


def no_number(word):
    raise AssertionError(f"{word} is no JSON")


@on_one_backend
def test_mlflow_serves_what_predict_says(task, monkeypatch):
    import mlflow
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server

    case, folder = APP_CASES[task], place(task) / trained(task)["model"]
    monkeypatch.chdir(place(task))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place(task).resolve() / 'mlruns' / 'mlflow.db'}")
    model = mlflow.pyfunc.load_model(str(folder))
    words, kind = shlex.split(model.metadata.metadata["example"]), model.metadata.metadata["inputs"]
    flags = zip(case.predict_options[::2], case.predict_options[1::2], strict=True)
    asked = {flag.removeprefix("--").replace("-", "_"): value for flag, value in flags}
    options = vars(make_config(load_app(task).PredictOptions, asked)) if asked else {}
    params = {name: list(options[name]) if isinstance(options[name], tuple) else options[name] for name in asked}

    def served(body):
        with TestClient(scoring_server.init(model)) as client:
            answer = client.post("/invocations", json={**body, "params": params})
        assert answer.status_code == 200, answer.text[:2000]
        return json.loads(answer.text, parse_constant=no_number)["predictions"]

    example = served(json.loads((folder / "serving_input_example.json").read_text(encoding="utf-8")))
    assert example and not any(row.get("reason") for row in example)
    if kind == "files":
        words = case.inputs[:1]
        example = served({"dataframe_records": [{"path": words[0]}, {"base64": "AAAA"}, {"path": None}]})
        assert len(example) >= 3 and example[-2]["reason"] and example[-1]["reason"] == "empty"
    done = forked("predict", folder, *words, *case.predict_options, "--json", cwd=place(task))
    expected = json.loads(done.stdout)["predictions"][0]
    assert {name: value for name, value in example[0].items() if value is not None} == {
        name: pytest.approx(value, rel=1e-4) if isinstance(value, float) else value
        for name, value in expected.items()
        if name in example[0]
    }


READ = """
import sys
from apps.common.app import load_app, tasks
from apps.common.options.declare import make_config
for task in tasks():
    app = load_app(task)
    app.load_data(make_config(app.Config, {}))
    assert not {"keras", "tensorflow", "jax", "torch"} & set(sys.modules), task
"""


@pytest.mark.once
def test_data_are_read_without_a_backend():
    done = subprocess.run([sys.executable, "-c", READ], env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-300:]


@pytest.mark.once
@every_app
def test_the_help_names_every_option_and_recipe(task, capsys):
    assert triptych.main(["train", task, "--help"]) == 0
    said, app = capsys.readouterr().out, load_app(task)
    assert app.__doc__.strip().splitlines()[0] in said and "--learning-rate" in said
    assert all(name in said for name in app.RECIPES)


def a_module(**changes):
    """A module that keeps the contract but for the changes; `None` takes an attribute away."""
    import types

    from apps import tabular

    made = types.ModuleType("apps.broken", "Predict.")
    wanted = ("Config", "METRIC", "RECIPES", *(name for name in ARGUMENTS if hasattr(tabular, name)))
    for name in wanted:
        setattr(made, name, getattr(tabular, name))
    for name, value in changes.items():
        delattr(made, name) if value is None else setattr(made, name, value)
    return made


@pytest.mark.once
@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"METRIC": None}, "`METRIC` is missing"),
        ({"METRIC": "accuracy"}, "`METRIC` must be"),
        ({"Config": int}, "`Config` must be"),
        ({"predict": lambda model, inputs: []}, "`predict` must take"),
        ({"on_epoch": lambda model: None}, "`on_epoch` must take"),
        ({"__doc__": ""}, "docstring is missing"),
    ],
)
def test_an_app_that_breaks_the_contract_is_named_with_what_is_wrong(changes, named):
    assert checked(a_module()).__name__ == "apps.broken"
    with pytest.raises(ContractError, match=named):
        checked(a_module(**changes))
