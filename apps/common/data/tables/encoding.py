"""From a table's columns to what a model takes: scaled numbers and category indices.

Everything is fitted on the training rows alone and kept in `about`, a dict of plain JSON:
`target`, `kind`, `numeric` (a list of scalings; a time or a text is several of them, each with its `column` and `part`),
`categorical` (a list of vocabularies), `left_out` (names of columns the model gets nothing of), `roles`, `columns` (all
names of the file, in order), and `classes`, or `target_mean` and `target_std` of a regression.
"""

import numpy as np

from apps.common.data.examples import Examples
from apps.common.data.tables.parts import TEXT_BUCKETS, TIME_PARTS, hashed_words, time_part
from apps.common.data.tables.reading import category_text, make_frame
from apps.common.data.tables.roles import LEFT_OUT, WrongCell, read_column
from apps.common.data.tables.target import class_names, coded, numbers_of, shown
from apps.common.errors import UserError

MISSING_INDEX, OTHER_INDEX, FIRST_INDEX = 0, 1, 2
MAX_CATEGORIES = 1000
# A normal column of a million rows reaches five standard deviations: beyond six lies a heavy tail.
HEAVY_TAIL = 6.0
MAX_SCALED = 10.0
MAX_KNOTS = 1000
MAX_NUMBER = 1e150  # beyond it, sums of squares leave the range of numbers


def fit_encoding(frame, target, kind, *, scaling="standard", table=None):
    """What `encode` and `encode_target` need to know, fitted on the training rows: `about`, a dict of plain JSON.

    A missing number becomes the column's median. With "standard" scaling a column is brought to mean 0 and deviation 1
    and clipped at 10; one that reaches beyond six deviations is first compressed by
    x -> sign(x - c) log(1 + |x - c| / s), c its median and s the median distance of the values that are not c.
    With "quantile" scaling a column's quantiles become those of the normal distribution (as in Gorishniy et al., 2021,
    arXiv 2106.11959).
    A category seen once, or beyond the 1,000 most frequent, shares index 1 ("other") with those never seen; a missing
    one has index 0. A time becomes its distance, year, month, weekday and hour, a text the hashes of its words.

    Args:
        frame: The training rows.
        target: Name of the column to predict.
        kind: "classification" or "regression".
        scaling: "standard" or "quantile".
        table: The `Table` that the rows come from, for its columns' roles.
    """
    roles = dict(table.roles) if table else {}
    roles = {name: roles.get(name) or _plain_role(frame[name]) for name in (table.names if table else frame.columns)}
    about = {"target": target, "kind": kind, "columns": list(roles), "roles": roles}
    about |= {"numeric": [], "categorical": [], "left_out": []}
    inputs = [name for name in roles if name != target]
    used = [name for name in inputs if roles[name]["role"] not in LEFT_OUT]
    if not used:  # a row's own number is all there is: a trend may be learnt from it
        used = [name for name in inputs if roles[name]["role"] == "identifier" and name in frame.columns]
        roles |= {name: {"role": "number"} for name in used}
    for name in inputs:
        column = frame[name] if name in used else None
        if column is None or not column.notna().any():
            about["left_out"].append(name)
        elif roles[name]["role"] == "time":
            about["numeric"] += _fit_times(name, column.to_numpy(dtype=np.float64), scaling)
        elif roles[name]["role"] == "text":
            about["numeric"] += _fit_words(name, column)
        elif column.dtype.kind == "f":
            about["numeric"].append({"name": name, **_fit_scaling(column.dropna().to_numpy(), scaling)})
        else:
            counts = column.value_counts()
            usual = sorted(counts.index[counts > 1], key=lambda value: (-counts[value], value))[:MAX_CATEGORIES]
            about["categorical"].append({"name": name, "values": sorted(map(category_text, usual))})
    if not about["numeric"] and not about["categorical"]:
        raise UserError(f"no column besides the target {target!r} holds a value: there is nothing to predict it from")
    if kind == "classification":
        about["classes"] = class_names(frame[target])
    else:
        values = frame[target].to_numpy(dtype=np.float64)
        about["target_mean"], about["target_std"] = float(values.mean()), float(values.std()) or 1.0
    return about


