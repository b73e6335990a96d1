"""What every classifier shares: the report of its predictions."""

import numpy as np

from apps.common import figures


def softmax(logits):
    """Probabilities from logits, in float64 so that they sum to one."""
    logits = np.asarray(logits, dtype="float64")
    raised = np.exp(logits - logits.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def classification_report(probabilities, labels, class_names):
    """Numbers, tables and figures of a classifier on a test split.

    Args:
        probabilities: Array `(examples, classes)`.
        labels: True class indices `(examples,)`.
        class_names: One name a class.
    Returns: `(metrics, tables, figures)`; with two classes also sensitivity and specificity, the second one positive.
    """
    from sklearn.metrics import confusion_matrix

    predicted = probabilities.argmax(1)
    matrix = confusion_matrix(labels, predicted, labels=range(len(class_names)))
    rows = zip(class_names, *_by_class(predicted, labels, len(class_names)), strict=True)
    names = ("class", "precision", "recall", "f1", "examples")
    per_class = [dict(zip(names, (row[0], *map(float, row[1:])), strict=True)) for row in rows]
    drawn = {
        "confusion": figures.confusion(matrix, class_names),
        "calibration": figures.reliability(probabilities.max(1), predicted == labels),
    }
    return classification_metrics(probabilities, labels), {"per-class": per_class}, drawn


def classification_metrics(probabilities, labels):
    """The numbers alone of `classification_report`."""
    from sklearn.metrics import log_loss, roc_auc_score

    count = probabilities.shape[1]
    predicted = probabilities.argmax(1)
    _, recall, f1, support = _by_class(predicted, labels, count)
    present = support > 0
    named = present | (np.bincount(predicted, minlength=count) > 0)  # over which scikit-learn takes its mean, too
    correct, confidence = predicted == labels, probabilities.max(1)
    metrics = {
        "accuracy": correct.mean(),
        "error": 1 - correct.mean(),
        "macro_f1": f1[named].mean(),
        "cross_entropy": log_loss(labels, probabilities, labels=range(count)),
        "calibration_error": calibration_error(confidence, correct),
    }
    if present.all():
        scores = probabilities[:, 1] if count == 2 else probabilities
        metrics["auc"] = roc_auc_score(labels, scores, multi_class="ovr", labels=range(count) if count > 2 else None)
    if count == 2:  # each is a share of one class, and nothing where the test has none of it
        metrics |= {name: recall[place] for name, place in (("sensitivity", 1), ("specificity", 0)) if present[place]}
    return metrics


def _by_class(predicted, labels, count):
    """Precision, recall, F1 and number of examples, an array of one number a class each."""
    from sklearn.metrics import precision_recall_fscore_support

    return precision_recall_fscore_support(labels, predicted, labels=range(count), zero_division=0)


def calibration_error(confidence, correct, bins=15):
    """Expected calibration error: mean over bins of |accuracy - confidence|, by their size (Guo et al., 2017)."""
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [abs(correct[which == b].mean() - confidence[which == b].mean()) * np.mean(which == b) for b in np.unique(which)]
    return float(np.sum(gaps))


def class_prediction(probabilities, class_names):
    """One row a prediction: the class, its probability, and that of the five likeliest."""
    rows = []
    for row in probabilities:
        likeliest = {class_names[i]: round(float(row[i]), 6) for i in np.argsort(-row)[:5]}
        rows.append({"class": class_names[int(row.argmax())], "probability": float(row.max()), "probabilities": likeliest})
    return rows
