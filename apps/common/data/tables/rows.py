"""Cells of text tables: cut into rows and columns, the header found by looking, damaged rows counted and named."""

import contextlib
import csv
import functools
import io
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from apps.common.data.decoded import is_packed, open_packed
from apps.common.data.reading import Progress
from apps.common.data.tables.text_file import NO_QUOTE, PIECE, dialect_of, first_lines, read_text
from apps.common.errors import UserError, count_skipped

MISSING = ("", "na", "n/a", "nan", "?", "null", "none")
SAMPLED = 1 << 20  # bytes of a larger file that tell what its columns are read as
BLOCK = 1 << 20  # bytes that pyarrow cuts at once
MAX_COLUMNS = 50_000
HEADER_ROWS = 1000


@dataclass(frozen=True)
class TextColumns:
    """A text table by columns.

    `columns` is `{name: pyarrow array of text}`, `first_row` how many rows stand above the first one (a header), `kept`
    the lines of the rows where some were left out.
    """

    path: Path
    columns: dict
    first_row: int
    delimiter: str
    quote: str
    notes: list
    kept: list | None = None

    @functools.cached_property
    def lines(self):
        """The lines the rows begin in; the file is read once more for them."""
        if self.kept is not None:
            return self.kept[self.first_row :]
        return split_rows(read_text(self.path), self.delimiter, self.quote, self.path)[1][self.first_row :]


@dataclass(frozen=True)
class TextRows:
    """A small text table: `columns` `{name: [text]}`, the `lines` the rows begin in, notes, and whether it has a header."""

    columns: dict
    lines: list
    notes: list
    has_header: bool


def read_text_rows(path, *, header="auto", expect=()):
    """`read_text_columns` as lists, with the line of each row."""
    found = read_text_columns(path, header=header, expect=expect)
    columns = {name: column.to_pylist() for name, column in found.columns.items()}
    return TextRows(columns, found.lines, found.notes, bool(found.first_row))


def read_text_columns(path, *, header="auto", expect=(), among=(), plain=None):
    """All cells of a CSV file as text.

    Args:
        path: A file separated by comma, semicolon, tab or bar, packed by gzip or not, in UTF-8.
        header: "yes" or "no" when known; "auto" looks.
        expect: Names of which the first row holds at least one if it is a header; empty when unknown.
        among: All names of the table that this one is like, in order, by which columns without a header are called.
        plain: Function of a column's name: as which of "number" and "time" its cells may come, where all are numbers with
            fractions or times as ISO 8601 writes them; other columns may come as dictionary-encoded text. Without it all is
            text.
    Returns: `TextColumns`; columns without a header are called column_1, column_2, ...
    Raises:
        UserError: Empty, not UTF-8, NUL bytes, an open quote, more than 5 % ragged rows, a header without rows or with
            one name twice.
    """
    path = Path(path)
    sample = first_lines(path)
    delimiter, quote = dialect_of(path, sample)
    try:
        width = len(next(csv.reader(sample, delimiter=delimiter, quotechar=quote, skipinitialspace=True)))
    except csv.Error as error:
        raise UserError(f"{path}: its first line cannot be read ({error}). Expected a table, one row a line") from None
    if width > MAX_COLUMNS:
        raise UserError(f"{path}: {width:,} columns; expected at most {MAX_COLUMNS:,}. Leave out those that are not needed")

    def begun(columns):
        """The first cells, and whether they are a header."""
        first = [column[0].as_py().strip() for column in columns]
        if header in ("yes", "no"):
            return first, header == "yes"
        heads = [column.slice(0, HEADER_ROWS + 1).to_pylist() for column in columns]
        return first, bool(set(first) & set(expect)) if expect else _looks_like_header(first, heads)

    quoted = _cut_alike(path, delimiter, quote)
    sample = _first_rows(path, delimiter, quote, width) if quoted and plain else None
    columns, kept, notes = None, None, []
    if sample:
        first, has_header = begun(sample)
        names = first if has_header else among if len(among) == width else [f"column_{n}" for n in range(1, width + 1)]
        cells = [column.slice(int(has_header)) for column in sample]
        types = [_type_of(each, plain(name)) for name, each in zip(names, cells, strict=True)]
        columns = _cut_fast(path, delimiter, quote, quoted, types, skip=int(has_header))
    cut = columns is not None  # a header is not among these
    if not cut and quoted:
        columns = _cut_fast(path, delimiter, quote, quoted, [_text()] * width)
    if columns is None:
        columns, kept, notes = _cut_row_by_row(path, delimiter, quote)
    if not cut:
        first, has_header = begun(columns)
    if has_header and not cut:
        if len(columns[0]) == 1:
            raise UserError(f"{path}: a header but no rows below it. Expected one row an example")
        columns = [column.slice(1) for column in columns]
    if has_header:
        names = [name or f"column_{number}" for number, name in enumerate(first, 1)]
        twice = sorted(name for name, count in Counter(names).items() if count > 1)
        if twice:
            raise UserError(f"{path}: two columns are called {twice[0]!r}. Give each its own name in the first line")
        if len(columns) > 1 and not first[0] and _numbers_rows(columns[0]):
            names, columns = names[1:], columns[1:]
            notes = ["the first column, which has no name, only numbers the rows: it is not used", *notes]
    else:
        names = [f"column_{number}" for number in range(1, len(columns) + 1)]
        if len(among) == len(columns):
            names = list(among)
        elif not expect:
            notes = [f"{path.name} has no header: its columns are called column_1 to {names[-1]}", *notes]
    if quote == NO_QUOTE:
        notes = [f"the quotes of {path.name} are read as part of its texts: some stand at the beginning of a cell alone", *notes]
    named = dict(zip(names, columns, strict=True))
    return TextColumns(path, named, int(has_header), delimiter, quote, notes, kept)