def refuse_other_about(about):
    """Refuse what `fit_encoding` cannot have made: a record that somebody has edited.

    Raises:
        UserError: An entry that is not as it must be.
    """
    for name, holds in CHECKS.items():
        try:
            right = name not in about or holds(about[name])
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            right = False
        if not right:
            raise UserError(f"bundle.json: {name!r} under about is not as training writes it; restore it or train again")


def _is_scaling(column):
    numbers = [column["median"], *(column["knots"] if "knots" in column else (column["mean"], column["std"]))]
    log = column.get("log")
    scaled = "knots" in column or (column["std"] > 0 and (log is None or (log["scale"] > 0 and np.isfinite(log["centre"]))))
    return isinstance(column["name"], str) and bool(np.isfinite(numbers).all()) and scaled


def _are_texts(values):
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


CHECKS = {
    "target": lambda name: isinstance(name, str),
    "kind": lambda kind: kind in ("classification", "regression"),
    "columns": _are_texts,
    "left_out": _are_texts,
    "classes": _are_texts,
    "roles": lambda roles: all(isinstance(role["role"], str) for role in roles.values()),
    "numeric": lambda columns: isinstance(columns, list) and all(map(_is_scaling, columns)),
    "categorical": lambda columns: all(isinstance(each["name"], str) and _are_texts(each["values"]) for each in columns),
    "target_mean": lambda mean: bool(np.isfinite(mean)),
    "target_std": lambda deviation: bool(np.isfinite(deviation)) and deviation > 0,
}


def encode(frame, about):
    """The model's inputs: "numeric" float32 `(rows, columns)` and "categorical" int32 `(rows, columns)`.

    A part without columns is left out; columns that `about` does not name are ignored, those that are absent count as
    missing.

    Raises:
        UserError: All columns are absent, or text stands where a number belongs.
    """
    absent = absent_columns(frame, about)
    known = list(input_roles(about))
    if len(absent) == len(known):
        raise UserError(f"none of the model's columns. Expected {shown(known)}")
    inputs, made = {}, {}
    if about["numeric"]:
        inputs["numeric"] = np.empty((len(frame), len(about["numeric"])), np.float32)
        for position, column in enumerate(about["numeric"]):
            values = _numeric_part(frame, column, made)
            inputs["numeric"][:, position] = _scale(values, column)
    if about["categorical"]:
        inputs["categorical"] = np.zeros((len(frame), len(about["categorical"])), np.int32)
        for position, column in enumerate(about["categorical"]):
            if column["name"] in absent:
                continue
            index = {value: number for number, value in enumerate(column["values"], FIRST_INDEX)}
            codes, distinct = coded(frame[column["name"]])
            known = [index.get(category_text(value), OTHER_INDEX) for value in distinct]
            inputs["categorical"][:, position] = np.array([*known, MISSING_INDEX])[codes]
    return inputs


def absent_columns(frame, about):
    """Names of the columns the model uses that are not among the frame's, or a dict's."""
    return [name for name in input_roles(about) if name not in frame]


def category_counts(about):
    """How many indices each categorical column uses, "missing" and "other" among them."""
    return [len(column["values"]) + FIRST_INDEX for column in about["categorical"]]


def input_roles(about):
    """`{column: role}` of the columns that the model uses."""
    used = dict.fromkeys(column.get("column", column["name"]) for kind in ("numeric", "categorical") for column in about[kind])
    return {name: about["roles"][name] for name in used}


def columns_of(about):
    """What `read_table` takes so that another table is read as the training's: roles, target and names."""
    roles = {name: role if name in input_roles(about) else {"role": "ignore"} for name, role in about["roles"].items()}
    roles.pop(about["target"], None)
    return {"roles": roles, "names": tuple(about["columns"])}


