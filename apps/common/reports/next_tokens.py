"""How well a language model tells the next token of a text, at every position."""

import numpy as np

from apps.common.training.batches import planned, predict_all, taken


def next_token_losses(model, examples, batch_size=128):
    """-log p(next token) at every position of every text, and how much each counts, `(texts, longest)` both."""
    batches = []
    for indices in planned(examples, batch_size):
        x, y, weight = taken(examples, indices)
        logits = predict_all(model, x, batch_size).astype("float64")
        logits -= logits.max(-1, keepdims=True)
        right = np.take_along_axis(logits, y[:, :, None], -1)[:, :, 0]
        losses, weight = np.log(np.exp(logits).sum(-1)) - right, np.ones(y.shape) if weight is None else weight
        there = indices >= 0
        batches.append((indices[there], losses[there], weight[there]))
    found = np.zeros((2, len(examples), max(losses.shape[1] for _, losses, _ in batches)))
    for indices, *both in batches:
        found[:, indices, : both[0].shape[1]] = both
    return found[0], found[1]
