"""Examples that do not fit in memory: arrays on disk, mapped into memory, or files decoded when they are asked for."""

import json
import os
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.data import nested
from apps.common.data.fingerprint import digest, example_digests, row_digests

AHEAD = 2  # batches made before the step that needs them
WORKERS = 4  # threads that decode the examples of a batch


def smallest_type(low, high):
    """The smallest type of whole numbers that holds both."""
    types = [np.iinfo(kind) for kind in ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")]
    return next(each.dtype for each in types if each.min <= low and high <= each.max)


def stored_arrays(folder, pieces):
    """Arrays written to a folder piece by piece, memory-mapped; one that is there already is taken as it is.

    The folder appears whole or not at all: it is written under another name beside it, and renamed.

    Args:
        folder: Where they lie; its name should hold a digest of what they are made of.
        pieces: Function without arguments that yields dicts of arrays, the same names, types and shapes of a row each time.
    Returns:
        `{name: array}`, read-only.
    """
    folder = Path(folder)
    if not (folder / "arrays.json").exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        written = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            _write(written, pieces())
            written.rename(folder)
        except OSError:
            if not (folder / "arrays.json").exists():  # else another process was first
                raise
        finally:
            shutil.rmtree(written, ignore_errors=True)
    described = json.loads((folder / "arrays.json").read_text(encoding="utf-8"))
    return {name: _mapped(folder / f"{name}.bin", *each) for name, each in described.items()}


def _mapped(path, dtype, shape):
    return np.memmap(path, dtype, "r", shape=tuple(shape)) if np.prod(shape) else np.empty(shape, dtype)


def _write(folder, pieces):
    files, described = {}, {}
    try:
        for piece in pieces:
            for name, array in piece.items():
                if name not in files:
                    files[name] = open(folder / f"{name}.bin", "wb")  # noqa: SIM115  closed below, all at once
                    described[name] = [array.dtype.str, [0, *array.shape[1:]]]
                dtype, shape = described[name]
                if array.dtype.str != dtype or list(array.shape[1:]) != shape[1:]:
                    raise ValueError(f"`{name}` must stay {dtype} of {shape[1:]}. Received: {array.dtype.str}, {array.shape[1:]}")
                np.ascontiguousarray(array).tofile(files[name])
                shape[0] += len(array)
        for file in files.values():
            file.flush()
            os.fsync(file.fileno())
    finally:
        for file in files.values():
            file.close()
    (folder / "arrays.json").write_text(json.dumps(described), encoding="utf-8")


@dataclass(frozen=True)
class Stored:
    """As `Examples`, of arrays that lie on disk: a batch is read when it is asked for, a few steps ahead, in a thread.

    Args:
        x, y, weight: As of `Examples`; arrays may be `np.memmap`.
    """

    x: object
    y: object = None
    weight: object = None
    ahead: int = AHEAD

    def __len__(self):
        return len(nested.leaves(self.x)[0])

    def take(self, indices):
        """The batch at these positions, copied into memory."""
        x, y, weight = (_copied(tree, indices) for tree in (self.x, self.y, self.weight))
        batch = (x,) if y is None and weight is None else (x, y)
        return batch if weight is None else (*batch, weight)

    def subset(self, indices):
        """The same kind of examples at these positions, still on disk."""
        return Chosen(self, np.asarray(indices))

    def fingerprint(self):
        return digest(example_digests(self))


def _copied(tree, indices):
    if tree is None:
        return None
    order = np.argsort(indices, kind="stable")  # from the beginning of the file to its end
    back = np.argsort(order, kind="stable")
    return nested.map_leaves(lambda array: np.asarray(array[indices[order]])[back], tree)


@dataclass(frozen=True)
class Decoded:
    """Examples whose input is decoded from a file each time it is asked for, in threads, a few steps ahead.

    Args:
        sources: What `decode` takes, one an example; paths for example.
        decode: From a source to an array, or nested arrays, of one shape for all.
        y, weight: As of `Examples`.
    """

    sources: list
    decode: object
    y: object = None
    weight: object = None
    ahead: int = AHEAD

    def __len__(self):
        return len(self.sources)

    def take(self, indices):
        with ThreadPoolExecutor(WORKERS) as threads:
            rows = list(threads.map(lambda index: self.decode(self.sources[index]), indices))
        x = nested.map_leaves(lambda *arrays: np.stack(arrays), *rows)
        y, weight = nested.rows(self.y, indices), nested.rows(self.weight, indices)
        batch = (x,) if y is None and weight is None else (x, y)
        return batch if weight is None else (*batch, weight)

    def subset(self, indices):
        """The same kind of examples at these positions, not yet decoded."""
        return Chosen(self, np.asarray(indices))

    def example_digests(self, targets=True):
        """As `fingerprint.example_digests`; of a file what is in it, without decoding it."""
        made = []
        for index, source in enumerate(self.sources):
            content = Path(source).read_bytes() if isinstance(source, Path) else source
            if isinstance(content, bytes):
                content = np.frombuffer(content, "uint8")
            tree = [digest(content)]
            if targets and self.y is not None:
                tree.append(digest(nested.rows(self.y, np.array([index]))))
            made.append(row_digests(np.array(["".join(tree)]))[0])
        return np.array(made, "uint64")

    def fingerprint(self):
        return digest(self.example_digests())


@dataclass(frozen=True)
class Chosen:
    """Some of other examples, which stay where they are."""

    examples: object
    indices: np.ndarray

    @property
    def ahead(self):
        return getattr(self.examples, "ahead", 0)

    @property
    def y(self):
        return nested.rows(self.examples.y, self.indices)

    def __len__(self):
        return len(self.indices)

    def take(self, indices):
        return self.examples.take(self.indices[indices])

    def subset(self, indices):
        return Chosen(self.examples, self.indices[indices])

    def example_digests(self, targets=True):
        return example_digests(self.examples, targets)[self.indices]

    def fingerprint(self):
        return digest(self.example_digests())
