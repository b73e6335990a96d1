"""A picture enlarged by one linear filter, which a few seconds of least squares find: what a network must be better than."""

import numpy as np

REACH = 3  # pixels of the small picture to each side of one: a filter of 7 x 7
SAMPLED = 200_000  # pixels of the small pictures


class LinearFilter:
    """Each of the `factor^2` pixels for one of the small picture as a weighted sum of those around it, by least squares.

    Args:
        pairs: `(small, large)` brightness of pictures, `(height, width, 1)`, the large a whole multiple of the small.
        seed: Of the pixels that are sampled where there are many.
    """

    def __init__(self, pairs, seed):
        self.factor = pairs[0][1].shape[0] // pairs[0][0].shape[0]
        generator, share = np.random.default_rng([seed, 52]), SAMPLED / sum(small.size for small, _ in pairs)
        features, targets = [], []
        for small, large in pairs:
            chosen = generator.permutation(small.size)[: max(1, round(share * small.size))]
            features.append(_neighbours(small)[chosen])
            targets.append(_blocks(large, self.factor)[chosen])
        self.weights = np.linalg.lstsq(np.concatenate(features), np.concatenate(targets), rcond=None)[0]

    def __call__(self, small):
        """The large picture, uint8."""
        height, width = small.shape[:2]
        found = (_neighbours(small) @ self.weights).reshape(height, width, self.factor, self.factor)
        large = found.transpose(0, 2, 1, 3).reshape(height * self.factor, width * self.factor, 1)
        return np.clip(np.rint(large), 0, 255).astype("uint8")


def _neighbours(small):
    """`(pixels, 7 * 7 + 1)`: the brightness around each pixel, and a constant; beyond an edge its pixels are repeated."""
    padded = np.pad(small[..., 0].astype("float64"), REACH, mode="edge")
    windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1, 2 * REACH + 1))
    flat = windows.reshape(small.size, -1)
    return np.column_stack([flat, np.full(len(flat), 255.0)])


def _blocks(large, factor):
    """`(pixels of the small picture, factor^2)`: those that one of them becomes."""
    height, width = (size // factor for size in large.shape[:2])
    return large.reshape(height, factor, width, factor).transpose(0, 2, 1, 3).reshape(height * width, -1).astype("float64")
