"""What a command prints: one JSON object on standard output, or a table a person reads."""

import contextlib
import json
import math
import sys
import threading
import time

SILENCE = 20  # seconds, at most, without a line about what is being done


def say(line):
    """A line on standard error: what is being done, while standard output is the command's alone."""
    print(line, file=sys.stderr, flush=True)


@contextlib.contextmanager
def said_meanwhile(what):
    """Say every 20 seconds that this is still being done, and for how long; what is done sooner stays silent.

    Args:
        what: Text, or a function that makes it.
    """
    over, began = threading.Event(), time.monotonic()

    def speak():
        while not over.wait(SILENCE):
            say(f"{what() if callable(what) else what}, {time.monotonic() - began:.0f} s so far")

    thread = threading.Thread(target=speak, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def plain(value):
    """The value as strict JSON: NumPy numbers to Python's, NaN and infinity to null."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_json(value):
    print(json.dumps(plain(value), ensure_ascii=False, allow_nan=False), flush=True)


def table(rows):
    """Rows (dicts) as aligned text, numbers to four significant digits."""
    if not rows:
        return "(none)"
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names] + [[shown(row.get(name)) for name in names] for row in rows]
    widths = [max(len(line[column]) for line in cells) for column in range(len(names))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]
    return "\n".join(lines)


def shown(value):
    """One cell of a table as text."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict | list):
        return json.dumps(plain(value), ensure_ascii=False)
    return str(value)
