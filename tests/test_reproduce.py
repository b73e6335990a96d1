"""A published setting run again: what is trained, what is said of it, and the page of results."""

import dataclasses
import json
from types import SimpleNamespace

import pytest

import triptych
from apps import graph, tabular
from apps.common.errors import UserError
from apps.common.options.training import Recipe
from bench import reproduce, results


@pytest.fixture
def commands(monkeypatch, tmp_path):
    """The commands that would have been run; each gives a better accuracy than the one before."""
    monkeypatch.chdir(tmp_path)
    found = []

    def run(command, **options):
        found.append(command[2:])
        plain = {"label propagation": {"accuracy": 0.80 - 0.01 * len(found)}}
        bundle = tmp_path / str(len(found))
        bundle.mkdir()
        (bundle / "bundle.json").write_text(json.dumps({"baselines": plain}))
        answer = {"model": str(bundle), "metrics": {"accuracy": 0.80 + 0.01 * len(found)}, "seconds": 30.0}
        return SimpleNamespace(returncode=0, stdout=json.dumps(answer), stderr="")

    monkeypatch.setattr(reproduce.subprocess, "run", run)
    return found


def cora(seeds):
    return reproduce.reproduce({"cora-gcn": (graph, graph.RECIPES["cora-gcn"])}, ["jax"], seeds)


def test_each_run_is_one_of_the_recipe_with_a_seed_of_its_own(commands):
    (row,) = cora(3)
    assert commands == [
        ["train", "graph", "--json", "--backend", "jax", "--recipe=cora-gcn", f"--seed={seed}"] for seed in range(3)
    ]
    assert (row["ours"], row["spread"], row["theirs"], row["runs"], row["minutes"]) == (0.82, 0.01, 0.815, "3 seeds", 1.5)
    assert row["met"]


def test_a_control_is_trained_beside_it_without_the_options_it_has_not_and_is_no_run_of_the_recipe(commands):
    recipe = tabular.RECIPES["iris-perceptron"]
    (row,) = reproduce.reproduce({"iris-perceptron": (tabular, recipe)}, ["torch"])
    ours, control = commands[:5], commands[5:]
    assert all("--recipe=iris-perceptron" in command and "--folds=5" in command for command in ours)
    assert [command[-1] for command in ours] == [f"--fold={fold}" for fold in range(5)]
    assert all("--model=perceptron" in command and "--data=iris" in command for command in control) and len(control) == 5
    assert not any("--recipe" in flag or "--hidden-dims" in flag for command in control for flag in command)
    assert row["control"] == 0.88 > row["ours"] == 0.83 and not row["met"]
    assert "| **no** |" in reproduce.PAGE.read_text()


def test_what_is_no_app_has_recipes_as_well(commands, monkeypatch):
    known = reproduce.every_recipe()["adding-problem"]
    answer = {"metrics": {"mse": 0.0007}, "baselines": {"lstm": {"mse": 0.15}}, "seconds": 60.0}

    def run(command, **options):
        commands.append(command[1:])
        return SimpleNamespace(returncode=0, stdout=json.dumps(answer), stderr="")

    monkeypatch.setattr(reproduce.subprocess, "run", run)
    (row,) = reproduce.reproduce({"adding-problem": known}, ["torch"])
    assert commands == [["-m", "bench.adding", "--json", "--backend", "torch", "--recipe=adding-problem", "--seed=0"]]
    assert (row["ours"], row["control"], row["met"]) == (0.0007, 0.15, True)
    answer["metrics"]["mse"] = 0.0012
    assert not reproduce.reproduce({"adding-problem": known}, ["torch"])[0]["met"]


def test_a_baseline_of_the_app_may_be_the_control(commands):
    recipe = Recipe("", data="", options={}, metric="accuracy", source="", seeds=2, beside="label propagation")
    (row,) = reproduce.reproduce({"cora-gcn": (graph, recipe)}, ["jax"])
    assert row["control"] == 0.785 and row["ours"] == 0.815 and row["met"] and len(commands) == 2
    with pytest.raises(UserError, match="cora-gcn: the run has no baseline 'a forest'"):
        reproduce.reproduce({"cora-gcn": (graph, dataclasses.replace(recipe, beside="a forest"))}, ["jax"])


def test_one_seed_is_said_as_such_and_has_no_spread(commands):
    (row,) = cora(1)
    assert row["runs"] == "1 seed" and row["spread"] is None
    assert "| 0.81 |  | 0.815 |" in reproduce.PAGE.read_text()


def test_the_page_keeps_what_was_not_run_and_what_is_written_around_the_table(commands):
    first = results.page("", [{"recipe": name, "backend": "torch", "ours": 0.5} for name in ("cora-gcn", "cora-gat")])
    reproduce.PAGE.parent.mkdir()
    reproduce.PAGE.write_text(first.replace("# Published", "# Our") + "\nA remark | with a bar.\n")
    cora(1)
    text = reproduce.PAGE.read_text()
    before, rows, after = results.read(text)
    assert before.startswith("# Our numbers") and after == "A remark | with a bar."
    assert [(row["recipe"], row["backend"], row["ours"]) for row in rows] == [
        ("cora-gcn", "jax", "0.81"), ("cora-gcn", "torch", "0.5"), ("cora-gat", "torch", "0.5"),
    ]  # fmt: skip
    assert results.page(text, []) == text


def test_a_run_that_fails_is_named_with_its_reason_and_what_is_known_stays(commands, monkeypatch):
    cora(1)
    failed = SimpleNamespace(returncode=2, stdout="", stderr="triptych: --data planetoid/cora.npz: no such file\n")
    monkeypatch.setattr(reproduce.subprocess, "run", lambda command, **options: failed)
    with pytest.raises(UserError, match="--recipe=cora-gcn --seed=0 on jax: --data planetoid"):
        cora(1)
    assert "cora-gcn" in reproduce.PAGE.read_text()


def test_the_command_prints_the_rows_of_its_table(commands, capsys):
    assert triptych.main(["reproduce", "cora-gcn", "--backend", "jax", "--seeds", "2", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert list(row) == list(results.COLUMNS)


@pytest.mark.once
def test_the_reason_of_a_failure_is_the_line_of_its_error():
    said = "epoch 1/2\nTraceback (most recent call last):\n  File x\njax.errors.JaxRuntimeError: no kernel\n\nFor simplicity\n"
    assert reproduce.reason(said) == "jax.errors.JaxRuntimeError: no kernel"
    assert reproduce.reason("read\ntriptych: a.csv: no rows\n") == "a.csv: no rows"
    assert reproduce.reason("") == "no reason given"
