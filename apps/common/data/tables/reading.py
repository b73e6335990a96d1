"""Tables from CSV or Parquet files, each column in its role, and the splits a folder of them names."""

import re
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apps.common.data.reading import list_folder, require_memory, split_of
from apps.common.data.tables.roles import WrongCell, read_column
from apps.common.data.tables.rows import MAX_COLUMNS, read_text_columns, read_text_rows
from apps.common.data.tables.text_file import ADVICE
from apps.common.errors import UserError, count_skipped, nearest

__all__ = ["Table", "make_frame", "named_table", "read_splits", "read_table", "read_text_rows", "target_name"]

TEXT_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
SPLIT_FILE = re.compile(r"(?:(?P<name>.*)(?P<mark>[-_. ]))?(?P<split>[A-Za-z]+)")
SKLEARN_SETS = ("iris", "wine", "breast_cancer", "diabetes", "digits")


@dataclass(frozen=True)
class Table:
    """A table in memory, and what was done on reading it.

    `frame` is a pandas `DataFrame`: numbers and times float64 with NaN for missing, all else text with `None`; `roles` are
    the columns', as `apps.common.data.tables.roles` describes them, and `names` those of the file in its order.
    """

    frame: object
    notes: list
    roles: dict = field(default_factory=dict)
    names: tuple = ()


def read_table(path, *, header="auto", roles=None, target="", names=()):
    """One table from a CSV file (comma, semicolon, tab or bar; packed by gzip or not) or a Parquet file.

    Args:
        path: The file.
        header: "yes" or "no" when known; "auto" looks.
        roles: `{column: role}` of those that are known already; with `names`, the first row is a header if it holds one.
        target: Name or number of a column whose texts stay as they are; `None` is the last one, "" none.
        names: All columns of the table that this one is like, in their order.
    Raises:
        UserError: Nothing that can be used, naming the line or column, what was expected and what to do.
    """
    import pyarrow

    path, roles = Path(path), dict(roles or {})
    if path.is_dir():
        raise UserError(f"{path}: a folder. Expected one CSV or Parquet file")
    if path.exists() and not path.is_file():
        raise UserError(f"{path}: not a file but a device or a pipe. Expected one CSV or Parquet file")
    with _opened(path) as file:
        parquet = file.read(4) == b"PAR1"
    if parquet:
        columns, where, comma = _parquet_columns(path), lambda rows: [f"row {row + 1}" for row in rows], False
        notes = []
    else:

        def plain(name):
            known = roles.get(name, {"role": "target"} if name == target else None)
            kinds = {"number": {"role": "number"}, "time": {"role": "time", "format": "ISO8601"}}
            return [kind for kind, role in kinds.items() if known in (None, role)]

        found = read_text_columns(path, header=header, expect=tuple(names), among=tuple(names), plain=plain)
        columns, where, comma = found.columns, lambda rows: [f"line {found.lines[row]}" for row in rows], found.delimiter != ","
        notes = list(found.notes)
    unknown = [name for name in roles if name not in columns and not names]
    if unknown:
        raise UserError(f"--columns {unknown[0]}: no such column. {nearest(unknown[0], columns)}")
    if target != "":
        roles[target_name(list(columns), target)] = {"role": "target"}
    values, order, release = {}, tuple(columns), pyarrow.default_memory_pool().release_unused
    release()
    for name in order:
        values[name], roles[name] = _column(name, columns.pop(name), roles.get(name), comma, notes, (path, where))
        release()
    values = {name: each for name, each in values.items() if each is not None}
    if any(each.dtype.kind == "f" and np.isinf(each).any() for each in values.values()):
        notes.append(_drop_infinite(values, where, path))
    return Table(make_frame(values), notes, {name: roles[name] for name in order}, order)


def read_splits(path, *, header="auto", roles=None, target="", names=()):
    """Tables by split: "train", and "validation" and "test" when files beside it are called after them.

    Args:
        path: A table, a folder with one, or one with train.csv and test.csv; for NAME-train.csv, NAME-test.csv beside
            it is the test split.
        header, roles, target, names: As `read_table` takes them.
    Returns: `{split: Table}`; the columns of all are of the roles they have in "train".
    """
    path = Path(path)
    files = _split_files(path)
    train = read_table(files["train"], header=header, roles=roles, target=target, names=names)
    tables = {"train": train}
    for split in ("validation", "test"):
        if split in files:
            other = read_table(files[split], header=header, roles=train.roles, names=train.names)
            other.notes.insert(0, f"{files[split].name}, beside {files['train'].name}, is the {split} split")
            tables[split] = _without_dots(other, train)
    return tables


