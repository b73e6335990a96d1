"""Tables from CSV or Parquet files, and the splits a folder of them names."""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.data.reading import list_folder, require_memory, split_of
from apps.common.data.tables.rows import ADVICE, as_number, is_missing, read_text_rows
from apps.common.errors import UserError, count_skipped

TEXT_ENDINGS = (".csv", ".tsv", ".csv.gz", ".tsv.gz")
PARQUET_ENDINGS = (".parquet", ".pq")
SPLIT_FILE = re.compile(r"(?:(?P<name>.*)(?P<mark>[-_. ]))?(?P<split>[A-Za-z]+)")
SKLEARN_SETS = ("iris", "wine", "breast_cancer", "diabetes", "digits")


@dataclass(frozen=True)
class Table:
    """A table in memory, and what was done on reading it.

    `frame` is a pandas `DataFrame`: numeric columns float64 with NaN for missing, categorical ones text with `None`.
    """

    frame: object
    notes: list


def read_table(path, *, header="auto", kinds=None):
    """One table from a CSV file (comma, semicolon, tab or bar; packed by gzip or not) or a Parquet file.

    A column is numeric when all its values that are not missing are numbers.

    Args:
        path: The file.
        header: "yes" or "no" when known; "auto" looks.
        kinds: `{column: "numeric" | "categorical"}` of a table whose columns this one shares; these columns are read
            so, and the first row is a header if it holds one of the names.
    Raises:
        UserError: Nothing that can be used, naming the line or column, what was expected and what to do.
    """
    path, kinds = Path(path), kinds or {}
    if path.is_dir():
        raise UserError(f"{path}: a folder. Expected one CSV or Parquet file")
    with _opened(path) as file:
        parquet = file.read(4) == b"PAR1"
    return _read_parquet(path, kinds) if parquet else _read_csv(path, header, kinds)


def read_splits(path, *, header="auto", kinds=None):
    """Tables by split: "train", and "validation" and "test" when files beside it are called after them.

    Args:
        path: A table, a folder with one, or one with train.csv and test.csv; for NAME-train.csv, NAME-test.csv beside
            it is the test split.
        header, kinds: As `read_table` takes them.
    Returns: `{split: Table}`; the columns of all are of the kinds they have in "train".
    """
    path = Path(path)
    files = _split_files(path)
    train = read_table(files["train"], header=header, kinds=kinds)
    kinds = column_kinds(train.frame)
    tables = {"train": train}
    for split in ("validation", "test"):
        if split in files:
            other = read_table(files[split], header=header, kinds=kinds)
            other.notes.insert(0, f"{files[split].name}, beside {files['train'].name}, is the {split} split")
            tables[split] = _without_dots(other, train)
    return tables


def column_kinds(frame):
    """`{column: "numeric" | "categorical"}` of a table's frame."""
    return {name: "numeric" if frame[name].dtype.kind == "f" else "categorical" for name in frame.columns}


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
    return Table(make_frame(columns), [])


def make_frame(columns):
    """A `DataFrame` of `{name: float64 array, or list of text and None}`; text stays Python objects on any pandas."""
    import pandas as pd

    series = {
        name: values if isinstance(values, np.ndarray) and values.dtype.kind == "f" else pd.Series(values, dtype=object)
        for name, values in columns.items()
    }
    return pd.DataFrame(series)


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


def _read_csv(path, header, kinds):
    rows = read_text_rows(path, header=header, expect=tuple(kinds))
    notes = list(rows.notes)
    columns = {name: _column(name, cells, rows, kinds.get(name), notes, path) for name, cells in rows.columns.items()}
    infinite = sum(int(np.isinf(values).sum()) for values in columns.values() if isinstance(values, np.ndarray))
    if infinite:
        notes.append(_drop_infinite(columns, [f"line {line}" for line in rows.lines], path))
    return Table(make_frame(columns), notes)


