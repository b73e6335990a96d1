"""What masks hold: how often each value stands there, whether it fills areas or only edges, and which palette it is of."""

from dataclasses import dataclass

import numpy as np

from apps.common.data.images.decoding import open_image
from apps.common.data.images.threads import each_in_threads, without_warnings, workers_for

FEWEST_EDGES = 5  # values along edges that make smoothed ones: thin classes, such as cracks and wires, are fewer
FLAT = 0.1  # least share of a class's pixels in squares of 2 x 2; smoothed edges have .00, the rarest of CamVid's classes .58


@dataclass(frozen=True)
class Values:
    """The values of one mask or of many, in order.

    Args:
        values: Labels or colours, `(n,)`.
        counts: How many pixels hold each.
        flat: How many of these begin a square of 2 x 2 pixels of that value.
    """

    values: np.ndarray
    counts: np.ndarray
    flat: np.ndarray

    @staticmethod
    def of(mask):
        """The values of a mask `(height, width)` of whole numbers."""
        flat = np.zeros(mask.shape, bool)
        corner, right, below, across = mask[:-1, :-1], mask[:-1, 1:], mask[1:, :-1], mask[1:, 1:]
        flat[:-1, :-1] = (corner == right) & (corner == below) & (corner == across)
        # By the runs of equal values in the rows, of which there are a fiftieth of the pixels: 5 ms where sorting takes 30.
        line = mask.reshape(-1)
        starts = np.flatnonzero(np.diff(line, prepend=line[:1] - 1))
        lengths = np.diff(starts, append=line.size)
        return Values.summed(line[starts], lengths, np.add.reduceat(flat.reshape(-1), starts, dtype="int64"))

    @staticmethod
    def summed(values, counts, flat):
        """Each value once."""
        distinct, places = np.unique(values, return_inverse=True)
        sums = [np.bincount(places, each, len(distinct)).astype("int64") for each in (counts, flat)]
        return Values(distinct, *sums)

    @staticmethod
    def of_all(masks):
        """Those of several masks together."""
        return Values.summed(*(np.concatenate([getattr(mask, name) for mask in masks]) for name in ("values", "counts", "flat")))

    def share(self, chosen):
        """The share of the pixels that hold the `(n,)` chosen values."""
        return float(self.counts[chosen].sum() / max(1, self.counts.sum()))

    def edges(self):
        """`(n,)` whether a value stands only along edges, where these values are so many that the edges were smoothed.

        Smoothing leaves many values between those of the classes, each a pixel or two wide; a class, however rare, fills
        areas somewhere. In noise nothing does, and most of the pixels would be edges.
        """
        thin = self.flat < FLAT * self.counts
        smoothed = thin.sum() >= FEWEST_EDGES and 2 * thin.sum() > len(thin) and self.share(thin) < 0.5
        return thin & smoothed


def differing_palettes(paths):
    """What two mask files say differently of one index of their palettes, in words; `None` where all agree."""
    headers = each_in_threads(paths, _palette, workers=workers_for(paths))
    if len({each for each in headers if isinstance(each, tuple)}) < 2:
        return None
    seen = {}
    with without_warnings():
        for path in paths:
            for index, color in _used_colors(path).items():
                first, where = seen.setdefault(index, (color, path.name))
                if first != color:
                    return f"index {index} is {first} in the palette of {where} and {color} in that of {path.name}"
    return None


def _palette(path):
    """A file's palette as its header has it, `None` without one."""
    with open_image(path) as image:
        return (image.palette.rawmode, bytes(image.palette.palette)) if image.mode == "P" and image.palette else None


def _used_colors(path):
    """`{index: colour as text}` of the pixels of a mask with a palette.

    A palette of greys in order says nothing: programs write it where there was none.
    """
    try:
        with open_image(path) as image:
            used = np.unique(image) if image.mode == "P" else ()
            table = np.array(image.getpalette("RGB") or (), "int64").reshape(-1, 3)
    except Exception:  # damaged data end in whatever the decoder stumbles over; they are counted when the mask is read
        return {}
    if len(table) > 1 and (table == np.arange(len(table))[:, None]).all():
        return {}
    return {int(index): "#{:02x}{:02x}{:02x}".format(*table[index]) for index in used if index < len(table)}
