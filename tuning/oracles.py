"""KerasTuner's oracles, made fit to be killed at any moment, and regularised evolution as one of them.

KerasTuner writes the oracle and each trial to files of their own, in place, and in an order that loses or repeats a trial
when the process dies between two of them; its grid forgets its order (keras-team/keras-tuner#1055). Here the whole state
of a search is one file, written once for each change, to a temporary name that is then renamed.
"""

import contextlib
import json
import math
import threading
import time
import warnings
from pathlib import Path

import keras_tuner
import numpy as np
from keras_tuner import oracles
from keras_tuner.engine.hyperparameters import HyperParameters
from keras_tuner.src.engine.metrics_tracking import MetricsTracker
from keras_tuner.src.engine.trial import Trial
from keras_tuner.src.tuners.gridsearch import LinkedList

from apps.common.files import read_json, write_json


def hyperparameters(space, grid=False):
    """A `tuning.space.Space` as KerasTuner knows it; for a grid, ranges become their points."""
    made = HyperParameters()
    for each in space.dimensions:
        choices = each.points() if grid else each.choices
        with _conditions(made, each.needs):
            if choices == (False, True):
                made.Boolean(each.name, default=bool(each.default))
            elif choices:
                default = each.default if each.default in choices else min(choices, key=lambda value: abs(value - each.default))
                made.Choice(each.name, list(choices), default=default)
            elif each.whole:
                made.Int(each.name, each.low, each.high, default=each.default)
            else:
                sampling = "log" if each.log else "linear"
                made.Float(each.name, each.low, each.high, sampling=sampling, default=float(each.default))
    return made


def _conditions(made, needs):
    stack = contextlib.ExitStack()
    for other, values in needs:
        stack.enter_context(made.conditional_scope(other, list(values)))
    return stack


