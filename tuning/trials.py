"""One trial: a configuration of the search, trained by the same `fit` as any run and judged on validation alone."""

import contextlib
import dataclasses
import gc
import math
import shutil
import time

from apps.common.app import metric_of, task_name, training_data
from apps.common.errors import UserError
from apps.common.options.declare import to_plain
from apps.common.output import say
from apps.common.records.folder import Run
from apps.common.records.mlflow import Tracker, client
from apps.common.training.batches import Batches
from apps.common.training.checkpoint import checkpoints
from apps.common.training.fit import fit, make_model, settled
from apps.common.training.run import print_notes
from layers import backend

KEPT_DATA = 3  # versions of the data in memory, where an option that is searched changes them


def nested_runs(task, parent):
    """The MLflow runs under a search's own."""
    api = client()
    experiment = api.get_experiment_by_name(task)
    return api.search_runs([experiment.experiment_id], f"tags.`mlflow.parentRunId` = '{parent}'", max_results=10_000)


class Folder(Run):
    """A folder with a record and a lock like a run's, elsewhere than among the runs."""

    def __init__(self, folder):
        super().__init__(folder.name)
        self.folder, self.checkpoints = folder, folder / "checkpoints"


class DataCache:
    """The data of an app, loaded again only for a configuration that differs in an option the loading looked at."""

    def __init__(self, app):
        self.app, self.kept = app, []

    def get(self, config):
        for entry in self.kept:
            seen, data = entry
            if all(getattr(config, name) == value for name, value in seen.items()):
                self.kept.remove(entry)
                self.kept.append(entry)
                return data
        watched, seen = _watched(config)
        data = training_data(self.app, watched)
        if not self.kept:
            print_notes(data)
        if data.validation is None or not len(data.validation):
            raise UserError(f"{task_name(self.app)}: these data leave no examples to validate on, by which a search goes")
        data = dataclasses.replace(data, test=None)  # no trial sees the test examples, whatever an app does
        self.kept = [*self.kept[1 - KEPT_DATA :], (seen, data)]
        return data


def _watched(config):
    """The same `Config`, and a dict that fills with the options read from it."""
    seen, names = {}, {field.name for field in dataclasses.fields(config)}

    def read(self, name):
        value = object.__getattribute__(self, name)
        if name in names:
            seen[name] = value
        return value

    made = object.__new__(type(type(config).__name__, (type(config),), {"__getattribute__": read}))
    made.__dict__.update({name: getattr(config, name) for name in names})
    seen.clear()
    return made, seen


