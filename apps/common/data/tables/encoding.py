"""From a table's columns to what a model takes: scaled numbers, category indices, and the target.

Everything is fitted on the training rows alone and kept in `about`, a dict of plain JSON:
`target`, `kind`, `numeric` (a list of scalings), `categorical` (a list of vocabularies), `left_out` (names of columns
without any value), and `classes`, or `target_mean` and `target_std` of a regression.
"""

from dataclasses import dataclass

import numpy as np

from apps.common.data.examples import Examples
from apps.common.data.tables.reading import Table, category_text, make_frame
from apps.common.data.tables.rows import as_number, is_missing
from apps.common.errors import UserError, nearest

MISSING_INDEX, OTHER_INDEX, FIRST_INDEX = 0, 1, 2
MAX_CATEGORIES = 1000
# A normal column of a million rows reaches five standard deviations: beyond six lies a heavy tail.
HEAVY_TAIL = 6.0
MAX_SCALED = 10.0
MAX_CLASSES_OF_NUMBERS = 20
MAX_KNOTS = 1000


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
    name = _target_name(list(frame.columns), target, notes)
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
        kept[split] = drop_missing_target(table, name)
        notes += kept[split].notes[len(table.notes) :]
        if not len(kept[split].frame):
            raise UserError(f"--target {name}: all values of the {split} split are missing. Choose another column")
    values = kept["train"].frame[name]
    distinct = values.unique()
    if len(distinct) < 2:
        raise UserError(f"--target {name}: constant, always {category_text(distinct[0])}: there is nothing to predict")
    numeric = values.dtype.kind == "f"
    if kind == "auto":
        whole = numeric and bool((values == np.floor(values)).all())
        kind = "regression" if numeric and (not whole or len(distinct) > MAX_CLASSES_OF_NUMBERS) else "classification"
    if kind == "regression" and not numeric:
        example = next(value for value in values if as_number(value) is None)
        raise UserError(f"--target {name}: regression needs numbers. Received: {example!r}")
    if kind == "classification":
        _check_classes(values, name)
    return Target(name, kind, kept, notes)


def drop_missing_target(table, name):
    """The table without the rows whose target is missing, and a note that counts them."""
    there = table.frame[name].notna().to_numpy()
    if there.all():
        return table
    lost = int((~there).sum())
    note = f"left out {lost} of {len(there)} rows whose target {name!r} is missing"
    return Table(table.frame[there].reset_index(drop=True), [*table.notes, note])


def fit_encoding(frame, target, kind, *, scaling="standard"):
    """What `encode` and `encode_target` need to know, fitted on the training rows: `about`, a dict of plain JSON.

    A missing number becomes the column's median. With "standard" scaling a column is brought to mean 0 and deviation 1
    and clipped at 10; one that reaches beyond six deviations is first compressed by
    x -> sign(x - c) log(1 + |x - c| / s), c its median and s the median distance of the values that are not c.
    With "quantile" scaling a column's quantiles become those of the normal distribution (as in Gorishniy et al., 2021,
    arXiv 2106.11959).
    A category seen once, or beyond the 1,000 most frequent, shares index 1 ("other") with those never seen; a missing
    one has index 0.

    Args:
        frame: The training rows.
        target: Name of the column to predict.
        kind: "classification" or "regression".
        scaling: "standard" or "quantile".
    """
    about = {"target": target, "kind": kind, "numeric": [], "categorical": [], "left_out": []}
    for name in frame.columns:
        if name == target:
            continue
        column = frame[name]
        if not column.notna().any():
            about["left_out"].append(name)
        elif column.dtype.kind == "f":
            about["numeric"].append({"name": name, **_fit_scaling(column.dropna().to_numpy(), scaling)})
        else:
            counts = column.map(category_text, na_action="ignore").value_counts()
            usual = sorted(counts.index[counts > 1], key=lambda value: (-counts[value], value))[:MAX_CATEGORIES]
            about["categorical"].append({"name": name, "values": sorted(usual)})
    if not about["numeric"] and not about["categorical"]:
        raise UserError(f"no column besides the target {target!r} holds a value: there is nothing to predict it from")
    if kind == "classification":
        about["classes"] = _class_names(frame[target])
    else:
        values = frame[target].to_numpy(dtype=np.float64)
        about["target_mean"], about["target_std"] = float(values.mean()), float(values.std()) or 1.0
    return about