class Transactional:
    """First among the bases of an oracle: its state and its trials in one file, whole after each change.

    A trial that was running when the process died is run again under its own number. `reports` keeps, for each trial, what
    its worker said of it: seconds, epochs, reason of a failure, MLflow run. `on_end(trial, report)` hears of each end.
    """

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, max_consecutive_failed_trials=2**31, **options)
        self.verbose = 0
        self._max_collisions = 1000  # KerasTuner's 20 gives up a small space before it is used up
        self.file = None
        self.reports = {}
        self.on_end = None
        self.heard = {}  # when a trial's worker was last heard of
        self.given_up = set()  # the trials that a silent worker had
        self._holding = threading.local()

    def open(self, folder):
        """Keep the state in `oracle.json` of this folder, and take up what is there already."""
        self.file = Path(folder) / "oracle.json"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        if self.file.exists():
            state = read_json(self.file)
            self.reports = state["reports"]
            for each in state["trials"]:
                trial = Trial(self._values(each["values"]), each["trial_id"], each["status"], each["message"])
                trial.metrics = MetricsTracker.from_config(each["metrics"])
                trial.score = each["score"]
                trial.best_step = each["best_step"]
                self.trials[trial.trial_id] = trial
            limit = self.max_trials
            self.set_state(state["oracle"])
            self.max_trials = limit
            self._retry_queue = [*self._retry_queue, *(trial.trial_id for trial in self.ongoing_trials.values())]
            self.ongoing_trials = {}
        return self

    def _values(self, values):
        found = self.hyperparameters.copy()
        found.values = values
        return found

    def save(self):
        if self.file is None or getattr(self._holding, "on", False):
            return
        trials = [
            {
                "trial_id": trial.trial_id, "values": trial.hyperparameters.values, "metrics": trial.metrics.get_config(),
                "score": trial.score, "best_step": trial.best_step, "status": trial.status, "message": trial.message,
            }
            for trial in self.trials.values()
        ]  # fmt: skip
        write_json(self.file, {"oracle": self.get_state(), "trials": trials, "reports": self.reports})

    def _save_trial(self, trial):
        """Nothing: a trial is part of the one file."""

    def _once(self, change, *arguments):
        """Make a change whose steps would each be saved, and save once, at its end."""
        self._holding.on = True
        try:
            return change(*arguments)
        finally:
            self._holding.on = False

    @keras_tuner.synchronized
    def create_trial(self, tuner_id):
        trial = self._once(super().create_trial, tuner_id)
        if trial.status == "RUNNING":
            trial.metrics, trial.score = MetricsTracker(), None  # of an earlier, interrupted attempt
            self.heard[trial.trial_id] = time.monotonic()
            self.save()
        elif trial.status == "STOPPED" and self.ongoing_trials:
            trial.status = "IDLE"  # until they have ended: one of them may yet be given up by its worker
            self.tuner_ids.add(tuner_id)
        return trial

    @keras_tuner.synchronized
    def give_up(self, tuner_id):
        """Take a worker's trial away: the next one that asks runs it. `False` when it was taken from another one before."""
        trial_id = self.ongoing_trials[tuner_id].trial_id
        if trial_id in self.given_up:
            return False
        self.given_up.add(trial_id)
        self._retry_queue.append(trial_id)
        del self.ongoing_trials[tuner_id]
        self.save()
        return True

    @keras_tuner.synchronized
    def update_trial(self, trial_id, metrics, step=0):
        return self._once(super().update_trial, trial_id, metrics, step)

    @keras_tuner.synchronized
    def end_trial(self, trial):
        """Take the end of a trial; `tuner/report` among its values is what its worker says of it."""
        known = self.trials[trial.trial_id]
        report = self._read_report(trial)
        if trial.trial_id in self._retry_queue:  # the chief died since, and the worker did not
            self._retry_queue.remove(trial.trial_id)
        elif known not in self.ongoing_trials.values():
            return  # given up as lost and ended before
        trial.hyperparameters = known.hyperparameters
        trial.message = report.get("reason") or trial.message
        self.reports[trial.trial_id] = report
        self._once(super().end_trial, trial)
        self.save()
        if self.on_end:
            self.on_end(known, report)

    @staticmethod
    def _read_report(trial):
        text = trial.hyperparameters.values.pop("tuner/report", None)
        return json.loads(text) if text else {}

    def ended(self):
        """The trials that ended, in the order they did."""
        return [self.trials[trial_id] for trial_id in self.end_order]

    def best(self):
        """The best completed trial, or `None`."""
        done = [trial for trial in self.ended() if trial.status == "COMPLETED"]
        sign = 1 if self.objective.direction == "min" else -1
        return min(done, key=lambda trial: sign * trial.score, default=None)

    def epochs(self, trial, full):
        """Epochs this trial trains, where one of full length trains `full`."""
        values = trial.hyperparameters.values
        return values.get("tuner/epochs", full) - values.get("tuner/initial_epoch", 0)


class RandomSearch(Transactional, oracles.RandomSearchOracle):
    """Configurations drawn one by one, none twice."""


