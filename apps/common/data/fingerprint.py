"""Digests by which data are known again: of all the examples, and of each."""

import hashlib
import json

import numpy as np

from apps.common.data import nested

PIECE = 1 << 24  # bytes of examples laid side by side at once


def fingerprint(data):
    """A digest of everything that was read, the splits and what goes with them, by which a change between two runs is seen."""
    about = json.dumps(data.about, sort_keys=True, default=str)
    return digest([split_digest(split) for split in (data.train, data.validation, data.test)], np.array(about))


def split_digest(split):
    """A digest of the examples of one split; nothing where there is none."""
    if split is None:
        return np.array("")
    own = getattr(split, "fingerprint", None)
    return np.array(own() if own else digest(split.x, split.y))


def digest(*trees):
    """A short digest of the shapes, types and values of some arrays, or dicts, tuples and lists of them.

    It is the same in every process and whatever the order of a dict; `None` counts for nothing.
    """
    made = hashlib.blake2b(digest_size=12)
    for path, leaf in (found for tree in trees for found in nested.paths(tree)):
        if leaf is None:
            continue
        array = np.asarray(leaf)
        made.update(_header(path, array.shape, array.dtype))
        made.update(_content(array))
    return made.hexdigest()


def example_digests(examples, targets=True):
    """One number an example, uint64 `(examples,)`, by which it is found again in another split, file or run.

    Args:
        examples: Any examples; those that have a method `example_digests(targets)` answer for themselves.
        targets: Whether the target counts, or the inputs alone.
    """
    own = getattr(examples, "example_digests", None)
    if own:
        return own(targets)
    made, size = [], _rows_at_once(examples)
    for start in range(0, len(examples), size):
        batch = examples.take(np.arange(start, min(start + size, len(examples))))
        made.append(row_digests(batch[: 1 + targets]))
    return np.concatenate(made) if made else np.empty(0, "uint64")


def known_by(examples):
    """What a bundle keeps of the examples it was trained on; those that have a method `known_by()` answer for themselves."""
    own = getattr(examples, "known_by", None)
    return own() if own else example_digests(examples)


def known_again(examples, known):
    """Which examples are among those that `known_by` was asked of: `(examples,)` booleans.

    Those that have a method `known_again(known)` answer for themselves.
    """
    own = getattr(examples, "known_again", None)
    return own(known) if own else np.isin(example_digests(examples), known)


def row_digests(tree):
    """One number for each row of some arrays, which have as many."""
    found = [(path, np.asarray(leaf)) for path, leaf in nested.paths(tree) if leaf is not None]
    base = hashlib.blake2b(b"".join(_header(path, array.shape[1:], array.dtype) for path, array in found), digest_size=8)
    if any(array.dtype.hasobject for _, array in found):
        contents = (b"".join(_content(array[row : row + 1]) for _, array in found) for row in range(len(found[0][1])))
    else:
        contents = np.concatenate([_as_bytes(array).reshape(len(array), -1) for _, array in found], axis=1)
    return np.array([_with(base, content) for content in contents], "uint64")


def _with(base, content):
    made = base.copy()
    made.update(content)
    return int.from_bytes(made.digest(), "little")


def _rows_at_once(examples):
    if not len(examples):
        return 1
    row = sum(np.asarray(leaf).nbytes for leaf in nested.leaves(examples.take(np.arange(1))) if leaf is not None)
    return max(1, PIECE // max(row, 1))


def _header(path, shape, dtype):
    where = str(path) if path else ""
    return f"{where}{(shape, dtype)}".encode()


def _as_bytes(array):
    return np.ascontiguousarray(array).reshape(-1).view("uint8")


def _content(array):
    """The bytes of an array; an array of objects holds addresses, so of what they are."""
    array = np.asarray(array)
    if not array.dtype.hasobject:
        return memoryview(_as_bytes(array)) if array.size else b""
    made = hashlib.blake2b(digest_size=16)
    for each in array.reshape(-1):
        if isinstance(each, np.ndarray):
            made.update(_header((), each.shape, each.dtype))
            made.update(_content(each))
        else:
            text = f"{type(each).__name__}:{each!r}".encode()
            made.update(len(text).to_bytes(8, "little"))
            made.update(text)
    return made.digest()
