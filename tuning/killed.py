"""What a search that was killed leaves open in MLflow is closed."""

import contextlib

from apps.common.records.mlflow import ROOT, client
from tuning.trials import Folder, nested_runs


def mark_dead_searches():
    """Searches whose process is gone without a word, and their unfinished trials, are marked KILLED in MLflow."""
    for path in sorted((ROOT / "searches").glob("*/run.json")):
        folder = Folder(path.parent)
        with contextlib.suppress(Exception):  # a store that is away keeps its own opinion of the run
            record = folder.record
            if record.get("status") != "running" or not record.get("mlflow_run_id") or not folder.hold():
                continue
            folder.update(status="killed")
            folder.release()
            end_open_trials(record["definition"]["task"], record["mlflow_run_id"], "KILLED")
            client().set_terminated(record["mlflow_run_id"], "KILLED")


def end_open_trials(task, parent, status):
    """Close the MLflow runs under a search that nobody runs any more."""
    for found in nested_runs(task, parent):
        if found.info.status == "RUNNING":
            client().set_terminated(found.info.run_id, status)
