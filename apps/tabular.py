"""Predict a column of a table from the others: a class or a number."""

import shlex
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, balanced, complete_splits, find_data, scored_part
from apps.common.data.tables.encoding import (
    absent_columns,
    category_counts,
    columns_of,
    encode,
    fit_encoding,
    frame_of_rows,
    input_roles,
    refuse_other_about,
    stack,
)
from apps.common.data.tables.reading import named_table, read_splits
from apps.common.data.tables.roles import GIVEN_ROLES, role_notes, time_text
from apps.common.data.tables.target import decode_target, drop_missing_target, encode_target, target_like, target_of
from apps.common.errors import UserError, nearest
from apps.common.options.declare import option
from apps.common.options.settle import settled_steps
from apps.common.options.training import Activation, Recipe, Splitting
from apps.common.output import say


@dataclass(frozen=True)
class Config(Splitting):
    # Chosen on validation: docs/defaults.md. The best epoch on validation is kept.
    epochs: int | None = option(None, "passes over the training data; none: by their number, 100 to 10", low=1, high=100_000)
    batch_size: int | None = option(
        None, "rows a step; none: by their number, 32 to 1024", low=1, high=65_536, search=(16, 32, 64, 128, 256)
    )
    learning_rate: float = option(3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(1e-4, 1e-1), log=True)
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "cosine", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    target: str | None = option(None, "column to predict: its name or number (default: the last)")
    columns: str | None = option(None, f"what columns are, comma-separated NAME=ROLE, of: {', '.join(GIVEN_ROLES)}")
    kind: Literal["auto", "classification", "regression"] = option("auto", "what the target is")
    model: Literal["mlp", "perceptron", "ft-transformer"] = option("mlp", "architecture", search=("mlp", "ft-transformer"))
    loss: Literal["auto", "cross-entropy", "hinge", "mse", "mae", "huber"] = option(
        "auto", "what is minimised: auto is cross-entropy for classes, mse for numbers",
        needs={"model": ("mlp", "ft-transformer")},
    )  # fmt: skip
    unit: Literal["step", "sigmoid", "relu"] = option("step", "output of the perceptron", needs={"model": "perceptron"})
    hidden_dims: tuple[int, ...] = option((128, 64), "widths of the hidden layers", low=1, needs={"model": "mlp"})
    activation: Activation = option("relu", "of the hidden units", needs={"model": "mlp"})
    batch_norm: bool = option(False, "batch normalization after each hidden layer", needs={"model": "mlp"})
    dropout: float = option(
        0.1, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.5),
        needs={"model": ("mlp", "ft-transformer")},
    )  # fmt: skip
    width: int = option(64, "size of a token", low=8, search=(32, 64, 128), needs={"model": "ft-transformer"})
    depth: int = option(3, "transformer blocks", low=1, high=24, search=(1, 2, 3, 4), needs={"model": "ft-transformer"})
    num_heads: int = option(8, "attention heads; must divide the width", low=1, needs={"model": "ft-transformer"})
    scaling: Literal["standard", "quantile"] = option("standard", "of numeric columns", search=("standard", "quantile"))

    def check(self):
        super().check()
        self.given_roles()
        if self.model == "ft-transformer" and self.width % self.num_heads:
            raise UserError(f"--width {self.width}: expected a multiple of --num-heads {self.num_heads}")

    def given_roles(self):
        """`{column: role}` of `--columns`."""
        roles = {}
        for pair in filter(None, (self.columns or "").split(",")):
            name, equals, role = pair.rpartition("=")
            if not equals or role.strip() not in GIVEN_ROLES:
                raise UserError(f"--columns {pair}: expected NAME=ROLE, ROLE one of {', '.join(GIVEN_ROLES)}")
            roles[name.strip()] = {"role": role.strip()}
        return roles


