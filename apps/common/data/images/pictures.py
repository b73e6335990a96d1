"""Pictures of any sizes, without labels: a folder of them, or the two photographs that come with scikit-learn."""

import io
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.data.fingerprint import digest, row_digests
from apps.common.data.images.decoding import ENDINGS, Unreadable, dark_notes, decode, is_image_name, read_header
from apps.common.data.images.threads import without_warnings
from apps.common.data.reading import Progress, require_memory, split_of, visible_files
from apps.common.errors import UserError, count_skipped

# A picture that is alone is cut into so many rows and columns of tiles, of which these are for validation and the test.
TILES, HELD_TILES, TEST_TILES = (3, 4), (2, 7), (5, 10)

# ITU-R 601 as digital video has it: black is 16 and white 235, the brightness that super-resolution is measured on.
RED, GREEN, BLUE, BLACK = 65.481 / 255, 128.553 / 255, 24.966 / 255, 16.0


@dataclass(frozen=True)
class Picture:
    """A picture in memory: what it is called, its file (or `None`) and its pixels, uint8 `(height, width, 3)`."""

    name: str
    path: Path | None
    pixels: np.ndarray


def read_picture(path):
    """The pixels of one picture in its own size and in colours, uint8 `(height, width, 3)`.

    Raises:
        Unreadable: It is no picture, damaged or enormous.
    """
    path = Path(path).expanduser()
    with without_warnings():
        size, _ = read_header(path)
        return decode(path, (*size, 3))


def read_pictures(path, *, smallest=1):
    """All pictures of a folder and what is below it.

    Args:
        path: A folder, or one picture. Where its first folders are called train, val or test, they are these splits.
        smallest: Pixels that the shorter side must have; smaller pictures are left out.
    Returns: `({split: [Picture]}, notes)`; what cannot be used is left out, counted and named. Without named splits all
        pictures are under `train`.
    Raises:
        UserError: No picture is there, or too many of them cannot be used.
    """
    path = Path(path)
    files = [path] if path.is_file() else [file for file in visible_files(path) if is_image_name(file.name)]
    if not files:
        raise UserError(f"{path}: no picture found. Expected a folder of pictures, which end in {' '.join(ENDINGS)}")
    splits, skipped, small, total = {}, [], [], 0
    progress = Progress(len(files), "pictures read")
    for done, file in enumerate(files):
        parts = file.relative_to(path).parts if file != path else (file.name,)
        try:
            with without_warnings():
                size, _ = read_header(file)
            if min(size) < smallest:
                small.append(f"{'/'.join(parts)} ({size[1]} x {size[0]})")
                raise Unreadable(f"{size[1]} x {size[0]} pixels, fewer than {smallest} a side")
            total += 3 * size[0] * size[1]
            require_memory(total, path, "Give fewer or smaller pictures")
            picture = Picture("/".join(parts), file, read_picture(file))
        except Unreadable as reason:
            skipped.append(f"{'/'.join(parts)} ({reason})")
            continue
        splits.setdefault((split_of(parts[0]) if len(parts) > 1 else None) or "train", []).append(picture)
        progress.show(done + 1)
    if len(small) > 0.05 * len(files):
        raise UserError(
            f"{path}: {len(small)} of {len(files)} pictures have fewer than {smallest} pixels a side, such as {small[0]}. "
            "Leave them out, or have smaller squares cut out (--patch-size, --image-size)"
        )
    note = count_skipped(skipped, len(files), "pictures")
    if not splits:
        raise UserError(f"{path}: no readable picture")
    return splits, dark_notes([picture.path for part in splits.values() for picture in part]) + ([note] if note else [])


def photographs():
    """The two photographs that come with scikit-learn, 427 x 640: a temple in China and a flower.

    Those of scikit-image would need it as a dependency, and where it is installed by chance the same seed would give other data.
    """
    from sklearn.datasets import load_sample_images

    found = load_sample_images()
    return [Picture(os.path.basename(name), Path(name), image) for name, image in zip(found.filenames, found.images, strict=True)]


