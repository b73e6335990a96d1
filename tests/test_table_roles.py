"""Columns are read as a person reads them: each in a role, shown once and kept."""

import gzip
import shlex
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from apps import tabular
from apps.common.bundles.answers import read_items
from apps.common.data.tables.encoding import columns_of, encode, frame_of_rows
from apps.common.data.tables.parts import hashed_words, time_part
from apps.common.data.tables.reading import read_table
from apps.common.data.tables.roles import parse_numbers
from apps.common.data.tables.rows import read_text_columns
from apps.common.errors import UserError
from apps.common.options.declare import make_config

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def role_of(tmp_path, *cells, name="a"):
    lines = [f'"{cell}",{row % 7}' for row, cell in enumerate(cells)]
    (tmp_path / "a.csv").write_text("\n".join([f"{name},y", *lines]) + "\n")
    table = read_table(tmp_path / "a.csv")
    return table.roles[name]["role"], list(table.frame[name]) if name in table.frame else None


def load(tmp_path, text, **options):
    (tmp_path / "a.csv").write_text(text)
    return tabular.load_data(make_config(tabular.Config, {"data": str(tmp_path / "a.csv"), **options}))


@pytest.mark.parametrize(
    ("cells", "numbers"),
    [
        (["1", "2.5", "-3e2"], [1, 2.5, -300]),
        (["$12,345", "$1.5", "-$2"], [12345, 1.5, -2]),
        (["12 %", "3.5%", "0 %"], [12, 3.5, 0]),
        (["1.234,5", "12,25", "3"], [1234.5, 12.25, 3]),
        (["1 234,5 €", "2 €", "12 345 €"], [1234.5, 2, 12345]),
        (["(12.50)", "3", "1,000,000"], [-12.5, 3, 1e6]),
    ],
)
def test_numbers_are_read_with_their_marks(cells, numbers):
    np.testing.assert_allclose(parse_numbers(pa.array(cells))[0], numbers)


def test_a_decimal_mark_is_kept_for_later_cells():
    _, decimal = parse_numbers(pa.array(["1.234,5", "2,5"]))
    assert decimal == ","
    np.testing.assert_allclose(parse_numbers(pa.array(["1.234", "1.5", "x"]), decimal)[0], [1234, 1.5, np.nan])


def test_roles_are_found(tmp_path):
    assert role_of(tmp_path, "00501", "90210", "00501")[0] == "category"
    assert role_of(tmp_path, "90210", "10001", "90210", name="zip_code")[0] == "category"
    assert role_of(tmp_path, "yes", "no", "yes")[0] == "boolean"
    assert role_of(tmp_path, "5", "5", "5")[0] == "constant"
    assert role_of(tmp_path, *range(30))[0] == "identifier"
    assert role_of(tmp_path, *(f"u{row:03d}" for row in range(30))) == ("identifier", None)
    assert role_of(tmp_path, *(row * row for row in range(30)))[0] == "number"
    assert role_of(tmp_path, *(row * 7 for row in range(30)), name="customerId")[0] == "identifier"
    assert role_of(tmp_path, *(f"the parcel came {row} days too late" for row in range(30)))[0] == "text"
    assert role_of(tmp_path, "red", "blue", "red")[0] == "category"


@pytest.mark.parametrize(
    "cells",
    [
        ["1970-01-02", "1970-01-31"], ["1970-01-02 00:00:00", "1970-01-31 00:00:00"],
        ["1970-01-02T00:00:00Z", "1970-01-31T00:00:00Z"],
        ["02/01/1970", "31/01/1970"], ["01/02/1970", "01/31/1970"], ["02.01.1970", "31.01.1970"],
        ["Jan 02, 1970", "Jan 31, 1970"],
        ["2 Jan 1970", "31 Jan 1970"],
    ],
)  # fmt: skip
def test_dates_are_read_in_their_form(tmp_path, cells):
    assert role_of(tmp_path, *cells) == ("time", [86_400.0, 30 * 86_400.0])


def test_parts_of_a_time():
    moment = np.array([np.datetime64("2024-02-29T18:30").astype("datetime64[s]").astype(float), np.nan])
    parts = {part: time_part(moment, part, moment[0] - 86_400)[0] for part in ("days", "year", "month", "weekday", "hour")}
    assert parts == {"days": 1, "year": 2024, "month": 2, "weekday": 3, "hour": 18.5}
    np.testing.assert_allclose(time_part(moment, "hour_sin", 0), [np.sin(2 * np.pi * 18.5 / 24), np.nan])


def test_texts_with_the_same_words_are_the_same_point():
    a, b, c, missing = hashed_words(["Late again, broken", "broken late AGAIN", "very happy", None])
    np.testing.assert_array_equal(a, b)
    assert abs(a @ c) < 0.9 and not missing.any()


def test_what_a_model_gets_is_said_and_an_option_overrules(tmp_path):
    text = "id,zip,when,note,y\n" + "".join(f"k{i},{90000 + i % 3},2020-01-{i % 28 + 1:02d},x,{'ab'[i % 2]}\n" for i in range(60))
    data = load(tmp_path, text)
    assert data.about["left_out"] == ["id", "note"]
    assert [line for line in data.notes if "left out" in line] == [
        "left out, a name or number of each row: id", "left out, constant: note",
    ]  # fmt: skip
    assert [each["name"] for each in data.about["categorical"]] == ["zip"]
    assert {each["column"] for each in data.about["numeric"]} == {"when"}
    data = load(tmp_path, text, columns="zip=number,when=ignore")
    assert [each["name"] for each in data.about["numeric"]] == ["zip"] and "when" in data.about["left_out"]
    with pytest.raises(UserError, match=r"--columns zap: no such column. Did you mean 'zip'"):
        load(tmp_path, text, columns="zap=number")
    with pytest.raises(UserError, match="expected NAME=ROLE"):
        make_config(tabular.Config, {"columns": "zip=code"})