def _column(name, cells, rows, kind, notes, path):
    """One column as a float64 array or as a list of text and `None`; each distinct cell is looked at once."""
    import pandas as pd

    codes, distinct = pd.factorize(np.array(cells, dtype=object))
    distinct = [cell.strip() for cell in distinct]
    missing = np.array([is_missing(cell) for cell in distinct], dtype=bool)
    decimal_comma = rows.delimiter != ","
    if kind != "categorical":
        values = [
            np.nan if gone else as_number(cell, decimal_comma) for cell, gone in zip(distinct, missing, strict=True)
        ]
        wrong = np.array([value is None for value in values], dtype=bool)
        if not wrong.any():
            return np.array(values, dtype=np.float64)[codes]
        first = int(np.flatnonzero(wrong[codes])[0])
        example = f"line {rows.lines[first]}: {distinct[codes[first]]!r}"
        if kind == "numeric":
            raise UserError(
                f"{path}: column {name!r} holds numbers, but {example}. Write a number, or nothing if missing"
            )
        count, total = int(wrong[codes].sum()), int((~missing[codes]).sum())
        if count < 0.05 * total:
            notes.append(f"column {name!r} is text because {count} of {total} cells are no numbers ({example})")
    texts = [None if gone else cell for cell, gone in zip(distinct, missing, strict=True)]
    return [texts[code] for code in codes]


def _drop_infinite(columns, rows, path):
    """Infinite numbers become missing; the line that counts them. More than 5 % of the rows are refused."""
    found = {name: np.isinf(values) for name, values in columns.items() if isinstance(values, np.ndarray)}
    affected = np.flatnonzero(np.any(list(found.values()), axis=0))
    names = [name for name, where in found.items() if where.any()]
    count_skipped([f"{rows[row]} (infinite)" for row in affected], len(rows), f"rows of {path}")
    count = 0
    for name in names:
        columns[name][found[name]] = np.nan
        count += int(found[name].sum())
    return f"{count} infinite numbers in {path.name} are treated as missing (columns {', '.join(names[:5])})"


def _read_parquet(path, kinds):
    import pyarrow
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path)
        size = sum(file.metadata.row_group(group).total_byte_size for group in range(file.metadata.num_row_groups))
        require_memory(max(4 * size, 8 * file.metadata.num_rows * file.metadata.num_columns), path, ADVICE)
        table = file.read()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not Parquet, or damaged ({error}). Write it again") from None
    names = [name for name in table.column_names if not re.fullmatch(r"__index_level_\d+__", name)]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{path}: two columns are called {twice[0]!r}. Give each its own name")
    if not table.num_rows:
        raise UserError(f"{path}: no rows. Expected one row an example")
    notes = []
    columns = {name: _parquet_column(name, table.column(name), kinds.get(name), notes, path) for name in names}
    if any(np.isinf(values).any() for values in columns.values() if isinstance(values, np.ndarray)):
        notes.append(_drop_infinite(columns, [f"row {row + 1}" for row in range(table.num_rows)], path))
    return Table(make_frame(columns), notes)


def _parquet_column(name, column, kind, notes, path):
    import pyarrow
    from pyarrow import types

    if types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    type_ = column.type
    if types.is_null(type_):
        return np.full(len(column), np.nan)
    if types.is_timestamp(type_) or types.is_date(type_):
        notes.append(f"column {name!r} holds times: read as seconds since 1970")
        seconds = column.cast(pyarrow.timestamp("us")).cast(pyarrow.int64())
        return seconds.to_pandas().to_numpy(dtype=np.float64, na_value=np.nan) / 1e6
    if types.is_integer(type_) or types.is_floating(type_) or types.is_decimal(type_):
        if kind != "categorical":
            return np.array(column.cast(pyarrow.float64(), safe=False).to_numpy(zero_copy_only=False))
    elif not (types.is_string(type_) or types.is_large_string(type_) or types.is_boolean(type_)):
        raise UserError(f"{path}: column {name!r} holds {type_}. Expected numbers, text or times: leave it out")
    elif kind == "numeric":
        raise UserError(f"{path}: column {name!r} holds {type_}. Expected numbers")
    values = [None if value is None else category_text(value).strip() for value in column.to_pylist()]
    return [None if value is None or is_missing(value) else value for value in values]


def _split_files(path):
    """`{split: file}` of the file or folder `path`."""
    if path.is_file():
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
            frame[name] = frame[name].map(lambda value: value[:-1] if isinstance(value, str) else None).astype(object)
            notes.append(f"column {name!r}: the full stop that ends each value of this split is dropped")
    return Table(frame, notes)
