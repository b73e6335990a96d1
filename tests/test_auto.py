"""`--backend auto`: what is measured on a backend, and what is chosen of it."""

import json
import types

import pytest

from apps import tabular
from apps.common.training import auto
from layers import backend


def test_a_short_run_is_measured_as_it_would_be_trained():
    found = auto._training("tabular", {"epochs": "7", "hidden_dims": "8", "batch_size": "64"}, free=True)
    assert [each["compiled"] for each in found] == [False]
    steps = (found[0]["in_all"] - found[0]["first"]) / found[0]["step"]
    assert 0 < found[0]["step"] < found[0]["first"] and steps == pytest.approx(7 * 2)  # batches of 64 of about a hundred examples


def test_a_long_run_is_tried_compiled_too_where_that_is_another_way(monkeypatch):
    asked = []
    monkeypatch.setattr(auto, "LONG", 5.0)
    monkeypatch.setattr(auto, "_steps", lambda app, config, data: asked.append(config.compile) or {"in_all": config.epochs})
    for epochs, free in ((6, True), (5, True), (6, False)):
        auto._training("tabular", {"epochs": str(epochs)}, free)
    other = ["on"] if backend.compiles_when_asked() else []
    assert asked == ["auto", *other, "auto", "auto"]


@pytest.mark.once
def test_the_least_time_in_all_wins_and_compiling_is_left_out_of_a_resumed_run(monkeypatch, capsys):
    told = {
        "jax": [{"compiled": False, "first": 1.0, "step": 0.02, "in_all": 201.0}],
        "torch": [
            {"compiled": False, "first": 0.1, "step": 0.01, "in_all": 100.1},
            {"compiled": True, "first": 30.0, "step": 0.005, "in_all": 80.0},
        ],
    }
    freedoms = []

    def run(command, env, **_):
        freedoms.append(command[-1])
        seen = told.get(env["KERAS_BACKEND"], [])
        seen = seen if command[-1] == "free" else seen[:1]
        return types.SimpleNamespace(returncode=0 if seen else 1, stdout=json.dumps(seen), stderr="no room\n")

    monkeypatch.setattr(auto.backends, "installed", lambda: ["tensorflow", "jax", "torch"])
    monkeypatch.setattr(auto.subprocess, "run", run)
    assert auto.fastest(tabular, "tabular", {"epochs": "9"}) == ("torch", {"epochs": "9", "compile": "on"})
    said = capsys.readouterr().err
    assert "tensorflow cannot run this: no room" in said and "torch 5.00 ms compiled in 30 s, torch 10.00 ms, jax" in said
    assert auto.fastest(tabular, "tabular", {}, settled=True) == ("torch", {})
    assert auto.fastest(tabular, "tabular", {"compile": "off"}) == ("torch", {"compile": "off"})
    assert freedoms == ["free"] * 3 + ["settled"] * 6
