"""Trials one after the other, as an oracle gives them, in this process."""

import json
import time

import psutil

from apps.common.errors import UserError
from apps.common.training.renewal import Grown

# Compiled programs and traces pile up. A fresh process takes some seconds, so it has to last for some trials.
SPAN, GROWTH = 25, 50 * 2**20  # trials a process runs at least, and bytes it may have grown by over the last four fifths of them


def run_trials(oracle, trainer, name, objective, stopped=lambda: None):
    """Ask the oracle (or its chief, through KerasTuner's client) for trials and run them until there are none left.

    Raises:
        Grown: Between two trials, when this process should be replaced.
    """
    sizes = []
    while True:
        reason = stopped()
        if reason:
            raise UserError(f"no configuration can be trained: {reason}")
        trial = oracle.create_trial(name)
        if trial.status == "STOPPED":
            return
        if trial.status == "IDLE":  # others are still at work on what the next ones follow from
            time.sleep(0.2)
            continue
        score, report = trainer.run(trial)
        trial.status, trial.message = ("FAILED", report["reason"]) if score is None else ("COMPLETED", None)
        if score is not None:
            oracle.update_trial(trial.trial_id, {objective: score}, step=report["epochs"])
        trial.hyperparameters.values["tuner/report"] = json.dumps(report)
        oracle.end_trial(trial)
        sizes.append(psutil.Process().memory_info().rss)
        if len(sizes) >= SPAN and sizes[-1] - sizes[SPAN // 5] > GROWTH:  # the first trials fill what the rest use again
            raise Grown
