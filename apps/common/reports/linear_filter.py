"""A picture enlarged by one linear filter, which a few seconds of least squares find: what a network must be better than."""

import numpy as np

REACH = 3  # pixels of the small picture to each side of one: a filter of 7 x 7
SAMPLED = 200_000  # pixels of the small pictures
AT_ONCE = 1 << 16  # pixels whose neighbours are laid out at once, 50 numbers each


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
            count = max(1, round(share * small.size))
            places = generator.integers(0, small.size, count) if count < small.size else np.arange(small.size)
            rows, columns = np.divmod(places, small.shape[1])
            features.append(_neighbours(_windows(small)[rows, columns]))
            targets.append(_blocks(large, self.factor)[rows, columns].reshape(len(rows), -1).astype("float64"))
        self.weights = np.linalg.lstsq(np.concatenate(features), np.concatenate(targets), rcond=None)[0]

    def __call__(self, small):
        """The large picture, uint8."""
        height, width = small.shape[:2]
        large = np.empty((height * self.factor, width * self.factor, 1), "uint8")
        blocks, windows, band = _blocks(large, self.factor), _windows(small), max(1, AT_ONCE // width)
        for top in range(0, height, band):
            found = _neighbours(windows[top : top + band].reshape(-1, *windows.shape[2:])) @ self.weights
            rows = blocks[top : top + band]
            rows[:] = np.clip(np.rint(found), 0, 255).reshape(rows.shape)
        return large


def _windows(small):
    """`(height, width, 7, 7)`: a view of the brightness around each pixel; beyond an edge its pixels are repeated."""
    padded = np.pad(small[..., 0], REACH, mode="edge")
    return np.lib.stride_tricks.sliding_window_view(padded, (2 * REACH + 1, 2 * REACH + 1))


def _neighbours(windows):
    """`(pixels, 7, 7)` to `(pixels, 7 * 7 + 1)`, float64: the brightness in each, and a constant."""
    flat = windows.reshape(len(windows), -1).astype("float64")
    return np.column_stack([flat, np.full(len(flat), 255.0)])


def _blocks(large, factor):
    """`(height, width, factor, factor)`: a view of the pixels that each one of the small picture becomes."""
    height, width = (size // factor for size in large.shape[:2])
    return large.reshape(height, factor, width, factor).transpose(0, 2, 1, 3)
