"""Plain text as token ids: files read in pieces, ids kept in a temporary file, so that no text is too long to train on."""

import ast
import codecs
import hashlib
import os
import sysconfig
import tempfile
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from apps.common.data.fingerprint import example_digests
from apps.common.data.text.overlap import is_of_pieces, margin, piece_digests, stands_in
from apps.common.errors import UserError

PIECE = 1 << 22
# Beside the text of a data set there often lies one about it.
ABOUT_THE_DATA = {"source.txt", "readme.txt", "license.txt", "licence.txt", "copying.txt"}


@dataclass(frozen=True)
class Vocabulary:
    """The characters a model knows, one id each in their order; without any, the 256 bytes of UTF-8."""

    characters: str = ""

    def __len__(self):
        return len(self.characters) or 256

    @property
    def dtype(self):
        return np.dtype("uint8" if len(self) <= 256 else "uint16")

    def encode(self, text, what="the text"):
        """Ids of a string.

        Raises:
            UserError: A character the vocabulary does not have, by name.
        """
        if not self.characters:
            return np.frombuffer(text.encode(), "uint8")
        ids = self._table[code_points(text)]
        if len(ids) and ids.max() == len(self):
            unknown = sorted({character for character in text if character not in self.characters})
            shown = ", ".join(named(character) for character in unknown[:5]) + (", ..." if len(unknown) > 5 else "")
            raise UserError(
                f"{what}: has characters the model has never seen: {shown}. Leave them out, or train with --level byte"
            )
        return ids.astype(self.dtype)

    def decoder(self):
        """A function from one id to the text it completes: a character, or what the bytes so far spell."""
        if self.characters:
            return lambda token: self.characters[token]
        bytes_to_text = codecs.getincrementaldecoder("utf-8")("replace")
        return lambda token: bytes_to_text.decode(bytes([token]))

    @cached_property
    def _table(self):
        table = np.full(0x110000, len(self), "uint32")
        table[code_points(self.characters)] = np.arange(len(self))
        return table


def read_text(path, level, vocabulary=None):
    """The ids of a text file, or of all `.txt` files of a folder in the order of their names.

    Args:
        path: File or folder.
        level: `"char"` or `"byte"`.
        vocabulary: The one a model knows already; else it is made of the characters that occur.
    Returns: `(ids, vocabulary, notes)`, the ids as `StoredIds`.
    Raises:
        UserError: No text, an empty file, NUL bytes, another encoding than UTF-8 (naming the byte), unknown characters.
    """
    pieces, notes = pieces_of(path, level)
    return encode_pieces(pieces, level, vocabulary, notes)


def pieces_of(path, level):
    """`(pieces, notes)`: a function that reads a file, or the texts of a folder, from the beginning, piece by piece."""
    files, notes = text_files(path)
    for file in files:
        if not file.stat().st_size:
            raise UserError(f"{file}: is empty; expected plain text")
    return lambda: (piece for file in files for piece in decoded(file, level)), notes


def encode_pieces(pieces, level, vocabulary, notes):
    """The ids of a text that comes in pieces, as `read_text` returns them; `pieces()` starts it from the beginning."""
    if vocabulary is None and level == "byte":
        vocabulary = Vocabulary()
    elif vocabulary is None:
        seen = np.zeros(0x110000, bool)
        for piece in pieces():
            seen[code_points(piece)] = True
        vocabulary = Vocabulary("".join(map(chr, np.flatnonzero(seen))))
        if len(vocabulary) > 0xFFFF:
            raise UserError(f"the text has {len(vocabulary)} different characters, more than 65535; use --level byte")
    stored = tempfile.TemporaryFile(prefix="triptych-")  # noqa: SIM115  open for the life of the ids
    digest, size = hashlib.blake2b(digest_size=12), 0
    for piece in pieces():
        ids = np.frombuffer(piece, "uint8") if isinstance(piece, bytes) else vocabulary.encode(piece)
        digest.update(memoryview(ids))
        size += stored.write(memoryview(ids)) // ids.itemsize
    stored.flush()
    unit = {"byte": "bytes", "subword": f"pieces of words, {len(vocabulary)} different ones"}.get(
        level, f"characters, {len(vocabulary)} different ones"
    )
    return StoredIds(stored, vocabulary.dtype, 0, size, digest.hexdigest()), vocabulary, [*notes, f"{size} {unit}"]


