"""Trials side by side: workers of this machine, one that joins, one that dies."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from types import SimpleNamespace

import keras
import psutil
import pytest
from keras_tuner.src import protos
from keras_tuner.src.engine.trial import Trial
from runs import command, environment

import triptych
from apps import tabular
from apps.common.records.mlflow import client
from tuning import parallel
from tuning.oracles import make_oracle
from tuning.parallel import join
from tuning.space import Space

BACKEND = keras.backend.backend()


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def kill_a_worker_at_work(folder, killed):
    """Kill -9 the worker of this machine as soon as the oracle says that it has a trial."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        time.sleep(0.05)
        for file in folder.glob("mlruns/searches/*/oracle.json"):
            busy = json.loads(file.read_text())["oracle"]["ongoing_trials"]
            for child in psutil.Process().children():
                if "worker-0" in busy and child.environ().get("KERASTUNER_TUNER_ID") == "worker-0":
                    child.send_signal(signal.SIGKILL)
                    killed.append(busy["worker-0"])
                    return


def join_when_one_has_died(port, folder, killed, joined):
    """Not before: all trials might be done when the worker of this machine, which begins as slowly, has its first."""
    words = command("tune", "tabular", "--join", f"127.0.0.1:{port}", "--json")
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and not killed:
        time.sleep(0.05)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    joined.append(subprocess.Popen(words, cwd=folder, env=environment(BACKEND), **pipes))


@pytest.mark.once
def test_a_worker_that_dies_costs_one_trial_and_one_that_joins_helps(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    port, killed = free_port(), []
    watcher = threading.Thread(target=kill_a_worker_at_work, args=(tmp_path, killed))
    helper = threading.Thread(target=join_when_one_has_died, args=(port, tmp_path, killed, joined := []))
    watcher.start()
    helper.start()
    small = ("--hidden-dims", "8", "--epochs", "60", "--only", "learning_rate,dropout", "--model", "mlp", "--no-final")
    try:
        done = triptych.main(["tune", "tabular", *small, "--trials", "8", "--workers", "1", "--chief", str(port), "--json"])
        helper.join()
        said, errors = joined[0].communicate(timeout=60)
    finally:
        watcher.join()
        for process in joined:
            process.kill()
    out, err = capsys.readouterr()
    assert done == 0, err
    assert joined[0].returncode == 0 and json.loads(said)["trials"] > 0, errors
    result = json.loads(out)
    failed = [row for row in result["rows"] if row["status"] == "failed"]
    assert [row["trial"] for row in failed] == killed and "its worker died (SIGKILL)" in failed[0]["reason"]
    assert [row["status"] for row in result["rows"]].count("completed") == 7
    api = client()
    experiment = api.get_experiment_by_name("tabular").experiment_id
    runs = api.search_runs([experiment], f"tags.`mlflow.parentRunId` = '{result['run_id']}'")
    states = {run.data.tags["trial"]: run.info.status for run in runs}
    assert states == {row["trial"]: "FAILED" if row in failed else "FINISHED" for row in result["rows"]}
    assert not [child for child in psutil.Process().children() if "--join" in child.cmdline()]


@pytest.mark.once
def test_the_trial_of_a_worker_that_falls_silent_is_given_to_another_and_the_search_ends(tmp_path, monkeypatch, capsys):
    recorded = []
    monkeypatch.setattr(parallel, "SILENCE", 1.0)
    monkeypatch.setattr(parallel, "_record_lost", lambda search, trial, status, tags: recorded.append(status))
    space = Space(tabular.Config, {}, ("learning_rate",))
    oracle = make_oracle("random", space, "val_loss", "min", seed=0, trials=2).open(tmp_path)
    servicer, search = parallel.Servicer(oracle, {}), SimpleNamespace(oracle=oracle, impossible=None)
    chief = threading.Thread(target=parallel._watch, args=(search, servicer, SimpleNamespace(look_after=lambda: None)))
    chief.start()

    def ask(name):
        request = protos.get_service().CreateTrialRequest(tuner_id=name)
        return Trial.from_proto(servicer.CreateTrial(request, None).trial)

    lost, ran = ask("killed -9 on its own machine"), []
    while (trial := ask("at work")).status != "STOPPED":
        if trial.status == "RUNNING":
            ran.append(trial.trial_id)
            oracle.update_trial(trial.trial_id, {"val_loss": 1.0})
            trial.status = "COMPLETED"
            oracle.end_trial(trial)
        time.sleep(0.05)
    chief.join(10)
    assert not chief.is_alive() and ran == ["1", lost.trial_id] and recorded == ["KILLED"]
    assert "silent for 1 s; another worker runs it again" in capsys.readouterr().err


@pytest.mark.once
def test_a_chief_for_another_task_or_other_data_is_refused(tmp_path, monkeypatch):
    from apps import image_classification
    from apps.common.errors import UserError

    told = {"task": "tabular", "backend": BACKEND, "fixed": {"data": "iris"}, "space": [["dropout", [0.0, 0.5, False]]],
            "folder": str(tmp_path), "epochs": 1, "parent": None, "tags": {}, "data_fingerprint": "0"}  # fmt: skip
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="for task tabular, not image-classification"):
        parallel._trainer(image_classification, told, None)
    with pytest.raises(UserError, match="for backend other"):
        parallel._trainer(tabular, {**told, "backend": "other"}, None)
    with pytest.raises(UserError, match="digests differ"):
        parallel._trainer(tabular, told, None)


@pytest.mark.once
def test_an_open_port_that_is_no_chief_is_refused(monkeypatch):
    monkeypatch.setattr("tuning.parallel.ANSWER", 0.5)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        from apps.common.errors import UserError

        with pytest.raises(UserError, match="no chief answers"):
            join(tabular, listener.getsockname(), None)
    assert "KERASTUNER_ORACLE_IP" not in os.environ
