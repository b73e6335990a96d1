"""The life of a search: definition -> trials -> table and figures -> the best one trained, tested and registered.

Equal commands are the same search: what is done already is taken up, whether it was finished, stopped or killed.
"""

import contextlib
import dataclasses
import hashlib
import json
import signal
import time

from apps.common.app import metric_of, task_name
from apps.common.data.fingerprint import fingerprint
from apps.common.errors import UserError
from apps.common.files import write_json
from apps.common.options.declare import to_plain
from apps.common.output import say
from apps.common.records.facts import describe_machine
from apps.common.records.folder import all_runs, mark_dead_runs
from apps.common.records.mlflow import ROOT, Tracker
from apps.common.training.renewal import Grown
from apps.common.training.run import train
from layers import backend
from tuning import report
from tuning.killed import mark_dead_searches
from tuning.oracles import make_oracle
from tuning.trial_loop import run_trials
from tuning.trials import Folder, Trainer

ALIAS = "tuned"


class Search:
    """One search on the disk and in MLflow.

    Args:
        app: The app's module.
        plan: The `tuning.plan.Plan`.
    Raises:
        UserError: The same search is running already, or the data are not as they must be.
    """

    def __init__(self, app, plan):
        self.app = app
        self.plan = plan
        self.task = task_name(app)
        config = plan.space.check()
        self.seed = config.seed
        backend.configure(deterministic=config.compile != "on")
        self.trainer = Trainer(app, plan.space, None, epochs=plan.epochs)
        data = self.trainer.data.get(config)
        metric = metric_of(app, data.about)
        self.objective, self.lower = metric.monitor, not metric.higher_is_better
        self.facts = {"data_fingerprint": fingerprint(data), **describe_machine()}
        self.source = data.source
        self.folder = self._open(config)
        trials = plan.trials
        self.oracle = make_oracle(
            plan.search, plan.space, self.objective, "min" if self.lower else "max",
            seed=self.seed, trials=trials, epochs=plan.epochs,
        )  # fmt: skip
        self.oracle.open(self.folder.folder)
        self.oracle.on_end = self.on_end
        self.total, self.total_epochs = self._planned()
        self.tracker = None
        self.impossible = None

    def _open(self, config):
        """The folder of the search with this definition, held."""
        self.definition = {
            "task": self.task,
            "backend": self.facts["backend"],
            "search": self.plan.search,
            "epochs": self.plan.epochs,
            "seed": self.seed,
            "fixed": to_plain_values(self.plan.space.fixed),
            "space": self.plan.space.plain(),
            "data_fingerprint": self.facts["data_fingerprint"],
        }
        # How long the final model trains is no part of what is searched.
        fixed = {name: value for name, value in self.definition["fixed"].items() if name != "epochs"}
        searched = {**self.definition, "fixed": fixed}
        self.id = hashlib.blake2b(json.dumps(searched, sort_keys=True).encode(), digest_size=6).hexdigest()
        mark_dead_searches()
        folder = Folder(ROOT / "searches" / f"{self.task}-{self.plan.search}-{self.id}")
        try:
            folder.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{folder.folder}: cannot be written ({error.strerror}); start in a folder you may write") from None
        if not folder.hold():
            raise UserError(f"this very search is running already ({folder.folder}); wait for it or give another --seed")
        if not (folder.folder / "run.json").exists():
            folder.update(definition=self.definition, status="running", created=time.time())
        return folder

    def _planned(self):
        """`(trials, epochs)` in all; the epochs of a Hyperband that is cut short are not known."""
        if self.plan.search == "hyperband" and self.plan.trials is None:
            return self.oracle.planned()
        trials = self.plan.trials
        if self.plan.search == "grid":
            size = self.plan.space.grid_size()
            trials = min(trials or size, size)
        return trials, None if self.plan.search == "hyperband" else trials * self.plan.epochs

    def run(self):
        """Search, report, train the best; returns what the command shows."""
        record = self.folder.record
        enough = record.get("status") == "finished" and record["result"]["asked"] >= self.total
        if enough and (record["result"]["final"] or not self.plan.final):
            say("this search is finished already; another --seed or more --trials searches on")
            self.folder.release()
            return record["result"]
        mark_dead_runs()
        tags = {
            "task": self.task, "data": self.source, "search": self.id, "search.kind": self.plan.search,
            "search.seed": self.seed, "mlflow.source.name": f"triptych tune {self.task}", **self.facts,
        }  # fmt: skip
        name = f"tune {self.plan.search}"
        folder = self.folder.folder
        self.tracker = Tracker(self.task, folder, run_id=record.get("mlflow_run_id"), name=name, tags=tags)
        if not record.get("mlflow_run_id"):
            fixed = {f"fixed.{key}": value for key, value in self.definition["fixed"].items()}
            searched = ", ".join(dict.fromkeys(each.option for each in self.plan.space.dimensions))
            plan = {"search": self.plan.search, "objective": self.objective, "trial_epochs": self.plan.epochs}
            self.tracker.params({**plan, "searched": searched, **fixed})
        self.tracker.attach(self.folder)
        self.folder.update(status="running")
        self.trainer.folder = folder
        self.trainer.parent = self.tracker.run_id
        self.trainer.tags = {**tags, "mlflow.source.name": f"triptych tune {self.task}"}
        with self._ending():
            self._announce()
            if self.plan.workers or self.plan.chief:
                from tuning.parallel import lead

                lead(self)
            else:
                run_trials(self.oracle, self.trainer, "here", self.objective, lambda: self.impossible)
            return self._conclude()

    def _announce(self):
        done = len(self.oracle.ended())
        dimensions = ", ".join(dict.fromkeys(each.option for each in self.plan.space.dimensions))
        way = "smallest" if self.lower else "largest"
        say(f"{self.plan.search} search for the {way} {self.objective} of {self.task} over {dimensions}")
        if done:
            say(f"going on: {done} of {self.total} trials are done")

    def on_end(self, trial, report):
        """After each trial: the line on the screen, the parent's curve, and whether anything can succeed at all."""
        ended, best = self.oracle.ended(), self.oracle.best()
        if trial.status == "COMPLETED":
            outcome = f"{self.objective} {trial.score:.5g}"
        else:
            outcome = f"failed: {trial.message.strip().splitlines()[-1][:160] if trial.message else 'no reason was given'}"
        so_far = f"best {best.score:.5g} (trial {best.trial_id})" if best else "no best yet"
        left = self._left()
        say(f"trial {len(ended)}/{self.total}  {outcome}  {report.get('seconds', 0):.1f} s  {so_far}{left}")
        if best:
            self.tracker.metrics({"best": best.score}, step=len(ended))
        self.tracker.metrics({"trials": len(ended)}, step=len(ended))
        if trial.status != "COMPLETED" and best is None and not self.impossible:
            self.impossible = self._why_impossible(ended, trial.message)

    def _left(self):
        reports = [self.oracle.reports.get(trial.trial_id, {}) for trial in self.oracle.ended()]
        epochs = sum(self.oracle.epochs(trial, self.plan.epochs) for trial in self.oracle.ended())
        if not epochs:
            return ""
        planned = self.total_epochs or self.total * epochs / len(reports)
        seconds = sum(each.get("seconds", 0) for each in reports) * max(0, planned - epochs) / epochs
        seconds /= max(1, self.plan.workers)
        clock = f"{seconds / 60:.0f} min" if seconds >= 100 else f"{seconds:.0f} s"
        return f"  {clock} left" if planned > epochs else ""

    def _why_impossible(self, ended, reason):
        """Why no trial can succeed: the defaults fail, too, or three in a row failed for the same reason."""
        if len(ended) == 1:
            return self.trainer.probe()
        same = len(ended) == 3 and len({trial.message for trial in ended}) == 1
        return reason if same else None

    def _conclude(self):
        """The table, the figures, and the best configuration as a model."""
        ended, best = self.oracle.ended(), self.oracle.best()
        if best is None:
            last = ended[-1].message if ended else "the space is empty"
            raise UserError(f"none of {len(ended)} trials succeeded; the last one: {last}")
        if len(ended) < self.total:
            say(f"the space is used up after {len(ended)} trials")
        rows = report.rows(self)
        report.track(self, rows)
        configurations = len({json.dumps(options, sort_keys=True) for options in report.configurations(self)})
        given = self.plan.space.given(best.hyperparameters.values)
        result = {
            "task": self.task, "backend": self.facts["backend"], "run_id": self.tracker.run_id, "search": str(self.folder.folder),
            "asked": self.total, "trials": len(ended), "configurations": configurations,
            "failed": sum(trial.status != "COMPLETED" for trial in ended), "objective": self.objective,
            "best": {"trial": best.trial_id, self.objective: best.score, "options": to_plain_values(given)},
            "rows": rows, "final": None,
        }  # fmt: skip
        write_json(self.folder.folder / "best.json", result["best"])
        self.tracker.files(self.folder.folder / "best.json")
        self.tracker.tags({f"best.{key}": value for key, value in given.items()} | {"configurations": configurations})
        if self.plan.final:
            result["final"] = self._final(given, configurations)
            metrics = {f"test_{name}": value for name, value in result["final"]["metrics"].items()}
            self.tracker.metrics(metrics, step=len(ended))
        self.folder.update(status="finished", result=result)
        return result

    def _final(self, given, configurations):
        """The best configuration trained at full length by `train`, as any run: evaluated once on test, registered."""
        say(f"training the best of {configurations} configurations at full length")
        tags = {"search": self.id, "configurations": str(configurations)}
        earlier = [path.name for path in all_runs() if self._is_final(Folder(path).record, given)]
        resume = {"resume": earlier[0]} if earlier else {}
        config = dataclasses.replace(self.app.Config(), **given)
        return train(self.app, config, tags=tags, parent=self.tracker.run_id, aliases=("newest", ALIAS), **resume)

    def _is_final(self, record, given):
        """Whether a run on the disk is this search's final one, with these options, killed before its end or not."""
        config = dataclasses.replace(self.app.Config(), **given)
        return record.get("tags", {}).get("search") == self.id and record.get("asked", record["options"]) == to_plain(config)

    @contextlib.contextmanager
    def _ending(self):
        """Whatever ends the search, its record and MLflow say so, and the user how to go on."""

        def terminated(number, frame):
            raise SystemExit(128 + number)

        previous = signal.signal(signal.SIGTERM, terminated)
        try:
            yield
            self.tracker.end("FINISHED")
        except BaseException as error:
            killed = isinstance(error, KeyboardInterrupt | SystemExit | Grown)
            with contextlib.suppress(OSError):
                self.folder.update(status="killed" if killed else "failed", error=str(error)[:500])
            self.tracker.end("KILLED" if killed else "FAILED")
            if isinstance(error, Grown):
                say("this process has grown over its trials; a fresh one goes on")
            elif killed:
                say(f"stopped after {len(self.oracle.ended())} of {self.total} trials; the same command goes on from there")
            raise
        finally:
            signal.signal(signal.SIGTERM, previous)
            self.folder.release()


def to_plain_values(values):
    """Options as plain JSON values."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

