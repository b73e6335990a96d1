"""Runs of the store, best first."""

from datetime import datetime

from apps.common.tracking import client

# The metric each run is ranked by, first one found, and whether a small value is the good one.
RANKED_BY = (("test_accuracy", False), ("test_rmse", True), ("test_frechet_own_features", True), ("test_loss", True))


def compare(task=None, limit=20):
    """Finished and unfinished runs as rows, best first within each task.

    Args:
        task: One task, or all of them.
        limit: Rows at most for each task.
    """
    api = client()
    rows = []
    experiments = [each for each in api.search_experiments() if each.name != "Default" and task in (None, each.name)]
    for experiment in sorted(experiments, key=lambda each: each.name):
        found = api.search_runs([experiment.experiment_id], max_results=1000)
        ranked = sorted((_row(experiment.name, run) for run in found), key=lambda row: row.pop("rank"))
        rows += ranked[:limit]
    return rows


def _row(task, run):
    metrics, tags = run.data.metrics, run.data.tags
    name, lower = next(((name, lower) for name, lower in RANKED_BY if name in metrics), (None, False))
    value = metrics.get(name)
    rank = float("inf") if value is None else value if lower else -value
    return {
        "rank": rank,
        "task": task,
        "run": run.info.run_id,
        "backend": tags.get("backend", ""),
        "model": run.data.params.get("model", ""),
        "recipe": tags.get("recipe", ""),
        "metric": name or "",
        "value": value,
        "status": run.info.status.lower(),
        "started": datetime.fromtimestamp(run.info.start_time / 1000).strftime("%Y-%m-%d %H:%M"),
        "seconds": round((run.info.end_time - run.info.start_time) / 1000, 1) if run.info.end_time else None,
    }
