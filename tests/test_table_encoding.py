"""A table's target is chosen and its columns are encoded from the training rows alone."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from apps import tabular
from apps.common.data.tables.encoding import (
    absent_columns,
    category_counts,
    encode,
    fit_encoding,
    frame_of_rows,
    input_roles,
)
from apps.common.data.tables.reading import Table, make_frame, read_splits
from apps.common.data.tables.target import decode_target, drop_missing_target, encode_target, target_of
from apps.common.errors import UserError
from apps.common.options.declare import make_config

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def refuses(function, *arguments, words=(), **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def splits_of(**columns):
    columns = {name: np.array(v, float) if not isinstance(v[0], str) else v for name, v in columns.items()}
    return {"train": Table(make_frame(columns), [])}


# The target


def test_the_target_is_a_name_a_number_or_the_last_column():
    splits = splits_of(a=[1, 2, 1, 2], b=["x", "y", "x", "y"])
    assert [target_of(splits, name).name for name in ("a", "1", "-2", None, "2")] == ["a", "a", "a", "b", "b"]
    assert target_of(splits).notes == ["the target is the last column, 'b'; --target names another"]
    assert target_of(splits, "a").notes == []
    refuses(target_of, splits, "aa", words=["--target aa: no such column", "'a'"])
    for number in ("0", "3", "-3"):
        refuses(target_of, splits, number, words=["a number from 1 to 2"])


def test_regression_is_for_fractions_and_many_numbers():
    x = list(range(50))
    assert target_of(splits_of(x=x, y=[v % 3 for v in x])).kind == "classification"
    assert target_of(splits_of(x=x, y=[v % 3 for v in x]), kind="regression").kind == "regression"
    assert target_of(splits_of(x=x, y=[v % 25 for v in x])).kind == "regression"
    assert target_of(splits_of(x=x, y=[v % 2 / 2 for v in x])).kind == "regression"
    assert target_of(splits_of(x=x, y=[v % 25 for v in x]), kind="classification").kind == "classification"
    refuses(target_of, splits_of(x=x, y=["a", "b"] * 25), kind="regression", words=["needs numbers. Received: 'a'"])


def test_targets_that_cannot_be_learned_are_refused():
    refuses(target_of, splits_of(y=[1, 2]), words=["only one column (y)", "comma, semicolon or tab"])
    refuses(target_of, splits_of(x=[1, 2], y=["a", "a"]), words=["--target y: constant, always a"])
    refuses(target_of, splits_of(x=[1, 2, 3], y=["a", "a", "b"]), words=["one example only of class b"])
    nothing = {"train": Table(make_frame({"x": np.ones(2), "y": np.full(2, np.nan)}), [])}
    refuses(target_of, nothing, words=["--target y: all values of the train split are missing"])


def test_rows_without_a_target_are_left_out_and_counted():
    splits = {"train": Table(make_frame({"x": np.arange(5.0), "y": ["a", None, "b", "a", "b"]}), [])}
    target = target_of(splits, "y")
    assert target.splits["train"].frame["x"].tolist() == [0, 2, 3, 4]
    assert target.notes == ["left out 1 of 5 rows whose target 'y' is missing"]
    assert drop_missing_target(splits["train"], "x") is splits["train"]


def test_a_test_split_without_the_target_is_not_used():
    splits = splits_of(x=[1, 2, 1, 2], y=["a", "b", "a", "b"])
    target = target_of({**splits, "test": Table(splits["train"].frame[["x"]], [])})
    assert list(target.splits) == ["train"] and "the test split has no column 'y'" in target.notes[-1]
    refuses(target_of, {**splits, "test": Table(splits["train"].frame[["y"]], [])}, words=["no column 'x'"])


# Encoding


@pytest.mark.skipif("TRIPTYCH_DATA" not in os.environ, reason="no folder of data sets")
def test_adult_has_its_published_rows_and_classes():
    path = Path(os.environ["TRIPTYCH_DATA"]) / "tabular_uci" / "adult-train.csv"
    if not path.exists():
        pytest.skip("Adult is not there")
    target = target_of(read_splits(path))
    assert [len(table.frame) for table in target.splits.values()] == [32561, 16281]
    about = fit_encoding(target.splits["train"].frame, target.name, target.kind, table=target.splits["train"])
    assert about["classes"] == ["<=50K", ">50K"] and len(about["numeric"]) == 6 and len(about["categorical"]) == 8
    assert np.bincount(encode_target(target.splits["test"].frame, about)).tolist() == [12435, 3846]


def people():
    frame = make_frame(
        {
            "age": np.array([20, 30, 40, np.nan, 50.0]),
            "work": ["a", "b", "a", None, "b"],
            "empty": np.full(5, np.nan),
            "income": ["low", "high", "low", "high", "low"],
        }
    )
    return frame, fit_encoding(frame, "income", "classification")


def test_the_encoding_is_plain_json_and_survives_it():
    frame, about = people()
    again = json.loads(json.dumps(about, allow_nan=False))
    assert again == about and about["classes"] == ["high", "low"] and about["left_out"] == ["empty"]
    assert input_roles(about) == {"age": {"role": "number"}, "work": {"role": "category"}} and category_counts(about) == [4]
    assert encode_target(frame, again).tolist() == [1, 0, 1, 0, 1]


def test_numbers_are_standardised_and_missing_ones_are_the_median():
    frame, about = people()
    numeric = encode(frame, about)["numeric"]
    assert numeric.dtype == np.float32 and numeric.shape == (5, 1)
    known = np.array([20, 30, 40, 50.0])
    np.testing.assert_allclose(numeric[[0, 1, 2, 4], 0], (known - known.mean()) / known.std(), rtol=1e-6)
    assert numeric[3, 0] == 0  # the median, here the mean


def test_unseen_categories_are_other_and_missing_ones_have_their_own_index():
    _, about = people()
    frame = make_frame({"age": np.ones(4), "work": ["a", "b", None, "new"], "more": ["x"] * 4})
    inputs = encode(frame, about)
    assert inputs["categorical"].dtype == np.int32
    assert inputs["categorical"][:, 0].tolist() == [2, 3, 0, 1]


def test_categories_seen_once_are_other_and_whole_numbers_are_their_text():
    frame = make_frame({"c": ["1", "1", "2", "2", "rare"], "y": ["a", "b"] * 2 + ["a"]})
    about = fit_encoding(frame, "y", "classification")
    assert list(encode(frame, about)) == ["categorical"]
    assert encode(frame, about)["categorical"][:, 0].tolist() == [2, 2, 3, 3, 1]
    assert encode(make_frame({"c": np.array([1.0, 2.0, np.nan])}), about)["categorical"][:, 0].tolist() == [2, 3, 0]


@pytest.mark.parametrize("scaling", ["standard", "quantile"])
def test_heavy_tails_are_compressed_in_order(scaling):
    values = np.concatenate([np.zeros(500), np.exp(np.random.default_rng(0).normal(0, 3, 500))])
    frame = make_frame({"x": values, "y": np.arange(1000.0)})
    about = json.loads(json.dumps(fit_encoding(frame, "y", "regression", scaling=scaling)))
    scaled = encode(frame, about)["numeric"][:, 0]
    assert np.abs(scaled).max() < 6 and abs(scaled.mean()) < 0.5
    assert (np.diff(scaled[np.argsort(values)]) >= 0).all()
    beyond = encode(make_frame({"x": np.array([1e300, -1e300])}), about)["numeric"]
    assert np.isfinite(beyond).all() and np.abs(beyond).max() <= 10


def test_quantile_scaling_makes_a_column_normal():
    values = np.random.default_rng(0).exponential(size=5000)
    frame = make_frame({"x": values, "y": values})
    scaled = encode(frame, fit_encoding(frame, "y", "regression", scaling="quantile"))["numeric"][:, 0]
    np.testing.assert_allclose(np.quantile(scaled, [0.0228, 0.1587, 0.5, 0.8413, 0.9772]), [-2, -1, 0, 1, 2], atol=0.05)


def test_regression_targets_are_standardised_and_come_back():
    frame = make_frame({"x": np.arange(4.0), "y": np.array([1.0, 2, 3, 10])})
    about = fit_encoding(frame, "y", "regression")
    target = encode_target(frame, about)
    assert target.dtype == np.float32 and abs(target.mean()) < 1e-6 and abs(target.std() - 1) < 1e-6
    np.testing.assert_allclose(decode_target(target, about), frame["y"], rtol=1e-6)


def test_classes_that_are_numbers_are_in_numeric_order():
    frame = make_frame({"x": np.arange(4.0), "y": np.array([10.0, 9, 10, 9])})
    about = fit_encoding(frame, "y", "classification")
    assert about["classes"] == ["9", "10"]
    assert encode_target(make_frame({"y": ["10.0", "9"]}), about).tolist() == [1, 0]


def test_prediction_input_that_does_not_fit_is_refused():
    frame, about = people()
    refuses(encode, frame[["empty"]], about, words=["none of the model's columns", "Expected age, work"])
    bad = make_frame({"age": ["3", "?", "old"], "work": ["a"] * 3})
    refuses(encode, bad, about, words=["row 3: column 'age' holds numbers. Received: 'old'"])
    assert encode(bad[:2], about)["numeric"][1, 0] == 0
    refuses(encode_target, frame[["age"]], about, words=["no column 'income'"])
    refuses(encode_target, make_frame({"income": ["low", "none at all"]}), about, words=["row 2", "high, low"])
    refuses(encode_target, make_frame({"income": ["low", None]}), about, words=["row 2: the target"])
    refuses(fit_encoding, frame[["empty", "income"]], "income", "classification", words=["nothing to predict it from"])


def test_rows_of_cells_are_read_as_in_training_and_keep_their_place():
    _, about = people()
    rows = [{"work": " b ", "age": "40", "more": "x"}, {"age": "old", "work": "a"}, {"age": "inf"}, {"work": "?", "age": ""}]
    frame, reasons = frame_of_rows(rows, about)
    assert reasons == ["", "age: expected a number. Received: 'old'", "age: expected a number. Received: 'inf'", ""]
    inputs = encode(frame, about)
    assert inputs["categorical"][:, 0].tolist() == [3, 2, 0, 0]
    np.testing.assert_allclose(inputs["numeric"][1:, 0], 0, atol=1e-6)  # the median


def test_a_column_that_is_absent_counts_as_missing():
    frame, about = people()
    assert absent_columns(frame[["work"]], about) == ["age"]
    np.testing.assert_allclose(encode(frame[["work"]], about)["numeric"], 0, atol=1e-6)
    assert encode(frame[["age"]], about)["categorical"].max() == 0


@pytest.mark.parametrize(
    "change",
    [{"numeric": "columns"}, {"roles": []}, {"classes": [1, 2]}, {"categorical": [{"name": "a"}]}, {"columns": None}],
)
def test_an_about_that_somebody_has_edited_is_refused(change):
    about = tabular.load_data(make_config(tabular.Config, {})).about
    tabular.check_about(about)
    (name,) = change
    with pytest.raises(UserError, match=f"'{name}' under about"):
        tabular.check_about({**about, **change})
    flat = [{**column, "std": 0.0} for column in about["numeric"]]
    with pytest.raises(UserError, match="'numeric' under about"):
        tabular.check_about({**about, "numeric": flat})