def split_pictures(splits, seed, notes, *, validation=0.1, test=0.15):
    """Three lists of pictures, `(train, validation, test)`.

    Named splits are kept, what is missing is drawn from the training pictures by the seed. Where these are too few, each is
    cut into twelve tiles, of which two are for validation and two for the test, always the same.

    Args:
        splits: `{split: [Picture]}`, as `read_pictures` gives it.
        seed: Of the draw.
        notes: List to which a line is added.
        validation, test: Shares of the pictures, one at least.
    Raises:
        UserError: There are no pictures to train on.
    """
    train, held, tested = (list(splits.get(name, ())) for name in ("train", "validation", "test"))
    missing = (not held) + (not tested)
    if not train:
        raise UserError(f"no pictures to train on, only {', '.join(splits)}. Put some into a folder called train")
    if len(train) <= missing:
        count, tiles = len(train), [tiles_of(picture) for picture in train]
        taken = (() if held else HELD_TILES) + (() if tested else TEST_TILES)
        held = held or [part[index] for part in tiles for index in HELD_TILES]
        tested = tested or [part[index] for part in tiles for index in TEST_TILES]
        train = [part[index] for part in tiles for index in range(len(part)) if index not in taken]
        notes.append(f"{count} pictures alone: each is cut into {len(tiles[0])} tiles")
    else:
        order = [train[index] for index in np.random.default_rng([seed, 20]).permutation(len(train))]
        if not tested:
            count = max(1, round(test * len(train)))
            tested, order = order[:count], order[count:]
        if not held:
            count = max(1, min(len(order) - 1, round(validation * len(train))))
            held, order = order[:count], order[count:]
        train = order
    notes.append(f"{len(train)} pictures to train on, {len(held)} for validation, {len(tested)} for the test")
    return train, held, tested


def tiles_of(picture):
    """The tiles that a picture is cut into, row by row."""
    made = []
    for row, band in enumerate(np.array_split(picture.pixels, TILES[0], axis=0)):
        for column, pixels in enumerate(np.array_split(band, TILES[1], axis=1)):
            made.append(Picture(f"{picture.name}[{row},{column}]", picture.path, pixels))
    return made


def luminance(pixels):
    """Brightness of colours 0..255, `(..., 3)` to `(..., 1)`, uint8 from 16 to 235 (ITU-R 601)."""
    bright = pixels.astype("float64") @ np.array([[RED], [GREEN], [BLUE]]) + BLACK
    return np.rint(bright).astype("uint8")


def resized(pixels, height, width, method="bicubic"):
    """A uint8 picture `(height, width, channels)` in another size, by Pillow's `bicubic` (antialiased) or `nearest`."""
    from PIL import Image

    image = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    image = image.resize((width, height), getattr(Image.Resampling, method.upper()))
    return np.asarray(image).reshape(height, width, pixels.shape[-1])


def smaller(picture, side):
    """The picture with a shorter side of at most `side` pixels (antialiased)."""
    height, width = picture.pixels.shape[:2]
    if min(height, width) <= side:
        return picture
    size = (max(side, round(each * side / min(height, width))) for each in (height, width))
    return Picture(picture.name, picture.path, resized(picture.pixels, *size))


def drawn_waves(seed, side):
    """A pattern to paint with, drawn by a seed: waves of three colours with dark edges, uint8 `(side, side, 3)`."""
    generator = np.random.default_rng([seed, 34])
    y, x = np.mgrid[0:side, 0:side] / 6.0
    bent = x + 1.5 * np.sin(0.7 * y + generator.uniform(0, 6)) + np.sin(0.31 * (x + y))
    waves = np.sin(bent) + 0.6 * np.sin(1.7 * y + 1.3 * np.sin(0.9 * x))
    colours = np.array([(24, 42, 96), (244, 180, 48), (212, 74, 52), (240, 232, 200)], "float64")
    level = (waves - waves.min()) / np.ptp(waves) * (len(colours) - 1)
    low = np.minimum(level.astype(int), len(colours) - 2)
    share = np.clip((level - low - 0.4) * 5, 0, 1)[..., None]
    picture = colours[low] * (1 - share) + colours[low + 1] * share
    edges = np.abs(level - low - 0.5) < 0.06
    return np.where(edges[..., None], 20, picture).astype("uint8")


