"""The text of a file, whole: unpacked, refused where it is none, decoded."""

import gzip
import zlib

from apps.common.data.reading import require_memory
from apps.common.errors import UserError

ADVICE = "Give a part of it"
MEND = "Save it as UTF-8, for example: iconv -f LATIN1 -t UTF-8 old > new"
# The bytes, their text, and what a reader makes of it.
BYTES_PER_CHARACTER = 10
PIECE = 1 << 24  # bytes read at once


def open_packed(path):
    """A file's bytes, unpacked where gzip has packed them."""
    return gzip.open(path) if is_packed(path) else open(path, "rb")


def is_packed(path):
    """Whether gzip has packed a file."""
    with open(path, "rb") as file:
        return file.read(2) == b"\x1f\x8b"


def text_of(path, expected="text", advice=ADVICE):
    """The whole text of a file, packed by gzip or not, in UTF-8.

    Args:
        path: The file.
        expected: What it should hold, the end of the sentence about an empty one.
        advice: What to do about one too large for the memory.
    Raises:
        UserError: It cannot be read, is too large, empty, no text, or not UTF-8; the line is named.
    """
    content = _content(path, expected, advice)
    if not content.removeprefix(b"\xef\xbb\xbf").strip():
        raise UserError(f"{path}: the file is empty. Expected {expected}")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: {_undecodable(error)}. {MEND}") from None


def western_text_of(path, expected):
    """`(text, notes)` of a file in UTF-8, or else in Latin-1, which is said; an empty one is taken."""
    content = _content(path, expected, ADVICE)
    try:
        return content.decode("utf-8-sig"), []
    except UnicodeDecodeError as error:
        return content.decode("latin-1"), [f"{path}: {_undecodable(error)}: it is read as Latin-1"]


def refuse_utf16(start, path):
    """Raise a `UserError` where the first bytes of a file are UTF-16's mark."""
    if start[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: its encoding is UTF-16. {MEND.replace('LATIN1', 'UTF-16')}")


def _content(path, expected, advice):
    content = bytearray()
    try:
        with open_packed(path) as file:
            # Piece by piece: what gzip has packed tells its size only so.
            while piece := file.read(PIECE):
                content += piece
                require_memory(BYTES_PER_CHARACTER * len(content), path, advice)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}). Copy or download it again") from None
    refuse_utf16(content, path)
    if (nul := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, nul) + 1
        where = f"line {line} holds a NUL byte (byte {nul})"
        raise UserError(f"{path}: {where}: not a text file, or a damaged one. Expected {expected}. {MEND}")
    return content


def _undecodable(error):
    line = error.object.count(b"\n", 0, error.start) + 1
    return f"line {line} is not UTF-8 (byte {error.start}, 0x{error.object[error.start]:02x})"
