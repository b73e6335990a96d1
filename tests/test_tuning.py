"""A search from its command to its registered model, and what happens when trials fail or the process is stopped."""

import json
import threading
from pathlib import Path

import keras
import numpy as np
import pytest

import triptych
from apps import tabular
from apps.common import files
from apps.common.options.declare import make_config
from apps.common.records.compare import compare
from apps.common.records.mlflow import client
from apps.common.training import run as runs
from tuning import trial_loop
from tuning.plan import SEARCHES
from tuning.trials import DataCache

SMALL = ("--hidden-dims", "8", "--batch-size", "64", "--only", "learning_rate,dropout", "--model", "mlp")
BACKEND = keras.backend.backend()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One folder for all searches of this file: a new MLflow store costs seconds."""
    return tmp_path_factory.mktemp("searches")


@pytest.fixture
def tune(folder, monkeypatch, capsys):
    """Run `triptych tune tabular` in this process; returns the object it prints and what it said."""
    monkeypatch.chdir(folder)

    def command(*arguments, code=0):
        capsys.readouterr()
        assert triptych.main(["tune", "tabular", *SMALL, *map(str, arguments), "--json"]) == code, capsys.readouterr().err
        out, err = capsys.readouterr()
        return json.loads(out) if out else None, err

    return command


def children(result):
    """The MLflow runs nested under a search, oldest first."""
    api = client()
    experiment = api.get_experiment_by_name("tabular").experiment_id
    found = api.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{result['run_id']}'")
    return sorted(found, key=lambda run: run.info.start_time)


@pytest.mark.once
def test_a_search_ends_in_a_tested_and_registered_model(tune, folder):
    result, said = tune("--trials", 6, "--epochs", 2)
    rows, best, final = result["rows"], result["best"], result["final"]
    assert [row["trial"] for row in rows] == ["0", "1", "2", "3", "4", "5"]
    assert best["val_accuracy"] == max(row["val_accuracy"] for row in rows) and result["configurations"] == 6
    shown = f"{best['val_accuracy']:.5g}"
    assert "trial 6/6" in said and "left" in said and f"best {shown}" in said
    api = client()
    *trials, last = children(result)
    for row, run in zip(rows, trials, strict=True):
        assert run.info.status == "FINISHED" and run.info.run_name == f"trial {row['trial']}"
        assert float(run.data.params["learning_rate"]) == row["learning_rate"]
        curve = api.get_metric_history(run.info.run_id, "val_accuracy")
        assert [point.step for point in curve] == [1, 2] and curve[-1].value == pytest.approx(row["val_accuracy"])
        assert not any(name.startswith("test_") for name in run.data.metrics)  # a search sees validation only
    # The best configuration, trained by `train` as long as its trial was, is the very same model.
    assert last.info.run_id == final["run_id"] and last.data.tags["configurations"] == "6"
    assert last.data.metrics["val_accuracy"] == pytest.approx(best["val_accuracy"], rel=1e-9)
    assert api.get_model_version_by_alias("tabular", "tuned").run_id == final["run_id"]
    assert [run.id for run in compare("tabular")] == [final["run_id"]]  # neither the search nor its trials
    parent = api.get_run(result["run_id"])
    assert parent.info.status == "FINISHED"
    assert parent.data.metrics["test_accuracy"] == final["metrics"]["accuracy"]
    assert float(parent.data.tags["best.learning_rate"]) == best["options"]["learning_rate"]
    kept = {file.path for place in ("figures", "tables", "") for file in api.list_artifacts(result["run_id"], place)}
    figures = {"figures/parallel-coordinates.png", "figures/importance.png", "figures/history.png"}
    assert kept >= {*figures, "tables/trials.json", "tables/trials.csv", "best.json"}


@pytest.mark.once
def test_the_same_command_shows_the_finished_search_and_more_trials_go_on_from_it(tune):
    first, _ = tune("--trials", 2, "--epochs", 1, "--no-final", "--seed", 1)
    again, said = tune("--trials", 2, "--epochs", 1, "--no-final", "--seed", 1)
    assert again == first and "finished already" in said and first["final"] is None
    more, said = tune("--trials", 3, "--epochs", 1, "--no-final", "--seed", 1)
    assert "going on: 2 of 3" in said and more["rows"][:2] == first["rows"] and len(more["rows"]) == 3
    assert len(children(more)) == 3 and more["run_id"] == first["run_id"]


@pytest.mark.once
def test_hyperband_trains_on_from_the_lower_bracket(tune):
    result, _ = tune("--search", "hyperband", "--epochs", 3, "--no-final", "--seed", 2, "--schedule", "cosine")
    promoted = next(row for row in result["rows"] if "continues" in row)
    steps = [row["epochs"] for row in result["rows"] if row["trial"] in (promoted["trial"], promoted["continues"])]
    assert sorted(steps) == [1, 3]  # epochs in all; the second trained two of them itself
    run = next(run for run in children(result) if run.data.tags["trial"] == promoted["trial"])
    assert [point.step for point in client().get_metric_history(run.info.run_id, "val_accuracy")] == [2, 3]
    options = dict(zip(SMALL[::2], SMALL[1::2], strict=True))
    given = {name[2:].replace("-", "_"): value for name, value in options.items() if name != "--only"}
    given |= {"epochs": 3, "seed": 2, "schedule": "cosine"}
    chosen = {name: promoted[name] for name in ("learning_rate", "dropout")}
    undisturbed = runs.train(tabular, make_config(tabular.Config, {**given, **chosen}))
    straight = client().get_run(undisturbed["run_id"]).data.metrics["val_accuracy"]
    assert promoted["val_accuracy"] == pytest.approx(straight, rel=1e-9)


@pytest.mark.once
def test_a_trial_that_fails_is_recorded_and_the_search_goes_on(tune, monkeypatch):
    build, calls = tabular.build_model, []

    def sometimes(config, data):
        calls.append(config)
        if len(calls) == 2:
            raise MemoryError("out of memory")
        return build(config, data)

    monkeypatch.setattr(tabular, "build_model", sometimes)
    result, said = tune("--trials", 3, "--epochs", 1, "--no-final", "--seed", 3)
    assert [row["status"] for row in result["rows"]] == ["completed", "failed", "completed"] and result["failed"] == 1
    assert "MemoryError: out of memory" in result["rows"][1]["reason"] and "failed: MemoryError" in said
    failed = children(result)[1]
    assert failed.info.status == "FAILED" and "out of memory" in failed.data.tags["reason"]


def test_a_loss_that_is_not_a_number_is_a_failed_trial(tune):
    wild = ("--optimizer", "sgd", "--fix", "learning_rate=100,l2=10", "--only", "dropout", "--batch-size", 8)
    _, said = tune("--trials", 6, "--epochs", 2, "--no-final", *wild, code=2)
    assert said.count("failed: the loss became") == 3  # for one and the same reason: no need to go on


@pytest.mark.once
def test_what_is_impossible_for_all_trials_stops_at_once(tune, monkeypatch):
    def never(config, data):
        raise RuntimeError("no such device")

    monkeypatch.setattr(tabular, "build_model", never)
    _, said = tune("--trials", 9, "--epochs", 1, "--seed", 4, code=2)
    assert said.count("trial ") == 1 and "no configuration can be trained: RuntimeError: no such device" in said


@pytest.mark.once
def test_ctrl_c_stops_cleanly_and_the_same_command_goes_on(tune, monkeypatch):
    build, calls = tabular.build_model, []

    def interrupted(config, data):
        calls.append(config.learning_rate)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return build(config, data)

    monkeypatch.setattr(tabular, "build_model", interrupted)
    command = ("--trials", 3, "--epochs", 1, "--no-final", "--seed", 5)
    _, said = tune(*command, code=130)
    assert "stopped after 1 of 3 trials; the same command goes on" in said
    result, said = tune(*command)
    assert "going on: 1 of 3" in said and len(result["rows"]) == 3
    assert len(calls) == 4 and calls[2] == calls[1]  # only the interrupted one ran again
    assert [run.info.status for run in children(result)] == ["FINISHED"] * 3


@pytest.mark.once
def test_a_process_that_has_grown_gives_way_and_the_search_goes_on(tune, monkeypatch):
    monkeypatch.setattr(trial_loop, "SPAN", 2)
    monkeypatch.setattr(trial_loop, "GROWTH", -(2**50))
    result, said = tune("--trials", 3, "--epochs", 1, "--no-final", "--seed", 8)
    assert "a fresh one goes on" in said and "going on: 2 of 3" in said
    assert [row["trial"] for row in result["rows"]] == ["0", "1", "2"]
    assert [run.info.status for run in children(result)] == ["FINISHED"] * 3
    assert client().get_run(result["run_id"]).info.status == "FINISHED"


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.once
@pytest.mark.parametrize("kind", [each for each in SEARCHES if each != "evolution"])
def test_killed_while_a_file_is_written_the_same_command_goes_on(kind, tune, monkeypatch):
    command = ("--search", kind, "--trials", 4, "--epochs", 2, "--trial-epochs", 3, "--no-final", "--seed", 6)
    if kind == "grid":
        command = (*command, "--fix", "dropout=0.1", "--only", "learning_rate")
    replace, budget, generator = files.os.replace, [0], np.random.default_rng(7)

    def dying(*arguments):
        budget[0] -= threading.current_thread() is threading.main_thread()  # not the one that talks to MLflow
        if budget[0] == 0:
            raise Killed
        return replace(*arguments)

    monkeypatch.setattr(files.os, "replace", dying)
    finished = []
    for _ in range(2):
        budget[0] = int(generator.integers(8, 20))
        with pytest.raises(Killed):
            tune(*command)
        states = files.Path.cwd().glob(f"mlruns/searches/tabular-{kind}-*/oracle.json")
        finished.append(json.loads(max(states, key=lambda path: path.stat().st_mtime).read_text()))
    budget[0] = 0
    result, _ = tune(*command)
    assert [row["status"] for row in result["rows"]] == ["completed"] * 4
    ids = [row["trial"] for row in result["rows"]]
    scores = {row["trial"]: row["val_accuracy"] for row in result["rows"]}
    assert len(set(ids)) == 4
    for state in finished:
        for trial in state["trials"]:
            if trial["status"] == "COMPLETED":
                assert scores[trial["trial_id"]] == trial["score"]
    assert sorted(run.data.tags["trial"] for run in children(result)) == sorted(ids)


@pytest.mark.once
def test_evolution_is_set_beside_random_search_at_equal_cost(tune, monkeypatch):
    monkeypatch.setattr(triptych, "show", lambda result, as_json: kept.append(result) or 0)
    kept = []
    tune("--search", "evolution", "--trials", 4, "--epochs", 1, "--no-final", "--seed", 31, "--control")
    ((result, text),) = kept
    control, objective = result["control"], result["objective"]
    assert (control["trials"], control["epochs"]) == (4, 4) and control["run_id"] != result["run_id"]
    rows = json.loads((next(Path().glob("mlruns/searches/tabular-evolution-*")) / "curves.json").read_text())
    assert control[objective] == max(score for _, score in rows["random"])
    assert f"random search at equal cost: {objective}" in text
    figures = {each.path for each in client().list_artifacts(result["run_id"], "figures")}
    assert "figures/against-random.png" in figures


def test_data_are_loaded_again_only_for_an_option_that_changes_them(monkeypatch):
    load, calls = tabular.load_data, []
    monkeypatch.setattr(tabular, "load_data", lambda config: calls.append(config) or load(config))
    cache = DataCache(tabular)
    plain = cache.get(tabular.Config())
    assert cache.get(tabular.Config(learning_rate=0.1, dropout=0.5)) is plain and len(calls) == 1
    assert cache.get(tabular.Config(scaling="quantile")) is not plain and len(calls) == 2
    assert cache.get(tabular.Config(batch_size=8)) is plain and plain.test is None and len(calls) == 2
