"""What plain methods reach on the same splits in seconds: the least that a network has to beat."""

import numpy as np

from apps.common.reports.classification import classification_metrics


def class_shares(train, test, num_classes):
    """Metrics of the classes' shares among the training labels, the same for each example of the test.

    Args:
        train, test: Class indices.
        num_classes: Number of classes.
    """
    shares = np.bincount(train, minlength=num_classes) / len(train)
    return classification_metrics(np.tile(shares, (len(test), 1)), test)


def fitted_classes(estimator, train, test, num_classes):
    """Metrics of a scikit-learn classifier.

    Args:
        estimator: Not fitted yet.
        train, test: `(x, y)` each.
        num_classes: Number of classes, some of which the training part may lack.
    """
    estimator.fit(*train)
    x, y = test
    probabilities = np.zeros((len(y), num_classes))
    probabilities[:, estimator.classes_.astype(int)] = estimator.predict_proba(x)
    return classification_metrics(probabilities, y)


def some_rows(count, most, seed=0):
    """Positions of at most so many of `count` rows, in order, drawn by the seed."""
    return np.sort(np.random.default_rng([seed, 61]).permutation(count)[:most])


def back_off(ids, num_tokens, *, longest):
    """A model of character sequences by counts of 1, 2, ..., `longest` tokens, interpolated: Witten-Bell smoothing.

    `p(w | c) = (n(c w) + t(c) p(w | shorter c)) / (n(c) + t(c))`, t(c) the number of different tokens seen after c.

    Args:
        ids: Token ids `(length,)` of the training text.
        num_tokens: Size of the vocabulary.
        longest: Tokens counted at most, context and token together.
    Returns: Function of windows `(rows, block + 1)` giving the probability of each token but the first given those
        before it in its row, `(rows, block)`.
    Reference: Witten and Bell, 1991.
    """
    ids = np.asarray(ids, "int64")
    counted = []
    for size in range(1, longest + 1):
        codes = _codes(ids[None], size, num_tokens)[0]
        grams, counts = np.unique(codes, return_counts=True)
        contexts, first = np.unique(grams // num_tokens, return_index=True)
        totals, kinds = np.add.reduceat(counts, first), np.diff(np.append(first, len(grams)))
        counted.append((grams, counts, contexts, totals, kinds))

    def probabilities(windows):
        windows = np.asarray(windows, "int64")
        found = np.full((len(windows), windows.shape[1] - 1), 1 / num_tokens)
        for size, (grams, counts, contexts, totals, kinds) in enumerate(counted, 1):
            codes = _codes(windows, size, num_tokens)[:, 1 if size == 1 else 0 :]
            known = found[:, max(0, size - 2) :]
            total, kind = _looked_up(codes // num_tokens, contexts, totals), _looked_up(codes // num_tokens, contexts, kinds)
            seen = total > 0
            mixed = (_looked_up(codes, grams, counts) + kind * known) / np.maximum(total + kind, 1)
            found[:, max(0, size - 2) :] = np.where(seen, mixed, known)
        return found

    return probabilities


def _codes(rows, size, num_tokens):
    """One number for each run of `size` tokens of each row."""
    length = rows.shape[1] - size + 1
    codes = np.zeros((len(rows), length), "int64")
    for offset in range(size):
        codes = codes * num_tokens + rows[:, offset : offset + length]
    return codes


def _looked_up(keys, known, values):
    """The value of each key, 0 for those that are not known."""
    place = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[place] == keys, values[place], 0)
