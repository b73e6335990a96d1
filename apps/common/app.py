"""The contract of an app: what its module must and may have, each with its meaning, checked when it is loaded.

An app is a module in `apps/`, no class. `load_app("tabular")` imports it and holds it against this page; what it lacks is
said by name. Nothing here imports a backend.
"""

import dataclasses
import importlib
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from apps.common.data.reading import PATH_COLUMNS
from apps.common.errors import UserError, nearest
from apps.common.options.training import Training

APPS = Path(__file__).resolve().parents[1]

REQUIRED = {
    "Config": "frozen dataclass, a subclass of `Training`: the options of the app, the only place where an option exists",
    "METRIC": "`Metric`, or a tuple of them where the data decide (`where`): what epochs, trials and runs are ranked by",
    "RECIPES": "`{name: Recipe}`: published settings, or none",
    "load_data": "`(config, about=None) -> Data`; with the `about` of a trained model, other data as that model takes them",
    "build_model": "`(config, data) -> keras.Model`, compiled",
    "evaluate": "`(model, data, config) -> Report` on the test split",
    "predict": "`(model, inputs, about[, options]) -> [row]`: a dict for each input, in their order; a list of dicts of several",
}
OPTIONAL = {
    "baselines": "`(data, config) -> {name: {metric: value}}` of a trivial and of a plain strong method, in seconds, same split",
    "settle": "`(config, data) -> (config, why)`: options left open as these data want them, and a line that says so",
    "INPUTS": "`Inputs`: what `predict` is given; by default the words of the command line as they are",
    "PredictOptions": "frozen dataclass: the options of `predict`, its last argument; `check_words(inputs)`, if any, may refuse",
    "more_examples": "`(data, config) -> Data`: with what is added to the training examples, before a run and never to evaluate",
    "prepare": "`(model, data, config)`: what is done once before the first epoch, and not again where a run goes on",
    "on_epoch": "`(model, epoch, tracker, data, config) -> {val_metric: value}`, after each epoch; `None`: it is not judged",
    "compare_inputs": "`(inputs, rows) -> rows`: of all the rows of a call, what only all together tell; they wait for the last",
    "reply": "`(model, turns, about[, options]) -> pieces of text`: the answer in a dialogue, for `triptych chat`",
    "check_about": "`(about)`: refuses the `about` of a bundle that training cannot have written, before it is used",
    "check_data": "`(name)`: refuses a `--data NAME` that cannot be, before a backend is imported",
}
ARGUMENTS = {
    "load_data": ("config", "about"),
    "build_model": ("config", "data"),
    "evaluate": ("model", "data", "config"),
    "predict": ("model", "inputs", "about"),
    "baselines": ("data", "config"),
    "more_examples": ("data", "config"),
    "prepare": ("model", "data", "config"),
    "settle": ("config", "data"),
    "on_epoch": ("model", "epoch", "tracker", "data", "config"),
    "compare_inputs": ("inputs", "rows"),
    "reply": ("model", "turns", "about"),
    "check_about": ("about",),
    "check_data": ("name",),
}


@dataclass(frozen=True)
class Metric:
    """The number an app is judged by, under the same name on validation and on test.

    Args:
        name: Key in the metrics that `evaluate` reports.
        higher_is_better: Which end is good.
        monitor: Its name among an epoch's numbers; `val_` and `name` unless another is given.
        where: `{entry of about: value}` that the data must have, of an app with several: `{"kind": "regression"}`.
    """

    name: str
    higher_is_better: bool = True
    monitor: str = ""
    where: dict = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        object.__setattr__(self, "monitor", self.monitor or f"val_{self.name}")

    @property
    def sign(self):
        """Factor that makes the best value the least."""
        return -1 if self.higher_is_better else 1


