"""What the file readers share: how much memory there is, progress on a long read, the names of splits and of columns."""

import itertools
import json
import os
import re
import sys
import time
from collections import Counter
from pathlib import Path

from apps.common.errors import UserError

SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "t10k"),
}
# Columns of a table that name files, those that come first preferred.
PATH_COLUMNS = ("path", "file", "filename", "filepath", "file_name", "image", "image_path", "picture")
# Training needs room beside the data: the model, a shuffled batch, the backend itself.
USABLE_SHARE = 0.7


def split_of(name):
    """The split that a folder, file or cell called `name` stands for, or `None`."""
    word = str(name).strip().lower()
    return next((split for split, names in SPLIT_NAMES.items() if word in names), None)


def split_within(name):
    """The split that a name such as `instances_train2017` speaks of, or `None`."""
    return next((split for word in re.split("[^a-z]+", str(name).lower()) if (split := split_of(word))), None)


def common_end(parts, others):
    """How many parts two paths have in common at their end."""
    ends = zip(reversed(parts), reversed(others), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], ends))


def available_memory():
    """Bytes that can still be used: the machine's, or the container's when it allows less."""
    import psutil

    free = psutil.virtual_memory().available
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text())
        used = int(Path("/sys/fs/cgroup/memory.current").read_text())
    except (OSError, ValueError):  # no control group, or one without a limit ("max")
        return free
    return max(0, min(free, limit - used))


def readable_size(count):
    """A number of bytes as people write it, for example `3.2 GB`."""
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def require_memory(needed, path, advice):
    """Refuse data that would not fit, before they are read.

    Args:
        needed: Bytes the data take in memory.
        path: The file or folder they come from.
        advice: What to do about it, the end of the sentence.
    """
    usable = USABLE_SHARE * available_memory()
    if needed > usable:
        raise UserError(
            f"{path}: needs {readable_size(needed)} of memory, but only {readable_size(usable)} can be used. {advice}"
        )


class Progress:
    """A line on standard error every two seconds of a long read; a short one stays silent.

    Args:
        total: How many there are.
        what: What they are, for example `"images read"`.
    """

    seconds = 2.0

    def __init__(self, total, what):
        self.total, self.what = total, what
        self.last = time.monotonic()

    def show(self, done):
        """Say that `done` are finished, unless something was said a moment ago."""
        if time.monotonic() - self.last >= self.seconds:
            self.last = time.monotonic()
            print(f"{done:,} of {self.total:,} {self.what}", file=sys.stderr, flush=True)


def list_folder(path):
    """Paths in a folder, sorted by name, without the hidden ones."""
    try:
        return sorted(entry for entry in Path(path).iterdir() if is_visible(entry.name))
    except OSError as error:
        raise UserError(f"{path}: the folder cannot be read ({error.strerror}). Make it readable") from None


def visible_files(folder):
    """Paths of all files under `folder`, sorted, without the hidden ones; a linked folder is entered once."""
    found, seen, pending = [], set(), [Path(folder)]
    while pending:
        current = pending.pop()
        real = os.path.realpath(current)
        if real in seen:
            continue
        seen.add(real)
        for entry in list_folder(current):
            (pending if entry.is_dir() else found).append(entry)
    return sorted(found)


def folders_left_out(folder):
    """Lines on the folders in this one that `visible_files` passes by: hidden ones, and links to one that is read anyhow."""
    entries = [entry for entry in sorted(Path(folder).iterdir()) if entry.is_dir() and entry.name != "__MACOSX"]
    hidden = [entry.name for entry in entries if not is_visible(entry.name)]
    places = Counter(os.path.realpath(entry) for entry in entries if is_visible(entry.name))
    linked = [entry.name for entry in entries if entry.is_symlink() and places[os.path.realpath(entry)] > 1]
    lines = [f"ignored hidden folders, whose names begin with a dot: {', '.join(hidden[:5])}"] if hidden else []
    return lines + ([f"ignored links to folders that are read themselves: {', '.join(linked[:5])}"] if linked else [])


def is_visible(name):
    """Whether a file or folder name is one a person made: not hidden, not an archive program's shadow copy."""
    return not name.startswith(".") and name != "__MACOSX"


def json_objects(lines):
    """`(number, object, "")` of each line that is not blank; `(number, None, reason)` where it is no JSON object."""
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield number, None, f"not JSON: {error}"
            continue
        if not isinstance(row, dict):
            yield number, None, "not a JSON object"
        elif (b"\\u" if isinstance(line, bytes) else "\\u") in line and not is_text(json.dumps(row, ensure_ascii=False)):
            yield number, None, "half of a surrogate pair, which is no text"
        else:
            yield number, row, ""


def is_text(value):
    """Whether it can be written as UTF-8: a string may hold bytes that were not, or half of a pair of surrogates."""
    try:
        str(value).encode()
    except UnicodeEncodeError:
        return False
    return True


def as_text(value):
    """The value with U+FFFD in the place of what is no text."""
    return value if is_text(value) else str(value).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
