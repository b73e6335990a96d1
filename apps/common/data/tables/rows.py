"""Rows of text tables: encoding, delimiter, quotes and header found by looking, damaged rows counted and named."""

import csv
import gzip
import io
import re
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from apps.common.data.reading import Progress, require_memory
from apps.common.errors import UserError, count_skipped

MISSING = ("", "na", "n/a", "nan", "?", "null", "none")
DELIMITERS = ("\t", ";", ",", "|")
# A cell of text takes about ten times its length as a Python string; the file is held twice beside it.
BYTES_PER_CHARACTER = 16
LONGEST_LINE = 1 << 24
HEADER_ROWS = 1000
SAMPLE_LINES, SAMPLE_CHARACTERS = 50, 100_000
ADVICE = "Give a part of it, or Parquet with only the columns that are needed"


@dataclass(frozen=True)
class TextRows:
    """A text table by columns: `columns` `{name: [text]}`, the `lines` the rows begin in, `header`, and notes."""

    columns: dict
    lines: list
    header: bool
    delimiter: str
    notes: list


def read_text_rows(path, *, header="auto", expect=()):
    """All cells of a CSV file as text.

    Args:
        path: A file separated by comma, semicolon, tab or bar, packed by gzip or not, in UTF-8.
        header: "yes" or "no" when known; "auto" looks.
        expect: Names of which the first row holds at least one if it is a header; empty when unknown.
    Returns: `TextRows`; columns without a header are called column_1, column_2, ...
    Raises:
        UserError: Empty, not UTF-8, NUL bytes, an open quote, more than 5 % ragged rows, a header without rows or with
            one name twice.
    """
    path = Path(path)
    text = _read_text(path)
    sample = [line for line in io.StringIO(text[:SAMPLE_CHARACTERS], newline="") if line.strip()][:SAMPLE_LINES]
    delimiter, quote = _dialect(sample)
    rows, lines, notes = _split_rows(text, delimiter, quote, path)
    del text
    first = [cell.strip() for cell in rows[0]]
    columns = [list(cells) for cells in zip(*rows, strict=True)]
    del rows
    has_header = {"yes": True, "no": False}.get(header)
    if has_header is None:
        has_header = bool(set(first) & set(expect)) if expect else _looks_like_header(first, columns)
    if has_header:
        if len(columns[0]) == 1:
            raise UserError(f"{path}: a header but no rows below it. Expected one row an example")
        names = [name or f"column_{number}" for number, name in enumerate(first, 1)]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise UserError(f"{path}: two columns are called {twice[0]!r}. Give each its own name in the first line")
        columns, lines = [column[1:] for column in columns], lines[1:]
        if len(columns) > 1 and not first[0] and columns[0] == [str(row) for row in range(len(lines))]:
            names, columns = names[1:], columns[1:]
            notes = ["the first column, which has no name, only numbers the rows: it is not used", *notes]
    else:
        names = [f"column_{number}" for number in range(1, len(columns) + 1)]
        if not expect:
            notes = [f"{path.name} has no header: its columns are called column_1 to {names[-1]}", *notes]
    return TextRows(dict(zip(names, columns, strict=True)), lines, has_header, delimiter, notes)


def is_missing(cell):
    """Whether a stripped cell stands for a missing value."""
    return cell.lower() in MISSING


def as_number(cell, decimal_comma=False):
    """The number a stripped cell holds, or `None`; infinities are numbers here."""
    try:
        return float(cell) if "_" not in cell else None  # Python reads 1_000 as a number, no data file means it
    except ValueError:
        return as_number(cell.replace(",", ".")) if decimal_comma and cell.count(",") == 1 else None


