"""The two apps from data to prediction, as a person runs them, and what tracking keeps of it."""

import contextlib
import csv
import itertools
import json
import os
import signal
import sqlite3
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import stores
from PIL import Image
from runs import train_and_kill
from runs import triptych as process

import triptych
from apps import tabular
from apps.common import figures, output
from apps.common.options.backends import installed
from apps.common.records.mlflow import client

pytestmark = pytest.mark.once  # the contract takes training, evaluation and prediction to the other backends

KEYS = {"task", "backend", "run_id", "model", "metrics", "seconds"}
IMAGE_OPTIONS = (
    "--model", "mlp", "--hidden-dims", "8", "--epochs", "3", "--batch-size", "8", "--learning-rate", "0.02",
    "--gradient-flow",
)  # fmt: skip
TABLE_OPTIONS = ("--epochs", "3", "--batch-size", "16", "--hidden-dims", "8", "--learning-rate", "0.02")
BACKEND = keras.backend.backend()


@pytest.fixture
def run(capsys):
    """Run a command in this process; returns the object it prints with `--json` and what it said beside it."""

    def command(*arguments, code=0):
        capsys.readouterr()
        assert triptych.main([*map(str, arguments), "--json"]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return json.loads(out) if out else None, err

    return command


def write_pictures(folder, dark="dark", light="light", count=20):
    """Noisy images of 8 x 8 pixels, dark ones in one folder and light ones in the other."""
    generator = np.random.default_rng(0)
    for name, level in ((dark, 60), (light, 190)):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(level - 40, level + 40, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


def write_houses(path, count=60):
    """A table with numbers, text and a missing value, whose price follows from the others."""
    generator = np.random.default_rng(1)
    with open(path, "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["size", "town", "price"])
        for index in range(count):
            size, town = generator.uniform(30, 150), ["north", "south"][index % 2]
            rows.writerow(["" if index == 7 else f"{size:.1f}", town, f"{2.5 * size + 40 * (index % 2):.2f}"])
    return path


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder in which each app has been trained once by the command line, in a process of its own."""
    folder = tmp_path_factory.mktemp("place")
    write_pictures(folder / "pictures")
    write_houses(folder / "houses.csv")
    return folder


@pytest.fixture(scope="module")
def images(place):
    arguments = ("train", "image-classification", "--data", "pictures", *IMAGE_OPTIONS, "--json")
    return process(*arguments, cwd=place, backend=BACKEND)


@pytest.fixture(scope="module")
def table(place):
    return process("train", "tabular", "--data", "houses.csv", *TABLE_OPTIONS, "--json", cwd=place, backend=BACKEND)


@pytest.fixture
def classifier(images, place, monkeypatch):
    monkeypatch.chdir(place)
    return json.loads(images.stdout)


@pytest.fixture
def regression(table, place, monkeypatch):
    monkeypatch.chdir(place)
    return json.loads(table.stdout)


def test_the_notes_say_what_was_read(images, table):
    assert "30 examples to train on" in images.stderr and "epoch 3/3" in images.stderr
    assert "INFO" not in images.stderr and "WARNING" not in images.stderr
    assert "the target is the last column, 'price'" in table.stderr


def test_predict_gives_the_class_and_the_probabilities_of_image_files(classifier, run):
    answer, _ = run("predict", classifier["model"], "pictures/dark/0.png", "pictures/light/0.png")
    dark, light = answer["predictions"]
    assert (dark["input"], dark["class"], light["class"]) == ("pictures/dark/0.png", "dark", "light")
    assert sum(dark["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    assert dark["probability"] == pytest.approx(dark["probabilities"]["dark"], abs=1e-5)


def test_predict_resizes_and_converts_an_image_of_another_kind(classifier, run, tmp_path):
    Image.new("RGB", (31, 17), (250, 245, 240)).save(tmp_path / "large.jpg")
    answer, _ = run("predict", classifier["run_id"][:8], tmp_path / "large.jpg")
    assert answer["predictions"][0]["class"] == "light"


def test_predict_writes_a_table_with_the_predictions_beside_its_rows(regression, run, tmp_path):
    answer, _ = run("predict", regression["run_id"], "houses.csv", "--output", tmp_path / "out.csv")
    given, written = (
        list(csv.DictReader(Path(path).read_text().splitlines())) for path in ("houses.csv", tmp_path / "out.csv")
    )
    assert len(written) == len(given) == len(answer["predictions"])
    assert list(written[0]) == ["size", "town", "price", "prediction"]
    assert [row["town"] for row in written] == [row["town"] for row in given]
    assert float(written[3]["size"]) == float(given[3]["size"]) and written[7]["size"] == ""
    assert float(written[3]["prediction"]) == pytest.approx(answer["predictions"][3]["prediction"])


def test_predict_takes_values_by_name_and_they_matter(regression, run):
    small, large, unknown = (
        run("predict", regression["model"], f"size={size}", "town=south")[0]["predictions"][0]["prediction"]
        for size in ("40", "140", "")
    )
    assert large - small > 50 and small < unknown < large


def test_evaluate_on_other_data_counts_what_is_wrong_there(classifier, run, tmp_path):
    write_pictures(tmp_path / "right", count=5)
    write_pictures(tmp_path / "swapped", dark="light", light="dark", count=5)
    right, _ = run("evaluate", classifier["model"], "--data", tmp_path / "right")
    swapped, _ = run("evaluate", classifier["model"], "--data", tmp_path / "swapped")
    assert right["metrics"]["accuracy"] > 0.8
    assert right["metrics"]["accuracy"] + swapped["metrics"]["accuracy"] == pytest.approx(1)


def test_compare_lists_the_run_with_its_backend(classifier, run):
    rows = run("compare", "image-classification")[0]["rows"]
    (row,) = [row for row in rows if row["run"] == classifier["run_id"]]
    assert (row["backend"], row["model"], row["status"]) == (BACKEND, "mlp", "finished")
    assert row["value"] == pytest.approx(classifier["metrics"]["accuracy"])


def test_tracking_keeps_options_metrics_of_each_epoch_tags_and_figures(classifier):
    api = client()
    tracked = api.get_run(classifier["run_id"])
    assert tracked.info.status == "FINISHED"
    described = tracked.data.tags["mlflow.note.content"]  # what MLflow shows as the run's description
    assert "| accuracy |" in described and "## Options" not in described
    assert tracked.inputs.dataset_inputs[0].dataset.digest == tracked.data.tags["data_fingerprint"]
    assert not {"momentum", "depth"} & tracked.data.params.keys(), "options that do nothing are no parameters"
    assert (tracked.data.params["epochs"], tracked.data.params["hidden_dims"]) == ("3", "[8]")
    assert tracked.data.metrics["test_accuracy"] == pytest.approx(classifier["metrics"]["accuracy"])
    for name in ("loss", "val_loss", "accuracy", "val_accuracy", "learning_rate"):
        assert [metric.step for metric in api.get_metric_history(classifier["run_id"], name)] == [1, 2, 3], name
    tags = tracked.data.tags
    assert (tags["task"], tags["backend"], tags["data"]) == ("image-classification", BACKEND, "pictures")
    assert {"device", "git", "data_fingerprint", "version_keras", f"version_{BACKEND}", "version_python"} <= tags.keys()
    figures = {Path(file.path).name for file in api.list_artifacts(classifier["run_id"], "bundle")}
    assert {"curves.png", "confusion.png", "gradient-flow.png"} <= figures


def test_the_newest_model_is_registered_and_predicts_by_its_alias(classifier, run):
    version = client().get_model_version_by_alias("image-classification", "newest")
    assert version.run_id == classifier["run_id"] and version.tags["backend"] == BACKEND
    answer, _ = run("predict", "image-classification@newest", "pictures/dark/1.png")
    assert answer["predictions"][0]["class"] == "dark"


def test_mlflow_loads_the_registered_model_and_predicts_paths_and_base64(classifier):
    import base64

    import pandas as pd

    client()
    import mlflow

    loaded = mlflow.pyfunc.load_model("models:/image-classification@newest")
    light = base64.b64encode(Path("pictures/light/0.png").read_bytes()).decode()
    answers = loaded.predict(pd.DataFrame({"path": ["pictures/dark/0.png", "", ""], "base64": ["", light, "AAAA"]}))
    assert list(answers["class"][:2]) == ["dark", "light"] and "not a readable image" in answers["reason"][2]


def test_a_bundle_that_is_only_in_the_store_is_fetched_from_there(classifier, run, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{Path('mlruns/mlflow.db').resolve()}")
    picture = Path("pictures/dark/1.png").resolve()
    monkeypatch.chdir(tmp_path)
    answer, _ = run("predict", classifier["run_id"], picture)
    assert answer["predictions"][0]["class"] == "dark"


def test_a_store_that_is_away_does_not_stop_training(place, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    result, said = run("train", "tabular", "--data", place / "houses.csv", *TABLE_OPTIONS)
    assert said.count("the MLflow store is away") == 1
    assert (Path(result["model"]) / "model.keras").is_file()
    unsent = (tmp_path / "mlruns" / "runs" / result["run_id"] / "unsent.jsonl").read_text().splitlines()
    assert {"params", "metrics", "end"} <= {json.loads(line)[0] for line in unsent}


def test_terminating_a_run_ends_it_as_killed_and_says_how_to_go_on(place, run, tmp_path, monkeypatch):
    def terminate(model, epoch, tracker, data, config):
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tabular, "on_epoch", terminate, raising=False)
    _, said = run("train", "tabular", "--data", place / "houses.csv", *TABLE_OPTIONS, code=128 + signal.SIGTERM)
    (folder,) = (tmp_path / "mlruns" / "runs").iterdir()
    assert f"--resume {folder.name[:8]}" in said
    assert json.loads((folder / "run.json").read_text())["status"] == "killed"
    assert client().get_run(folder.name).info.status == "KILLED"


def test_a_run_that_died_is_marked_at_the_next_start_and_goes_on_on_another_backend(place, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    options = ("tabular", "--epochs", "30", "--schedule", "cosine")
    killed = train_and_kill(*options, cwd=tmp_path, after_epoch=2)
    assert client().get_run(killed.name).info.status == "RUNNING"

    _, said = run("train", "tabular", "--data", place / "houses.csv", *TABLE_OPTIONS)
    assert f"run {killed.name[:8]} had been killed" in said
    assert client().get_run(killed.name).info.status == "KILLED"

    other = installed()[(installed().index(BACKEND) + 1) % len(installed())]
    done = process("train", *options, "--resume", killed.name[:8], "--json", cwd=tmp_path, backend=other)
    result = json.loads(done.stdout)
    assert (result["run_id"], result["backend"]) == (killed.name, other)
    assert f"written by the {BACKEND} backend" in done.stderr
    losses = json.loads((killed / "checkpoints" / "epoch-00030" / "state.json").read_text())["history"]["loss"]
    assert len(losses) == 30 and losses[-1] < 0.5 * losses[0]
    assert all(later < 1.2 * earlier for earlier, later in itertools.pairwise(losses[:12])), "no fall back to the start"
    assert client().get_run(killed.name).info.status == "FINISHED"


def test_what_takes_long_is_said_meanwhile(capsys, monkeypatch):
    monkeypatch.setattr(output, "SILENCE", 0.02)
    with output.said_meanwhile(lambda: "3 predictions, going on"):
        time.sleep(0.1)
    lines = capsys.readouterr().err.splitlines()
    assert lines and all(line == "3 predictions, going on, 0 s so far" for line in lines)


def test_the_font_of_drawn_pictures_has_accents():
    font = figures.pillow_font(20)
    assert bytes(font.getmask("è")) != bytes(font.getmask("\uffff"))


def test_a_store_that_tests_copy_is_as_one_made_there(tmp_path, monkeypatch):
    def content(folder):
        with contextlib.closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as store:
            tables = store.execute("SELECT name, sql FROM sqlite_master ORDER BY name").fetchall()
            # The constraints of a table come in another order each time.
            tables = [(name, sorted(line.strip().rstrip(",") for line in (sql or "").split("\n"))) for name, sql in tables]
            return tables, store.execute("SELECT experiment_id, name, artifact_location FROM experiments").fetchall()

    found = []
    for put in (lambda: stores.put_store(tmp_path), lambda: stores.make_store(Path("mlruns/mlflow.db"))):
        monkeypatch.chdir(tmp_path)
        put()
        found.append(content(tmp_path))
        (tmp_path / "mlruns" / "mlflow.db").unlink()
    assert found[0] == found[1] and str(tmp_path) in found[0][1][0][2]
