"""What every classifier shares: losses on logits, and the report of its predictions."""

import keras
import numpy as np

from apps.common import figures

LOSSES = ("cross-entropy", "hinge", "mse", "mae", "huber")


class OneHotLoss(keras.losses.Loss):
    """A loss between logits and class indices, through one-hot targets.

    cross-entropy: -sum t log softmax(z); hinge: max(0, 1 + max over wrong classes of z - z of the right one)
    (Crammer & Singer, 2001); mse, mae and huber: between softmax(z) and t, summed over the classes.

    Args:
        kind: One of `LOSSES`.
        num_classes: Number of classes.
        smoothing: Share of the target spread evenly over all classes (Szegedy et al., 2016, arXiv 1512.00567).
    Shapes: targets `(batch, ...)`, logits `(batch, ..., num_classes)`.
    """

    def __init__(self, kind, num_classes, smoothing=0.0):
        super().__init__(name=kind.replace("-", "_"))
        self.kind, self.num_classes, self.smoothing = kind, num_classes, smoothing

    def call(self, y_true, logits):
        logits = keras.ops.cast(logits, keras.config.floatx())
        y_true = keras.ops.cast(keras.ops.reshape(y_true, keras.ops.shape(logits)[:-1]), "int32")
        target = keras.ops.one_hot(y_true, self.num_classes, dtype=keras.config.floatx())
        target = target * (1 - self.smoothing) + self.smoothing / self.num_classes
        if self.kind == "cross-entropy":
            return -keras.ops.sum(target * keras.ops.log_softmax(logits, axis=-1), axis=-1)
        if self.kind == "hinge":
            return keras.losses.categorical_hinge(target, logits)
        difference = keras.ops.softmax(logits, axis=-1) - target
        if self.kind == "mse":
            return keras.ops.sum(keras.ops.square(difference), axis=-1)
        size = keras.ops.abs(difference)
        if self.kind == "mae":
            return keras.ops.sum(size, axis=-1)
        return keras.ops.sum(keras.ops.where(size < 1, 0.5 * size * size, size - 0.5), axis=-1)


class TokenCrossEntropy(keras.losses.Loss):
    """-log softmax(z) at the right token, averaged over the positions of each example.

    Shapes: targets `(batch, positions)`, logits `(batch, positions, tokens)`.
    """

    def call(self, y_true, logits):
        _, positions, tokens = logits.shape
        # All positions in one matrix: torch's loss is slower where the classes are not the last of two axes.
        flat = keras.ops.reshape(keras.ops.cast(logits, keras.config.floatx()), (-1, tokens))
        targets = keras.ops.reshape(keras.ops.cast(y_true, "int32"), (-1,))
        losses = keras.ops.sparse_categorical_crossentropy(targets, flat, from_logits=True)
        return keras.ops.mean(keras.ops.reshape(losses, (-1, positions)), axis=-1)


def accuracy():
    """Share of examples whose largest logit is the right one's."""
    return keras.metrics.SparseCategoricalAccuracy(name="accuracy")


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
    from sklearn.metrics import confusion_matrix, log_loss, precision_recall_fscore_support, roc_auc_score

    count = len(class_names)
    predicted = probabilities.argmax(1)
    matrix = confusion_matrix(labels, predicted, labels=range(count))
    precision, recall, f1, support = precision_recall_fscore_support(labels, predicted, labels=range(count), zero_division=0)
    present = support > 0
    correct, confidence = predicted == labels, probabilities.max(1)
    metrics = {
        "accuracy": correct.mean(),
        "error": 1 - correct.mean(),
        "macro_f1": f1[present].mean(),
        "cross_entropy": log_loss(labels, probabilities, labels=range(count)),
        "calibration_error": calibration_error(confidence, correct),
    }
    if present.all():
        scores = probabilities[:, 1] if count == 2 else probabilities
        metrics["auc"] = roc_auc_score(labels, scores, multi_class="ovr", labels=range(count) if count > 2 else None)
    if count == 2:
        metrics |= {"sensitivity": recall[1], "specificity": recall[0]}
    rows = zip(class_names, precision, recall, f1, support, strict=True)
    names = ("class", "precision", "recall", "f1", "examples")
    per_class = [dict(zip(names, (row[0], *map(float, row[1:])), strict=True)) for row in rows]
    drawn = {
        "confusion": figures.confusion(matrix, class_names),
        "calibration": figures.reliability(confidence, correct),
    }
    return metrics, {"per-class": per_class}, drawn


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