def as_png(pixels):
    """The bytes of a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "png")
    return buffer.getvalue()


def from_png(content):
    """The pixels of what `as_png` made."""
    from PIL import Image

    with Image.open(io.BytesIO(content), formats=("PNG",)) as image:
        return np.asarray(image)


class WholePictures:
    """Examples that are whole pictures, each of its own size: a list of nested arrays, `(x, y)` or `(x,)` each.

    They are looked at one by one, so there is no batch of them.
    """

    unit = "pictures"

    def __init__(self, names, rows):
        self.names, self.rows = list(names), list(rows)

    def __len__(self):
        return len(self.rows)

    def take(self, indices):
        """The pictures at these positions, a list for each part of a row."""
        return tuple(list(part) for part in zip(*(self.rows[index] for index in indices), strict=True))

    def subset(self, indices):
        return type(self)([self.names[index] for index in indices], [self.rows[index] for index in indices])

    def example_digests(self, targets=True):
        made = [[digest(part) for part in row[: 1 + targets]] for row in self.rows]
        return np.concatenate([row_digests(np.array(["".join(parts)])) for parts in made])

    def fingerprint(self):
        return digest(self.example_digests())


class Patches:
    """Squares cut at random out of pictures; where, and how they are turned, follows from (seed, epoch, index) alone.

    Args:
        pictures: A list of rows: arrays `(height, width, channels)` of one picture, the first of which is the smallest and
            the others whole multiples of its size.
        side: Of a square, in pixels of the first array.
        count: Squares an epoch.
        seed: A number.
        moved: Whether squares are cut anew each epoch, mirrored and turned; else epoch 0 is every epoch, upright.
        originals: How many pictures these are, where some are copies of others.
    """

    ahead = 2

    def __init__(self, pictures, side, count, seed, *, moved=True, originals=None):
        self.pictures, self.side, self.count, self.seed, self.moved = pictures, side, count, seed, moved
        self.epoch = 0
        self.unit = f"squares of {originals or len(pictures)} pictures"
        areas = np.array([row[0].shape[0] * row[0].shape[1] for row in pictures], "float64")
        self.shares = np.cumsum(areas / areas.sum())

    def __len__(self):
        return self.count

    def set_epoch(self, epoch):
        self.epoch = epoch if self.moved else 0

    def take(self, indices):
        """Of each part an array `(squares, height, width, channels)`."""
        rows = [self.square(int(index)) for index in indices]
        return tuple(np.stack(part) for part in zip(*rows, strict=True))

    def square(self, index):
        """One square: the same place of each array of a picture, a picture as often as it is large."""
        generator = np.random.default_rng([self.seed, 31, self.epoch, index])
        chosen = min(int(np.searchsorted(self.shares, generator.random(), side="right")), len(self.pictures) - 1)
        row = self.pictures[chosen]
        height, width = row[0].shape[:2]
        top, left = (int(generator.integers(0, size - self.side + 1)) for size in (height, width))
        mirrored, quarters = bool(generator.integers(2)), int(generator.integers(4))
        made = []
        for array in row:
            factor = array.shape[0] // height
            square = array[factor * top : factor * (top + self.side), factor * left : factor * (left + self.side)]
            if self.moved:
                square = np.rot90(square[:, ::-1] if mirrored else square, quarters)
            made.append(square)
        return made

    def example_digests(self, targets=True):
        """A number a picture, not a square: what these squares may be cut from."""
        return WholePictures([], self.pictures).example_digests(targets)

    def fingerprint(self):
        return digest(self.example_digests(), np.array([self.side, self.count, self.seed, self.moved]))


def spread_squares(pixels, side, columns=4):
    """Squares of one picture on a grid from edge to edge, at most `columns` a direction: `(squares, side, side, channels)`."""
    places = []
    for size in pixels.shape[:2]:
        count = min(columns, -(-size // side))
        places.append(np.unique(np.linspace(0, size - side, count).astype(int)))
    return np.stack([pixels[top : top + side, left : left + side] for top in places[0] for left in places[1]])