@pytest.mark.parametrize(
    ("words", "classes"),
    [(["1", "01"], ["01", "1"]), (["1e3", "1000"], ["1000", "1e3"]), (["NA", "EU", "AS"], ["AS", "EU", "NA"]),
     (["none", "mild"], ["mild", "none"]), (["1.0", "0.0"], ["0", "1"]), (["a", "", "b"], ["a", "b"])],
)  # fmt: skip
def test_distinct_class_texts_stay_distinct(tmp_path, words, classes):
    data = load(tmp_path, "x,y\n" + "".join(f"{i % 7}.5,{word}\n" for i in range(12) for word in words))
    assert data.about["classes"] == classes


def test_the_header_of_pandas_without_names_is_a_header(tmp_path):
    (tmp_path / "a.csv").write_text(",0,1,2\n0,1.5,2,3\n1,2.5,3,4\n")
    assert list(read_table(tmp_path / "a.csv").frame.columns) == ["0", "1", "2"]


def test_a_row_is_encoded_as_the_whole_file_is(tmp_path):
    text = "when,price,zip,note,y\n" + "".join(
        f'{i % 28 + 1}.03.2021,"{i % 9}.{i:03d},5 €",0{i % 4}10,came {i} days late today,{"ab"[i % 2]}\n' for i in range(40)
    )
    data = load(tmp_path, text)
    rows = [item.value for item in read_items([str(tmp_path / "a.csv")], tabular.INPUTS)]
    assert rows[1]["zip"] == "0110" and len(rows) == 40
    frame, reasons = frame_of_rows(rows, data.about)
    whole = read_table(tmp_path / "a.csv", **columns_of(data.about))
    assert not any(reasons)
    for key, values in encode(whole.frame, data.about).items():
        np.testing.assert_array_equal(encode(frame, data.about)[key], values)


def test_gradient_boosting_stands_beside_the_mean(tmp_path):
    config = make_config(tabular.Config, {"data": "diabetes"})
    found = tabular.baselines(tabular.load_data(config), config)
    assert found["mean"]["r2"] < 0.05 < 0.2 < found["gradient boosting"]["r2"]


# Odd input, each one clear line


def refused(tmp_path, name, content, **options):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError) as caught:
        tabular.load_data(make_config(tabular.Config, {"data": str(tmp_path / name), **options}))
    return str(caught.value)


def test_a_million_columns_are_refused_at_once(tmp_path):
    started = time.monotonic()
    line = ",".join(["1"] * 1_000_000).encode()
    assert "1,000,000 columns; expected at most" in refused(tmp_path, "a.csv", line + b"\n" + line + b"\n")
    assert time.monotonic() - started < 20


def test_a_packed_file_is_refused_before_it_is_unpacked_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr("apps.common.data.reading.available_memory", lambda: 1 << 20)
    assert "of memory, but only" in refused(tmp_path, "a.csv.gz", gzip.compress(b"1,2\n" * 5_000_000))


def test_numbers_out_of_reach_are_refused(tmp_path):
    rows = "x,y\n" + "".join(f"{i % 5},{i}e299\n" for i in range(1, 60))
    assert "Expected numbers up to 1e+30" in refused(tmp_path, "a.csv", rows.encode())
    far = pa.table({"t": pa.array([2**60, 1], pa.timestamp("ms")), "y": [1, 2]})
    pyarrow.parquet.write_table(far, tmp_path / "b.parquet")
    content = (tmp_path / "b.parquet").read_bytes()
    assert "column 't' holds times that cannot be" in refused(tmp_path, "b.parquet", content)


def test_a_device_is_no_table():
    with pytest.raises(UserError, match="a device or a pipe; expected a file"):
        tabular.load_data(make_config(tabular.Config, {"data": "/dev/zero"}))


def test_a_long_table_is_read_in_columns(tmp_path, monkeypatch):
    """Row by row costs tens of microseconds a cell; it is never needed for a table without damage."""
    monkeypatch.setattr("apps.common.data.tables.rows._cut_row_by_row", None)
    lines = ["a,b,c", *(f'{i},"{i % 9},""x""",{i / 7}' for i in range(50_000))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    found = read_text_columns(tmp_path / "a.csv")
    assert len(found.columns["a"]) == 50_000 and found.columns["b"][10].as_py() == '1,"x"'
    assert found.lines[:2] == [2, 3]


def test_the_example_that_is_printed_has_every_column_and_is_read_again(tmp_path):
    days = [(1 + i % 12, 1 + i % 28) for i in range(60)]
    rows = "".join(f"{m:02}/{d:02}/2024,2024-03-{d:02},${d * 10.5:.2f},{'ab'[m % 2]}\n" for m, d in days)
    (tmp_path / "t.csv").write_text("day,iso,price,kind\n" + rows)
    data = tabular.load_data(make_config(tabular.Config, {"data": str(tmp_path / "t.csv")}))
    pairs = dict(word.split("=", 1) for word in shlex.split(data.example))
    assert set(pairs) == {"day", "iso", "price"}
    frame, reasons = frame_of_rows([pairs], data.about)
    assert reasons == [""] and not frame.isna().any(axis=None)