def encode(frame, about):
    """The model's inputs: "numeric" float32 `(rows, columns)` and "categorical" int32 `(rows, columns)`.

    A part without columns is left out; columns that `about` does not name are ignored.

    Raises:
        UserError: A column is missing, or text stands where a number belongs.
    """
    known = [column["name"] for column in about["numeric"] + about["categorical"]]
    absent = [name for name in known if name not in frame.columns]
    if absent:
        more = f" and {len(absent) - 1} more" if len(absent) > 1 else ""
        raise UserError(f"no column {absent[0]!r}{more}. Expected the columns {_shown(known)}")
    inputs = {}
    if about["numeric"]:
        inputs["numeric"] = np.empty((len(frame), len(about["numeric"])), np.float32)
        for position, column in enumerate(about["numeric"]):
            inputs["numeric"][:, position] = _scale(_numbers(frame[column["name"]], column["name"]), column)
    if about["categorical"]:
        inputs["categorical"] = np.empty((len(frame), len(about["categorical"])), np.int32)
        for position, column in enumerate(about["categorical"]):
            index = {value: number for number, value in enumerate(column["values"], FIRST_INDEX)}
            texts = frame[column["name"]].map(category_text, na_action="ignore").astype(object)
            codes = texts.map(lambda value, index=index: index.get(value, OTHER_INDEX), na_action="ignore")
            inputs["categorical"][:, position] = codes.fillna(MISSING_INDEX).to_numpy(dtype=np.int32)
    return inputs


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
        return ((_numbers(column, name) - about["target_mean"]) / about["target_std"]).astype(np.float32)
    index = {value: number for number, value in enumerate(about["classes"])}
    codes = column.map(lambda value: _class_index(value, index)).to_numpy(dtype=np.int64)
    if (codes < 0).any():
        row = int(np.flatnonzero(codes < 0)[0])
        raise UserError(
            f"row {row + 1}: class {category_text(column.iloc[row])!r} of {name!r} is not among the training classes: "
            f"{_shown(about['classes'])}"
        )
    return codes


def decode_target(values, about):
    """Regression outputs of shape `(rows,)` in the target's own unit, as float64."""
    return np.asarray(values, dtype=np.float64) * about["target_std"] + about["target_mean"]


def category_counts(about):
    """How many indices each categorical column uses, "missing" and "other" among them."""
    return [len(column["values"]) + FIRST_INDEX for column in about["categorical"]]


def input_kinds(about):
    """`{column: "numeric" | "categorical"}` of the inputs: what `read_table(path, kinds=...)` takes for prediction."""
    return {column["name"]: kind for kind in ("numeric", "categorical") for column in about[kind]}


def row_from_pairs(pairs, about):
    """A frame of one row from `["age=39", "workclass=Private", ...]`; an empty value is a missing one.

    Raises:
        UserError: Not a pair, a column that is unknown or given twice, or text where a number belongs.
    """
    kinds, values = input_kinds(about), {}
    ignored = {about["target"], *about["left_out"]}
    for pair in pairs:
        # A column's name may itself hold an equals sign, so the longest known name counts.
        found = [name for name in (*kinds, *ignored) if pair.startswith(f"{name}=")]
        name = max(found, key=len, default=pair.partition("=")[0].strip())
        value = pair[len(name) + 1 :].strip() if found else pair.partition("=")[2].strip()
        if "=" not in pair:
            raise UserError(f"{pair}: expected COLUMN=VALUE, for example {next(iter(kinds))}=...")
        if name in ignored:
            continue
        if name not in kinds:
            raise UserError(f"{pair}: no column {name!r}. {nearest(name, kinds)}")
        if name in values:
            raise UserError(f"{pair}: column {name!r} is given twice")
        if kinds[name] == "categorical":
            values[name] = [None if is_missing(value) else value]
            continue
        number = np.nan if is_missing(value) else as_number(value)
        if number is None or np.isinf(number):
            raise UserError(f"{pair}: expected a number. Received: {value!r}")
        values[name] = np.array([number])
    return make_frame(values)