class Bayesian(Transactional, oracles.BayesianOptimizationOracle):
    """A Gaussian process over the trials so far; the next trial has the best confidence bound, mean - beta * deviation.

    KerasTuner's oracle, with a length for each dimension and a noise of their own in the kernel (its single length stays
    with the first category that did well), and with the bound looked for among drawn points rather than by 50 descents of
    one point at a time: a fortieth of the time, and no configuration is tried twice.
    """

    def _make_gpr(self):
        from sklearn.gaussian_process import GaussianProcessRegressor, kernels

        lengths = kernels.Matern(np.ones(len(self._nonfixed_space())), (0.05, 20.0), nu=2.5)
        kernel = lengths + kernels.WhiteKernel(1e-2, (1e-4, 1.0))
        return GaussianProcessRegressor(kernel, n_restarts_optimizer=1, normalize_y=True, random_state=self.seed)

    def populate_space(self, trial_id):
        done = sum(trial.status == "COMPLETED" for trial in self.trials.values())
        if done < self.num_initial_points:
            return self._random_populate_space()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a length at the end of its range: a dimension that does not matter
            points, scores = self._vectorize_trials()
            self.gpr.fit(points, np.nan_to_num(scores, posinf=0, neginf=0))
            # From the number of the trial, so that a search that was killed goes on with the very same configurations.
            generator = np.random.default_rng([self.seed, len(self.trials)])
            anywhere = generator.random((2000, points.shape[1]))
            near = points[np.argsort(scores)[:5]].repeat(200, axis=0)
            moved = generator.random(near.shape) < np.maximum(0.2, 1 / near.shape[1])
            near = np.where(moved, near + generator.normal(0, 0.15, near.shape), near)
            drawn = np.concatenate([anywhere, np.clip(near, 0, 1 - 1e-9)])
            mean, deviation = self.gpr.predict(drawn, return_std=True)
        for index in np.argsort(mean - self.beta * deviation):
            values = self._vector_to_values(drawn[index])
            if not self._duplicate(values):
                return {"status": "RUNNING", "values": values}
        return self._random_populate_space()


class Hyperband(Transactional, oracles.HyperbandOracle):
    """Many configurations for a few epochs; the better ones train on from their checkpoint (Li et al., 2018)."""

    def set_state(self, state):
        asked = self.hyperband_iterations
        super().set_state(state)
        self.hyperband_iterations = asked

    def populate_space(self, trial_id):
        for bracket in self._brackets:
            values = self._promoted(bracket, trial_id)
            if values:
                return {"status": "RUNNING", "values": values}
        return super().populate_space(trial_id)

    def _promoted(self, bracket, trial_id):
        """The values of the next trial that trains on, or `None`. One that failed has lost: the next best takes its place.

        KerasTuner waits for a score of each trial of a round, so that each failure costs the round above a trial.
        """
        number, rounds = bracket["bracket_num"], bracket["rounds"]
        coming = self._get_size(number, 0)  # trials a round has in the end
        if len(rounds[0]) < coming:
            return None
        sign = 1 if self.objective.direction == "min" else -1
        for level in range(1, len(rounds)):
            trials = [self.trials[each["id"]] for each in rounds[level - 1]]
            alive = coming - sum(trial.status == "FAILED" for trial in trials)
            coming = min(alive, self._get_size(number, level))
            taken = {each["past_id"] for each in rounds[level]}
            ready = [trial for trial in trials if trial.status == "COMPLETED" and trial.trial_id not in taken]
            if len(ready) > alive - coming:  # more than will be left behind, so that the best of them is among the best of all
                best = min(ready, key=lambda trial: sign * trial.score)
                rounds[level].append({"past_id": best.trial_id, "id": trial_id})
                return {
                    **best.hyperparameters.values,
                    "tuner/trial_id": best.trial_id, "tuner/bracket": number, "tuner/round": level,
                    "tuner/initial_epoch": self._get_epochs(number, level - 1), "tuner/epochs": self._get_epochs(number, level),
                }  # fmt: skip
        return None

    def planned(self):
        """`(trials, epochs)` of one pass over all brackets."""
        trials = epochs = 0
        for bracket in range(self._get_num_brackets()):
            for level in range(bracket + 1):
                size = self._get_size(bracket, level)
                before = self._get_epochs(bracket, level - 1) if level else 0
                trials += size
                epochs += size * (self._get_epochs(bracket, level) - before)
        return trials, epochs


class Grid(Transactional, oracles.GridSearchOracle):
    """Every combination of the points of each dimension."""

    def get_state(self):
        order, index = [], self._ordered_ids._next_index.get(None)
        while index is not None:
            order.append(self._ordered_ids._memory[index])
            index = self._ordered_ids._next_index.get(index)
        return {**super().get_state(), "order": order, "next": list(self._populate_next)}

    def set_state(self, state):
        super().set_state(state)
        self._ordered_ids, before = LinkedList(), None
        for trial_id in state["order"]:
            self._ordered_ids.insert(trial_id, before)
            before = trial_id
        self._populate_next = list(state["next"])


