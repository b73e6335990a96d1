"""A search beside its control: random search over the same space, at the same cost in epochs trained."""

import dataclasses

from apps.common.files import write_json
from apps.common.output import say
from apps.common.records.mlflow import Tracker
from tuning import report
from tuning.search import Search


def against_random(app, plan):
    """Run the search and random search at equal cost, and draw both histories into the search's MLflow run.

    Returns: what the search returns, and under `control` the trials, epochs and best score of the random one.
    """
    search = Search(app, plan)
    result = search.run()
    curve = report.curve(search)
    trials = max(1, round(curve[-1][0] / plan.epochs))
    say(f"the control: random search over {trials} trials, as many epochs in all")
    control = Search(app, dataclasses.replace(plan, search="random", trials=trials, final=False))
    beside = control.run()
    curves = {plan.search: curve, "random": report.curve(control)}
    folder = search.folder.folder
    write_json(folder / "curves.json", curves)
    tracker = Tracker(search.task, folder, run_id=result["run_id"])
    tracker.files(folder / "curves.json", "tables")
    tracker.figure(report.history(curves, search.objective, search.lower), "against-random.png")
    tracker.metrics({"control_best": beside["best"][search.objective]})
    tracker.end("FINISHED")
    found = {"trials": beside["trials"], "epochs": curves["random"][-1][0], "run_id": beside["run_id"]}
    return {**result, "control": {**found, search.objective: beside["best"][search.objective]}}
