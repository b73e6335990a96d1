"""Texts with a label: every format there is, splits by their names, and what is refused or left out."""

import pytest

from apps.common.bundles.input_rows import rows_of
from apps.common.data.text.labelled import read_labelled_texts
from apps.common.errors import UserError

pytestmark = pytest.mark.once  # nothing in it depends on the backend

PAIRS = [("fine food, slow waiters", "good"), ("never again", "bad"), ("we liked it", "good")]


def read(path, **columns):
    found = read_labelled_texts(path, **columns)
    return {split: list(zip(*parts, strict=True)) for split, parts in found.splits.items()}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'text,label\n"fine food, slow waiters",good\nnever again,bad\nwe liked it,good\n'),
        ("a.tsv", "sentiment\treview\ngood\tfine food, slow waiters\nbad\tnever again\ngood\twe liked it\n"),
        ("b.csv", '"fine food, slow waiters",good\nnever again,bad\nwe liked it,good\n'),
        (
            "a.jsonl",
            '{"text": "fine food, slow waiters", "label": "good"}\n{"label": "bad", "text": "never again"}\n'
            '{"text": "we liked it", "label": "good"}\n',
        ),
        (
            "a.json",
            ' [{"text": "fine food, slow waiters", "label": "good"},\n{"label": "bad", "text": "never again"}, '
            '{"text": "we liked it",\n"label": "good"}]',
        ),
        (
            "b.json",
            '{"text": "fine food, slow waiters", "label": "good"}\n{"label": "bad", "text": "never again"}\n'
            '{"text": "we liked it", "label": "good"}\n',
        ),
        ("a.all", "good fine food, slow waiters\nbad never again\ngood we liked it\n"),
        ("a.fasttext", "__label__good fine food, slow waiters\n__label__bad\tnever again\n__label__good we liked it\n"),
        ("c.csv", 'text,label\n"fine food, slow waiters",__label__good\nnever again,__label__bad\nwe liked it,__label__good\n'),
        ("a.txt", "\ufeffgood\tfine food, slow waiters\nbad\tnever again\r\ngood\twe liked it"),
    ],
)
def test_every_format_gives_the_same_texts_and_labels(tmp_path, name, content):
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    assert read(tmp_path / name) == {"train": PAIRS}


def test_a_folder_a_class(tmp_path):
    for index, (text, label) in enumerate(PAIRS):
        (tmp_path / label).mkdir(exist_ok=True)
        (tmp_path / label / f"{index}.txt").write_text(text)
    assert sorted(read(tmp_path)["train"]) == sorted(PAIRS)


@pytest.mark.parametrize("names", [("x.train", "x.dev", "x.test"), ("T.train.all", "T.val.all", "T.test.all")])
def test_files_of_one_name_are_the_splits_it_says(tmp_path, names):
    for name, (text, label) in zip(names, PAIRS, strict=True):
        (tmp_path / name).write_text(f"{label} {text}\n")
    (tmp_path / f"other.{names[0]}").write_text("bad not of this set\n")
    expected = {split: [pair] for split, pair in zip(("train", "validation", "test"), PAIRS, strict=True)}
    assert read(tmp_path / names[0]) == expected


def test_columns_are_asked_for_where_their_names_do_not_tell(tmp_path):
    (tmp_path / "a.csv").write_text("one,two,three\nx y,1,good\nz,2,bad\n")
    with pytest.raises(UserError, match=r"one, two, three; say which is meant by --text-column and --label-column"):
        read(tmp_path / "a.csv")
    assert read(tmp_path / "a.csv", text_column="one", label_column="three")["train"] == [("x y", "good"), ("z", "bad")]
    with pytest.raises(UserError, match="no such column"):
        read(tmp_path / "a.csv", text_column="once", label_column="three")


@pytest.mark.parametrize(
    ("ending", "train", "test", "why"),
    [
        ("csv", "id,text,label\n1,fine,good\n2,no,bad\n", "id,text\n3,poor\n4,fair\n", "has no column 'label'"),
        ("csv", "text,label\nfine,good\nno,bad\n", "id,text\n3,poor\n4,fair\n", "has no column 'label'"),
        ("csv", "text,label\nfine,good\nno,bad\n", "text\npoor\nfair\n", "has no column 'label'"),
        ("csv", "text,label\nfine,good\nno,bad\n", "text,label\npoor,\nfair,\n", "has no label in its column 'label'"),
        ("jsonl", '{"text": "fine", "label": "good"}\n{"text": "no", "label": "bad"}', '{"text": "a"}', "has no column 'label'"),
    ],
)
def test_a_test_file_without_labels_is_left_out_and_said(tmp_path, ending, train, test, why):
    (tmp_path / f"train.{ending}").write_text(train)
    (tmp_path / f"test.{ending}").write_text(test)
    found = read_labelled_texts(tmp_path / f"train.{ending}")
    assert found.splits == {"train": (["fine", "no"], ["good", "bad"])}
    assert found.notes[-1] == f"test.{ending}, the test split by its name, {why}: it is left out"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('[{"text": "fine"', r"a\.json: not JSON \(.*expected an array of objects, or an object a line"),
        ("[]", r"a\.json: it has no row. Expected an array of JSON objects"),
        ('[{"text": "fine", "label": "good"}, "no"]', r"1 of 2 rows of .*a\.json cannot be read \(50.0%\): row 2 \(not a JSON"),
        ('{"text": {\n"0": "fine"}}', r"2 of 2 lines of .*a\.json cannot be read"),
    ],
)
def test_json_that_is_no_rows_is_refused_by_its_name(tmp_path, content, said):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(UserError, match=said):
        read_labelled_texts(tmp_path / "a.json")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"text": "a", "label": "x"}\n{"text": "b", "label": ["x", "y"]}', "line 2: 'label' is a list .*one label"),
        ("a.json", '[{"text": ["a", "b"], "label": "x"}]', "row 1: 'text' is a list or an object; expected one text"),
        ("a.txt", "__label__x a\n__label__x __label__y b\n", "line 2 has several labels; expected one label a text"),
    ],
)
def test_several_labels_of_a_text_are_refused_by_their_line(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=said):
        read_labelled_texts(tmp_path / name)