INPUTS = Inputs("rows")
METRIC = (
    Metric("accuracy", where={"kind": "classification"}),
    Metric("rmse", higher_is_better=False, where={"kind": "regression"}),
)
GORISHNIY = "Gorishniy et al., 2021, arXiv 2106.11959, table 2"
RECIPES = {
    "iris-perceptron": Recipe(
        "MLP on iris, 5-fold, against a perceptron",
        data="iris", folds=5, metric="accuracy", floor=0.95, minutes=1,
        options={"keep": "last",
                 "epochs": 60, "batch_size": 16, "hidden_dims": (32,), "activation": "tanh", "learning_rate": 0.01,
                 "schedule": "cosine", "dropout": 0.0, "l2": 0.003},
        control={"model": "perceptron", "unit": "step", "optimizer": "sgd", "batch_size": 1, "schedule": "constant",
                 "epochs": 20, "l2": 0.0},
        source="control: one neuron a class, the classic learning rule (Rosenblatt, 1958)",
    ),
    "adult-mlp": Recipe(
        "MLP on Adult",
        data="tabular_uci/adult-train.csv", metric="accuracy", published=0.8522, tolerance=0.004, source=GORISHNIY,
        options={"keep": "last",
                 "epochs": 15, "batch_size": 256, "hidden_dims": (256, 128), "dropout": 0.3, "schedule": "one-cycle",
                 "learning_rate": 0.002, "scaling": "quantile"},
        minutes=1, seeds=3,
    ),
    "adult-ft-transformer": Recipe(
        "FT-Transformer on Adult",
        data="tabular_uci/adult-train.csv", metric="accuracy", published=0.8587, tolerance=0.004, source=GORISHNIY,
        options={"keep": "last",
                 "model": "ft-transformer", "width": 32, "depth": 2, "num_heads": 4, "epochs": 10, "batch_size": 256,
                 "optimizer": "adamw", "weight_decay": 1e-5, "schedule": "one-cycle", "learning_rate": 0.002,
                 "scaling": "quantile", "dropout": 0.1},
        minutes=4, seeds=1,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Rows as `{"numeric": (n, k), "categorical": (n, c)}` and the target, in three splits."""
    name = config.data or "iris"
    table = named_table(name)
    if about:
        options = {**columns_of(about), "target": about["target"]}
    else:
        options = {"roles": config.given_roles(), "target": config.target}
    splits = {"train": table} if table is not None else read_splits(find_data(name), **options)
    notes = [note for part in splits.values() for note in part.notes]
    if about:
        target, table = about["target"], scored_part(splits, notes)
        frame = drop_missing_target(
            target_like(table, target, about["roles"][target], set(about.get("classes", ())), "table"), target
        ).frame
        absent = absent_columns(frame, about)
        notes += [f"columns that are not there count as missing: {', '.join(absent)}"] if absent else []
        return Data(None, None, Examples(encode(frame, about), encode_target(frame, about)), about, notes, name)
    target = target_of(splits, config.target, config.kind)
    # Rows are split by position first: scales and vocabularies are fitted on the training rows alone.
    whole, rows = stack({split: part.frame for split, part in target.splits.items()}, target.name)
    parts = complete_splits(rows, config, notes := notes + target.notes, stratify=target.kind == "classification")
    frames = [whole.iloc[part.x] for part in parts]
    about = fit_encoding(frames[0], target.name, target.kind, scaling=config.scaling, table=target.splits["train"])
    train, validation, test = (Examples(encode(frame, about), encode_target(frame, about)) for frame in frames)
    if config.class_weights == "balanced":
        train = balanced(train, about.get("classes"))
    return Data(train, validation, test, about, notes + role_notes(about["roles"]), name, example_of(frames[2], about))


def example_of(frame, about):
    """The first row as words that `predict` takes."""
    row = frame.iloc[0]
    pairs = [f"{name}={cell_text(row[name], about['roles'][name])}" for name in input_roles(about)]
    return " ".join(shlex.quote(pair) for pair in pairs[:30])


def cell_text(value, role):
    """A cell as it may have stood in the table."""
    if role["role"] == "time":
        return time_text(value, role["format"])
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return "" if value is None else value


def settle(config, data):
    """Many passes over few rows in small batches, few over many in large ones: some 6,000 steps."""
    batches = ((2_000, 32), (10_000, 64), (50_000, 128), (200_000, 256), (None, 1024))
    return settled_steps(config, len(data.train), batches=batches, steps=6_000, epochs=(10, 100))


def build_model(config, data):
    """Scaled numbers and category indices -> MLP, perceptron or FT-Transformer -> logits, or one number."""
    from apps.common.training.losses import OneHotLoss, accuracy, number_loss, number_metrics
    from apps.common.training.optimizers import compile_model
    from layers import PerceptronLoss, models

    about = data.about
    classes = about.get("classes")
    num_outputs = len(classes) if classes else 1
    columns = (len(about["numeric"]), tuple(category_counts(about)), num_outputs)
    if config.model == "perceptron":
        model = models.tabular_perceptron(*columns, unit=config.unit)
    elif config.model == "mlp":
        model = models.tabular_mlp(
            *columns, hidden_dims=config.hidden_dims, activation=config.activation, dropout=config.dropout,
            batch_norm=config.batch_norm,
        )  # fmt: skip
    else:
        model = models.ft_transformer(
            *columns, width=config.width, depth=config.depth, num_heads=config.num_heads, dropout=config.dropout
        )
    if not classes:
        loss, metrics = number_loss(config.loss), number_metrics()
    elif config.model == "perceptron" and config.unit == "step":
        loss, metrics = PerceptronLoss(), [accuracy()]
    else:
        loss, metrics = OneHotLoss("cross-entropy" if config.loss == "auto" else config.loss, num_outputs), [accuracy()]
    return compile_model(model, config, data.train, loss=loss, metrics=metrics)


def baselines(data, config):
    """The commonest class or the mean; gradient boosting on the table's columns, at most 20,000 rows."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    from apps.common.reports.baselines import class_shares, fitted_classes, some_rows
    from apps.common.reports.regression import regression_metrics

    about, train, test = data.about, data.train, data.test
    classes = about.get("classes")
    # Cells and trees are bounded, so that wide tables and many classes take seconds as well.
    most = int(min(20_000, max(500, 4_000_000 / width_of(about))))
    chosen = train.subset(some_rows(len(train), most, config.seed))
    trees = max(10, min(100, 1000 // len(classes))) if classes else 100
    numbers = len(about["numeric"])
    small = [numbers + position for position, count in enumerate(category_counts(about)) if count < 255]
    options = {"max_iter": trees, "categorical_features": small or None, "random_state": config.seed, "early_stopping": False}
    x, test_x = joined(chosen.x), joined(test.x)
    if classes:
        boosting = HistGradientBoostingClassifier(**options)
        return {
            "majority": class_shares(train.y, test.y, len(classes)),
            "gradient boosting": fitted_classes(boosting, (x, chosen.y), (test_x, test.y), len(classes)),
        }
    true, mean = decode_target(test.y, about), np.full(len(test), decode_target(train.y.mean(), about))
    found = HistGradientBoostingRegressor(**options).fit(x, chosen.y).predict(test_x)
    return {
        "mean": regression_metrics(mean, true),
        "gradient boosting": regression_metrics(decode_target(found, about), true),
    }


def width_of(about):
    return len(about["numeric"]) + len(about["categorical"])


def joined(inputs):
    """Numbers and category indices side by side."""
    return np.concatenate([inputs[key] for key in ("numeric", "categorical") if key in inputs], axis=1)


def evaluate(model, data, config):
    """Classes: accuracy, F1, AUC, confusion. Numbers: RMSE, MAE, R2, residuals. Both: importance of each column."""
    from apps.common.reports.classification import classification_report, softmax
    from apps.common.reports.explain import column_importance
    from apps.common.reports.regression import regression_report
    from apps.common.training.batches import predict_all

    about, y = data.about, data.test.y
    outputs = predict_all(model, data.test.x)
    if about["kind"] == "classification":
        metrics, tables, drawn = classification_report(softmax(outputs), y, about["classes"])
    else:
        predicted, true = decode_target(outputs[:, 0], about), decode_target(y, about)
        (metrics, drawn), tables = regression_report(predicted, true, about["target"]), {}

    def score(inputs, y):
        outputs = predict_all(model, inputs)
        return np.mean(outputs.argmax(1) == y) if about["kind"] == "classification" else -np.mean((outputs[:, 0] - y) ** 2)

    tables["importance"], drawn["importance"] = column_importance(score, data.test, about)
    return Report(metrics, drawn, tables)


def check_about(about):
    """Refuse what was not fitted on a table."""
    refuse_other_about(about)


def predict(model, inputs, about):
    """The prediction of each row, a dict of cells; columns it lacks count as missing and are named once."""
    from apps.common.reports.classification import class_prediction, softmax
    from apps.common.training.batches import predict_all

    name_absent(inputs, about)
    frame, reasons = frame_of_rows(inputs, about)
    known = input_roles(about)
    reasons = [
        reason or ("" if any(name in row for name in known) else f"none of the model's columns: {', '.join(list(known)[:12])}")
        for row, reason in zip(inputs, reasons, strict=True)
    ]
    outputs = predict_all(model, encode(frame, about))
    if about["kind"] == "classification":
        found = class_prediction(softmax(outputs), about["classes"])
    else:
        found = [{"prediction": float(value)} for value in decode_target(outputs[:, 0], about)]
    return [{"reason": reason} if reason else row for row, reason in zip(found, reasons, strict=True)]


def name_absent(rows, about):
    """Say which of the model's columns these rows lack, and which names of a single row it does not know."""
    first = rows[0]
    absent = tuple(absent_columns(first, about))
    if len(absent) == len(input_roles(about)):
        return
    if absent and absent not in _named:
        _named.add(absent)
        say(f"columns that are not there count as missing: {', '.join(absent)}")
    for name in first if len(rows) == 1 or absent else ():
        if name not in about["columns"] and (name, "") not in _named:
            _named.add((name, ""))
            say(f"column {name!r} is not one of the model's and is not used. {nearest(name, input_roles(about))}")


_named = set()


if __name__ == "__main__":
    start(__spec__)
