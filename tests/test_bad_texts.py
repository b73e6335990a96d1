"""What a user can get wrong with texts: one line, exit code 2, nothing lost; and any text at all gets an answer or a reason."""

import json

import pytest
from app_cases import APP_CASES

import triptych
from apps.common.app import load_app
from apps.common.bundles.bundle import save_bundle
from apps.common.options.declare import make_config
from apps.common.training import run as life

pytestmark = pytest.mark.once

TASKS = (
    "text-classification", "tagging", "question-answering", "translation", "summarization", "text-generation", "masked-language",
)  # fmt: skip
LONG = "to be " * 3000
TEXTS = (
    "", "  ", "a", LONG, "x" * 3000, "😀👨‍👩‍👧 great 👍🏽", "שָׁלוֹם עולם", "مرحبا بالعالم", "中文没有空格的句子", "cafe\u0301",
    "a\0b", "\ufeffbom", "left\u2028right", "tab\there", "\u200f",
)  # fmt: skip


@pytest.fixture
def command(capsys, tmp_path, monkeypatch):
    """Run a command in an empty folder: `(exit code, standard output, standard error)`."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments):
        capsys.readouterr()
        code = triptych.main(list(map(str, arguments)))
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def refused(command, tmp_path):
    """Run a command that must be refused in one line before a run is opened; returns the line."""

    def run(*arguments):
        code, out, err = command(*arguments)
        assert code == 2 and out == "", err
        lines = err.strip().splitlines()
        assert len(lines) == 1 and "Traceback" not in err, err
        assert not (tmp_path / "mlruns").exists()
        return lines[0]

    return run


def options_of_case(task):
    words = APP_CASES[task].options
    return {flag[2:].replace("-", "_"): value for flag, value in zip(words[::2], words[1::2], strict=True)}


@pytest.fixture(scope="module")
def bundles(tmp_path_factory):
    """`bundle(task)` is an untrained bundle of the task's smallest case, made once."""
    made = {}

    def bundle(task):
        if task not in made:
            folder = tmp_path_factory.mktemp(task)
            APP_CASES[task].write(folder)
            app, options = load_app(task), options_of_case(task)
            config = make_config(app.Config, {**options, "data": str(folder / options["data"])})
            data = app.load_data(config)
            record = {"task": task, "options": life.to_plain(config), "about": data.about, "metrics": {}, "versions": {}}
            save_bundle(folder / "bundle", life.make_model(app, config, data), record, {})
            made[task] = folder / "bundle"
        return made[task]

    return bundle


SQUAD = {"data": [{"paragraphs": [{"context": "Ann is here.", "qas": [{"question": "Who?", "answers": []}]}]}]}
ANSWERED = json.dumps(SQUAD).replace("[]", '[{"text": "Ann", "answer_start": 0}]')
TRANSLATION = ("--source-language", "de", "--target-language", "en")