class Evolution(Transactional, keras_tuner.Oracle):
    """Regularised evolution: the best of a few drawn from the population has a mutated child, and the oldest dies.

    Age alone removes from the population, however good its oldest is, so that a lucky score cannot stay for ever.
    Everything follows from the trials that ended and the number of the next one, so nothing needs saving besides them.
    A mutation gives one dimension another value; dimensions that this makes active are drawn.

    Args:
        population: Configurations alive, drawn at random at first.
        sample: How many of them are drawn to find a parent.
    Reference: Real et al., 2019, arXiv 1802.01548.
    """

    def __init__(self, *arguments, population=20, sample=5, **options):
        super().__init__(*arguments, **options)
        self.population = population
        self.sample = sample

    def populate_space(self, trial_id):
        generator = np.random.default_rng([self.seed, len(self.trials)])
        alive = [trial for trial in self.ended() if trial.status == "COMPLETED"][-self.population :]
        values = None
        if len(self.trials) >= self.population and alive:
            values = self._child(alive, generator)
        values = values or self._random_values()
        return {"status": "RUNNING", "values": values} if values else {"status": "STOPPED"}

    def _child(self, alive, generator):
        """A mutation of the best of a sample that was not tried before, or `None`."""
        drawn = generator.choice(len(alive), min(self.sample, len(alive)), replace=False)
        sign = 1 if self.objective.direction == "min" else -1
        parent = min((alive[index] for index in drawn), key=lambda trial: sign * trial.score).hyperparameters.values
        for _ in range(100):
            values = self._mutate(parent, generator)
            if not self._duplicate(values):
                return values
        return None

    def _mutate(self, parent, generator):
        chosen = generator.choice([name for name in parent])
        child = HyperParameters()
        for hp in self.hyperparameters.space:
            child.merge([hp])
            if not child.is_active(hp):
                continue
            value = parent.get(hp.name)
            for _ in range(100):
                if value is not None and (hp.name != chosen or value != parent[chosen]):
                    break
                value = hp.random_sample(int(generator.integers(2**31)))
            child.values[hp.name] = value
        return child.values


def make_oracle(search, space, objective, direction, *, seed, trials=None, epochs=1):
    """The oracle of a search.

    Args:
        search: One of `tuning.plan.SEARCHES`.
        space: A `tuning.space.Space`.
        objective, direction: Name of the metric, and `min` or `max`.
        seed: Whole number; equal seeds search alike on every backend.
        trials: At most this many; `None` for a whole grid or one whole pass of Hyperband.
        epochs: Epochs of a trial of full length, for Hyperband.
    """
    shared = {
        "objective": keras_tuner.Objective(objective, direction),
        "hyperparameters": hyperparameters(space, grid=search == "grid"),
        "allow_new_entries": False,
        "tune_new_entries": False,
        # KerasTuner takes 0 for none, and counts its seed up by one a draw: near seeds would draw the same numbers.
        "seed": int(np.random.default_rng(seed).integers(1, 2**31)),
    }
    if search == "random":
        return RandomSearch(max_trials=trials, **shared)
    if search == "grid":
        return Grid(max_trials=trials, **shared)
    if search == "bayesian":
        # KerasTuner begins with three random points a dimension, which short searches would never get past.
        first = max(4, min(2 * len(space.dimensions), trials // 3))
        return Bayesian(max_trials=trials, num_initial_points=first, beta=2.0, **shared)
    if search == "evolution":
        population = max(4, min(20, trials // 4))
        return Evolution(max_trials=trials, population=population, sample=max(2, population // 4), **shared)
    oracle = Hyperband(max_epochs=epochs, hyperband_iterations=math.inf if trials else 1, **shared)
    oracle.max_trials = trials
    return oracle
