"""Whole files written so that a kill, a full disk or a power cut leaves the old one or the new one, never half."""

import contextlib
import hashlib
import json
import os
import re
import shutil
from pathlib import Path


def write_bytes(path, content):
    """Write a whole file to a temporary name, flush it to the disk, rename it."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path, text):
    """A name that is not UTF-8, as those of files may be, is written with escapes, which JSON reads as it was."""
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_json(path, value, indent=1):
    """Without indentation (`None`) it takes little more than half the time."""
    write_text(path, json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=True) + "\n")


def read_json(path, largest=64_000_000):
    """The value in a JSON file.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no JSON, nested deeper than Python reads, or of more than `largest` bytes.
    """
    if Path(path).stat().st_size > largest:
        raise ValueError(f"larger than {largest // 1_000_000} MB")
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("nested too deep") from None


def remove_left(path):
    """Remove what processes that are gone left half-written of this file: `.NAME.PROCESS.tmp` and the like beside it."""
    path = Path(path)
    for left in path.absolute().parent.glob(".*"):
        found = re.fullmatch(r"\.(.+)\.(\d+)\.(tmp|made|onnx|tflite|npz)", left.name)
        if found and found[1] in (path.name, path.stem) and not _is_alive(int(found[2])):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def _is_alive(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True


@contextlib.contextmanager
def new_folder(path):
    """A folder that appears whole or not at all: filled under a temporary name, flushed, renamed at the end."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with open(file, "rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def sha256(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
