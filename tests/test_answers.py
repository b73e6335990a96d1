"""Inputs of any number and kind, one row out for each in: files, folders, lines, tables and what cannot be read."""

import csv
import io
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from apps.common.app import Inputs
from apps.common.bundles.answers import CHUNK, Failures, RowsFile, answer, read_items
from apps.common.data.reading import PATH_COLUMNS
from apps.common.errors import UserError

pytestmark = pytest.mark.once  # nothing in it depends on the backend

TEXTS, FILES, ROWS = Inputs("texts"), Inputs("files", (".png",)), Inputs("rows")


def values(words, inputs):
    return [item.value for item in read_items([str(word) for word in words], inputs)]


def an_app(inputs, predict):
    return SimpleNamespace(INPUTS=inputs, predict=predict)


def test_a_text_file_is_its_lines_blank_ones_too(tmp_path):
    (tmp_path / "lines.txt").write_bytes("first\n\nthird é\n".encode() + b"\xff\xfe\n")
    items = list(read_items([str(tmp_path / "lines.txt"), "typed"], TEXTS))
    assert [item.value for item in items] == ["first", None, "third é", None, "typed"]
    assert [bool(item.reason) for item in items] == [False, True, False, True, False]


def test_a_model_of_whole_files_is_given_a_file_as_one_text_and_a_folder_as_its_files(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "b.txt").write_text("first\nsecond\n")
    (tmp_path / "in" / "a.txt").write_bytes(b"caf\xe9")
    (tmp_path / "in" / "c.TXT").write_text("\ufeffone\n\ntwo")
    (tmp_path / "in" / "d.md").write_text("not a text")
    app = an_app(TEXTS, lambda model, texts, about: [{"text": text} for text in texts])
    rows = list(answer(app, None, {"whole_files": True}, [str(tmp_path / "b.txt"), str(tmp_path / "in")]))
    assert [row.get("text") for row in rows] == ["first\nsecond\n", None, "one\n\ntwo"]
    assert rows[1] == {"input": str(tmp_path / "in" / "a.txt"), "reason": "not UTF-8: byte 3 is 0xe9"}
    assert [row["text"] for row in answer(app, None, {}, [str(tmp_path / "b.txt")])] == ["first", "second"]
    with pytest.raises(UserError, match="a folder; expected a file or a text"):
        list(answer(app, None, {}, [str(tmp_path / "in")]))


def test_standard_input_is_read_line_by_line(monkeypatch):
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"a\nb\n")))
    assert values(["-"], TEXTS) == ["a", "b"]


def test_what_is_no_text_has_a_reason_and_comes_back_readable(tmp_path):
    (tmp_path / "cut.jsonl").write_text('{"text": "half \\ud83d", "id": 1}\n{"text": "whole \\ud83d\\ude00", "id": 2}\n')
    (tmp_path / "latin.csv").write_bytes(b"text,id\ncaf\xe9,1\ntea,2\n")
    app = an_app(Inputs("texts", column=("text",)), lambda model, texts, about: [{"label": text.upper()} for text in texts])
    words = [str(tmp_path / "cut.jsonl"), str(tmp_path / "latin.csv"), "caf\udce9"]
    with RowsFile(tmp_path / "out.jsonl") as file:
        rows = list(answer(app, None, {}, words))
        for row in rows:
            file.write(row)
    assert [row.get("label") for row in rows] == [None, "WHOLE \U0001f600", None, "TEA", None]
    assert all("not UTF-8, or half of a surrogate pair" in rows[place]["reason"] for place in (0, 2, 4))
    back = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert back[0]["text"] == "half \ufffd" and back[0]["id"] == 1 and back[4]["input"] == "caf\ufffd"


def test_an_array_of_json_or_an_object_a_line_is_rows_and_another_json_is_refused(tmp_path):
    (tmp_path / "rows.json").write_text('[{"text": "a"}, "b", 3]')
    items = list(read_items([str(tmp_path / "rows.json")], Inputs("texts", column=("text",))))
    assert [item.value for item in items] == ["a", "b", None] and "not a JSON object" in items[2].reason
    (tmp_path / "lines.json").write_text('{"text": "a"}\n{"text": "b"}\n')
    assert values([tmp_path / "lines.json"], Inputs("texts", column=("text",))) == ["a", "b"]
    (tmp_path / "squad.json").write_text('{"data": []}')
    (tmp_path / "damaged.json").write_text("[{")
    (tmp_path / "head.csv").write_text("text,id\n")
    for name, said in (("squad.json", "not an array"), ("damaged.json", "cannot be read as JSON"), ("head.csv", "no rows")):
        with pytest.raises(UserError, match=said):
            list(read_items([str(tmp_path / name)], ROWS))


def test_a_folder_and_a_list_are_files(tmp_path):
    for name in ("b.png", "a.png", "c.txt"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in values([tmp_path], FILES)] == ["a.png", "b.png"]
    (tmp_path / "list.lst").write_text("b.png\nmissing.png\n")
    (first, second) = read_items([str(tmp_path / "list.lst")], FILES)
    assert first.value == tmp_path / "b.png" and second.reason == "no such file"


def test_rows_of_a_table_come_back_text_for_text(tmp_path):
    (tmp_path / "t.csv").write_text("id;note\n00000;a\n123456789012345678;b\nragged\n")
    app = an_app(ROWS, lambda model, rows, about: [{"id": 1, "prediction": len(row["note"])} for row in rows])
    rows = list(answer(app, None, {}, [str(tmp_path / "t.csv")]))
    assert [row["id"] for row in rows] == ["00000", "123456789012345678", "ragged"]
    assert [row.get("predicted_id") for row in rows] == [1, 1, None], "a user's column is never overwritten"
    assert "line 4 has 1 cells, the header 2" in rows[2]["reason"]