@dataclass(frozen=True)
class Inputs:
    """What `predict` takes, by which the words of the command line are read.

    Args:
        kind: `files` (a path each; folders are searched for `endings`), `texts` (a text each; a file is its lines), `rows`
            (a dict of texts each; from tables, or `name=value` words) or `values` (words as they are).
        endings: Of the files that a folder is searched for.
        unreadable: More endings it is searched for: files of the kind that are never read, whose row says why.
        column: Of a table whose rows hold texts or paths; the first of these that it has, for files one of
            `PATH_COLUMNS` by default.
        has_word_a_line: `(path) -> bool`: whether a file of `texts` has a word a line; each of its sentences is given as a list
            of words.
        whole_files: Whether a .txt file of `texts` is one text, and a folder all of its .txt files; so too for a model whose
            `about` says `whole_files`.
        named: Entry of `about` with texts that are inputs themselves, whatever file or folder is called so.
    """

    kind: str = "values"
    endings: tuple = ()
    unreadable: tuple = ()
    column: tuple = ()
    has_word_a_line: Callable = lambda path: False
    whole_files: bool = False
    named: str = ""

    def __post_init__(self):
        if not self.column:
            object.__setattr__(self, "column", PATH_COLUMNS if self.kind == "files" else ("text", "path", "file"))


class ContractError(Exception):
    """An app is not as this page says: our fault, never the user's."""


def tasks():
    """The tasks there are, as `{task: module name}`, from the folder alone."""
    return {path.stem.replace("_", "-"): f"apps.{path.stem}" for path in sorted(APPS.glob("[!_]*.py"))}


def load_app(task):
    """The module of a task, checked against the contract.

    Raises:
        UserError: There is no such task.
        ContractError: The module is not an app.
    """
    known = tasks()
    if task not in known:
        raise UserError(f"unknown task {task!r}. {nearest(task, known)}")
    return checked(importlib.import_module(known[task]))


def checked(app):
    """The same module, if it keeps the contract."""
    name = app.__name__
    if not (app.__doc__ or "").strip():
        raise ContractError(f"{name}: a docstring is missing, whose first line is the command's help")
    for attribute, meaning in REQUIRED.items():
        if not hasattr(app, attribute):
            raise ContractError(f"{name}: `{attribute}` is missing: {meaning}")
    if not (dataclasses.is_dataclass(app.Config) and issubclass(app.Config, Training)):
        raise ContractError(f"{name}: `Config` must be {REQUIRED['Config']}")
    if not metrics_of(app) or not all(isinstance(each, Metric) for each in metrics_of(app)):
        raise ContractError(f"{name}: `METRIC` must be {REQUIRED['METRIC']}")
    for attribute, expected in ARGUMENTS.items():
        function = getattr(app, attribute, None)
        if function is None:
            continue
        options = ("options",) if attribute in ("predict", "reply") and hasattr(app, "PredictOptions") else ()
        names = tuple(inspect.signature(function).parameters)
        if names != (*expected, *options):
            raise ContractError(f"{name}: `{attribute}` must take {(*expected, *options)}. Received: {names}")
    return app


def task_name(app):
    """`apps.image_classification` is the task `image-classification`."""
    path = app.__spec__.name if app.__name__ == "__main__" else app.__name__
    return path.rpartition(".")[2].replace("_", "-")


def training_data(app, config):
    """The data of a run, with what the app adds to the examples that are trained on."""
    return with_more(app, app.load_data(config), config)


def with_more(app, data, config):
    """The same data with what the app adds to the examples that are trained on."""
    return app.more_examples(data, config) if hasattr(app, "more_examples") else data


def metrics_of(app):
    """The app's `METRIC`s."""
    return app.METRIC if isinstance(app.METRIC, tuple) else (app.METRIC,)


def metric_of(app, about):
    """The app's metric for data with this `about`."""
    fits = (each for each in metrics_of(app) if all(about.get(key) == value for key, value in each.where.items()))
    return next(fits, metrics_of(app)[0])


def inputs_of(app):
    return getattr(app, "INPUTS", Inputs())


def recipes():
    """All recipes, as `{name: (app, recipe)}`."""
    apps = [load_app(task) for task in tasks()]
    return {name: (app, recipe) for app in apps for name, recipe in app.RECIPES.items()}
