"""What a search does next: reproducible for its seed, the same after any kill, and each kind true to its paper."""

import json
import os

import numpy as np
import pytest

from apps.common.options.backends import installed

os.environ.setdefault("KERAS_BACKEND", "jax" if "jax" in installed() else installed()[0])

from apps import tabular
from apps.common import files
from tuning.oracles import make_oracle
from tuning.plan import SEARCHES
from tuning.space import Space

pytestmark = pytest.mark.once  # nothing in it depends on the backend

SPACE = Space(tabular.Config, {}, ("learning_rate", "model", "depth", "dropout", "optimizer"))
TRIALS = 12


class Killed(BaseException):
    """The process is gone."""


def search(kind, folder, *, seed=3, trials=TRIALS, direction="min", space=SPACE):
    """Run a whole search on a known function of the options; returns its oracle."""
    oracle = make_oracle(kind, space, "val_loss", direction, seed=seed, trials=trials, epochs=9).open(folder)
    while (trial := oracle.create_trial("here")).status == "RUNNING":
        finish(oracle, trial, badness(trial.hyperparameters.values) * (1 if direction == "min" else -1))
    return oracle


def finish(oracle, trial, score):
    oracle.update_trial(trial.trial_id, {"val_loss": float(score)}, step=0)
    trial.status = "COMPLETED"
    trial.hyperparameters.values["tuner/report"] = json.dumps({"seconds": 1.0})
    oracle.end_trial(trial)


def badness(values):
    missed = {"optimizer": "adam", "model": "mlp"}
    wrong = sum(0.3 for name, best in missed.items() if values.get(name, best) != best)
    return wrong + (np.log10(values["learning_rate"]) + 2.5) ** 2 + (values["dropout"] - 0.2) ** 2


def trials_of(oracle):
    return [(trial.trial_id, trial.status, trial.hyperparameters.values, trial.score) for trial in oracle.ended()]


@pytest.mark.parametrize("kind", SEARCHES)
def test_a_seed_gives_one_sequence_and_no_configuration_twice(kind, tmp_path):
    first, again = search(kind, tmp_path / "a"), search(kind, tmp_path / "b")
    assert trials_of(first) == trials_of(again) and len(first.trials) == TRIALS
    fresh = [t.hyperparameters.values for t in first.ended() if not t.hyperparameters.values.get("tuner/initial_epoch")]
    own = [json.dumps({name: value for name, value in each.items() if "tuner/" not in name}, sort_keys=True) for each in fresh]
    assert len(set(own)) == len(own)
    if kind != "grid":
        assert trials_of(search(kind, tmp_path / "c", seed=4)) != trials_of(first)


@pytest.mark.parametrize("kind", SEARCHES)
def test_killed_at_every_write_the_search_goes_on_as_if_nothing_had_happened(kind, tmp_path, monkeypatch):
    expected = trials_of(search(kind, tmp_path / "undisturbed"))
    replace, fsync, budget = os.replace, os.fsync, [0]

    def dying(step):
        def call(*arguments):
            budget[0] -= 1
            if budget[0] == 0:
                raise Killed
            return step(*arguments)

        return call

    # Each life gets one write further than the one before: it dies before the file is flushed, then before it is renamed.
    monkeypatch.setattr(files.os, "fsync", dying(fsync))
    monkeypatch.setattr(files.os, "replace", dying(replace))
    lives, ran = 0, []
    while True:
        lives, budget[0] = lives + 1, 3 + lives % 4
        oracle = make_oracle(kind, SPACE, "val_loss", "min", seed=3, trials=TRIALS, epochs=9).open(tmp_path / "killed")
        try:
            while (trial := oracle.create_trial("here")).status == "RUNNING":
                ran.append(trial.trial_id)
                finish(oracle, trial, badness(trial.hyperparameters.values))
            break
        except Killed:
            assert lives < 100
    assert lives > 5
    assert trials_of(oracle) == expected
    # A trial runs again only when its end had not reached the disk.
    assert len(ran) <= TRIALS + lives and set(ran) == {trial_id for trial_id, *_ in expected}


def test_a_finished_trial_is_not_run_again(tmp_path):
    oracle = make_oracle("random", SPACE, "val_loss", "min", seed=3, trials=3).open(tmp_path)
    finish(oracle, oracle.create_trial("here"), 1.0)
    reopened = make_oracle("random", SPACE, "val_loss", "min", seed=3, trials=3).open(tmp_path)
    assert reopened.create_trial("here").trial_id == "1" and [trial.score for trial in reopened.ended()] == [1.0]


def test_near_seeds_share_no_draws(tmp_path):
    rates = [
        {trial.hyperparameters.values["learning_rate"] for trial in search("random", tmp_path / str(seed), seed=seed).ended()}
        for seed in (0, 1, 2)
    ]
    assert not rates[0] & rates[1] and not rates[1] & rates[2]


def test_idle_options_are_not_drawn(tmp_path):
    for trial in search("random", tmp_path, trials=30).ended():
        assert ("depth" in trial.hyperparameters.values) == (trial.hyperparameters.values["model"] == "ft-transformer")


def test_a_grid_holds_every_combination_once(tmp_path):
    space = Space(tabular.Config, {}, ("optimizer", "model", "depth"))
    found = grid_points(space, tmp_path)
    assert len(found) == len(set(found)) == space.grid_size() == 4 * (1 + 4)