def frame_of_rows(rows, about):
    """`(frame, reasons)` of rows of cells as dicts: for each row "", or why it cannot be read.

    Columns that a row lacks count as missing; those the model does not use are ignored.
    """
    import pyarrow

    reasons, columns = [""] * len(rows), {}
    for name, role in input_roles(about).items():
        cells = [_cell_text(row.get(name)) for row in rows]
        while True:
            try:
                columns[name] = read_column(name, pyarrow.array(cells, pyarrow.string()), role)[0]
                break
            except WrongCell as error:
                reasons[error.row] = reasons[error.row] or f"{name}: expected {error.expected}. Received: {error.cell!r}"
                cells[error.row] = ""
        if columns[name].dtype.kind == "f":
            for row in np.flatnonzero(np.isinf(columns[name])):
                reasons[row] = reasons[row] or f"{name}: expected a number. Received: {cells[row]!r}"
                columns[name][row] = np.nan
    return make_frame(columns), reasons


def stack(frames, target):
    """All splits as one frame, and `{split: Examples}` of row numbers and class numbers by which rows are chosen."""
    import pandas

    whole = pandas.concat(frames.values(), ignore_index=True)
    codes, distinct = pandas.factorize(whole[target])
    labels = np.unique(distinct.astype(str), return_inverse=True)[1][codes]
    rows, start = {}, 0
    for split, frame in frames.items():
        positions = np.arange(start, start + len(frame))
        rows[split], start = Examples(positions, labels[positions]), start + len(frame)
    return whole, rows


def _plain_role(column):
    return {"role": "number" if column.dtype.kind == "f" else "category"}


def _cell_text(value):
    """A cell as the text a file would have: `None` and NaN are empty."""
    if value is None or value != value:
        return ""
    return category_text(value) if isinstance(value, float) else str(value)


def _fit_times(name, seconds, scaling):
    """The scalings of the parts of a time that are not always the same."""
    fitted, start = [], float(np.nanmin(seconds))
    for part in TIME_PARTS:
        values = time_part(seconds[~np.isnan(seconds)], part, start)
        if values.std() > 0:
            entry = {"name": f"{name} ({part.replace('_', ' ')})", "column": name, "part": part, "start": start}
            fitted.append({**entry, **_fit_scaling(values, scaling)})
    return fitted


def _fit_words(name, column):
    words = hashed_words(column)
    entries = [{"name": f"{name} (word {bucket})", "column": name, "part": bucket} for bucket in range(TEXT_BUCKETS)]
    # All by one deviation: a bucket that is seldom used is no louder than the others.
    scale = {"median": 0.0, "log": None, "mean": 0.0, "std": float(words.std()) or 1.0}
    return [{**entry, **scale} for entry in entries]


def _numeric_part(frame, column, made):
    """The values of one numeric input; `made` keeps what several inputs are made of."""
    name = column.get("column", column["name"])
    if name not in frame:
        return np.full(len(frame), np.nan)
    if "column" not in column:
        return numbers_of(frame[name], name)
    if "start" in column:
        return time_part(frame[name].to_numpy(dtype=np.float64), column["part"], column["start"])
    if name not in made:
        made[name] = hashed_words(frame[name])
    return made[name][:, column["part"]].astype(np.float64)


def _fit_scaling(values, scaling):
    values = np.clip(values, -MAX_NUMBER, MAX_NUMBER)
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
    values = np.clip(np.where(np.isnan(values), column["median"], values), -MAX_NUMBER, MAX_NUMBER)
    if "knots" in column:
        from scipy.special import ndtri

        knots, levels = np.array(column["knots"]), np.linspace(0, 1, len(column["knots"]))
        # Where knots repeat, the mean of both one-sided answers is the middle of the step.
        rising, falling = np.interp(values, knots, levels), np.interp(-values, -knots[::-1], -levels[::-1])
        return ndtri(np.clip((rising - falling) / 2, 1e-7, 1 - 1e-7))
    if column["log"]:
        values = _compress(values, column["log"])
    return np.clip((values - column["mean"]) / column["std"], -MAX_SCALED, MAX_SCALED)
