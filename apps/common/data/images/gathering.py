"""Many pictures, with what goes with each, decoded in threads into arrays: in memory, or on disk where they are large."""

import os
from pathlib import Path

import numpy as np

from apps.common.data.fingerprint import digest
from apps.common.data.images.threads import Unreadable, each_in_threads, workers_for
from apps.common.data.reading import Progress, require_memory
from apps.common.data.stored import stored_arrays
from apps.common.errors import UserError

STORED_ABOVE = 200_000_000  # bytes; more lie on disk
PIECE = 64  # pictures decoded at once


def gathered(path, items, files, decode_one, bytes_each, made_of):
    """`{name: array}`, a row for each item that can be read, and under `index` which item it is.

    What lies on disk is under the user's cache folder, memory-mapped, and is taken again as long as its files are the same.

    Args:
        path: Where they come from, for messages.
        items: What `decode_one` takes.
        files: The picture of each, a path or the bytes of a file.
        decode_one: From an item to a dict of arrays; raises `Unreadable`.
        bytes_each: Of one row.
        made_of: A text that says all that the arrays follow from.
    """

    workers = workers_for(files)

    def pieces():
        progress = Progress(len(items), "pictures read")
        for start in range(0, len(items), PIECE):
            rows = each_in_threads(items[start : start + PIECE], decode_one, workers=workers)
            good = [place for place, row in enumerate(rows) if not isinstance(row, Unreadable)]
            progress.show(start + len(rows))
            if good:
                made = {name: np.stack([rows[place][name] for place in good]) for name in rows[good[0]]}
                yield {**made, "index": np.array(good, "int64") + start}

    if len(items) * bytes_each <= STORED_ABOVE:
        require_memory(2 * len(items) * bytes_each, path, "Give a smaller --image-size, or fewer pictures")
        found = list(pieces())
        if not found:
            raise UserError(f"{path}: no readable picture")
        return {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "triptych" / "pictures"
    return stored_arrays(cache / digest(np.array(made_of)), pieces)


def stamp(file):
    """By what it is seen that a file has changed; nothing of what is no file."""
    if not isinstance(file, Path):
        return ()
    found = file.stat()
    return found.st_size, found.st_mtime_ns