def grid_points(space, folder):
    oracle = make_oracle("grid", space, "val_loss", "min", seed=0).open(folder)
    while (trial := oracle.create_trial("here")).status == "RUNNING":
        finish(oracle, trial, 0.0)
    return [json.dumps(trial.hyperparameters.values, sort_keys=True) for trial in oracle.ended()]


def test_hyperband_promotes_the_best_and_keeps_to_its_plan(tmp_path):
    oracle = search("hyperband", tmp_path, trials=None)
    trials, epochs = oracle.planned()
    ended = oracle.ended()
    assert len(ended) == trials and sum(oracle.epochs(trial, 9) for trial in ended) == epochs
    bracket = [trial for trial in ended if trial.hyperparameters.values["tuner/bracket"] == 2]
    first = {trial.trial_id: trial.score for trial in bracket if trial.hyperparameters.values["tuner/round"] == 0}
    promoted = {trial.hyperparameters.values.get("tuner/trial_id") for trial in bracket} & set(first)
    assert promoted == set(sorted(first, key=first.get)[: len(promoted)]) and len(promoted) == len(first) // 3


@pytest.mark.parametrize("failing", [2, 8])
def test_where_a_trial_failed_hyperband_promotes_the_next_best(failing, tmp_path):
    oracle = make_oracle("hyperband", SPACE, "val_loss", "min", seed=3, epochs=9).open(tmp_path)
    first = oracle._get_size(2, 0)
    while (trial := oracle.create_trial("here")).status == "RUNNING":
        if len(oracle.ended()) < failing:
            trial.status = "FAILED"
            oracle.end_trial(trial)
        else:
            finish(oracle, trial, badness(trial.hyperparameters.values))
    ended = oracle.ended()
    scores = {trial.trial_id: trial.score for trial in ended[failing:first]}
    bracket = [t.hyperparameters.values for t in ended if t.hyperparameters.values["tuner/bracket"] == 2]
    promoted = [values["tuner/trial_id"] for values in bracket if values["tuner/round"] == 1]
    assert promoted == sorted(scores, key=scores.get)[: min(oracle._get_size(2, 1), first - failing)]
    # The bracket comes to its end, a trial of full length, however few are left.
    assert sum(values["tuner/round"] == 2 for values in bracket) == 1
    if len(promoted) == oracle._get_size(2, 1):
        assert len(ended) == oracle.planned()[0]


def test_a_trial_whose_worker_is_silent_is_run_by_the_next_one_that_asks(tmp_path):
    oracle = make_oracle("random", SPACE, "val_loss", "min", seed=0, trials=2).open(tmp_path)
    lost = oracle.create_trial("silent")
    finish(oracle, oracle.create_trial("here"), 1.0)
    assert oracle.create_trial("here").status == "IDLE"  # who is told to stop could not take over
    assert oracle.give_up("silent")
    again = oracle.create_trial("here")
    assert (again.trial_id, again.hyperparameters.values) == (lost.trial_id, lost.hyperparameters.values)
    assert not oracle.give_up("here")  # once is enough
    finish(oracle, again, 2.0)
    assert oracle.create_trial("here").status == "STOPPED" and len(oracle.ended()) == 2


def test_evolution_mutates_one_option_of_a_living_parent(tmp_path):
    space = Space(tabular.Config, {"model": "ft-transformer"}, ("optimizer", "depth", "width", "scaling", "schedule"))
    oracle = make_oracle("evolution", space, "val_loss", "min", seed=0, trials=40).open(tmp_path)
    while (trial := oracle.create_trial("here")).status == "RUNNING":
        finish(oracle, trial, trial.hyperparameters.values["depth"] - trial.hyperparameters.values["width"] / 100)
    ended = [trial.hyperparameters.values for trial in oracle.ended()]
    for number, child in enumerate(ended[oracle.population :], oracle.population):
        alive = ended[number - oracle.population : number]  # the oldest are dead, however good they were
        differences = [sum(child[name] != parent[name] for name in child) for parent in alive]
        assert min(differences) == 1
    assert np.mean([each["depth"] for each in ended[-10:]]) < np.mean([each["depth"] for each in ended[:10]])


@pytest.mark.parametrize(("kind", "direction"), [("bayesian", "min"), ("bayesian", "max"), ("evolution", "max")])
def test_what_learns_from_its_trials_finds_better_ones_than_chance(kind, direction, tmp_path):
    sign = 1 if direction == "min" else -1

    def last(kind, seed):
        oracle = search(kind, tmp_path / f"{kind}{seed}", seed=seed, trials=24, direction=direction)
        return np.mean([sign * trial.score for trial in oracle.ended()[-8:]])

    assert last(kind, 0) + last(kind, 1) < 0.7 * (last("random", 0) + last("random", 1))


def test_a_trial_that_is_lost_and_comes_back_counts_once(tmp_path):
    oracle = make_oracle("random", SPACE, "val_loss", "min", seed=0, trials=2).open(tmp_path)
    late = oracle.create_trial("far away")
    lost = oracle.trials[late.trial_id]
    lost.status, lost.message = "FAILED", "silent"
    oracle.end_trial(lost)
    late.status = "COMPLETED"
    oracle.end_trial(late)
    assert oracle.end_order == [late.trial_id] and not oracle.ongoing_trials
