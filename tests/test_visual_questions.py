"""Questions about pictures: what is read and drawn, how lines become tokens, and that pictures and examples reach the answer."""

import json
from pathlib import Path
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from PIL import Image
from runs import forked, train

from apps import image_text as app
from apps.common.bundles import trunks
from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import About
from apps.common.data.images.asked import Asked, Questions, read_asked, split_by_picture
from apps.common.data.images.drawn_questions import questions_of
from apps.common.data.text.plain import Vocabulary
from apps.common.data.text.prompts import LetterPrompts, WordPrompts, as_question, join_lines
from apps.common.errors import UserError
from apps.common.reports.picture_answers import Answerer, few_shot, plain_answers
from apps.common.training.run import evaluate
from apps.common.training.whole_answers import WholeAnswers

SMALL = (
    "--model", "flamingo", "--image-size", "8", "--width", "8", "--depth", "1", "--latents", "2", "--shots", "1",
    "--trunk-epochs", "2", "--epochs", "2", "--batch-size", "8",
)  # fmt: skip


def write_asked(folder, count=30, more=()):
    """Pictures of one brightness, and what it is called, in rows."""
    lines = ["image,question,answer"]
    for number in range(count):
        name, level = (("dark", 40), ("light", 210))[number % 2]
        Image.new("RGB", (8 + number % 3, 8), (level, level, level - number)).save(folder / f"{number}.png")
        lines += [f"{number}.png,how is it,{name}", f"{number}.png,is it dark?,{'no' if number % 2 else 'yes'}"]
    (folder / "asked.csv").write_text("\n".join([*lines, *more]))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """A folder with data and a bundle trained on them."""
    folder = tmp_path_factory.mktemp("asked")
    write_asked(folder)
    return folder, train("image-text", "--data", "asked.csv", *SMALL, cwd=folder)


# Words


@pytest.mark.once
def test_lines_count_where_answers_stand_and_end():
    ids, following, weight = join_lines([([2, 5, 6], [7, 8]), ([2, 5], [9])], 2, 10)
    assert ids.tolist() == [2, 5, 6, 7, 8, 2, 5, 9, 2, 0]
    assert following.tolist() == [5, 6, 7, 8, 2, 5, 9, 2, 0, 0]
    assert following[weight > 0].tolist() == [7, 8, 2, 9, 2]
    assert join_lines([([2, 5, 6], [7, 8]), ([2, 5], [9])], 2, 6)[0].tolist() == [2, 5, 6, 7, 8, 2], "the last has no room"


@pytest.mark.once
def test_prompts_go_back_to_their_text_and_name_what_they_do_not_know():
    words = WordPrompts.fit(["What is RED?", "a red circle"])
    assert words.text(words.ids("red circle")) == "red circle" and words.unknown("a pink circle") == ["pink"]
    letters = LetterPrompts(Vocabulary("\n abcder"))
    assert letters.line == 0 and letters.text(letters.ids(" a red")) == "a red" and letters.unknown("bad fox") == ["f", "o", "x"]
    with pytest.raises(ValueError, match="line breaks"):
        LetterPrompts(Vocabulary("abc"))
    assert [as_question(text) for text in ("what  is it", "why?", " ")] == ["what is it?", "why?", ""]


def test_the_metric_counts_an_answer_only_whole():
    metric = WholeAnswers(2, 2)
    targets = np.array([[7, 8, 2, 9, 2], [7, 2, 0, 0, 0]])
    weight = np.array([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0]], "float32")
    said = np.array([[7, 8, 2, 9, 2], [7, 2, 5, 5, 5]])
    for wrong, expected in (((), 1.0), (((0, 1),), 2 / 3), (((0, 3),), 2 / 3), (((0, 4), (1, 0)), 1 / 3)):
        changed = said.copy()
        for place in wrong:
            changed[place] = 1
        metric.reset_state()
        metric.update_state(targets, np.eye(10, dtype="float32")[changed], weight)
        assert float(metric.result()) == pytest.approx(expected)


# Data


@pytest.mark.once
def test_drawn_questions_are_answered_by_their_caption():
    found = dict(questions_of("a red circle above a blue square", np.random.default_rng(0)))
    assert found["what color is the circle?"] == "red" and found["which shape is blue?"] == "square"
    assert found["what is below the red circle?"] == "a blue square" and found["how many shapes are there?"] == "two"
    assert "what color is the circle?" not in dict(questions_of("a red circle above a blue circle", np.random.default_rng(0)))