@pytest.mark.parametrize(
    ("task", "files", "options", "words"),
    [
        ("text-classification", {"a.csv": "text,label\nfine,good\n".encode("utf-16")}, (), "UTF-16"),
        ("text-classification", {"a.all": b"1 good\n0 ba\0d\n"}, (), "line 2 holds a NUL byte"),
        ("text-classification", {"a.jsonl": b'{"text": "fine"}\n' * 4}, (), "--label-column"),
        ("text-classification", {"a.csv": b"text,label\n,good\n,bad\n"}, (), "line 2 (no text)"),
        ("tagging", {"a.conll": b"Ann B-person\ngoes WALKS\n\n"}, (), "line 2: expected the tag O, B-TYPE or I-TYPE"),
        ("tagging", {"a.conll": b"Ann S-person\n\n"}, (), "write S- as B-"),
        ("tagging", {"a.conll": b"Ann\n\n"}, (), "line 1: expected a word and its tag"),
        ("tagging", {"a.conll": b"Ann B-person\nG\xfcnter B-person\n"}, (), "line 2 is not UTF-8"),
        ("tagging", {"a.conll": b"Ann B-person\nG\0nter B-person\n"}, (), "line 2 holds a NUL byte"),
        ("tagging", {"a.conll": b"\n\n"}, (), "the file is empty"),
        ("question-answering", {"a.json": b'{"questions": []}'}, (), "JSON, but not SQuAD"),
        ("question-answering", {"a.json": b"[1, 2"}, (), "not JSON"),
        ("question-answering", {"a.json": json.dumps(SQUAD).encode()}, (), "no question has an answer"),
        ("question-answering", {"a.txt": b"1 Ann is here.\n3 Where is Ann?\there\t1\n"}, (), "line 2: expected number 2"),
        ("question-answering", {"a.txt": b"1 Ann is h\0re.\n"}, (), "NUL"),
        ("translation", {"t.de": b"eins\nzwei\n", "t.en": b"one\n"}, TRANSLATION, "has 2 lines, but t.en has 1"),
        ("translation", {"t.de": b"eins\nz\xfcrich\n", "t.en": b"one\ntwo\n"}, TRANSLATION, "line 2 is not UTF-8"),
        ("translation", {"t.de": b"\n\n", "t.en": b"\n\n"}, TRANSLATION, "is empty"),
        ("translation", {"a.tsv": b"one eins\n"}, (), "line 1 has no tab"),
        ("summarization", {"a.jsonl": b'{"text": 1, "summary": "b"}\n'}, (), "line 1: expected texts"),
        ("summarization", {"a.jsonl": b'{"text": "a", "summary": ""}\n'}, (), "no pair of texts"),
        ("text-generation", {"a.txt": b"\xff\xfea\0b\0"}, (), "NUL byte"),
        ("text-generation", {"a.txt": b"caf\xe9 " * 50}, (), "not UTF-8: byte 3"),
        ("text-generation", {"a.txt": b""}, (), "is empty"),
        ("text-generation", {"a.txt": b"a"}, (), "2 characters, too few"),
        ("text-generation", {"a.jsonl": b'{"turns": ["hello"]}\n'}, (), "no dialogue: line 1 (it has no answer)"),
        ("text-generation", {"a.jsonl": b'{"turns": ["hell\xf6", "you"]}\n'}, (), "no dialogue: line 1"),
        ("masked-language", {"a.txt": b"one two three"}, (), "3 words"),
        ("masked-language", {"a.txt": b"\n \n"}, (), "is empty"),
        ("masked-language", {"a.txt": b"a\0b"}, (), "NUL byte at byte 1"),
    ],
)  # fmt: skip
def test_texts_that_cannot_be_learnt_are_refused_before_a_run_is_opened(refused, tmp_path, task, files, options, words):
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    assert words in refused("train", task, "--data", min(files), *options)


@pytest.mark.parametrize("task", TASKS)
def test_any_text_gets_an_answer_or_a_reason_in_its_row(command, bundles, tmp_path, task):
    rows = [{"context": text, "question": "Where is Ann?"} if task == "question-answering" else {"text": text} for text in TEXTS]
    if task == "masked-language":
        rows = [{"text": f"{row['text'][:20]} [MASK] {row['text'][20:]}" if row["text"].strip() else row["text"]} for row in rows]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, out, err = command("predict", bundles(task), "texts.jsonl", "--json", *APP_CASES[task].predict_options)
    assert code == 0 and "Traceback" not in err, err
    found = json.loads(out)["predictions"]
    assert len(found) == len(rows)
    for given, row in zip(rows, found, strict=True):
        assert {name: row[name] for name in given} == given
        assert row.get("reason") or len(row) > len(given)
    assert found[0]["reason"] and found[1]["reason"]
    if task not in ("tagging", "question-answering"):  # which read texts of any length
        assert {"note", "reason"} & found[3].keys()


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("words.conll", "is an input as well"), ("link.conll", "is an input as well"), ("folder", "a folder"),
        ("gone/out.conll", "the folder gone is not there"),
    ],
)  # fmt: skip
def test_a_conll_file_that_cannot_be_written_is_refused_before_predicting(refused, bundles, tmp_path, monkeypatch, file, said):
    monkeypatch.setattr(load_app("tagging"), "decode", lambda *_: pytest.fail("it was predicted"))
    (tmp_path / "words.conll").write_text("Ann O\n\n")
    (tmp_path / "link.conll").symlink_to("words.conll")
    (tmp_path / "folder").mkdir()
    line = refused("predict", bundles("tagging"), "words.conll", "--format", "conll", "--file", file)
    assert f"--file {file}: {said}" in line
    assert (tmp_path / "words.conll").read_text() == "Ann O\n\n"


