"""What features are good for: plain classifiers on them, from a few labels."""

import numpy as np

from apps.common.data.examples import split_indices

MOST = 20_000  # pictures that a classifier is fitted on
NEIGHBOURS = 5


def labelled_sample(labels, share, seed):
    """Sorted positions of a stratified share of the examples, at least one of each class, `MOST` at most."""
    count = max(round(share * len(labels)), len(np.unique(labels)))
    share = min(count, MOST) / len(labels)
    if share >= 1:
        return np.arange(len(labels))
    _, chosen = split_indices(labels, (share,), seed)
    missing = np.setdiff1d(np.unique(labels), labels[chosen])
    first = [np.flatnonzero(labels == label)[0] for label in missing]
    return np.sort(np.concatenate([chosen, np.array(first, chosen.dtype)]))


def linear_probe(features, labels, others):
    """Classes of `others` by logistic regression on standardised features; rows are what is classified."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(labels)) < 2:
        return np.full(len(others), labels[0])
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))
    return model.fit(flat(features), labels).predict(flat(others))


def nearest_classes(features, labels, others):
    """Classes of `others` by the most alike of the labelled features, the cosine the measure."""
    from sklearn.neighbors import KNeighborsClassifier

    count = min(NEIGHBOURS, len(labels))
    return KNeighborsClassifier(count, weights="distance").fit(unit(features), labels).predict(unit(others))


def most_alike(features):
    """`(position, cosine)` of the one of the other rows that is the most alike, for each row.

    A thousand rows at a time: all the cosines at once would be the square of their number.
    """
    units = unit(features).astype("float32")
    for first in range(0, len(units), 1000):
        cosines = units[first : first + 1000] @ units.T
        own = np.arange(len(cosines))
        cosines[own, first + own] = -np.inf
        nearest = cosines.argmax(1)
        yield from zip(nearest.tolist(), cosines[own, nearest].tolist(), strict=True)


def probe_metrics(features, labels, others, truth):
    """Accuracy of both on `others`, whose classes are `truth`."""
    return {
        "probe_accuracy": float(np.mean(linear_probe(features, labels, others) == truth)),
        "knn_accuracy": float(np.mean(nearest_classes(features, labels, others) == truth)),
    }


def flat(rows):
    return np.asarray(rows, "float64").reshape(len(rows), -1)


def unit(rows):
    rows = flat(rows)
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
