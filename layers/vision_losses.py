"""Losses of detection and segmentation. Each gives one value an element, so that weights apply before the mean."""

import keras

from .boxes import giou

__all__ = []

ops = keras.ops


def mean_over_counted(values, weights, count=None):
    """`sum(weights values) / count`: what counts nothing changes neither sum.

    Args:
        values: A tensor of any shape.
        weights: What each counts, of a shape that broadcasts to that of `values`.
        count: What to divide by; the sum of the weights (as broadcast) by default. No less than 1e-6 is divided by.
    Returns: A scalar; 0 where nothing counts.
    """
    weights = ops.broadcast_to(ops.cast(weights, values.dtype), ops.shape(values))
    count = ops.sum(weights) if count is None else ops.cast(count, values.dtype)
    return ops.sum(values * weights) / ops.maximum(count, 1e-6)


def sigmoid_cross_entropy(targets, logits):
    """`-t log p - (1 - t) log(1 - p)`, p the sigmoid of the logits, without overflow."""
    return ops.softplus(logits) - targets * logits


def sigmoid_focal_loss(targets, logits, *, alpha=0.25, gamma=2.0):
    """Cross-entropy of independent classes in which what is already right counts little: `alpha_t (1 - p_t)^gamma (-log p_t)`.

    Args:
        targets: 0 or 1 for each class.
        logits: Of the same shape.
        alpha: Share of the ones; that of the zeros is `1 - alpha`. `None` leaves both at 1.
        gamma: How fast the right ones lose weight; 0 is cross-entropy.
    Returns: A tensor of the shape of `logits`.
    Reference: Lin et al., 2017, arXiv 1708.02002.
    """
    targets = ops.cast(targets, logits.dtype)
    p = ops.sigmoid(logits)
    wrong = p + targets - 2.0 * p * targets  # 1 - p_t
    loss = sigmoid_cross_entropy(targets, logits) * power(wrong, gamma)
    return loss if alpha is None else loss * (1.0 - alpha + targets * (2.0 * alpha - 1.0))


def quality_focal_loss(targets, logits, *, gamma=2.0):
    """Focal loss whose target is a number in 0..1, such as how well a box fits: `|t - p|^gamma` times the cross-entropy.

    Shapes: `targets` and `logits` alike, and so the result.
    Reference: Li et al., 2020, arXiv 2006.04388.
    """
    targets = ops.cast(targets, logits.dtype)
    return power(ops.abs(targets - ops.sigmoid(logits)), gamma) * sigmoid_cross_entropy(targets, logits)


def softmax_focal_loss(labels, logits, *, gamma=2.0):
    """Cross-entropy of classes that exclude one another, less what is already right: `(1 - p)^gamma (-log p)`.

    Args:
        labels: Class indices, `(...)`. One outside of `0..classes - 1` (an ignored pixel) has the loss 0.
        logits: `(..., classes)`.
        gamma: As `sigmoid_focal_loss`; 0 is cross-entropy.
    Returns: A tensor of the shape of `labels`.
    """
    log_p = ops.log_softmax(logits, axis=-1)
    chosen = class_indicators(labels, logits.shape[-1], logits.dtype)
    log_p = ops.sum(log_p * chosen, axis=-1)
    return -log_p * power(1.0 - ops.exp(log_p), gamma)


def dice_loss(labels, logits, weights=None, *, smooth=1e-5):
    """One less the Dice coefficient of each class in each picture: `1 - (2 sum(p t) + s) / (sum p + sum t + s)`.

    A class neither there nor predicted has the loss 0.

    Args:
        labels: Class indices, `(batch, height, width)`.
        logits: `(batch, height, width, classes)`.
        weights: What each pixel counts, of the shape of `labels`; 0 for those to ignore.
        smooth: s.
    Returns: `(batch, classes)`.
    Reference: Milletari et al., 2016, arXiv 1606.04797.
    """
    p = ops.softmax(logits, axis=-1)
    t = class_indicators(labels, logits.shape[-1], p.dtype)
    w = ops.ones_like(p[..., :1]) if weights is None else ops.expand_dims(ops.cast(weights, p.dtype), -1)
    both, all_p, all_t = (ops.sum(part * w, axis=(1, 2)) for part in (p * t, p, t))
    return 1.0 - (2.0 * both + smooth) / (all_p + all_t + smooth)


def smooth_l1_loss(targets, predictions, *, beta=1.0):
    """`x^2 / (2 beta)` for a difference `|x| < beta`, `|x| - beta / 2` beyond; shapes alike, and so the result.

    Reference: Girshick, 2015, arXiv 1504.08083.
    """
    x = ops.abs(predictions - targets)
    inner = ops.minimum(x, beta)
    return inner * (x - 0.5 * inner) / beta


def giou_loss(targets, predictions):
    """`1 - giou`, in 0..2: `(..., 4)` corners each, to `(...,)`."""
    return 1.0 - giou(targets, predictions)


def class_indicators(labels, num_classes, dtype):
    """One-hot classes, all zeros for a label that is none: `(...)` to `(..., classes)`."""
    classes = ops.arange(num_classes, dtype="int32")
    return ops.cast(ops.equal(ops.expand_dims(ops.cast(labels, "int32"), -1), classes), dtype)


def power(base, exponent):
    """`base^exponent`, 1 for the exponent 0; a square as a product, whose gradient at 0 is 0 on every backend."""
    if exponent == 0:
        return ops.ones_like(base)
    return base * base if exponent == 2 else ops.power(ops.maximum(base, 1e-7), exponent)
