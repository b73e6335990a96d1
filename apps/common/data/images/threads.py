"""Work on many picture files in threads: Pillow decodes outside the interpreter's lock, but only large files gain by it."""

import contextlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from apps.common.data.reading import Progress

WORKERS = 4
CHUNK = 64  # items that a thread takes at once
# Bytes of a file up to which one thread is faster than several: most of its time is Python's, and they wait for one another
# (64 pixels a side 182 us alone and 238 by four threads, 400 pixels 1,602 and 818).
SMALL = 8_000


class Unreadable(Exception):
    """Why one image cannot be read; the reader counts it."""


def workers_for(sources, looked_at=100):
    """How many threads are fastest for these files, by the sizes of some of them.

    Args:
        sources: Paths, or the bytes of files.
    """
    sizes = []
    for source in sources[:: max(1, len(sources) // looked_at)]:
        with contextlib.suppress(OSError):
            sizes.append(source.stat().st_size if isinstance(source, Path) else len(source))
    return 1 if sizes and np.mean(sizes) <= SMALL else WORKERS


def each_in_threads(items, work, what=None, workers=WORKERS):
    """`work` of every item, in their order; an `Unreadable` that it raises is a result. `what` is said of the progress."""

    def some(chunk):
        return [_attempt(work, item) for item in chunk]

    items = list(items)
    size = CHUNK if len(items) > CHUNK else max(1, -(-len(items) // workers))
    chunks = [items[start : start + size] for start in range(0, len(items), size)]
    results, progress = [], Progress(len(items), what)
    with without_warnings(), ThreadPoolExecutor(workers if len(chunks) > 1 else 1) as pool:
        for part in pool.map(some, chunks):
            results += part
            if what:
                progress.show(len(results))
    return results


@contextlib.contextmanager
def without_warnings():
    """Without Pillow's warnings: what matters of them is counted or raised."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _attempt(work, item):
    try:
        return work(item)
    except Unreadable as reason:
        return Unreadable(str(reason))  # the one that was raised holds the picture it was met in
