"""What stretches of a text were trained on, found again wherever they stand in another text."""

import numpy as np

PIECE = 24  # ids, a few words of letters: shorter ones stand in any text
MOST = 2_000_000  # pieces that are kept of a text; those of a longer one are longer
AT_ONCE = 1 << 18  # ids that are read at once
SHARE = 0.5  # of the ids of a window that must stand in such pieces
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse among the numbers of 64 bits
INVERSE = pow(BASE, -1, 2**64)


def piece_digests(read, count):
    """What a text is known by: the length of a piece, then a number for each piece, uint64, in their order as numbers.

    The pieces lie side by side; they are read a part of the text at a time, so that no text is too long.

    Args:
        read: From starts and a size to ids `(starts, size)`.
        count: Ids of the text.
    """
    size = PIECE
    while count > size * MOST:
        size *= 2
    pieces, at_once, found = count // size, max(1, AT_ONCE // size), [np.empty(0, "uint64")]
    for first in range(0, pieces, at_once):
        rows = min(at_once, pieces - first)
        found.append(rolled(read(np.array([first * size]), rows * size).reshape(rows, size), size)[:, 0])
    return np.concatenate([np.array([size], "uint64"), np.sort(np.concatenate(found))])


def is_of_pieces(known):
    """Whether this is of `piece_digests`; what older bundles kept are digests of windows, no length before them."""
    times, rest = divmod(int(known[0]), PIECE) if len(known) else (0, 0)
    return not rest and times > 0 and times & (times - 1) == 0


def stands_in(rows, known, first, last):
    """Which stretches of a text stand mostly in pieces that are known, wherever these begin: `(rows,)` booleans.

    Args:
        rows: Ids `(rows, ids)`, the stretch and what stands before and behind it; -1 where the text has ended.
        known: Of `piece_digests`.
        first, last: Where the stretch itself begins and ends in a row.
    """
    size, known = int(known[0]), known[1:]
    if rows.shape[1] < size or not len(known):
        return np.zeros(len(rows), bool)
    numbers = rolled(rows, size)
    found = known[np.minimum(np.searchsorted(known, numbers), len(known) - 1)] == numbers  # a piece begins here
    begun = np.cumsum(np.pad(found, ((0, 0), (size, size - 1))), axis=1)
    covered = begun[:, size:] > begun[:, :-size]  # by a piece that begins here or up to size - 1 ids before
    inside = rows[:, first:last] >= 0
    return (covered[:, first:last] & inside).sum(1) >= SHARE * np.maximum(inside.sum(1), 1)


def margin(known):
    """Ids before and behind a stretch that are needed to find all pieces that reach into it."""
    return int(known[0]) - 1


def rolled(rows, size):
    """A number for each `size` ids side by side, `(rows, ids - size + 1)` uint64: a polynomial of them modulo 2^64.

    Args:
        rows: Ids `(rows, ids)`.
    Reference: Karp and Rabin, 1987.
    """
    count = rows.shape[1]
    powers, inverses = (np.cumprod(np.full(count, each, "uint64"), dtype="uint64") for each in (BASE, INVERSE))
    sums = np.cumsum(scattered(rows) * powers, axis=1, dtype="uint64")
    sums = np.pad(sums, ((0, 0), (1, 0)))
    return (sums[:, size:] - sums[:, :-size]) * inverses[: count - size + 1]


def scattered(ids):
    """Numbers of 64 bits in the place of ids, as if drawn at random (splitmix64)."""
    x = ids.astype("int64").astype("uint64") + np.uint64(BASE)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
