"""Tables are read from every format, and what cannot be read is refused or counted in one clear line."""

import gzip
import os

import numpy as np
import pandas as pd
import pytest

from apps.common.data.tables.reading import named_table, read_splits, read_table
from apps.common.errors import UserError

pytestmark = pytest.mark.once  # nothing in it depends on the backend

PEOPLE = "age,work,income\n39,Private,<=50K\n50,Self,>50K\n,?,<=50K\n28,Private,>50K\n"


def write(path, text, encoding="utf-8"):
    path.write_bytes(text if isinstance(text, bytes) else text.encode(encoding))
    return path


def refuses(function, *arguments, words=(), **options):
    with pytest.raises(UserError) as caught:
        function(*arguments, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message


def roles_of(table):
    return {name: role["role"] for name, role in table.roles.items()}


def cells(frame):
    """Rows of a frame as lists, NaN as None, so that they compare."""
    return [[None if value is None or value != value else value for value in row] for row in frame.to_numpy().tolist()]


# Formats


def test_columns_are_numbers_or_text_with_missing_values(tmp_path):
    table = read_table(write(tmp_path / "a.csv", PEOPLE))
    assert roles_of(table) == {"age": "number", "work": "category", "income": "category"}
    assert cells(table.frame)[2] == [None, None, "<=50K"]
    assert table.frame["age"].dtype == np.float64 and table.frame["work"].dtype == object
    assert table.frame["work"][2] is None and table.notes == []


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|", ", "])
@pytest.mark.parametrize("packed", [False, True])
def test_delimiter_spaces_and_gzip_are_found_by_looking(tmp_path, delimiter, packed):
    text = PEOPLE.replace(",", delimiter).encode()
    table = read_table(write(tmp_path / "a.csv", gzip.compress(text) if packed else text))
    assert list(table.frame.columns) == ["age", "work", "income"] and cells(table.frame)[0] == [
        39.0,
        "Private",
        "<=50K",
    ]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_line_ends_bom_blank_lines_and_non_ascii_are_accepted(tmp_path, ends):
    text = "\ufeffÂge,städte\n1,Zürich\n\n2,東京\u2028x\n".replace("\n", ends)
    frame = read_table(write(tmp_path / "ä b.csv", text)).frame
    assert list(frame.columns) == ["Âge", "städte"] and cells(frame) == [[1.0, "Zürich"], [2.0, "東京\u2028x"]]


@pytest.mark.parametrize("missing", ["", " ", "NA", "NaN", "nan", "?", " ? ", "null", "None", "N/A"])
def test_words_for_missing_are_missing(tmp_path, missing):
    frame = read_table(write(tmp_path / "a.csv", f"a,b\n1,x\n{missing},{missing}\n2,y\n")).frame
    assert cells(frame)[1] == [None, None]


def test_quotes_keep_delimiters_and_line_ends(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", 'a,b\n1,"x, ""y""\nz"\n2,w\n')).frame
    assert cells(frame) == [[1.0, 'x, "y"\nz'], [2.0, "w"]]
    frame = read_table(write(tmp_path / "b.csv", "'40-49','a,b',1\n'50-59','c','2'\n'40-49','a,b',3\n")).frame
    assert cells(frame)[0] == ["40-49", "a,b", 1.0] and cells(frame)[1] == ["50-59", "c", 2.0]


def test_decimal_commas_are_numbers_between_semicolons(tmp_path):
    frame = read_table(write(tmp_path / "a.csv", "a;b\n1,5;2\n-0,25;3\n")).frame
    assert cells(frame) == [[1.5, 2.0], [-0.25, 3.0]]


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("5.1,3.5,setosa\n4.9,3.0,setosa\n", False),
        ("M,0.4,15\nF,0.3,7\n", False),
        ("a,yes,x\nb,no,y\na,yes,x\n", False),
        ("?,a,x\n1,b,y\n", False),
        ("width,kind\n1,a\n2,b\n", True),
        ("colour,kind\nred,a\nblue,b\nred,b\n", True),
        (",width,kind\n0,1,a\n1,2,b\n", True),
        ("id,2019,note\n1,5,a\n2,7,b\n", True),
    ],
)
def test_a_header_is_found_by_looking(tmp_path, text, header):
    table = read_table(write(tmp_path / "a.csv", text))
    assert len(table.frame) == text.count("\n") - header
    assert any("has no header" in note for note in table.notes) == (not header)
    assert ("column_2" in table.frame.columns) == (not header)