@dataclass(frozen=True)
class StoredIds:
    """A stretch of the ids in a temporary file that goes with the process; read where it is asked for, never whole."""

    file: object
    dtype: np.dtype
    start: int
    stop: int
    digest: str

    def __len__(self):
        return self.stop - self.start

    def windows(self, starts, size):
        """`size` ids from each start on, `(starts, size)`."""
        width, number = self.dtype.itemsize, self.file.fileno()
        read = b"".join(os.pread(number, size * width, (self.start + int(start)) * width) for start in starts)
        return np.frombuffer(read, self.dtype).reshape(-1, size)

    def stretches(self, starts, size):
        """As `windows`, but a stretch may reach out of the text, where its ids are -1."""
        made = np.full((len(starts), size), -1, "int64")
        for row, start in zip(made, starts, strict=True):
            begin, end = max(0, int(start)), min(len(self), int(start) + size)
            if end > begin:
                row[begin - int(start) : end - int(start)] = self.windows([begin], end - begin)[0]
        return made


def text_files(path):
    """`(files, notes)`: the file itself, or the `.txt` files under a folder but for those that are about the data."""
    path = Path(path)
    if path.is_file():
        return [path], []
    found = sorted(path.rglob("*.txt"))
    files = [file for file in found if file.name.lower() not in ABOUT_THE_DATA] or found
    if not files:
        raise UserError(f"{path}: no .txt file in this folder; give a text file or a folder of them")
    left = [file.name for file in found if file not in files]
    return files, [f"left out {', '.join(left)}, which is about the data"] if left else []


def decoded(file, level):
    """A file piece by piece: strings for `"char"`, bytes for `"byte"`."""
    decoder, start, last = codecs.getincrementaldecoder("utf-8-sig")(), 0, b""
    with open(file, "rb") as source:
        while piece := source.read(PIECE):
            nul = piece.find(b"\0")
            if nul >= 0:
                raise UserError(
                    f"{file}: has a NUL byte at byte {start + nul}, so it is not UTF-8 text (perhaps UTF-16 or a binary "
                    "file); convert it, for example with iconv -t utf-8"
                )
            if level == "byte":
                yield piece
            else:
                yield _decode(decoder, piece, start, file)
            start, last = start + len(piece), piece
    if level == "char":
        yield _decode(decoder, b"", start, file, final=True)
    if not last.endswith(b"\n"):  # the next file begins a new line
        yield b"\n" if level == "byte" else "\n"


def _decode(decoder, piece, start, file, final=False):
    pending = len(decoder.getstate()[0])
    try:
        return decoder.decode(piece, final)
    except UnicodeDecodeError as error:
        offset = start - pending + error.start
        raise UserError(
            f"{file}: is not UTF-8: byte {offset} is 0x{error.object[error.start]:02x}. Convert it, for example with "
            "iconv -f latin1 -t utf-8, or use --level byte"
        ) from None


def documentation_strings():
    """English that any Python installation carries: the documentation strings of its standard library, ASCII alone."""
    root = Path(sysconfig.get_paths()["stdlib"])
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    strings = []
    for file in sorted([*root.glob("*.py"), *root.glob("*/__init__.py")]):
        try:
            tree = ast.parse(file.read_bytes())
        except SyntaxError:  # a file kept to test the compiler
            continue
        for node in ast.walk(tree):
            string = ast.get_docstring(node) if isinstance(node, documented) else None
            if string and len(string) > 60 and string.isascii() and "\0" not in string:
                strings.append(string)
    return "\n\n".join(dict.fromkeys(strings)) + "\n"


def code_points(text):
    return np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")


