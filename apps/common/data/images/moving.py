"""Pictures moved in training together with what is drawn in them: masks, boxes, steering angles."""

from dataclasses import dataclass

import numpy as np

from apps.common.data import fingerprint, nested

ROLES = ("image", "mask", "boxes", "box", "angle", None)


@dataclass(frozen=True)
class Moves:
    """How far a picture moves. Everything is drawn anew for each example and epoch; by default nothing moves.

    Args:
        flip: Whether half of the pictures are mirrored left to right.
        crop: Largest share of the height and width that is cut away, somewhere.
        scale: Largest factor, less one, by which what remains grows or shrinks.
        shift: Largest distance moved, a share of the height and width.
        brightness: Largest factor, less one, by which the picture alone gets lighter or darker.
        least_area: Boxes of which a smaller share is still in the picture are dropped.
        empty: What a mask says of a place that lay outside the picture.
    """

    flip: bool = False
    crop: float = 0.0
    scale: float = 0.0
    shift: float = 0.0
    brightness: float = 0.0
    least_area: float = 0.25
    empty: int = 0


class Moving:
    """Examples whose pictures move, with all that lies in them.

    What is drawn follows from (seed, epoch, example) alone, by NumPy: it is the same on every backend and in batches of
    any size.

    Args:
        examples: Any examples.
        moves: `Moves`.
        roles: Nested as `(x, y)` or `(x, y, weight)`, whose leaves say what an array is: `"image"`
            `(batch, height, width, channels)`; `"mask"`, the same without channels or with one; `"boxes"`
            `(batch, boxes, 4)` as x, y, x, y from 0 to 1, where a dropped one is all zero, as one that only fills up;
            `"box"` `(batch, boxes, ...)`, a class or weight, zero where its box is dropped; `"angle"`, whose sign turns with
            a flip; `None` for what stays.
        seed: A number.
    """

    ahead = 2  # batches: a picture of 224 pixels takes some milliseconds

    def __init__(self, examples, moves, roles, seed):
        unknown = [role for role in nested.leaves(roles) if role not in ROLES]
        if unknown:
            raise ValueError(f"A role must be one of {ROLES}. Received: {unknown[0]!r}")
        self.examples, self.moves, self.roles, self.seed = examples, moves, roles, seed
        self.epoch = 0

    def set_epoch(self, epoch):
        self.epoch = epoch

    def __len__(self):
        return len(self.examples)

    def __getattr__(self, name):
        """What other examples may have (`x`, `y`, `order`, `plan`, ...) is theirs who move."""
        if name.startswith("_") or name == "examples":
            raise AttributeError(name)
        return getattr(self.examples, name)

    def example_digests(self, targets=True):
        return fingerprint.example_digests(self.examples, targets)

    def take(self, indices):
        batch = self.examples.take(indices)
        drawn = [draw(self.moves, self.seed, self.epoch, int(index)) for index in indices]
        boxes, kept = self._moved_boxes(batch, drawn)

        def moved(role, array):
            if role == "image":
                return np.stack([move_image(*pair) for pair in zip(array, drawn, strict=True)])
            if role == "mask":
                return np.stack([move_mask(*pair, self.moves.empty) for pair in zip(array, drawn, strict=True)])
            if role == "boxes":
                return boxes
            if role == "box":
                return array * kept.reshape(*kept.shape, *[1] * (array.ndim - 2)).astype(array.dtype)
            if role == "angle":
                signs = np.array([-1 if each.flip else 1 for each in drawn]).astype(array.dtype)
                return array * signs.reshape(-1, *[1] * (array.ndim - 1))
            return array

        some = len(self.roles)
        return (*nested.map_leaves(moved, tuple(self.roles), tuple(batch[:some])), *batch[some:])

    def _moved_boxes(self, batch, drawn):
        """The boxes `(batch, boxes, 4)` after the moves and whether each is still in the picture, or `None` for both."""
        roles, arrays = nested.leaves(tuple(self.roles)), nested.leaves(tuple(batch[: len(self.roles)]))
        if "boxes" not in roles:
            return None, None
        boxes = arrays[roles.index("boxes")]
        found = [move_boxes(*pair, self.moves.least_area) for pair in zip(boxes, drawn, strict=True)]
        return tuple(map(np.stack, zip(*found, strict=True)))