def test_a_column_that_numbers_the_rows_is_not_used(tmp_path):
    table = read_table(write(tmp_path / "a.csv", ",width,kind\n0,1,a\n1,2,b\n"))
    assert list(table.frame.columns) == ["width", "kind"]
    assert table.notes == ["the first column, which has no name, only numbers the rows: it is not used"]


def test_header_can_be_said(tmp_path):
    path = write(tmp_path / "a.csv", "1,2\n3,4\n")
    assert list(read_table(path, header="yes").frame.columns) == ["1", "2"]
    assert len(read_table(write(path, "a,b\nc,d\n"), header="no").frame) == 2


def test_parquet_is_read_like_csv(tmp_path):
    frame = pd.DataFrame(
        {
            "n": [1, None, 3],
            "t": ["a", None, " b"],
            "c": pd.Categorical(["x", "y", "x"]),
            "b": [True, False, True],
            "d": pd.to_datetime(["1970-01-02", None, "1970-01-01"]),
        },
        index=[5, 6, 7],
    )
    frame.to_parquet(tmp_path / "a.parquet")
    table = read_table(tmp_path / "a.parquet")
    assert cells(table.frame) == [
        [1.0, "a", "x", "True", 86400.0],
        [None, None, "y", "False", None],
        [3.0, "b", "x", "True", 0.0],
    ]
    assert roles_of(table) == {"n": "number", "t": "category", "c": "category", "b": "boolean", "d": "time"}


def test_train_and_test_files_are_found_beside_each_other(tmp_path):
    for name in ("a-train.csv", "a-test.csv", "b-train.csv", "b_val.csv", "c.csv"):
        write(tmp_path / name, PEOPLE)
    splits = read_splits(tmp_path / "a-train.csv")
    assert list(splits) == ["train", "test"]
    assert splits["test"].notes == ["a-test.csv, beside a-train.csv, is the test split"]
    assert list(read_splits(tmp_path / "b-train.csv")) == ["train", "validation"]
    assert list(read_splits(tmp_path / "c.csv")) == ["train"]
    assert list(read_splits(tmp_path / "a-test.csv")) == ["train"]
    refuses(read_splits, tmp_path, words=["several tables", "a-test.csv, a-train.csv", "Give one of"])


def test_a_folder_has_one_table_or_one_train_table(tmp_path):
    refuses(read_splits, tmp_path, words=["no table in this folder"])
    write(tmp_path / "only.csv", PEOPLE)
    write(tmp_path / "README.md", "x")
    assert list(read_splits(tmp_path)) == ["train"]
    (tmp_path / "only.csv").rename(tmp_path / "train.csv")
    write(tmp_path / "test.csv.gz", gzip.compress(PEOPLE.encode()))
    assert list(read_splits(tmp_path)) == ["train", "test"]


def test_the_test_split_shares_the_kinds_and_header_of_the_training_split(tmp_path):
    write(tmp_path / "train.csv", "1,a,<=50K\n2,7,>50K\n3,b,>50K\n")
    write(tmp_path / "test.csv", "x,7,<=50K.\n")
    refuses(read_splits, tmp_path, words=["test.csv: column 'column_1' holds numbers, but line 1: 'x'"])
    write(tmp_path / "test.csv", "1,7,<=50K.\n2,8,>50K.\n")
    test = read_splits(tmp_path)["test"]
    assert cells(test.frame) == [[1.0, "7", "<=50K"], [2.0, "8", ">50K"]]
    assert test.notes[-1] == "column 'column_3': the full stop that ends each value of this split is dropped"


def test_named_tables_come_with_scikit_learn():
    iris = named_table("iris")
    assert iris.frame.shape == (150, 5) and iris.frame["target"].iloc[-1] == "virginica"
    assert named_table("diabetes").frame["target"].dtype == np.float64
    assert named_table("no such name") is None


