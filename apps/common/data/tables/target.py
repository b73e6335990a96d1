"""The column to predict: which it is, whether it holds classes or numbers, and what a model takes of it."""

import re
from dataclasses import dataclass

import numpy as np

from apps.common.data.tables.reading import Table, category_text, target_name
from apps.common.data.tables.roles import parse_numbers
from apps.common.data.tables.rows import as_number, is_missing
from apps.common.errors import UserError, nearest

MAX_CLASSES_OF_NUMBERS = 20
MAX_TARGET = 1e30  # beyond it, sums of squares leave the range of numbers
# Words for missing values that are as often the name of a class.
CLASS_WORDS = ("NA", "None", "none")


@dataclass(frozen=True)
class Target:
    """The column to predict, "classification" or "regression", the splits without rows that lack it, and notes."""

    name: str
    kind: str
    splits: dict
    notes: list


def target_of(splits, target=None, kind="auto"):
    """Which column is predicted and how, with the rows left out that do not have it.

    Args:
        splits: `{split: Table}` as `read_splits` returns.
        target: A column's name, its number from 1 or, counted from the end, from -1; `None` is the last column.
        kind: "classification", "regression", or "auto": regression for numbers with fractions or with more than 20
            distinct values.
    Returns: `Target`. A split without the column, as competitions give, is left out with a note.
    Raises:
        UserError: No such column, nothing besides it, no value, one value only, or a class with one example.
    """
    frame, notes = splits["train"].frame, []
    name = target_name(list(frame.columns), target)
    if target is None:
        notes.append(f"the target is the last column, {name!r}; --target names another")
    if len(frame.columns) < 2:
        raise UserError(
            f"only one column ({name}): expected columns separated by comma, semicolon or tab, one of them the target"
        )
    kept = {}
    for split, table in splits.items():
        absent = [column for column in frame.columns if column not in table.frame.columns]
        if absent == [name] and split != "train":
            notes.append(f"the {split} split has no column {name!r}: it is not used")
            continue
        if absent:
            raise UserError(f"the {split} split has no column {absent[0]!r}. {nearest(absent[0], table.frame.columns)}")
        if split == "train":
            table = _numeric_target(table, name, kind, notes)
        else:
            table = target_like(table, name, kept["train"].roles.get(name, {}), set(kept["train"].frame[name]), f"{split} split")
        kept[split] = drop_missing_target(table, name)
        notes += kept[split].notes[len(table.notes) :]
        if not len(kept[split].frame):
            raise UserError(f"--target {name}: all values of the {split} split are missing. Choose another column")
    values = kept["train"].frame[name]
    distinct = values.unique()
    if len(distinct) < 2:
        raise UserError(f"--target {name}: constant, always {category_text(distinct[0])}: there is nothing to predict")
    numeric = values.dtype.kind == "f"
    if numeric and np.abs(values).max() > MAX_TARGET:
        raise UserError(f"--target {name}: holds {values[np.abs(values).idxmax()]:g}. Expected numbers up to {MAX_TARGET:g}")
    if kind == "auto":
        whole = numeric and bool((values == np.floor(values)).all())
        kind = "regression" if numeric and (not whole or len(distinct) > MAX_CLASSES_OF_NUMBERS) else "classification"
    if kind == "regression" and not numeric:
        example = next((value for value in values if as_number(value) is None), values.iloc[0])
        raise UserError(f"--target {name}: regression needs numbers. Received: {example!r}")
    if kind == "classification":
        _check_classes(values, name)
    return Target(name, kind, kept, notes)


def _numeric_target(table, name, kind, notes):
    """The table with a target of numbers as such, whose words for missing values are classes where they must be."""
    import pyarrow

    column = table.frame[name]
    if column.dtype.kind == "f":
        return table
    _, distinct = coded(column)
    words = [word for word in distinct if not is_missing(word)]
    numbers, decimal = parse_numbers(pyarrow.array(words, pyarrow.string()))
    exact = len(set(numbers.tolist())) == len(numbers) and not any(word[:1] == "0" and word[1:].isdigit() for word in words)
    numeric = len(words) > 0 and not np.isnan(numbers).any() and (exact or kind == "regression" or decimal is not None
                                                                 or len(words) > MAX_CLASSES_OF_NUMBERS)  # fmt: skip
    if kind == "classification" and not exact:
        numeric = False
    if numeric:
        values = dict(zip(words, numbers.tolist(), strict=True))
        frame = table.frame.copy(deep=False)
        frame[name] = column.map(values).astype(np.float64)
        infinite = np.isinf(frame[name].to_numpy())
        if infinite.any():
            frame.loc[infinite, name] = np.nan
            notes.append(f"{int(infinite.sum())} infinite numbers of the target {name!r} are treated as missing")
        return Table(frame, table.notes, {**table.roles, name: {"role": "target", "decimal": decimal}}, table.names)
    gone = [word for word in distinct if is_missing(word) and not _is_class(word, words, distinct)]
    for word in distinct:
        if is_missing(word) and word not in gone:
            notes.append(f"{word!r} is a class of {name!r}, not a missing value")
    return _without(table, name, gone)