def target_name(names, target):
    """The column that `--target` means: a name, a number from 1 or, from the end, from -1; `None` is the last.

    Raises:
        UserError: There is no such column.
    """
    if target is None:
        return names[-1]
    if target in names:
        return target
    try:
        number = int(target)
    except ValueError:
        raise UserError(f"--target {target}: no such column. {nearest(target, names)}") from None
    if not 1 <= abs(number) <= len(names):
        raise UserError(
            f"--target {target}: expected a name, or a number from 1 to {len(names)} or -{len(names)} to -1"
        )
    return names[number - 1 if number > 0 else number]


def named_table(name):
    """One of scikit-learn's tables by name, its target the last column, or `None` for another name."""
    if name not in SKLEARN_SETS:
        return None
    from sklearn import datasets

    loaded = getattr(datasets, f"load_{name}")()
    columns = {str(column): loaded.data[:, i].astype(np.float64) for i, column in enumerate(loaded.feature_names)}
    if name == "diabetes":
        columns["target"] = loaded.target.astype(np.float64)
    else:
        columns["target"] = [str(loaded.target_names[label]) for label in loaded.target]
    roles = {name: {"role": "number"} for name in columns}
    return Table(make_frame(columns), [], roles | {"target": {"role": "target"}}, tuple(columns))


def make_frame(columns):
    """A `DataFrame` of `{name: float64 array, or text and None}`; text stays Python objects on any pandas."""
    import pandas as pd

    def series(values):
        numbers = isinstance(values, np.ndarray) and values.dtype.kind == "f"
        return values if numbers else pd.Series(values, dtype=object, copy=False)

    return pd.DataFrame({name: series(values) for name, values in columns.items()}, copy=False)


def category_text(value):
    """A categorical value as text: a whole number without its decimals, so that 1.0 and "1" are the same class."""
    if isinstance(value, (float, np.floating)):
        return str(int(value)) if value == int(value) else repr(float(value))
    return str(value)


def _opened(path):
    try:
        return open(path, "rb")
    except OSError as error:
        raise UserError(f"{path}: cannot be opened ({error.strerror})") from None


def _column(name, cells, role, comma, notes, place):
    """Values and role of one column; `place` is the file, and what names its rows."""
    path, where = place
    if isinstance(cells, np.ndarray):  # times of a Parquet file
        return cells, {"role": "time", "format": "ISO8601"} if role is None else role
    try:
        values, found, almost = read_column(name, cells, role, comma=comma)
    except WrongCell as error:
        mend = "Write one, or nothing if missing"
        holds = "holds numbers" if error.expected == "a number" else f"holds {error.expected}"
        raise UserError(f"{path}: column {name!r} {holds}, but {where([error.row])[0]}: {error.cell!r}. {mend}") from None
    if almost:
        count, total, row, cell = almost
        example = f"{where([row])[0]}: {cell!r}"
        if found["role"] == "time":
            notes.append(f"column {name!r}: {count} of {total} cells are no dates or times and count as missing ({example})")
        else:
            notes.append(f"column {name!r} is text because {count} of {total} cells are no numbers ({example})")
    return values, found


def _drop_infinite(columns, where, path):
    """Infinite numbers become missing; the line that counts them. More than 5 % of the rows are refused."""
    found = {name: np.isinf(values) for name, values in columns.items() if values.dtype.kind == "f"}
    affected = np.flatnonzero(np.any(list(found.values()), axis=0))
    names = [name for name, bad in found.items() if bad.any()]
    rows = len(next(iter(found.values())))
    count_skipped([f"{name} (infinite)" for name in where(affected)], rows, f"rows of {path}")
    count = 0
    for name in names:
        columns[name][found[name]] = np.nan
        count += int(found[name].sum())
    return f"{count} infinite numbers in {path.name} are treated as missing (columns {', '.join(names[:5])})"


