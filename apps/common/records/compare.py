"""Runs of the store, best first; where the store is away, those whose records lie in `mlruns/runs`."""

import contextlib
import json
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from apps.common.errors import UserError
from apps.common.files import read_json, write_text
from apps.common.output import plain
from apps.common.records.folder import all_runs
from apps.common.records.mlflow import client, store_uri


@dataclass(frozen=True)
class Filter:
    """Which runs are wanted: all whose tags have these values and that began within these times.

    Args:
        tags: `{tag: value}`, the backend and the recipe among them.
        data: The name of the data, or the beginning of their digest.
        since, until: The first moment and the first one after the last; `None` for no bound.
    """

    tags: dict = field(default_factory=dict)
    since: datetime | None = None
    until: datetime | None = None
    data: str = ""

    def keeps(self, run):
        if self.data and not (run.data.rpartition(" ")[0] == self.data or run.digest.startswith(self.data)):
            return False
        within = (self.since is None or run.started >= self.since) and (self.until is None or run.started < self.until)
        return within and all(run.tags.get(name) == value for name, value in self.tags.items())


@dataclass
class Compared:
    """One run, wherever its record was found. `curves()` reads `{metric: [(epoch, value), ...]}` when it is asked for."""

    task: str
    id: str
    status: str
    started: datetime
    seconds: float | None
    params: dict
    metrics: dict
    tags: dict
    curves: object

    def ranking(self):
        """The name of the metric its app is judged by, its value, and a key that is least for the best run."""
        name, sign = self.tags.get("metric"), -1 if str(self.tags.get("higher_is_better")) == "True" else 1
        value = self.metrics.get(name)
        return name, value, float("inf") if value is None or value != value else sign * value

    @property
    def digest(self):
        """Of its data: numbers on other data are other numbers."""
        return self.tags.get("data_fingerprint", "")

    @property
    def data(self):
        source = str(self.tags.get("data") or self.params.get("data") or "default")
        return f"{source} {self.digest[:6]}".strip()

    def row(self):
        name, value, _ = self.ranking()
        return {
            "task": self.task,
            "run": self.id,
            "backend": self.tags.get("backend", ""),
            "data": self.data,
            "model": str(self.params.get("model", "")),
            "recipe": self.tags.get("recipe", ""),
            "metric": name or "",
            "value": value,
            "status": self.status,
            "started": self.started.strftime("%Y-%m-%d %H:%M"),
            "seconds": self.seconds,
        }


def make_filter(given):
    """The `Filter` of the options `--tag`, `--recipe`, `--backend`, `--since` and `--until`.

    Raises:
        UserError: A tag without a value, or a date that is none.
    """
    tags = {name: given[name] for name in ("recipe", "backend") if name in given}
    for pair in filter(None, given.get("tag", "").split(",")):
        name, equals, value = pair.partition("=")
        if not (name.strip() and equals):
            raise UserError(f"--tag {pair}: expected NAME=VALUE, several with commas between them")
        tags[name.strip()] = value.strip()
    since, until = (_moment(name, given.get(name)) for name in ("since", "until"))
    if since and until and since >= until:
        raise UserError(f"--until {given['until']}: lies before --since {given['since']}; no run can be within")
    return Filter(tags, since, until, given.get("data", ""))


def _moment(name, text):
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(f"--{name} {text}: expected a date such as 2026-11-20 or 2026-11-20T16:30") from None
    if moment.tzinfo is not None:
        raise UserError(f"--{name} {text}: expected a date of this machine's clock, without a time zone")
    whole_day = name == "until" and len(text) <= 10
    return moment + timedelta(days=1) if whole_day else moment


def compare(task=None, limit=20, wanted=None):
    """Finished and unfinished runs, best first among those of one task on the same data.

    Args:
        task: One task, or all of them.
        limit: Runs at most for each task and data.
        wanted: A `Filter`.
    Returns: A list of `Compared`.
    """
    wanted = wanted or Filter()
    try:
        found = list(_tracked(task))
    except Exception as error:  # a store fails in as many ways as there are stores
        reason = " ".join(str(error).strip().splitlines()[:1])[:160]
        print(f"the MLflow store {store_uri()} is away ({reason}); showing the records in mlruns/runs", file=sys.stderr)
        found = list(_recorded(task))
    kept = [run for run in found if wanted.keeps(run)]
    newest = {}
    for run in kept:
        newest[run.task, run.digest] = max(run.started, newest.get((run.task, run.digest), run.started))
    # Within a task the data of the newest run stand first; only runs on the same data are ranked against one another.
    ranked = sorted(kept, key=lambda run: (run.task, -newest[run.task, run.digest].timestamp(), run.digest, run.ranking()[2]))
    counts, chosen = {}, []
    for run in ranked:
        counts[run.task, run.digest] = counts.get((run.task, run.digest), 0) + 1
        if counts[run.task, run.digest] <= limit:
            chosen.append(run)
    return chosen


def _tracked(task):
    api = client()
    experiments = [each for each in api.search_experiments() if each.name != "Default" and task in (None, each.name)]
    for experiment in experiments:
        for run in api.search_runs([experiment.experiment_id], max_results=1000):
            # Not a matrix or a benchmark, and of a search only its final model.
            if "task" not in run.data.tags or {"search.kind", "trial"} & run.data.tags.keys():
                continue
            info, metrics = run.info, run.data.metrics
            yield Compared(
                experiment.name,
                info.run_id,
                info.status.lower(),
                datetime.fromtimestamp(info.start_time / 1000),
                round((info.end_time - info.start_time) / 1000, 1) if info.end_time else None,
                dict(run.data.params),
                dict(metrics),
                dict(run.data.tags),
                lambda run_id=info.run_id, names=tuple(metrics): {
                    name: [(each.step, each.value) for each in api.get_metric_history(run_id, name)]
                    for name in names
                    if not name.startswith(("test_", "system/"))
                },
            )


def _recorded(task):
    for folder in all_runs():
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = read_json(folder / "run.json")
            if task not in (None, record["task"]):
                continue
            result = record.get("result", {})
            yield Compared(
                record["task"],
                folder.name,
                record["status"],
                datetime.fromtimestamp(record["created"]),
                result.get("seconds"),
                record["options"],
                {f"test_{name}": value for name, value in result.get("metrics", {}).items()},
                {key: value for key, value in record.items() if isinstance(value, str)} | record.get("tags", {}),
                lambda folder=folder: _history(folder),
            )


def _history(folder):
    states = sorted(Path(folder, "checkpoints").glob("epoch-*/state.json"))
    history = read_json(states[-1])["history"] if states else {}
    return {name: list(enumerate(values, 1)) for name, values in history.items()}


def write_page(path, runs):
    """Write `path`, a page with the runs' curves, parameters and parallel coordinates that needs nothing beside itself.

    Raises:
        UserError: The folder is not there.
    """
    path = Path(path)
    if not path.absolute().parent.is_dir():
        raise UserError(f"--html {path}: the folder {path.parent} is not there; make it first")
    if path.is_dir():
        raise UserError(f"--html {path}: a folder; expected the name of a file to write")
    shown = []
    for run in runs:
        curves = {}
        with contextlib.suppress(Exception):  # curves that cannot be fetched leave the rest of the page
            curves = run.curves()
        shown.append({**run.row(), "params": run.params, "metrics": run.metrics, "curves": curves})
    # What a run is called may hold anything, `</script>` too.
    data = json.dumps(plain(shown), allow_nan=False).replace("<", "\\u003c")
    template = Path(__file__).with_name("compare.html").read_text(encoding="utf-8")
    write_text(path, template.replace("__RUNS__", data))
