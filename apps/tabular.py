"""Predict a column of a table from the others: a class or a number."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.app import Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, balanced, complete_splits, find_data
from apps.common.data.tables.encoding import (
    category_counts,
    decode_target,
    drop_missing_target,
    encode,
    encode_target,
    fit_encoding,
    input_kinds,
    plain_rows,
    row_from_pairs,
    stack,
    target_of,
)
from apps.common.data.tables.reading import named_table, read_splits, read_table
from apps.common.errors import UserError
from apps.common.options.declare import option
from apps.common.options.training import Activation, Recipe, Splitting


@dataclass(frozen=True)
class Config(Splitting):
    target: str | None = option(None, "column to predict: its name or number (default: the last)")
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
        if self.model == "ft-transformer" and self.width % self.num_heads:
            raise UserError(f"--width {self.width}: expected a multiple of --num-heads {self.num_heads}")


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
    kinds = input_kinds(about) if about else None
    splits = {"train": table} if table is not None else read_splits(find_data(name), kinds=kinds)
    notes = [note for part in splits.values() for note in part.notes]
    if about:
        frame = drop_missing_target(splits.get("test", splits["train"]), about["target"]).frame
        return Data(None, None, Examples(encode(frame, about), encode_target(frame, about)), about, notes, name)
    target = target_of(splits, config.target, config.kind)
    # Rows are split by position first: scales and vocabularies are fitted on the training rows alone.
    whole, rows = stack({split: part.frame for split, part in target.splits.items()}, target.name)
    parts = complete_splits(rows, config, notes := notes + target.notes, stratify=target.kind == "classification")
    frames = [whole.iloc[part.x] for part in parts]
    about = fit_encoding(frames[0], target.name, target.kind, scaling=config.scaling)
    train, validation, test = (Examples(encode(frame, about), encode_target(frame, about)) for frame in frames)
    if config.class_weights == "balanced":
        train = balanced(train, about.get("classes"))
    return Data(train, validation, test, about, notes, name)


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


def predict(model, inputs, about):
    """The rows of CSV or Parquet files, or one row of `name=value` pairs, with the predictions beside them."""
    from apps.common.reports.classification import class_prediction, softmax
    from apps.common.training.batches import predict_all

    if any("=" in value and not Path(value).exists() for value in inputs):
        frames = [row_from_pairs(inputs, about)]
    else:
        frames = [read_table(Path(path).expanduser(), kinds=input_kinds(about)).frame for path in inputs]
    rows = []
    for frame in frames:
        outputs = predict_all(model, encode(frame, about))
        if about["kind"] == "classification":
            found = class_prediction(softmax(outputs), about["classes"])
        else:
            found = [{"prediction": float(value)} for value in decode_target(outputs[:, 0], about)]
        rows += [{**row, **prediction} for row, prediction in zip(plain_rows(frame), found, strict=True)]
    return rows


if __name__ == "__main__":
    start(__spec__)