def _parquet_columns(path):
    """`{name: pyarrow array of text, or float64 seconds of times}`."""
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
        require_memory(max(4 * size, 8 * file.metadata.num_rows * file.metadata.num_columns), path, ADVICE)
        if file.metadata.num_columns > MAX_COLUMNS:
            raise UserError(f"{path}: {file.metadata.num_columns:,} columns; expected at most {MAX_COLUMNS:,}. Leave some out")
        table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not Parquet, or damaged ({error}). Write it again") from None
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{path}: two columns are called {twice[0]!r}. Give each its own name")
    if not table.num_rows:
        raise UserError(f"{path}: no rows. Expected one row an example")
    return {name: _parquet_column(name, table.column(name), path) for name in names}


def _parquet_column(name, column, path):
    import pyarrow
    import pyarrow.compute as compute
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    type_ = column.type
    if types.is_null(type_):
        return pyarrow.chunked_array([pyarrow.nulls(len(column), pyarrow.string())])
    if types.is_timestamp(type_) or types.is_date(type_):
        try:
            seconds = column.cast(pyarrow.timestamp("us", getattr(type_, "tz", None))).cast(pyarrow.int64())
        except pyarrow.ArrowInvalid as error:
            raise UserError(f"{path}: column {name!r} holds times that cannot be ({error}). Mend or leave them out") from None
        return seconds.to_pandas().to_numpy(dtype=np.float64, na_value=np.nan) / 1e6
    if types.is_boolean(type_):
        return compute.if_else(column, "True", "False")
    if types.is_floating(type_):
        # Whole numbers without their decimals, as a person writes them.
        column = column.cast(pyarrow.float64())
        column = compute.if_else(compute.is_nan(column), pyarrow.scalar(None, pyarrow.float64()), column)
        return column.cast(pyarrow.string())
    if types.is_integer(type_) or types.is_decimal(type_) or types.is_string(type_) or types.is_large_string(type_):
        return column.cast(pyarrow.string())
    raise UserError(f"{path}: column {name!r} holds {type_}. Expected numbers, text or times: leave it out")


def _split_files(path):
    """`{split: file}` of the file or folder `path`."""
    if not path.is_dir():
        return {"train": path, **(_siblings(path) if _split_stem(path)[1] == "train" else {})}
    tables = [each for each in sorted(path.iterdir()) if _is_table(each)]
    if not tables:
        raise UserError(
            f"{path}: no table in this folder. Expected a file ending in {' '.join(TEXT_ENDINGS)} or .parquet"
        )
    train = [each for each in tables if _split_stem(each)[1] == "train"]
    rest = [each for each in tables if _split_stem(each)[1] is None]
    if len(train) == 1 and not rest:
        return {"train": train[0], **_siblings(train[0])}
    if len(tables) == 1:
        return {"train": tables[0]}
    shown = ", ".join(each.name for each in tables[:12]) + (", ..." if len(tables) > 12 else "")
    raise UserError(f"{path}: several tables. Give one of {shown}")


def _is_table(path):
    return (
        path.is_file() and not path.name.startswith(".") and path.name.lower().endswith(TEXT_ENDINGS + PARQUET_ENDINGS)
    )


def _split_stem(path):
    """What comes before the split's name in a file's name, and the split: `("adult", "train")` of adult-train.csv."""
    stem = path.name
    for ending in TEXT_ENDINGS[::-1] + PARQUET_ENDINGS:
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
            break
    match = SPLIT_FILE.fullmatch(stem)
    return (match["name"], split_of(match["split"])) if match else (stem, None)


def _siblings(train):
    name = _split_stem(train)[0]
    found = {}
    for path in list_folder(train.parent):
        other, split = _split_stem(path)
        if split in ("validation", "test") and other == name and _is_table(path):
            if split in found:
                raise UserError(f"{path.parent}: {found[split].name} and {path.name} are both {split} splits. Keep one")
            found[split] = path
    return found


def _without_dots(table, train):
    """The table with the full stop taken from labels that are, but for it, the training labels (UCI's Adult)."""
    notes = list(table.notes)
    frame = table.frame.copy()
    for name in frame.columns:
        if name not in train.frame.columns or frame[name].dtype.kind == "f" or train.frame[name].dtype.kind == "f":
            continue
        values, known = set(frame[name].dropna()), set(train.frame[name].dropna())
        if values and all(value.endswith(".") and value not in known and value[:-1] in known for value in values):
            frame[name] = frame[name].map({value: value[:-1] for value in values}, na_action="ignore").astype(object)
            notes.append(f"column {name!r}: the full stop that ends each value of this split is dropped")
    return Table(frame, notes, table.roles, table.names)
