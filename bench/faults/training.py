"""What can go wrong inside `fit`: a loss that is not finite, a device that is full."""

import json
import re

import numpy as np

from bench.faults.common import bundle_weights, expect, run_folder

PLAIN = ("train", "tabular", "--epochs", 6, "--dropout", "0", "--batch-size", "64", "--schedule", "cosine", "--ema", "0.8")


def diverging(place, number):
    """A learning rate far too large: stopped within ten steps, the step, rate, layer and checkpoint named."""
    folder = place.folder()
    options = ("--optimizer", "sgd", "--learning-rate", str(90 - number % 10), "--batch-size", "2")
    ended = place.run("train", "tabular", "--epochs", 3, *options, cwd=folder, code=2)
    line = ended.err.strip().splitlines()[-1]
    pattern = r"the loss became (nan|inf) in epoch 1, step (\d+) at learning rate \d.*; first bad: (the \w+ of .+?)\."
    named = re.search(pattern, line)
    expect(named, f"the line does not name step, rate and layer: {line[:200]}")
    (run,) = place.store_of(folder)
    expect(run["status"] == "FAILED", f"MLflow says {run['status']}")
    return f"step {named[2]}, {named[3]}"


def slowly_diverging(place, number):
    """A rate that rises until the penalty makes the weights grow: the last finite epoch's checkpoint stays and is named."""
    folder = place.folder()
    options = ("--optimizer", "sgd", "--learning-rate", f"0.4{number % 10}", "--warmup", "0.9", "--l2", "10", "--batch-size", "8")
    ended = place.run("train", "tabular", "--epochs", 20, *options, cwd=folder, code=2)
    kept = sorted((run_folder(folder) / "checkpoints").glob("epoch-*"), reverse=True)
    expect(kept, "no checkpoint is left")
    for path in kept:
        with np.load(path / "arrays.npz", allow_pickle=False) as file:
            expect(all(np.isfinite(file[name]).all() for name in file.files), f"{path.name} is not finite")
    line = ended.err.strip().splitlines()[-1]
    expect(f"the last finite checkpoint is mlruns/runs/{kept[0].parents[1].name}/checkpoints/{kept[0].name}" in line, line[:300])
    return f"{len(kept)} checkpoints kept; {re.search('first bad: (.+?)[.]', line)[1] if 'first bad' in line else 'no layer'}"


def out_of_memory(place, number):
    """A device that takes a few examples a step only: the batch is cut, said, and the weights are almost the same."""
    limit = (40, 20, 9)[number % 3]
    folder, whole = place.folder(), place.folder()
    ended = place.run(limit, *PLAIN, cwd=folder, call="bench.faults.inside:without_memory")
    expect("so that the effective batch stays 64" in ended.err, "it is not said that the batch was cut")
    parts = json.loads((run_folder(folder) / "run.json").read_text())["parts"]
    expect(64 // parts <= limit, f"{parts} parts do not fit")
    place.run(*PLAIN, cwd=whole)
    cut, expected = (bundle_weights(run_folder(each) / "bundle") for each in (folder, whole))
    apart = max(float(np.abs(cut[name] - expected[name]).max()) for name in expected)
    expect(apart < 2e-4, f"the weights are {apart:.1e} apart")
    return f"{parts} parts, weights {apart:.0e} apart"


def out_of_memory_at_one(place, number):
    """Not even one example fits: one line."""
    ended = place.run(0, *PLAIN, cwd=place.folder(), call="bench.faults.inside:without_memory", code=2)
    expect("out of memory with a single example" in ended.err.strip().splitlines()[-1], "the line does not say so")
