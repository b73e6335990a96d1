"""What can be guessed of a hidden token without a network: how common it is, and what it stands beside."""

import numpy as np


class NeighbourCounts:
    """Probabilities of a token from how often it follows its left and precedes its right neighbour.

    p(w | l, r) is proportional to p(w | l) p(w | r) / p(w), where p(w | l) = (n(l, w) + k p(w)) / (n(l) + k), and alike for r.

    Args:
        ids: The training text `(tokens,)`.
        size: Number of different tokens.
        k: How many occurrences the general frequency weighs.
    """

    def __init__(self, ids, size, k=2.0):
        from scipy.sparse import coo_matrix

        counts = np.bincount(ids, minlength=size)
        self.alone = (counts + 0.1) / (counts.sum() + 0.1 * size)
        ones = np.ones(len(ids) - 1)
        self.after = coo_matrix((ones, (ids[:-1], ids[1:])), (size, size)).tocsr()
        self.before = self.after.T.tocsr()
        self.k = k

    def between(self, left, right):
        """Probabilities `(size,)` of the token between two others."""
        found = self._beside(self.after, left) * self._beside(self.before, right) / self.alone
        return found / found.sum()

    def _beside(self, pairs, token):
        row = pairs[token].toarray()[0]
        return (row + self.k * self.alone) / (row.sum() + self.k)


def gap_scores(batch, guess):
    """Cross-entropy and accuracy of the hidden tokens of some passages.

    Args:
        batch: `(x, y, weight)` of `MaskedTexts`.
        guess: Function of the left and the right neighbour, as the passage shows them, to probabilities.
    """
    x, y, weight = batch
    losses, right = [], []
    for row, place in zip(*np.nonzero(weight), strict=True):
        left, after = x["tokens"][row, place - 1], x["tokens"][row, place + 1]
        likely, token = guess(left, after), y[row, place]
        losses.append(-np.log(likely[token]))
        right.append(likely.argmax() == token)
    return {"cross_entropy": float(np.mean(losses)), "accuracy": float(np.mean(right))}