@pytest.mark.once
def test_what_cannot_be_used_is_counted_and_named(tmp_path):
    write_asked(tmp_path, more=("3.png,how is it,light", "4.png,what,", "gone.png,how is it,dark"))
    images, splits, notes = read_asked(tmp_path / "asked.csv", (8, 8, 3))
    assert images.shape == (30, 8, 8, 3) and len(splits["train"]) == 60
    assert any("4.png (no answer to 'what')" in note for note in notes)
    assert any("gone.png" in note for note in notes) and any("'how is it' of 3.png" in note for note in notes)


@pytest.mark.once
def test_easy_vqa_is_read_by_its_layout(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "data" / split / "images").mkdir(parents=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "data" / split / "images" / "0.png")
        (tmp_path / "data" / split / "questions.json").write_text(json.dumps([["what?", split, 0]]))
    images, splits, _ = read_asked(tmp_path, (4, 4, 3))
    assert {name: [(each.answer, each.picture) for each in part] for name, part in splits.items()} == {
        "test": [("test", 0)], "train": [("train", 1)]
    }  # fmt: skip
    assert len(images) == 2


@pytest.mark.once
def test_a_picture_stands_in_one_split_alone():
    asked = [Asked(number // 3, "what?", str(number)) for number in range(120)]
    parts = split_by_picture({"train": asked}, 0, [])
    pictures = [{each.picture for each in part} for part in parts]
    assert sum(map(len, parts)) == 120 and not any(a & b for a, b in ((pictures[0], pictures[1]), (pictures[1], pictures[2])))
    with pytest.raises(UserError, match="1 pictures; at least 20"):
        split_by_picture({"train": asked[:3]}, 0, [])


@pytest.mark.once
def test_an_example_shows_each_line_its_own_picture():
    images = np.arange(4, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 1), "uint8")
    asked = tuple(Asked(number, "which?", f"w{number}") for number in range(4))
    prompts = WordPrompts([*(f"w{number}" for number in range(4)), "which", "?"])
    x, following, weight = Questions(images, asked, prompts, 8, 2, 1, seed=3).take([0, 1])
    answers = following[(weight > 0) & (following != prompts.line)].reshape(2, 2)
    np.testing.assert_array_equal(x["image"][:, :, 0, 0, 0], answers - 3)


@pytest.mark.once
def test_question_alone_is_better_than_the_commonest_answer_where_words_tell():
    asked = [Asked(0, *pair) for pair in (("what color?", "red"), ("what color?", "red"), ("is it?", "yes"))] * 10
    found = plain_answers(asked, asked)
    assert found["commonest answer"]["accuracy"] == pytest.approx(2 / 3) and found["question only"]["accuracy"] == 1.0


# The model


def test_examples_and_pictures_reach_the_answer(bundle):
    folder, result = bundle
    opened = open_bundle(folder / result["model"])
    model, about = load_model(opened), opened.about
    prompts = app.prompts_of(about)
    question = [prompts.line, *prompts.ids("how is it?")]
    pictures = [np.full((8, 8, 3), level, "uint8") for level in (30, 220)]

    def logits(picture, example, said):
        before = [(example, question, prompts.ids(said))]
        shown, ids = few_shot(before, picture, question, about["shots"] + 1, about["length"])
        tokens = np.zeros((1, about["length"]), "int32")
        tokens[0, : len(ids)] = ids
        given = {"image": shown[None], "tokens": tokens}
        return model.predict_on_batch(given)[0, len(ids) - 1]

    first = logits(pictures[0], pictures[1], "light")
    assert np.abs(logits(pictures[1], pictures[1], "light") - first).max() > 1e-6, "another picture"
    assert np.abs(logits(pictures[0], pictures[1], "dark") - first).max() > 1e-6, "another answer in the example"


def test_the_decoder_answers_as_the_whole_model_would(bundle):
    folder, result = bundle
    opened = open_bundle(folder / result["model"])
    model, about = load_model(opened), opened.about
    prompts = app.prompts_of(about)
    question, picture = [prompts.line, *prompts.ids("is it dark?")], np.full((8, 8, 3), 60, "uint8")
    shown, ids = few_shot([], picture, question, about["shots"] + 1, about["length"])
    ((text, probability),) = Answerer(model, prompts, about["answer_length"], 1)(shown[None], [ids])
    expected, total = list(ids), 0.0
    while True:
        tokens = np.zeros((1, about["length"]), "int32")
        tokens[0, : len(expected)] = expected
        every = keras.ops.convert_to_numpy(model({"image": shown[None], "tokens": tokens}))
        logits = every[0, len(expected) - 1].astype("float64")
        total += logits.max() - np.log(np.exp(logits).sum())
        expected.append(int(logits.argmax()))
        if expected[-1] == prompts.line or len(expected) - len(ids) > about["answer_length"]:
            break
    assert text == prompts.text(expected[len(ids) :]) and probability == pytest.approx(np.exp(total), rel=1e-3)


def test_answers_are_given_with_and_without_examples(bundle):
    folder, result = bundle
    (folder / "example.csv").write_text("image,question,answer\n1.png,how is it,light\n")
    for more in ((), ("--examples", "example.csv")):
        done = forked("predict", result["model"], "0.png", "1.png", "--question", "how is it", *more, "--json", cwd=folder)
        rows = json.loads(done.stdout)["predictions"]
        assert len(rows) == 2 and all(0 < row["probability"] <= 1 and isinstance(row["answer"], str) for row in rows)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "--question"),
        (("--question", "how pink is it"), "pink"),
        (("--question", "how is it", "--prompts", "a,b"), "--prompts"),
        (("--question", "how is it", "--examples", "asked.csv"), "60 examples"),
    ],
)
def test_what_cannot_be_asked_is_one_line(bundle, options, named):
    folder, result = bundle
    done = forked("predict", result["model"], "0.png", *options, cwd=folder, check=2)
    assert named in done.stderr and len(done.stderr.strip().splitlines()) == 1