def is_missing(cell):
    """Whether a stripped cell stands for a missing value."""
    return cell.lower() in MISSING


def as_number(cell, decimal_comma=False):
    """The number a stripped cell holds, or `None`; infinities are numbers here."""
    try:
        return float(cell) if "_" not in cell else None  # Python reads 1_000 as a number, no data file means it
    except ValueError:
        return as_number(cell.replace(",", ".")) if decimal_comma and cell.count(",") == 1 else None


def _cut_alike(path, delimiter, quote):
    """Whether pyarrow cuts the file as Python's reader does: "quoted" or "bare", or "" where it would not.

    It takes an open quote for a long cell, and quotes behind a space for text: such files are cut row by row.
    """
    with open_packed(path) as file:
        quotes, spaced, spaced_quote = 0, 0, f"{delimiter} {quote}".encode()
        while part := file.read(PIECE):
            quotes, spaced = quotes + part.count(quote.encode()), spaced + part.count(spaced_quote)
    if quotes % 2 or (quotes and (spaced or quote == "'")):
        return ""
    return "quoted" if quotes else "bare"


def _text():
    import pyarrow

    return pyarrow.string()


def _first_rows(path, delimiter, quote, width):
    """The columns of the first rows of a large file as text; `None` of a small one, or where they are not all alike."""
    with open_packed(path) as file:
        start = file.read(SAMPLED)
    if len(start) < SAMPLED or not start.splitlines()[0].strip():
        return None
    # Where a quoted cell is cut in two, what is left has another number of cells, or an open quote.
    start = start[: start.rfind(b"\n") + 1]
    if start.count(quote.encode()) % 2:
        return None
    quoted = "quoted" if quote.encode() in start else "bare"
    return _cut_fast(io.BytesIO(start), delimiter, quote, quoted, [_text()] * width)


def _type_of(cells, kinds):
    """What a large file's column is read as, by the cells of its first rows: numbers, times, or text, encoded or not."""
    import pyarrow
    import pyarrow.compute as compute

    words = compute.utf8_trim_whitespace(cells.combine_chunks())
    words = words.filter(compute.invert(compute.is_in(compute.utf8_lower(words), pyarrow.array(MISSING))))
    if "time" in kinds and len(words) and compute.all(compute.match_substring_regex(words, r"^\d{4}-\d\d-\d\d")).as_py():
        with contextlib.suppress(pyarrow.ArrowInvalid):
            return compute.cast(words, pyarrow.timestamp("us")).type
    if "number" in kinds and len(words):
        with contextlib.suppress(pyarrow.ArrowInvalid):
            numbers = compute.cast(words, pyarrow.float64())
            # Whole numbers may be codes, of which the very text counts.
            if compute.any(compute.not_equal(numbers, compute.floor(numbers))).as_py():
                return numbers.type
    few = len(words.unique()) < len(words) / 2
    return pyarrow.dictionary(pyarrow.int32(), pyarrow.string()) if few else pyarrow.string()