def test_inputs_are_taken_a_chunk_at_a_time(tmp_path):
    seen = []

    def predict(model, inputs, about):
        seen.append(len(inputs))
        return [{"n": text} for text in inputs]

    (tmp_path / "many.txt").write_text("".join(f"{i}\n" for i in range(CHUNK + 3)))
    rows = answer(an_app(TEXTS, predict), None, {}, [str(tmp_path / "many.txt")])
    assert next(rows)["n"] == "0" and seen == [CHUNK], "the rest is not read before it is asked for"
    assert [row["n"] for row in rows][-1] == str(CHUNK + 2) and seen == [CHUNK, 3]


def test_an_app_that_compares_its_inputs_has_those_of_all_chunks(tmp_path):
    app = an_app(TEXTS, lambda model, texts, about: [{"n": int(text)} for text in texts])
    app.compare_inputs = lambda inputs, rows: (
        {**row, "after": inputs[index - 1], "of": len(rows)} for index, row in enumerate(rows)
    )
    (tmp_path / "many.txt").write_text("".join(f"{i}\n" for i in range(CHUNK + 3)) + "\n")
    *rows, last = answer(app, None, {}, [str(tmp_path / "many.txt")])
    assert rows[CHUNK] == {"input": "256", "n": 256, "after": "255", "of": CHUNK + 4}
    assert last["reason"] == "empty" and last["after"] == "258", "what cannot be read keeps its place"
    assert list(answer(app, None, {}, [])) == []


@pytest.mark.parametrize("ending", [".csv", ".json", ".jsonl"])
def test_rows_are_written_whole_or_not_at_all(tmp_path, ending):
    path = tmp_path / f"out{ending}"
    with pytest.raises(KeyError), RowsFile(path) as file:
        file.write({"a": 1})
        raise KeyError
    assert list(tmp_path.iterdir()) == []
    with RowsFile(path) as file:
        file.write({"a": "1"})
        file.write({"a": "2", "late": {"x": 1}})
    text = path.read_text()
    if ending == ".csv":
        assert list(csv.DictReader(text.splitlines())) == [{"a": "1", "late": ""}, {"a": "2", "late": '{"x": 1}'}]
    else:
        rows = json.loads(text) if ending == ".json" else [json.loads(line) for line in text.splitlines()]
        assert rows == [{"a": "1"}, {"a": "2", "late": {"x": 1}}]
    assert list(tmp_path.iterdir()) == [path]


def test_an_input_is_never_the_output(tmp_path):
    (tmp_path / "t.csv").write_text("a\n1\n")
    with pytest.raises(UserError, match="is an input as well"):
        RowsFile(tmp_path / "t.csv", [str(tmp_path / "t.csv")])


def test_failures_are_counted_and_no_answer_at_all_is_an_error():
    failures = Failures()
    for row in ({"input": "a"}, {"input": "b", "reason": "cut short"}):
        failures.see(row)
    failures.check()
    assert failures.line() == "1 of 2 inputs have no answer: b (cut short)"
    nothing = Failures()
    nothing.see({"input": "b", "reason": "cut short"})
    with pytest.raises(UserError, match=r"b \(cut short\)"):
        nothing.check()


def test_columns_are_found_in_upper_and_lower_case_and_by_the_name_the_training_had(tmp_path):
    (tmp_path / "said.csv").write_text("Nr;Review\n1;fine\n2;poor\n")
    inputs = Inputs("texts", column=("text", "review"))
    assert values([tmp_path / "said.csv"], inputs) == ["fine", "poor"]
    (tmp_path / "own.csv").write_text("text,Verbatim\nx,fine\n")
    app = an_app(Inputs("texts"), lambda model, inputs, about: [{"length": len(text)} for text in inputs])
    [row] = answer(app, None, {"column": "Verbatim"}, [tmp_path / "own.csv"])
    assert row == {"text": "x", "Verbatim": "fine", "length": 4}


def test_pairs_in_tabs_without_a_header_keep_their_first_row(tmp_path):
    (tmp_path / "pairs.tsv").write_text("one\tun\ntwo\tdeux\n")
    inputs = Inputs("texts", column=("source", "text"))
    items = list(read_items([tmp_path / "pairs.tsv"], inputs))
    assert [item.value for item in items] == ["one", "two"] and items[1].fields == {"input": "two", "column 2": "deux"}
    (tmp_path / "pairs.tsv").write_text("7\tone\t8\tun\n9\ttwo\t10\tdeux\n")  # numbers stand before the texts, as in training
    assert values([tmp_path / "pairs.tsv"], inputs) == ["one", "two"]
    (tmp_path / "pairs.tsv").write_text("Target\tSource\nun\tone\n")
    assert values([tmp_path / "pairs.tsv"], inputs) == ["one"]


def test_a_folder_of_pictures_names_those_that_are_not_decoded(tmp_path):
    for name in ("a.jpg", "b.HEIC", "c.mov"):
        (tmp_path / name).write_bytes(b"x")
    assert [path.name for path in values([tmp_path], Inputs("files", (".jpg",), (".heic",)))] == ["a.jpg", "b.HEIC"]


def test_pictures_are_found_in_the_tables_that_are_trained_on(tmp_path):
    (tmp_path / "0.png").touch()
    for column in PATH_COLUMNS:
        (tmp_path / "pairs.csv").write_text(f"text,{column}\na red thing,0.png\n")
        [item] = read_items([str(tmp_path / "pairs.csv")], Inputs("files", (".png",)))
        assert Path(item.value).name == "0.png", column
