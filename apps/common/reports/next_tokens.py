"""How well a language model tells the next token of a text, at every position."""

import numpy as np

from apps.common.training.batches import predict_all


def next_token_losses(model, windows, batch_size=128):
    """-log p(next token) at every position of every window, and how much each counts, `(windows, block_size)` both."""
    losses, weights = [], []
    for first in range(0, len(windows), batch_size):
        indices = np.minimum(np.arange(first, first + batch_size), len(windows) - 1)
        x, y, weight = (*windows.take(indices), None)[:3]
        logits = predict_all(model, x, batch_size).astype("float64")
        logits -= logits.max(-1, keepdims=True)
        right = np.take_along_axis(logits, y[:, :, None], -1)[:, :, 0]
        losses.append((np.log(np.exp(logits).sum(-1)) - right)[: len(windows) - first])
        weights.append(np.ones(y.shape) if weight is None else weight)
    return np.concatenate(losses), np.concatenate(weights)[: len(windows)]