def _cut_fast(source, delimiter, quote, quoted, types, skip=0):
    """The columns by pyarrow, or `None` where a row is not as the others, so that each has to be looked at.

    Args:
        source: A path, or an open file.
        delimiter, quote: Of the file.
        quoted: What `_cut_alike` says of it.
        types: Of each column; one of numbers that holds something else becomes text.
        skip: Rows left out at the beginning.
    """
    import pyarrow
    from pyarrow import csv as arrow

    odd, names = [], [f"f{position}" for position in range(len(types))]

    def notice(row):
        odd.append(row)
        return "skip"

    types = list(types)
    while True:
        try:
            with _stream(source) as stream:
                table = arrow.read_csv(
                    stream,
                    arrow.ReadOptions(column_names=names, block_size=BLOCK, skip_rows_after_names=skip),
                    arrow.ParseOptions(
                        delimiter=delimiter, quote_char=quote, newlines_in_values=quoted == "quoted", invalid_row_handler=notice
                    ),
                    arrow.ConvertOptions(
                        column_types=dict(zip(names, types, strict=True)), strings_can_be_null=False, null_values=missing_words()
                    ),
                )
            break
        except pyarrow.ArrowInvalid as error:
            wrong = re.match(r"In CSV column #(\d+): ", str(error))
            if not wrong or types[int(wrong[1])] == pyarrow.string():
                return None
            types[int(wrong[1])] = pyarrow.string()
        except (pyarrow.ArrowException, OSError):
            return None
    return None if odd or not table.num_rows else table.columns


def _stream(source):
    import pyarrow

    if not isinstance(source, Path):
        source.seek(0)
        return contextlib.nullcontext(source)
    return open_packed(source) if is_packed(source) else pyarrow.input_stream(str(source), compression="detect")


@functools.cache
def missing_words():
    """The words for missing values in any case."""
    return ["".join(letters) for word in MISSING for letters in itertools.product(*({each, each.upper()} for each in word))]


def _cut_row_by_row(path, delimiter, quote):
    """`(columns, lines, notes)` by Python's reader, which says what is wrong and where."""
    import pyarrow

    rows, lines, notes = split_rows(read_text(path), delimiter, quote, path)
    return [pyarrow.chunked_array([pyarrow.array(cells, pyarrow.string())]) for cells in zip(*rows, strict=True)], lines, notes


def split_rows(text, delimiter, quote, path):
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


def _numbers_rows(column):
    """Whether a column is 0, 1, 2, ...; its first cells are looked at before the others."""
    for count in (20, len(column)):
        if column.slice(0, count).to_pylist() != [str(row) for row in range(min(count, len(column)))]:
            return False
    return True


def _looks_like_header(first, heads):
    """Whether the first row names the columns.

    It does when, in more columns than not, it holds text above numbers. Where no column tells, it does when no cell of
    it is a number, missing (but for the first, which pandas leaves empty) or met again below in its column. It also does
    when it counts its cells, 0, 1, 2, ..., as pandas calls columns without a name, and the cells below do not.
    """
    numbered = [str(number) for number in range(len(first))]
    if len(first) > 2 and (first == numbered or first == ["", *numbered[:-1]]):
        return [cells[1].strip() for cells in heads if len(cells) > 1] != first
    text_above_numbers = numbers_above = 0
    again = any(cell or position for position, cell in enumerate(first) if is_missing(cell))
    for cell, cells in zip(first, heads, strict=True):
        below = {other.strip() for other in cells[1:]}
        again = again or cell in below
        values = [other for other in below if not is_missing(other)]
        if as_number(cell, True) is not None:
            numbers_above += 1
        elif values and not is_missing(cell) and all(as_number(other, True) is not None for other in values):
            text_above_numbers += 1
    if text_above_numbers:
        return text_above_numbers >= numbers_above
    return not numbers_above and not again