class Trainer:
    """Trains the trials of one search in this process.

    Args:
        app: The app's module.
        space: The `tuning.space.Space`.
        folder: The search's folder; a trial keeps what it has under `trials/`.
        epochs: Epochs of a trial of full length.
        parent: MLflow run id of the search.
        tags: Tags of each trial's MLflow run.
    """

    def __init__(self, app, space, folder, *, epochs, parent=None, tags=None):
        self.app, self.space, self.folder, self.epochs = app, space, folder, epochs
        self.parent, self.tags, self.data = parent, tags or {}, DataCache(app)
        self.frozen = False

    def run(self, trial):
        """Train one trial, tracked as a nested run: `(score, report)`, the score `None` and a reason when it fails."""
        import keras

        started, score = time.monotonic(), None
        report = {"seconds": 0.0, "training": 0.0, "epochs": 0, "run_id": None, "reason": None}
        values = dict(trial.hyperparameters.values)
        run = Folder(self.folder / "trials" / trial.trial_id)
        again = run.folder.exists()
        run.folder.mkdir(parents=True, exist_ok=True)
        tags = {**self.tags, "trial": trial.trial_id, **_tuner_tags(values)}
        tracker = Tracker(
            task_name(self.app),
            run.folder,
            run_id=self._earlier(run, trial) if again else None,
            name=f"trial {trial.trial_id}",
            tags=tags,
            parent=self.parent,
        )
        tracker.attach(run)
        report["run_id"], status = tracker.run_id, "KILLED"
        try:
            score, history = self._train(values, run, tracker)
            report |= {"training": sum(history["seconds"]), "epochs": len(history["loss"])}
            tracker.metrics({"objective": score}, step=report["epochs"])
            status = "FINISHED"
        except Exception as error:  # whatever a configuration can do wrong is its own failure, not the search's
            report["reason"], status = reason_of(error), "FAILED"
            tracker.tags({"reason": report["reason"]})
        finally:
            tracker.end(status)
            keras.utils.clear_session(free_memory=False)
            gc.collect()
            if not self.frozen:  # what is here now, modules above all, is no garbage later: 0.3 s less a trial
                gc.freeze()
                self.frozen = True
            backend.release_memory()
        report["seconds"] = round(time.monotonic() - started, 3)
        return score, report

    def _earlier(self, run, trial):
        """The MLflow run of an interrupted attempt at this trial; one killed before it could note it is found by its tag."""
        noted = run.record.get("mlflow_run_id") if (run.folder / "run.json").exists() else None
        if noted or self.parent is None:
            return noted
        with contextlib.suppress(Exception):  # a store that is away is no reason not to train
            for found in nested_runs(task_name(self.app), self.parent):
                if found.data.tags.get("trial") == trial.trial_id:
                    return found.info.run_id
        return None

    def _train(self, values, run, tracker):
        given = self.space.given(values)
        tracker.params({**given, "epochs": self.epochs})
        config = dataclasses.replace(self.space.config(values), epochs=self.epochs, checkpoint_every=self.epochs)
        data = self.data.get(config)
        config, _ = settled(self.app, config, data)
        tracker.params({name: value for name, value in to_plain(config).items() if name not in {*given, "epochs"}})
        self._continue(values, run)
        model = make_model(self.app, config, data)
        until = values.get("tuner/epochs", self.epochs)
        history, _, best = fit(self.app, config, data, model, run, tracker, until=until)
        if "tuner/epochs" not in values:  # only Hyperband trains on from where another trial ended
            shutil.rmtree(run.checkpoints, ignore_errors=True)
        return self._score(history, best, metric_of(self.app, data.about)), history

    def _continue(self, values, run):
        """Begin where the lower bracket's trial of the same configuration ended, if its checkpoint is within reach."""
        if "tuner/trial_id" not in values or checkpoints(run.checkpoints):
            return
        earlier = checkpoints(self.folder / "trials" / values["tuner/trial_id"] / "checkpoints")
        if earlier:
            shutil.copytree(earlier[0], run.checkpoints / f".{earlier[0].name}.tmp", dirs_exist_ok=True)
            (run.checkpoints / f".{earlier[0].name}.tmp").rename(run.checkpoints / earlier[0].name)
        else:
            say(f"trial {run.id}: the checkpoint of trial {values['tuner/trial_id']} is not on this machine; from the start")

    def _score(self, history, best, metric):
        """The app's metric on validation in the epoch whose weights training leaves: `best`, or the last."""
        if metric.monitor not in history:
            raise UserError(f"the app's metric {metric.monitor} is not among {', '.join(history)}")
        score = history[metric.monitor][best - 1 if best else -1]
        if not math.isfinite(score):
            raise UserError(f"{metric.monitor} became {score}")
        return score

    def probe(self):
        """Why the app's own defaults cannot train a single step under what is fixed, or `None` when they can."""
        try:
            config = dataclasses.replace(self.space.config({}), epochs=1)
            data = self.data.get(config)
            config, _ = settled(self.app, config, data)
            model = make_model(self.app, config, data)
            batch = Batches(data.train, config.batch_size, config.seed)[0]
            found = model.train_on_batch(*batch, return_dict=True)
            if not math.isfinite(float(found["loss"])):
                return f"the loss is {found['loss']} at the first step"
        except Exception as error:
            return reason_of(error)
        return None


def reason_of(error):
    """One line that says why a trial failed."""
    text = " ".join(str(error).split()).partition("; the last finite checkpoint")[0][:400]
    return text if isinstance(error, UserError) else f"{type(error).__name__}: {text}"


def _tuner_tags(values):
    """What the oracle adds to the options of a trial (Hyperband's bracket and round), as tags."""
    return {name.replace("/", "."): value for name, value in values.items() if name.startswith("tuner/")}
