"""The file of a text table: opened, refused where it is none, decoded, and the delimiter and quotes of its rows."""

import csv
import io
import itertools
import re
import zlib

from apps.common.data.decoded import MEND, open_packed, refuse_utf16, text_of
from apps.common.data.reading import require_memory
from apps.common.errors import UserError

DELIMITERS = ("\t", ";", ",", "|")
NO_QUOTE = "\x1f"  # the quote of a table whose quotes are part of its texts
# The file's text once, its cells as numbers or words, and what a model takes of them.
BYTES_PER_CHARACTER = 10
LONGEST_LINE = 1 << 24
PIECE = 1 << 20  # bytes looked at at once
SAMPLE_LINES, SAMPLE_CHARACTERS = 50, 100_000
ADVICE = "Give a part of it, or Parquet with only the columns that are needed"


def read_text(path):
    """The whole text of a table's file, packed by gzip or not, in UTF-8."""
    return text_of(path, "one row an example", ADVICE)


def first_lines(path):
    """Sampled lines of a file that is small enough and holds nothing that no text table holds."""
    try:
        with open_packed(path) as file:
            start = file.read(PIECE)
            _refuse_binary(start, path)
            while b"\n" not in start and b"\r" not in start and len(start) < LONGEST_LINE and (part := file.read(PIECE)):
                start += part
            if len(start) >= LONGEST_LINE and b"\n" not in start and b"\r" not in start:
                size = f"longer than {LONGEST_LINE >> 20} MB"
                raise UserError(f"{path}: its first line is {size}. Expected a table, one row a line")
            total, line = 0, 1
            part = start
            while part:
                if (nul := part.find(b"\0")) >= 0:
                    line += part.count(b"\n", 0, nul)
                    where = f"line {line} holds a NUL byte (byte {total + nul})"
                    raise UserError(f"{path}: {where}: not a text file, or a damaged one. {MEND}")
                total, line = total + len(part), line + part.count(b"\n")
                require_memory(total * BYTES_PER_CHARACTER, path, ADVICE)
                part = file.read(PIECE)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}). Copy or download it again") from None
    sample = sampled_lines(start.decode("utf-8-sig", errors="replace"))
    if not sample:
        read_text(path)
        raise UserError(f"{path}: its first {LONGEST_LINE >> 20} MB are blank. Expected a table, one row a line")
    return sample


def dialect(sample):
    """The delimiter that cuts most sampled lines into the same number of cells, more than one, and the quote."""
    text = "".join(sample)
    single = '"' not in text and re.search(r"(^|[,;\t|])[ ]*'[^'\n]*'[ ]*($|[,;\t|])", text, re.MULTILINE)
    quote = "'" if single else '"'
    best, share = ",", 0.0
    for delimiter in DELIMITERS:
        if not any(delimiter in line for line in sample):
            continue
        # Not strict here: a quoted cell may go on beyond the sample.
        try:
            widths = [len(row) for row in csv.reader(sample, delimiter=delimiter, quotechar=quote, skipinitialspace=True)]
        except csv.Error:  # a cell of more than 131,072 characters: another delimiter is meant
            continue
        usual = max(set(widths), key=widths.count)
        if usual > 1 and widths.count(usual) / len(widths) > share:
            best, share = delimiter, widths.count(usual) / len(widths)
    return best, quote


def are_numbers(cells):
    """Whether all cells of a column are numbers, such as those that number its rows."""
    cells = [cell.strip() for cell in cells]
    return bool(cells) and all(cell.removeprefix("-").replace(".", "", 1).isdecimal() for cell in cells)


def text_columns(rows, width):
    """The places of the first two columns that hold more than numbers: Tatoeba's pairs have one before each of the texts."""
    texts = [place for place in range(width) if not are_numbers(cells[place] for cells in rows if place < len(cells))]
    return texts[:2] if len(texts) > 1 else [0, 1]


def dialect_of(path, sample):
    """`dialect` of a file whose first lines are the sample; the quote is `NO_QUOTE` where quotes are part of its texts."""
    delimiter, quote = dialect(sample)
    return delimiter, NO_QUOTE if delimiter == "\t" and quotes_are_text(path, quote) else quote


def quotes_are_text(path, quote):
    """Whether the quotes of a tab-separated file are not meant to enclose cells, as in many corpora.

    They are where one begins a cell of a line and does not end it, though every line has as many tabs as the first: a text that
    goes on in the next line would share them out otherwise. Read as quotes they would make one cell of many lines.
    """
    tabs, opened = None, False
    with open_packed(path) as file:
        for line in file:
            line = line.rstrip(b"\r\n")
            if not line.strip():
                continue
            if tabs is None:
                tabs = line.count(b"\t")
            elif line.count(b"\t") != tabs:
                return False
            if not opened and quote.encode() in line:
                opened = any(map(_opens, line.decode("utf-8", "replace").split("\t"), itertools.repeat(quote)))
    return opened


def _opens(cell, quote):
    """Whether a cell begins with a quote that is not its last character's."""
    cell = cell.lstrip(" ")
    inner = cell[1:-1].replace(2 * quote, "")
    return cell.startswith(quote) and (len(cell) < 2 or not cell.endswith(quote) or quote in inner)


def sampled_lines(text):
    """The first lines of a text that are not blank; the first one is whole."""
    end = max(SAMPLE_CHARACTERS, text.find("\n") + 1)
    return [line for line in io.StringIO(text[:end], newline="") if line.strip()][:SAMPLE_LINES]


def _refuse_binary(start, path):
    refuse_utf16(start, path)
    if start[:4] == b"PK\3\4":
        raise UserError(f"{path}: a spreadsheet or zip archive. Save the table as CSV or Parquet")