def stack(frames, target):
    """All splits as one frame, and `{split: Examples}` of row numbers and class numbers by which rows are chosen."""
    import pandas

    whole = pandas.concat(frames.values(), ignore_index=True)
    labels = np.unique(whole[target].astype(str), return_inverse=True)[1]
    rows, start = {}, 0
    for split, frame in frames.items():
        positions = np.arange(start, start + len(frame))
        rows[split], start = Examples(positions, labels[positions]), start + len(frame)
    return whole, rows


def plain_rows(frame):
    """The rows as dicts of what stood in the file: whole numbers without a point, `None` where a cell is missing."""

    def cell(value):
        if isinstance(value, float):
            return None if np.isnan(value) else int(value) if value.is_integer() else value
        return value

    return [{name: cell(value) for name, value in row.items()} for row in frame.to_dict("records")]


def _target_name(names, target, notes):
    if target is None:
        notes.append(f"the target is the last column, {names[-1]!r}; --target names another")
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


def _check_classes(values, name):
    counts = values.value_counts()
    single = sorted(category_text(value) for value in counts.index[counts < 2])
    if single:
        raise UserError(
            f"--target {name}: one example only of class {_shown(single, 5)}. Each needs at least two: add some, "
            "remove that row, or choose another target"
        )


def _class_names(values):
    distinct = values.unique().tolist()
    numbers = [value if isinstance(value, float) else as_number(value) for value in distinct]
    key = None if None in numbers else lambda text: (as_number(text), text)
    return sorted(map(category_text, distinct), key=key)


def _class_index(value, index):
    """Position of a class, -1 when unknown; "1.0" in one file is "1" in another."""
    text = category_text(value)
    number = as_number(text) if text not in index else None
    if number is not None and np.isfinite(number):
        text = category_text(number)
    return index.get(text, -1)


def _fit_scaling(values, scaling):
    median = float(np.median(values))
    if scaling == "quantile":
        # A knot for every thirty rows keeps single rows from making their own step.
        count = int(np.clip(len(values) // 30, 10, MAX_KNOTS))
        return {"median": median, "knots": np.quantile(values, np.linspace(0, 1, count)).tolist()}
    fitted = {"median": median, "log": None}
    deviation = values.std()
    if np.abs(values - values.mean()).max() > HEAVY_TAIL * deviation > 0:
        distance = np.abs(values - median)
        fitted["log"] = {"centre": median, "scale": float(np.median(distance[distance > 0]))}
        values = _compress(values, fitted["log"])
    return fitted | {"mean": float(values.mean()), "std": float(values.std()) or 1.0}


def _compress(values, log):
    distance = values - log["centre"]
    return np.sign(distance) * np.log1p(np.abs(distance) / log["scale"])


def _scale(values, column):
    values = np.where(np.isnan(values), column["median"], values)
    if "knots" in column:
        from scipy.special import ndtri

        knots, levels = np.array(column["knots"]), np.linspace(0, 1, len(column["knots"]))
        # Where knots repeat, the mean of both one-sided answers is the middle of the step.
        rising, falling = np.interp(values, knots, levels), np.interp(-values, -knots[::-1], -levels[::-1])
        return ndtri(np.clip((rising - falling) / 2, 1e-7, 1 - 1e-7))
    if column["log"]:
        values = _compress(values, column["log"])
    return np.clip((values - column["mean"]) / column["std"], -MAX_SCALED, MAX_SCALED)


def _numbers(column, name):
    """A column as float64 with NaN for missing and infinite values."""
    if column.dtype.kind in "fiub":
        values = column.to_numpy(dtype=np.float64)
    else:
        missing = [value is None or value != value or is_missing(str(value).strip()) for value in column]
        values = [np.nan if gone else as_number(str(value)) for value, gone in zip(column, missing, strict=True)]
        if None in values:
            row = values.index(None)
            raise UserError(f"row {row + 1}: column {name!r} holds numbers. Received: {column.iloc[row]!r}")
        values = np.array(values, dtype=np.float64)
    return np.where(np.isinf(values), np.nan, values)


def _first_row(flags):
    return int(np.flatnonzero(flags.to_numpy())[0]) + 1


def _shown(names, count=12):
    return ", ".join(map(str, names[:count])) + (", ..." if len(names) > count else "")