@pytest.mark.parametrize("task", TASKS)
def test_no_text_at_all_is_refused_in_a_line(command, bundles, task):
    words = ("context=", "question=") if task == "question-answering" else ("",)
    code, _, err = command("predict", bundles(task), *words)
    assert code == 2 and len(err.strip().splitlines()) == 1 and "folder" not in err


@pytest.mark.parametrize(
    ("task", "name", "content", "words"),
    [
        ("text-classification", "a.csv", "text,label\na day,splendid\nb,good\n", "splendid"),
        ("tagging", "a.conll", "Ann B-ship\n\n", "B-ship"),
        ("question-answering", "a.txt", "1 Ann went to the moon.\n2 Where is Ann?\tmoon\t1\n", "moon"),
        ("question-answering", "a.json", ANSWERED, "spans of the text"),
    ],
)  # fmt: skip
def test_a_label_the_model_does_not_know_cannot_be_evaluated(refused, bundles, tmp_path, task, name, content, words):
    (tmp_path / name).write_text(content)
    assert words in refused("evaluate", bundles(task), "--data", name)


PARTS = {  # a file of each task: its ending, its first lines, two examples, and the folder's file that is meant by --data
    "tabular": (".csv", "size,kind\n", "1,a\n2,b\n", "train.csv"),
    "text-classification": (".csv", "text,label\n", "fine,good\nno,bad\n", "train.csv"),
    "tagging": (".conll", "", "Ann B-person\n\nBob B-person\n\n", ""),
    "question-answering": (".txt", "", "1 Ann is here.\n2 Where is Ann?\there\t1\n" * 2, ""),
    "translation": (".tsv", "", "eins\tone\nzwei\ttwo\n", ""),
    "summarization": (".jsonl", "", '{"text": "a b c", "summary": "a"}\n' * 2, ""),
}


@pytest.mark.parametrize("task", PARTS)
def test_other_data_are_scored_on_their_test_else_their_validation_else_what_there_is(tmp_path, task):
    ending, head, two, named = PARTS[task]
    app, folder = load_app(task), tmp_path / named
    (tmp_path / f"train{ending}").write_text(head + two * 20)
    about = app.load_data(make_config(app.Config, {"data": str(tmp_path / f"train{ending}")})).about
    for split, count in (("train", 40), ("dev", 6), ("test", 2)):
        (tmp_path / f"{split}{ending}").write_text(head + two * (count // 2))
        data = app.load_data(make_config(app.Config, {"data": str(folder)}), about)
        assert len(data.test) == count
        part = {"train": [], "dev": ["the validation part is scored; not used: train"]}
        said = part.get(split, ["the test part is scored; not used: validation, train"])
        assert [note for note in data.notes if "is scored" in note] == said


@pytest.mark.parametrize("task", ["translation", "summarization"])
def test_texts_without_a_training_part_are_not_trained_on(refused, tmp_path, task):
    ending, _, two, _ = PARTS[task]
    for split in ("dev", "test"):
        (tmp_path / f"{split}{ending}").write_text(two * 20)
    assert "the data name no train split, only validation and test" in refused("train", task, "--data", ".")


def test_answers_outside_their_context_are_counted_and_named(tmp_path):
    from apps.common.data.text.questions import read_questions

    asked = [{"id": "far", "question": "Who?", "answers": [{"text": "Bob", "answer_start": 50}]},
             {"id": "near", "question": "Who?", "answers": [{"text": "Ann", "answer_start": 0}]}]  # fmt: skip
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"data": [{"paragraphs": [{"context": "Ann is here.", "qas": asked}]}]}))
    _, splits, notes = read_questions(path)
    assert len(splits["train"]) == 1 and "1 answers do not stand in their context, left out: far" in notes[0]


@pytest.mark.parametrize("task", ["text-classification", "translation", "masked-language"])
def test_a_tokenizer_that_does_not_fit_the_bundle_is_refused(refused, bundles, tmp_path, task):
    import shutil

    from apps.common.data.text.tokenizer import train_tokenizer

    bundle = shutil.copytree(bundles(task), tmp_path / "copy")
    name = "target.json" if task == "translation" else "tokenizer.json"
    other = train_tokenizer(["another text, with other words in it"], "words", specials=("begin", "end", "mask")).to_bytes()
    (bundle / name).write_bytes(other)
    assert name in refused("predict", bundle, "to be [MASK]")