def test_a_trained_network_sees_and_one_of_another_kind_is_refused(bundle):
    folder, result = bundle
    from apps.common.training.frozen_trunks import bundled_language, bundled_vision

    for take in (bundled_vision, bundled_language):
        with pytest.raises(UserError, match=r"has no encoder|a bundle of image-text"):
            take(str(folder / result["model"]))
    with pytest.raises(UserError, match="another library"):
        bundled_vision("keras:MobileNet")


@pytest.mark.once
def test_trunks_come_from_bundles(tmp_path):
    write_asked(tmp_path)
    for name in ("dark", "light"):
        (tmp_path / "classes" / name).mkdir(parents=True)
        for number in range(10):
            (tmp_path / f"{2 * number + (name == 'light')}.png").rename(tmp_path / "classes" / name / f"{number}.png")
    write_asked(tmp_path)
    (tmp_path / "words.txt").write_text("how is it? dark\nis it dark? yes\nhow is it? light\nis it dark? no\n" * 8)
    small = ("--epochs", "1", "--batch-size", "8")
    seeing = train("image-classification", "--data", "classes", "--image-size", "8", *small, cwd=tmp_path)
    gpt = ("--block-size", "24", "--width", "8", "--depth", "1", "--steps", "2")
    writing = train("text-generation", "--data", "words.txt", *gpt, *small, cwd=tmp_path)
    options = ("--model", "flamingo", "--latents", "2", "--shots", "1", *small)
    trunks = ("--vision", seeing["model"], "--language", writing["model"])
    result = train("image-text", "--data", "asked.csv", *options, *trunks, cwd=tmp_path)
    opened = open_bundle(tmp_path / result["model"])
    theirs = {tuple(each.shape): each for each in load_model(open_bundle(writing["model"])).weights}
    ours = load_model(opened)
    table = next(each for each in ours.weights if "embedding" in each.path)
    np.testing.assert_array_equal(table, theirs[tuple(table.shape)])
    done = forked("predict", result["model"], "0.png", "--question", "how is it", "--json", cwd=tmp_path)
    assert json.loads(done.stdout)["predictions"][0]["answer"] is not None


@pytest.mark.once
def test_a_model_is_evaluated_though_the_bundles_of_its_trunks_are_gone(tmp_path, monkeypatch):
    write_asked(tmp_path)
    words = ["how", "is", "it", "dark", "light", "?"]
    about = About({"kind": "questions", "words": words, "length": 12, "image_shape": [8, 8, 3]})
    options = {"model": "flamingo", "data": str(tmp_path / "asked.csv"), "vision": "gone", "language": "gone"}
    bundle = SimpleNamespace(task="image-text", folder=Path("here"), options=options, about=about, digests=dict)
    monkeypatch.setattr(trunks, "open_bundle", {"here": bundle}.__getitem__)
    read = []

    def load_data(config, about=None):
        read.append(app.load_data(config, about))
        raise InterruptedError  # all that is asked of the trunks has been

    with pytest.raises(InterruptedError):
        evaluate(SimpleNamespace(Config=app.Config, load_data=load_data), bundle)
    assert read[0].test.length == 12 and list(read[0].test.prompts.words) == words
    assert read[0].test.images.shape[1:] == (8, 8, 3)