@dataclass(frozen=True)
class Move:
    """The window of a picture that is seen, from 0 to 1, whether it is mirrored, and a factor of brightness."""

    left: float = 0.0
    top: float = 0.0
    width: float = 1.0
    height: float = 1.0
    flip: bool = False
    brightness: float = 1.0


def draw(moves, seed, epoch, index):
    """The `Move` of an example in an epoch."""
    flip, crop, place_x, place_y, scale, shift_x, shift_y, light = np.random.default_rng([seed, 30, epoch, index]).random(8)
    size = 1 - moves.crop * crop
    left, top = place_x * (1 - size), place_y * (1 - size)
    # Grown by as much as shrunk: the logarithm of the factor is uniform.
    seen = size * (1 + moves.scale) ** (2 * scale - 1)
    left += (size - seen) / 2 + moves.shift * (2 * shift_x - 1)
    top += (size - seen) / 2 + moves.shift * (2 * shift_y - 1)
    brightness = 1 + moves.brightness * (2 * light - 1)
    return Move(left, top, seen, seen, moves.flip and flip < 0.5, brightness)


def _places(start, share, count, flip):
    """Where in the picture the pixels of an axis of the result come from, in pixels of the picture."""
    places = (start + share * (np.arange(count) + 0.5) / count) * count - 0.5
    places = places[::-1] if flip else places
    return np.where(np.abs(places - np.rint(places)) < 1e-6, np.rint(places), places)


def move_image(image, move):
    """An image `(height, width, channels)` through the window of a `Move`, between pixels in proportion; black outside."""
    height, width = image.shape[:2]
    made = image.astype("float32")
    rows, columns = _places(move.top, move.height, height, False), _places(move.left, move.width, width, move.flip)
    for axis, places in enumerate((rows, columns)):
        count = image.shape[axis]
        below = np.floor(places)
        share = np.float32(places - below).reshape(-1, *[1] * (made.ndim - 1 - axis))
        first, second = (np.clip(each, 0, count - 1).astype(int) for each in (below, below + 1))
        # In place: of a small picture most of the time goes into new arrays.
        step, made = np.take(made, second, axis), np.take(made, first, axis)
        step -= made
        step *= share
        made += step
        outside = (places < -0.5) | (places > count - 0.5)
        if outside.any():
            made[(slice(None),) * axis + (outside,)] = 0
    made *= np.float32(move.brightness)
    if image.dtype.kind in "ui":
        most = np.iinfo(image.dtype).max
        return np.clip(np.rint(made, out=made), 0, most, out=made).astype(image.dtype)
    return made.astype(image.dtype)


def move_mask(mask, move, empty=0):
    """A mask `(height, width, ...)` through the window of a `Move`: of each place the nearest pixel, `empty` outside."""
    height, width = mask.shape[:2]
    rows = np.rint(_places(move.top, move.height, height, False)).astype(int)
    columns = np.rint(_places(move.left, move.width, width, move.flip)).astype(int)
    made = mask[np.clip(rows, 0, height - 1)[:, None], np.clip(columns, 0, width - 1)]
    made[(rows < 0) | (rows >= height)] = empty
    made[:, (columns < 0) | (columns >= width)] = empty
    return made


def move_boxes(boxes, move, least_area=0.25):
    """`(boxes, kept)`: boxes `(boxes, 4)` through the window of a `Move`, clipped; zeros for those that are not kept."""
    corners = boxes.astype("float64")
    x = (corners[:, 0::2] - move.left) / move.width
    y = (corners[:, 1::2] - move.top) / move.height
    if move.flip:
        x = 1 - x[:, ::-1]
    whole = np.prod(x[:, 1:] - x[:, :1], axis=1) * np.prod(y[:, 1:] - y[:, :1], axis=1)
    x, y = np.clip(x, 0, 1), np.clip(y, 0, 1)
    area = (x[:, 1] - x[:, 0]) * (y[:, 1] - y[:, 0])
    kept = (area > 0) & (area >= least_area * whole)
    made = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=1)
    return np.where(kept[:, None], made, 0).astype(boxes.dtype), kept