def named(character):
    """A character as a message shows it."""
    return f"{character!r} (U+{ord(character):04X})"


@dataclass(frozen=True)
class Windows:
    """Windows of a long text as examples: `block_size` ids, and the same moved on by one as targets.

    Args:
        ids: The `StoredIds` of the text.
        block_size: Ids a window.
        stride: Distance between the starts of two windows.
        per_epoch: Windows an epoch sees, drawn anew from all; `None` for each window once.
        chosen: Numbers of the windows that these are; all where it is `None`.
    """

    ids: StoredIds
    block_size: int
    stride: int = 1
    per_epoch: int | None = None
    chosen: np.ndarray | None = None

    def __len__(self):
        return self.per_epoch or (self.count if self.chosen is None else len(self.chosen))

    @property
    def count(self):
        """Windows there are."""
        return max(0, (len(self.ids) - 1 - self.block_size) // self.stride + 1)

    def order(self, generator):
        """The windows of one epoch; a permutation of all would need eight bytes a character."""
        return generator.integers(0, self.count, len(self)) if self.per_epoch else generator.permutation(len(self))

    def starts(self, indices):
        """Where windows begin in the text."""
        return (np.asarray(indices) if self.chosen is None else self.chosen[indices]) * self.stride

    def take(self, indices):
        window = self.ids.windows(self.starts(indices), self.block_size + 1).astype("int32")
        return window[:, :-1], window[:, 1:]

    def subset(self, indices):
        """Some of the windows, each once."""
        return replace(self, per_epoch=None, chosen=self.starts(indices) // self.stride)

    def fingerprint(self):
        return f"{self.ids.digest}:{self.ids.start}:{self.ids.stop}"

    def known_by(self):
        """Pieces of the whole text, whichever windows were drawn of it."""
        return piece_digests(self.ids.windows, len(self.ids))

    def known_again(self, known):
        """Which windows stand in a text that was trained on, however the windows lie in it."""
        if not is_of_pieces(known):
            return np.isin(example_digests(self), known)
        around, size = margin(known), self.block_size + 1
        found = []
        for first in range(0, len(self), 512):
            starts = self.starts(np.arange(first, min(first + 512, len(self))))
            rows = self.ids.stretches(starts - around, size + 2 * around)
            found.append(stands_in(rows, known, around, around + size))
        return np.concatenate(found) if found else np.zeros(0, bool)


def split_by_position(ids, block_size, validation=0.05, test=0.1):
    """`(train, validation, test)`: validation is the beginning of a text, the test its end, each a window at least.

    So the test comes after text the model has learnt from, as in a use of it: a model that has not read the pages
    before cannot know the names in them.

    Raises:
        UserError: The text is too short for a window in each.
    """
    least, size = block_size + 1, len(ids)
    refuse_shorter(size, 3 * least, block_size)
    first = ids.start + min(max(least, int(validation * size)), size - 2 * least)
    last = ids.stop - min(max(least, int(test * size)), ids.stop - first - least)
    return replace(ids, start=first, stop=last), replace(ids, stop=first), replace(ids, start=last)


def evenly(ids, block_size, most):
    """Windows side by side over a text, or about `most` of them evenly apart where there are more."""
    refuse_shorter(len(ids), block_size + 1, block_size)
    windows = Windows(ids, block_size, stride=block_size)
    if len(windows) > most:
        windows = replace(windows, stride=(len(ids) - 1 - block_size) // (most - 1))
    return windows


def refuse_shorter(size, least, block_size):
    if size < least:
        raise UserError(
            f"the text has {size} characters, too few for --block-size {block_size}: at least {least} are needed. "
            "Give a longer text, or train with a smaller --block-size"
        )


def prompt_of(pieces):
    """The first words of a text: a prompt of characters that the model has seen."""
    piece = next(iter(pieces))
    lines = (piece.decode(errors="ignore") if isinstance(piece, bytes) else piece)[:10_000].splitlines()
    words = next((line for line in lines if line.strip()), "The").split()
    return " ".join(words[:3])[:60]
