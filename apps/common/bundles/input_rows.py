"""The rows of a table given for prediction, read one by one: CSV and TSV, JSON lines and arrays, Parquet."""

import contextlib
import csv
import gzip
import json
import zlib

from apps.common.data.decoded import is_packed
from apps.common.data.tables.text_file import dialect_of, sampled_lines, text_columns
from apps.common.errors import UserError

TABLES, ROWS = (".csv", ".tsv", ".tab", ".csv.gz", ".tsv.gz"), (".jsonl", ".ndjson")
PARQUET, ARRAYS = (".parquet", ".pq"), (".json",)
AT_ONCE = 256  # rows of a Parquet file


def rows_of(path, orders, columns=()):
    """`(fields, reason)` of each row of a file, found by its ending; any other is read as CSV.

    Args:
        path: The file.
        orders: `{number of cells: names}` by which a table without a header is read.
        columns: Names that the column of texts may have; none where all columns count.
    Raises:
        UserError: It is damaged, empty or of another kind.
    """
    name = path.name.lower()
    if name.endswith(ROWS):
        return _read_rows(path)
    if name.endswith(ARRAYS):
        return _read_array(path)
    if name.endswith(PARQUET):
        return _read_parquet(path)
    return _read_table(path, orders, columns)


def decoded(line):
    """`(text, reason it cannot be read)`."""
    if b"\0" in line:
        return line.decode(errors="replace").replace("\0", ""), "holds a NUL byte"
    try:
        return line.decode("utf-8-sig"), ""
    except UnicodeDecodeError as error:
        return line.decode(errors="replace"), f"not UTF-8: byte {error.start} is 0x{line[error.start]:02x}"


def column_of(names, wanted):
    """The first of the wanted names that is among these, in upper or lower case."""
    lower = {name.strip().lower(): name for name in reversed(list(names))}
    return next((lower[name.lower()] for name in wanted if name.lower() in lower), None)


def _read_table(path, orders, columns=()):
    """`(fields, reason)` of each row of a CSV or TSV file; a ragged row has a reason.

    The first row is a header unless it has as many cells as one of `orders` but none of its names, or unless it is one of a
    table in tabs, as pairs of texts come, and has none of the `columns`.
    """
    in_tabs = path.name.lower().removesuffix(".gz").endswith((".tsv", ".tab"))
    opened = gzip.open if is_packed(path) else open
    with opened(path, "rt", newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        try:
            head = file.read(1 << 16)
            if "\0" in head:
                raise UserError(f"{path}: holds NUL bytes: not a table in text, or a damaged one")
            file.seek(0)
            sample = sampled_lines(head)
            delimiter, quote = dialect_of(path, sample or [","])
            spaced = any(f"{delimiter} " in line for line in sample)
            rows = csv.reader(file, delimiter=delimiter, quotechar=quote, skipinitialspace=spaced)
            header = next((row for row in rows if row), None)
            if not header:
                raise UserError(f"{path}: empty; expected a header and rows")
            names = [name.strip() for name in header]
            if len(names) in orders and not any(set(names) & set(known) for known in orders.values()):
                names = orders[len(names)]
                yield dict(zip(names, header, strict=True)), ""
            elif columns and in_tabs and column_of(names, columns) is None:
                names = [f"column {number}" for number in range(1, len(names) + 1)]
                below = [row for row in csv.reader(sample, delimiter=delimiter, quotechar=quote) if len(row) == len(names)]
                names[text_columns(below, len(names))[0]] = "input"  # the source of pairs that are trained on
                yield dict(zip(names, header, strict=True)), ""
            for cells in rows:
                if cells:
                    wrong = len(cells) != len(names)
                    reason = f"line {rows.line_num} has {len(cells)} cells, the header {len(names)}" if wrong else ""
                    yield dict(zip(names, [*cells, *[""] * len(names)], strict=False)), reason
        except csv.Error as error:
            raise UserError(f"{path}: line {rows.line_num}: not CSV ({error})") from None
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path}: cannot be read ({error})") from None


def _read_parquet(path):
    import pyarrow
    from pyarrow import parquet

    try:
        for batch in parquet.ParquetFile(path).iter_batches(AT_ONCE):
            for row in batch.to_pylist():
                yield {name: value if isinstance(value, bool | int | float | str | None) else str(value) for name, value in
                       row.items()}, ""  # fmt: skip
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{path}: not Parquet, or damaged ({str(error)[:200]}). Write it again") from None


def _read_rows(path):
    with open(path, "rb") as file:
        for line in file:
            text, reason = decoded(line.strip())
            if not text and not reason:
                continue
            row = None
            with contextlib.suppress(ValueError):
                row = json.loads(text)
            if isinstance(row, dict):
                yield {str(key): value for key, value in row.items()}, reason
            else:
                yield {"input": text}, reason or "not a JSON object"


def _read_array(path):
    try:
        with open(path, encoding="utf-8-sig") as file:
            rows = json.load(file)
    except (OSError, ValueError, RecursionError) as error:
        if getattr(error, "msg", "") == "Extra data":  # an object a line
            yield from _read_rows(path)
            return
        raise UserError(f"{path}: cannot be read as JSON ({str(error)[:200]}); expected an array of objects") from None
    if not isinstance(rows, list):
        raise UserError(f"{path}: not an array; expected one of objects, an input each, or a .jsonl file of lines")
    for row in rows:
        plain_row = row if isinstance(row, dict) else {"input": row}
        yield plain_row, "" if isinstance(row, dict | str) else "not a JSON object"