def test_a_file_for_prediction_is_read_with_the_kinds_of_the_training_rows(tmp_path):
    known = {"roles": {"age": {"role": "number"}, "code": {"role": "category"}}, "names": ("code", "age")}
    table = read_table(write(tmp_path / "a.csv", "code,age\n07,?\n"), **known)
    assert cells(table.frame) == [["07", None]]
    assert roles_of(table) == {"code": "category", "age": "number"}
    refuses(read_table, write(tmp_path / "a.csv", "code,age\n1,2\n1,old\n"), **known, words=["line 3: 'old'"])
    assert cells(read_table(write(tmp_path / "a.csv", "08,1\n"), **known).frame) == [["08", 1.0]]


# Bad input


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf \n", "the file is empty"),
        (b"a,b\n", "a header but no rows"),
        (b"a,b\n1,caf\xe9\n", "line 2 is not UTF-8 (byte 9, 0xe9). Save it as UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), "its encoding is UTF-16"),
        (b"a,b\n1,\0\n", "line 2 holds a NUL byte (byte 6)"),
        (b"PK\3\4xxxx", "a spreadsheet or zip archive"),
        (b"PAR1xxxxPAR1", "not Parquet, or damaged"),
        (b"\x1f\x8bxxxx", "cannot be read"),
        (gzip.compress(os.urandom(5000))[:2000], "cannot be read"),
        (b'a,b\n1,2\n3,"x\n4,5\n', "the row that begins in line 3 cannot be read"),
        (b"a,a\n1,2\n3,4\n", "two columns are called 'a'"),
        (b"a,b\n1,2,3\n4,5,6\n7,8,9\n", "the first line has 2 cells, most have 3"),
    ],
)
def test_a_file_that_is_no_table_is_refused(tmp_path, content, words):
    refuses(read_table, write(tmp_path / "a.csv", content), words=["a.csv", words])


def test_ragged_rows_are_counted_by_line_up_to_five_percent(tmp_path):
    rows = ["a,b", *(f"{n},{n}" for n in range(30)), "1,2,3"]
    table = read_table(write(tmp_path / "a.csv", "\n".join(rows)))
    assert len(table.frame) == 30
    assert "left out 1 of 32 rows" in table.notes[0] and "line 32 (3 cells, not 2)" in table.notes[0]
    refuses(
        read_table, write(tmp_path / "a.csv", "\n".join([*rows, "7"])), words=["2 of 33", "line 33 (1 cells, not 2)"]
    )


def test_infinite_numbers_are_missing_and_counted_up_to_five_percent(tmp_path):
    rows = ["a,b", *(f"{n},{n}" for n in range(30)), "inf,1e999"]
    table = read_table(write(tmp_path / "a.csv", "\n".join(rows)))
    assert table.notes == ["2 infinite numbers in a.csv are treated as missing (columns a, b)"]
    assert cells(table.frame)[-1] == [None, None]
    refuses(
        read_table, write(tmp_path / "a.csv", "\n".join([*rows, "-inf,1"])), words=["2 of 32", "line 33 (infinite)"]
    )


def test_a_column_that_is_almost_numeric_says_why_it_is_text(tmp_path):
    rows = ["a,b", *(f"{n},{n}" for n in range(50)), "1_000,2"]
    notes = read_table(write(tmp_path / "a.csv", "\n".join(rows))).notes
    assert notes == ["column 'a' is text because 1 of 51 cells are no numbers (line 52: '1_000')"]


def test_an_enormous_table_is_refused_on_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr("apps.common.data.reading.available_memory", lambda: 1000)
    for content in (PEOPLE.encode(), gzip.compress(PEOPLE.encode() * 100)):
        refuses(read_table, write(tmp_path / "a.csv", content), words=["of memory, but only 700 bytes", "Parquet"])


def test_parquet_with_lists_or_without_rows_is_refused(tmp_path):
    pd.DataFrame({"a": [[1], [2]]}).to_parquet(tmp_path / "a.parquet")
    refuses(read_table, tmp_path / "a.parquet", words=["column 'a' holds list", "Expected numbers, text or times"])
    pd.DataFrame({"a": []}).to_parquet(tmp_path / "a.parquet")
    refuses(read_table, tmp_path / "a.parquet", words=["no rows"])