def _read_text(path):
    try:
        with open(path, "rb") as file:
            start = file.read(LONGEST_LINE)
        packed = start[:2] == b"\x1f\x8b"
        if not packed:
            _require_lines(start, path)
        del start
        size = path.stat().st_size
        require_memory(size * BYTES_PER_CHARACTER, path, ADVICE)
        content = _unpack(path) if packed else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: cannot be read ({error}). Copy or download it again") from None
    mend = "Save it as UTF-8, for example: iconv -f LATIN1 -t UTF-8 old.csv > new.csv"
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path}: its encoding is UTF-16. {mend.replace('LATIN1', 'UTF-16')}")
    if content[:4] == b"PK\3\4":
        raise UserError(f"{path}: a spreadsheet or zip archive. Save the table as CSV or Parquet")
    if (nul := content.find(b"\0")) >= 0:
        line = content.count(b"\n", 0, nul) + 1
        raise UserError(f"{path}: line {line} holds a NUL byte (byte {nul}): not a text file, or a damaged one. {mend}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"byte {error.start} (0x{content[error.start]:02x}) in line {line}"
        raise UserError(f"{path}: not UTF-8 at {byte}. {mend}") from None
    if not text.strip():
        raise UserError(f"{path}: the file is empty. Expected one row an example")
    return text


def _require_lines(start, path):
    """Refuse a file whose first line goes on and on before all of it is read: rows take several times their size."""
    if len(start) == LONGEST_LINE and b"\n" not in start and b"\r" not in start:
        raise UserError(f"{path}: its first line is longer than {LONGEST_LINE >> 20} MB. Expected a table, one row a line")


def _unpack(path):
    parts, total = [], 0
    with gzip.open(path) as file:
        while part := file.read(LONGEST_LINE):
            if not parts:
                _require_lines(part, path)
            parts.append(part)
            total += len(part)
            require_memory(total * BYTES_PER_CHARACTER, path, ADVICE)
    return b"".join(parts)


def _dialect(sample):
    """The delimiter that cuts most sampled lines into the same number of cells, more than one, and the quote."""
    text = "".join(sample)
    single = '"' not in text and re.search(r"(^|[,;\t|])[ ]*'[^'\n]*'[ ]*($|[,;\t|])", text, re.MULTILINE)
    quote = "'" if single else '"'
    best, share = ",", 0.0
    for delimiter in DELIMITERS:
        # Not strict here: a quoted cell may go on beyond the sample.
        widths = [len(row) for row in csv.reader(sample, delimiter=delimiter, quotechar=quote, skipinitialspace=True)]
        usual = max(set(widths), key=widths.count)
        if usual > 1 and widths.count(usual) / len(widths) > share:
            best, share = delimiter, widths.count(usual) / len(widths)
    return best, quote


def _split_rows(text, delimiter, quote, path):
    """Rows of equal width, the lines they begin in, and a note on those left out."""
    source = io.StringIO(text, newline="")
    reader = csv.reader(source, delimiter=delimiter, quotechar=quote, skipinitialspace=True, strict=True)
    rows, lines, ended = [], [], 0
    progress = Progress(text.count("\n"), f"lines of {path.name} read")
    try:
        for row in reader:
            if row and (len(row) > 1 or row[0].strip()):
                rows.append(row)
                lines.append(ended + 1)
            ended = reader.line_num
            if not ended % 10_000:
                progress.show(ended)
    except csv.Error as error:
        where = f"{path}: the row that begins in line {ended + 1}"
        raise UserError(
            f"{where} cannot be read ({error}). Is a quote {quote} left open there? Mend that line"
        ) from None
    widths = Counter(len(row) for row in rows)
    width = widths.most_common(1)[0][0]
    if len(rows[0]) != width and all(as_number(cell.strip()) is None for cell in rows[0]):
        raise UserError(
            f"{path}: the first line has {len(rows[0])} cells, most have {width}. Give each column one name"
        )
    kept = [position for position, row in enumerate(rows) if len(row) == width]
    ragged = [(line, len(row)) for line, row in zip(lines, rows, strict=True) if len(row) != width]
    skipped = [f"line {line} ({count} cells, not {width})" for line, count in ragged]
    note = count_skipped(skipped, len(rows), f"rows of {path}")
    if note:
        rows, lines = [rows[position] for position in kept], [lines[position] for position in kept]
    return rows, lines, [note] if note else []


def _looks_like_header(first, columns):
    """Whether the first row names the columns.

    It does when, in more columns than not, it holds text above numbers. Where no column tells, it does when no cell of
    it is a number, missing (but for the first, which pandas leaves empty) or met again below in its column.
    """
    text_above_numbers = numbers_above = 0
    again = any(cell or position for position, cell in enumerate(first) if is_missing(cell))
    for cell, column in zip(first, columns, strict=True):
        below = {other.strip() for other in column[1 : HEADER_ROWS + 1]}
        again = again or cell in below
        values = [other for other in below if not is_missing(other)]
        if as_number(cell, True) is not None:
            numbers_above += 1
        elif values and not is_missing(cell) and all(as_number(other, True) is not None for other in values):
            text_above_numbers += 1
    if text_above_numbers:
        return text_above_numbers >= numbers_above
    return not numbers_above and not again
