"""What a careful colleague would say of a run, once: in the summary, the report and the model card."""

import math

import numpy as np

from apps.common.data.fingerprint import example_digests, row_digests

EARLY = 1 / 3  # of the epochs: a best epoch before it says that the rest was for nothing
FEW_EPOCHS = 6


def remarks(metric, metrics, baselines, data, trained):
    """Lines of remarks.

    Args:
        metric: The app's `Metric`.
        metrics: Ours on test.
        baselines: `{name: {metric: value}}` on the same split.
        data: The `Data` of the run.
        trained: `(best epoch or None, epochs)`.
    """
    best_epoch, epochs = trained
    said = [beside_baselines(metric, metrics, baselines, len(data.test))]
    # A text, which is cut anywhere, is split by position; to look for its windows here would read all of it once more.
    if min(len(data.train), len(data.test)) >= 2 and hasattr(data.train, "subset") and not hasattr(data.train, "known_by"):
        known = example_digests(data.train, False)
        repeated = int(np.isin(example_digests(data.test, False), known).sum())
        if repeated:
            flatters = "test examples stand among the training examples as well: the test flatters"
            said.append(f"{repeated} of {len(data.test)} {flatters}")
        said.append(in_two_classes(known, data))
    if best_epoch and epochs >= FEW_EPOCHS and best_epoch <= EARLY * epochs:
        said.append(f"the best epoch was {best_epoch} of {epochs}: what came after it did not help; regularise, or train shorter")
    return [f"remark: {line}" for line in said if line]


def beside_baselines(metric, metrics, baselines, count):
    """A line where ours is not better than the best baseline by more than chance, or nothing."""
    values = {name: each[metric.name] for name, each in baselines.items() if metric.name in each}
    if not values or metric.name not in metrics:
        return ""
    name, best = min(values.items(), key=lambda item: metric.sign * item[1])
    ours = metrics[metric.name]
    ahead = metric.sign * (best - ours)
    if ahead > chance(metric, ours, count):
        return ""
    what = "is no better than" if ahead <= 0 else "is better by no more than chance than"
    return f"{metric.name} {ours:.4g} {what} {name} ({best:.4g}), which takes seconds"


def chance(metric, value, count):
    """One standard error of a share over so many examples; nothing is known of other metrics."""
    if not (metric.higher_is_better and 0 <= value <= 1 and count):
        return 0.0
    return math.sqrt(value * (1 - value) / count)


def in_two_classes(known, data):
    """A line where examples that nothing can tell apart are of several classes, more than one in a hundred, or nothing.

    Args:
        known: What the inputs of the training examples are known by, one number each; of pairs the pictures count alone.
        data: The `Data` of the run.
    """
    labels, names = getattr(data.train, "y", None), data.about.get("class_names")
    if isinstance(labels, dict) and "classes" in data.about:  # a picture may well have several captions, but not classes
        labels = labels["label"]
    if data.about.get("by_class"):
        captions, labels = np.unique(data.train.spelt, return_inverse=True)
        names = captions.tolist()
        known = row_digests(data.train.x["image"])
    if not (isinstance(labels, np.ndarray) and labels.ndim == 1 and labels.dtype.kind in "iu" and names):
        return ""
    order = np.lexsort((labels, known))
    inputs, classes = known[order], labels[order]
    differs = (inputs[1:] == inputs[:-1]) & (classes[1:] != classes[:-1])
    twice = np.isin(known, inputs[1:][differs])
    if twice.sum() <= len(known) / 100:
        return ""
    place = int(np.argmax(differs))
    pair = f"{names[classes[place]]} and {names[classes[place + 1]]}"
    return f"{twice.sum()} of {len(known)} training examples stand in more than one class, such as {pair}; none can be told apart"