def target_like(table, name, role, known, what):
    """The table with its target read as the training's was.

    Args:
        table: `Table`, with or without the target.
        name, role: Of the target; numbers have a `decimal`.
        known: The training's values.
        what: What the table is called in an error.
    """
    import pyarrow

    if name not in table.frame.columns or table.frame[name].dtype.kind == "f":
        return table
    codes, distinct = coded(table.frame[name])
    if "decimal" not in role:
        return _without(table, name, [word for word in distinct if is_missing(word) and word not in known])
    words = [None if is_missing(word) else word for word in distinct]
    numbers = parse_numbers(pyarrow.array(words, pyarrow.string()), role["decimal"])[0]
    wrong = [word for word, number in zip(words, numbers, strict=True) if word is not None and np.isnan(number)]
    if wrong:
        raise UserError(f"the {what}: the target {name!r} holds numbers. Received: {wrong[0]!r}")
    frame = table.frame.copy(deep=False)
    frame[name] = np.append(np.where(np.isinf(numbers), np.nan, numbers), np.nan)[codes]
    return Table(frame, table.notes, table.roles, table.names)


def _is_class(word, words, distinct):
    """Whether a word for missing values names a class: beside empty cells, or among words of its own form."""
    if word not in CLASS_WORDS or not words:
        return False
    if word.lower() == "none":
        return not any(as_number(other) is not None for other in words)
    codes = all(len(other) <= 3 and other.isalpha() and other.isupper() for other in words)
    return codes or "" in distinct


def _without(table, name, gone):
    if not gone:
        return table
    frame = table.frame.copy(deep=False)
    frame[name] = frame[name].map(lambda value: None if value in gone else value).astype(object)
    return Table(frame, table.notes, table.roles, table.names)


def drop_missing_target(table, name):
    """The table without the rows whose target is missing, and a note that counts them."""
    there = table.frame[name].notna().to_numpy()
    if there.all():
        return table
    lost = int((~there).sum())
    note = f"left out {lost} of {len(there)} rows whose target {name!r} is missing"
    return Table(table.frame[there].reset_index(drop=True), [*table.notes, note], table.roles, table.names)


def _check_classes(values, name):
    counts = values.value_counts()
    single = sorted(category_text(value) for value in counts.index[counts < 2])
    if single:
        raise UserError(
            f"--target {name}: one example only of class {shown(single, 5)}. Each needs at least two: add some, "
            "remove that row, or choose another target"
        )


def class_names(values):
    distinct = values.unique().tolist()
    numbers = [value if isinstance(value, float) else as_number(value) for value in distinct]
    if None in numbers:
        return sorted(map(category_text, distinct))
    texts = list(map(category_text, distinct))
    if len(set(numbers)) == len(numbers) and not any(re.match(r"[-+]?0\d", text) for text in texts):
        texts = list(map(category_text, numbers))
    return sorted(texts, key=lambda text: (as_number(text), text))


def encode_target(frame, about):
    """The target: class indices int64 `(rows,)`, or float32 `(rows,)` with mean 0 and deviation 1 in training.

    Raises:
        UserError: The column is not there, a value is missing, or a class was not in the training rows.
    """
    name = about["target"]
    if name not in frame.columns:
        raise UserError(f"no column {name!r} with the target. {nearest(name, frame.columns)}")
    column = frame[name]
    if column.isna().any():
        raise UserError(f"row {_first_row(column.isna())}: the target {name!r} is missing. Leave such rows out")
    if about["kind"] == "regression":
        return ((numbers_of(column, name) - about["target_mean"]) / about["target_std"]).astype(np.float32)
    index = {value: number for number, value in enumerate(about["classes"])}
    codes, distinct = coded(column)
    classes = np.array([_class_index(value, index) for value in distinct], dtype=np.int64)
    unknown = {category_text(value): int((codes == code).sum()) for code, value in enumerate(distinct) if classes[code] < 0}
    if unknown:
        row = int(np.flatnonzero(classes[codes] < 0)[0])
        others = f"; {sum(unknown.values())} rows of {len(unknown)} such classes" if sum(unknown.values()) > 1 else ""
        raise UserError(
            f"row {row + 1}: class {category_text(column.iloc[row])!r} of {name!r} is not among the training classes: "
            f"{shown(about['classes'])}{others}"
        )
    return classes[codes]


def _class_index(value, index):
    """Position of a class, -1 when unknown; "1.0" in one file is "1" in another, where no other class is that number."""
    text = category_text(value)
    if text in index:
        return index[text]
    number = as_number(text)
    same = [name for name in index if number is not None and as_number(name) == number]
    return index[same[0]] if len(same) == 1 else -1


def decode_target(values, about):
    """Regression outputs of shape `(rows,)` in the target's own unit, as float64."""
    return np.asarray(values, dtype=np.float64) * about["target_std"] + about["target_mean"]


def coded(column):
    """`(codes, distinct values)`; the code of a missing value is -1."""
    import pandas

    return pandas.factorize(column)


def numbers_of(column, name):
    """A column as float64 with NaN for missing and infinite values."""
    if column.dtype.kind in "fiub":
        values = column.to_numpy(dtype=np.float64)
    else:
        codes, distinct = coded(column)
        parsed = [np.nan if is_missing(str(value).strip()) else as_number(str(value)) for value in distinct]
        if None in parsed:
            code = parsed.index(None)
            row = int(np.flatnonzero(codes == code)[0])
            raise UserError(f"row {row + 1}: column {name!r} holds numbers. Received: {distinct[code]!r}")
        values = np.array([*parsed, np.nan], dtype=np.float64)[codes]
    return np.where(np.isinf(values), np.nan, values)


def _first_row(flags):
    return int(np.flatnonzero(flags.to_numpy())[0]) + 1


def shown(names, count=12):
    return ", ".join(map(str, names[:count])) + (", ..." if len(names) > count else "")