def test_files_of_one_name_have_the_header_and_the_columns_of_the_first(tmp_path):
    (tmp_path / "train.csv").write_text("one,two,kind\nx y,1,a\nz,2,b\n")
    (tmp_path / "test.csv").write_text("two,label,kind,one\n1,2,a,why\n")
    assert read(tmp_path / "train.csv", text_column="one", label_column="kind")["test"] == [("why", "a")]
    (tmp_path / "train.csv").write_text("a fine day,good\na dull day,bad\na long day,bad\na short day,good\n")
    (tmp_path / "test.csv").write_text("another day,good\nthe last day,bad\n")
    assert read(tmp_path / "train.csv")["test"] == [("another day", "good"), ("the last day", "bad")]


def test_other_encodings_are_said_or_refused(tmp_path):
    (tmp_path / "a.all").write_bytes("good crème\nbad no\n".encode("latin-1"))
    found = read_labelled_texts(tmp_path / "a.all")
    assert found.splits["train"][0] == ["crème", "no"] and "line 1" in found.notes[0] and "Latin-1" in found.notes[0]
    (tmp_path / "b.all").write_bytes(b"good fine\nbad n\0o\n")
    with pytest.raises(UserError, match="line 2 holds a NUL byte"):
        read_labelled_texts(tmp_path / "b.all")
    (tmp_path / "c.all").write_text("good fine\nbad no\n", encoding="utf-16")
    with pytest.raises(UserError, match="UTF-16"):
        read_labelled_texts(tmp_path / "c.all")


def test_empty_texts_are_counted_and_too_many_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\n" + "fine,good\nno,bad\n" * 20 + ",bad\n")
    found = read_labelled_texts(tmp_path / "a.csv")
    assert len(found.splits["train"][0]) == 40 and "line 42 (no text)" in found.notes[-1]
    (tmp_path / "b.csv").write_text("text,label\nfine,good\n,bad\n")
    with pytest.raises(UserError, match="1 of 2 texts"):
        read_labelled_texts(tmp_path / "b.csv")


def test_the_column_of_the_texts_is_kept_and_what_is_not_used_is_said(tmp_path):
    (tmp_path / "a.csv").write_text("Verbatim;Sentiment;Shop\nfine;good;1\npoor;bad;1\n")
    found = read_labelled_texts(tmp_path / "a.csv", "Verbatim")
    assert found.column == "Verbatim" and found.notes == [
        "the text is the column 'Verbatim', its class 'Sentiment'; not used: Shop"
    ]


def test_a_quote_that_only_begins_a_cell_of_a_table_in_tabs_is_text_and_swallows_no_line(tmp_path):
    table = tmp_path / "a.tsv"
    pairs = [("fine", "good"), ('"Great', "good"), *[("never again", "bad")] * 4, ('they said "', "good"), ("so so", "bad")]
    table.write_text("text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in pairs))
    assert read(table) == {"train": pairs}
    assert "the quotes of a.tsv are read as part of its texts" in read_labelled_texts(table).notes[0]
    assert [row["text"] for row, _ in rows_of(table, {})] == [text for text, _ in pairs]
    # Those that enclose a cell do so still, also one that goes on in the next line.
    table.write_text('text\tlabel\n"a ""b""\tc"\tgood\n"two\nlines"\tbad\n"whole"\tgood\n')
    found = [('a "b"\tc', "good"), ("two\nlines", "bad"), ("whole", "good")]
    assert read(table) == {"train": found}
    assert [row["text"] for row, _ in rows_of(table, {})] == [text for text, _ in found]


def test_labels_that_differ_in_capitals_alone_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("text,label\na b,Good\nc d,good\ne f,bad\n")
    assert read_labelled_texts(tmp_path / "a.csv").notes == [
        "classes that differ in capitals alone are classes of their own: 'Good' and 'good'"
    ]
    (tmp_path / "a.csv").write_text("text,label\na b,good\nc d,good\ne f,bad\n")
    assert read_labelled_texts(tmp_path / "a.csv").notes == []
