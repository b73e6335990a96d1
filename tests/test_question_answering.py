"""Question answering: SQuAD and bAbI as they are written, SQuAD's scores, and readers that look at the text."""

import json

import keras
import numpy as np
import pytest

import layers
from apps import question_answering
from apps.common.data.examples import About
from apps.common.data.text.questions import Question, read_questions, word_span
from apps.common.data.text.stories import invented_stories
from apps.common.data.text.tokenizer import TOKENIZER_FILE, train_tokenizer
from apps.common.data.text.words import split_words
from apps.common.errors import UserError
from apps.common.reports.answering import answer_scores, last_mentioned, normalised, overlapping
from apps.common.training.span_loss import SpanCrossEntropy
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

CONTEXT = "Ann went to Oslo in May 2019. Bob stayed in New York, he said."


def squad(folder, qas, name="train.json"):
    (folder / name).write_text(json.dumps({"data": [{"title": "x", "paragraphs": [{"context": CONTEXT, "qas": qas}]}]}))
    return folder / name


def asked(question, *answers, at=None):
    found = [{"text": text, "answer_start": CONTEXT.find(text) if at is None else at} for text in answers]
    return {"id": question[:8], "question": question, "answers": found}


def test_spans_of_squad_are_words_of_their_context(tmp_path):
    path = squad(tmp_path, [asked("Where did Ann go?", "Oslo"), asked("Where is Bob?", "New York", "York")])
    kind, splits, notes = read_questions(path)
    words = [word for word, _, _ in split_words(CONTEXT)]
    spans = [words[each.span[0] : each.span[1] + 1] for each in splits["train"]]
    assert kind == "span" and spans == [["Oslo"], ["New", "York"]] and not notes
    assert splits["train"][1].answers == ("New York", "York")


def test_answers_outside_their_context_are_counted_and_named(tmp_path):
    qas = [asked("Where did Ann go?", "Oslo"), asked("shifted?", "Oslo", at=3), asked("nowhere?", "Rome"), asked("none?")]
    _, splits, notes = read_questions(squad(tmp_path, qas))
    assert len(splits["train"]) == 1
    assert "2 answers do not stand in their context, left out: shifted?, nowhere?" in notes[0]
    assert "1 questions without any answer" in notes[1]


@pytest.mark.parametrize(
    ("name", "content", "named"),
    [
        ("a.json", "{", "not JSON"),
        ("a.json", "[1]", "not SQuAD"),
        ("a.json", '{"data": [{"paragraphs": [{"context": "x"}]}]}', r"data\[0\] is not SQuAD \(KeyError: 'qas'"),
        ("a.json", '{"data": [{"paragraphs": [{"context": 3, "qas": [{"question": "x", "answers": []}]}]}]}', "is no text"),
        ("a.json", '{"data": []}', "no question has an answer"),
        ("a.txt", "1 Ann left.\n3 Bob left.\n", "line 2: expected number 2, or 1"),
        ("a.txt", "Ann left.\n", "line 1: expected a number"),
        ("a.txt", "1 Where is Ann?\t\t1\n", "line 1: a question without its answer"),
        ("a.txt", "1 Ann left.\n", "no question"),
        ("a.txt", "1 caf\xe9.\n".encode("latin-1"), "not UTF-8"),
        ("a.csv", "x", "expected SQuAD's .json or bAbI's .txt"),
    ],
)
def test_files_that_are_neither_are_refused_by_what_is_wrong(tmp_path, name, content, named):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=named):
        read_questions(path)


def test_every_form_of_babi_is_read_and_a_story_begins_at_one(tmp_path):
    first = "1 Ann went to the hall.\n2 Where is Ann? \thall\t1\n3 Bob left.\n4 Is Ann in the hall?\tyes\t1 3\n"
    first += "1 Eve sat.\n2 Who sat?\tEve\t1\n"
    lists = "1 Ann took the milk.\n2 Ann took the ball.\n3 What is Ann carrying?\tmilk,ball\t1 2\n"
    (tmp_path / "qa1_single_train.txt").write_text(first)
    (tmp_path / "qa8_lists-sets_train.txt").write_text(lists)
    (tmp_path / "qa1_single_test.txt").write_text(first)
    (tmp_path / "SOURCE.txt").write_text("about the data")
    kind, splits, _ = read_questions(tmp_path)
    assert kind == "closed" and [each.answers[0] for each in splits["train"]] == ["hall", "yes", "Eve", "milk,ball"]
    assert [each.context for each in splits["test"]] == ["Ann went to the hall.", "Ann went to the hall. Bob left.", "Eve sat."]


def write_texts(folder, kind, count, each=6):
    """So many texts with some questions about each; returns the file."""
    if kind == "closed":
        stories = [f"1 Ann went to hall {number}.\n" for number in range(count)]
        asked_of = "".join(f"{place} Where is Ann ?\thall\t1\n{place + 1} Bob sat.\n" for place in range(2, 2 * each, 2))
        (folder / "a.txt").write_text("".join(story + asked_of for story in stories))
        return folder / "a.txt"
    qas = [{"id": "x", "question": f"Where {n}?", "answers": [{"text": "Oslo", "answer_start": 0}]} for n in range(each)]
    texts = [{"context": f"Oslo is place {number}.", "qas": qas} for number in range(count)]
    (folder / "a.json").write_text(json.dumps({"data": [{"paragraphs": texts}]}))
    return folder / "a.json"


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize("kind", ["span", "closed"])
def test_no_text_of_the_test_was_trained_on(tmp_path, kind, folds):
    path, tested = write_texts(tmp_path, kind, 20), []
    for fold in range(max(1, folds)):
        data = question_answering.load_data(question_answering.Config(data=str(path), folds=folds, fold=fold))
        texts = [{each.context.split(".")[0] for each in part.records} for part in (data.train, data.validation, data.test)]
        assert all(texts) and len(set.union(*texts)) == sum(map(len, texts)) == 20
        assert any("those about a text together (20 texts)" in note for note in data.notes)
        tested += texts[2]
    assert not folds or len(tested) == len(set(tested)) == 20


def test_questions_about_too_few_texts_are_parted_and_that_is_said(tmp_path):
    path = write_texts(tmp_path, "span", 2, each=20)
    data = question_answering.load_data(question_answering.Config(data=str(path)))
    assert len(data.train) + len(data.validation) + len(data.test) == 40
    assert "too few texts to hold some out: 2; the test asks about those that were trained on" in data.notes


def test_a_word_span_covers_every_character_of_the_answer():
    words = split_words("New York, 2019")
    assert word_span(words, 0, 8) == (0, 1) and word_span(words, 4, 8) == (1, 1) and word_span(words, 7, 12) == (1, 3)
    assert word_span(words, 3, 8) == (1, 1), "an answer that begins with a blank"


def test_scores_are_those_of_squad():
    assert normalised("The  Big, bad wolf!") == "big bad wolf"
    questions = [Question("", "", ("the New York", "York")), Question("", "", ("Oslo in May",))]
    scores = answer_scores(["new york", "May 2019"], questions, "span")
    # "oslo in may" and "may 2019" share one word: 2 * 1 / (3 + 2).
    assert scores == {"exact_match": 0.5, "f1": pytest.approx((1 + 0.4) / 2)}
    assert answer_scores(["York", "x"], questions, "closed")["accuracy"] == 0.5


def test_plain_ways_to_answer():
    each = Question("Ann went to the hall. Bob went to the garden. Ann took it.", "Where is Bob?", ("garden",))
    assert last_mentioned(each, {"hall", "garden"}, "x") == "garden"
    assert overlapping(each, {"hall", "garden"}, "x") == "garden"
    assert overlapping(Question(CONTEXT, "When did Ann go?", ("May 2019",)), None, "x") == "May 2019"


def test_the_best_span_never_ends_before_it_begins():
    starts, ends = np.array([0.1, 0.2, 0.7]), np.array([0.6, 0.3, 0.1])
    assert question_answering.best_span(starts, ends)[:2] == (2, 2)
    assert question_answering.best_span(starts, ends)[2] == pytest.approx(0.07)


def test_the_loss_of_a_span_is_that_of_its_two_ends():
    logits = np.log(np.array([[[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]], "float32"))
    loss = float(SpanCrossEntropy()(np.array([[0, 2]]), logits))
    assert loss == pytest.approx(-(np.log(0.5) + np.log(0.8)) / 2, rel=1e-5)


def test_words_of_the_question_are_found_in_the_text_but_not_unknown_ones():
    found = layers.WordMatch()(np.array([[5, 1, 7, 0]]), np.array([[7, 1, 0]]))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(found)[0, :, 0], [0, 0, 1, 0])


def test_padding_changes_no_answer_and_gets_no_span():
    text, question = np.array([[4, 5, 6]], "int32"), np.array([[6, 2]], "int32")
    padded = {"context": np.pad(text, ((0, 0), (0, 3))), "question": np.pad(question, ((0, 0), (0, 2)))}
    for answers in (None, 3):
        for build in (models.attention_reader, models.gru_reader):
            model = build(9, answers, width=6)
            alone = keras.ops.convert_to_numpy(model({"context": text, "question": question}))
            beside = keras.ops.convert_to_numpy(model(padded))
            np.testing.assert_allclose(beside[..., : alone.shape[-1]], alone, atol=1e-5)
            assert answers or (beside[..., 3:] <= -1e8).all()


def test_stories_are_answered_by_the_last_move_of_a_person_or_of_who_goes_on():
    followed = 0
    for each in invented_stories(1, {"train": 50})["train"]:
        who, where = None, {}
        for line in each.context.rstrip(".").split(". "):
            first, *_, place = line.split()
            who = who if first == "Then" else first
            followed += first == "Then"
            where[who] = place
        assert each.answers == (where[each.question.removeprefix("Where is ").rstrip("?")],)
    assert followed


def test_spans_are_learnt_and_answers_are_texts_of_the_context(tmp_path):
    generator, paragraphs = np.random.default_rng(0), []
    for index in range(120):
        names = generator.permutation(["Oslo", "New York", "Rome", "Lima"])
        people = generator.permutation(["Ann", "Bob"])
        context = f"{people[0]} likes {names[0]}. {people[1]} likes {names[1]}."
        answer = {"text": str(names[0]), "answer_start": context.index(names[0])}
        qa = {"id": str(index), "question": f"What does {people[0]} like?", "answers": [answer]}
        paragraphs.append({"context": context, "qas": [qa]})
    (tmp_path / "data.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}))
    config = question_answering.Config(data=str(tmp_path / "data.json"), width=16, epochs=1, learning_rate=0.02)
    data = question_answering.load_data(config)
    model = question_answering.build_model(config, data)
    x, y, weight = data.train.take(np.arange(len(data.train)))
    model.fit(x, y, sample_weight=weight, epochs=40, batch_size=len(y), verbose=0)
    report = question_answering.evaluate(model, data, config)
    assert report.metrics["exact_match"] >= 0.9 and "accuracy" not in report.metrics
    row = {"context": "Bob likes New York. Ann likes Rome.", "question": "What does Bob like?"}
    rows = question_answering.predict(model, [row, {"context": "x"}], data.about)
    assert rows[0]["answer"] == "New York" and 0 < rows[0]["probability"] <= 1
    assert "no question" in rows[1]["reason"]


def test_answers_a_model_does_not_know_are_named(tmp_path):
    about = question_answering.load_data(question_answering.Config()).about
    (tmp_path / "a.txt").write_text("1 Ann went to Mars.\n2 Where is Ann?\tMars\t1\n")
    with pytest.raises(UserError, match="does not know: Mars"):
        question_answering.load_data(question_answering.Config(data=str(tmp_path / "a.txt")), about)
    with pytest.raises(UserError, match="spans of the text"):
        question_answering.load_data(question_answering.Config(data=str(squad(tmp_path, [asked("x", "Oslo")]))), about)


@pytest.mark.parametrize("kind", ["span", "closed"])
def test_what_a_pretrained_network_has_no_room_for_is_counted_and_noted(tmp_path, kind):
    tokenizer = train_tokenizer([CONTEXT], "words", specials=("begin", "end", "mask"))
    sizes = {"vocabulary_size": len(tokenizer), "max_tokens": 16, "width": 8, "depth": 1, "num_heads": 2}
    about = {"kind": kind, "architecture": {"network": "bert", "sizes": sizes, "max_tokens": 16}, "buckets": [[16, 16]]}
    about = About({**about, "answers": ["", "Oslo"] if kind == "closed" else None}, {TOKENIZER_FILE: tokenizer.to_bytes()})
    if kind == "span":
        path = squad(tmp_path, [asked("Ann?", "Oslo"), asked("Bob?", "New York"), asked("May?", "May")])
        behind = ["1 of 3 answers stand behind that and cannot be found"]
    else:
        path, behind = tmp_path / "a.txt", []
        path.write_text(f"1 {CONTEXT}\n2 Ann?\tOslo\t1\n3 Bob?\tOslo\t1\n4 May?\tOslo\t1\n")
    notes = question_answering.load_data(question_answering.Config(data=str(path)), about).notes
    assert notes == ["3 of 3 texts are longer than the network's 16 tokens less their question and are cut there", *behind]
    encoder = models.bert(**sizes)
    model = models.bert_head(encoder, 2) if kind == "closed" else models.bert_reader(encoder)
    rows = [(CONTEXT, "Bob?"), ("Ann went", "Ann " * 9), ("Ann", "x")]
    rows = [dict(zip(("context", "question"), row, strict=True)) for row in rows]
    found = [row.get("note") for row in question_answering.predict(model, rows, about)]
    assert found == ["read up to word 11 of 17", "the question up to its token 6", None]


def test_held_out_answers_behind_the_cut_are_counted_as_those_of_training_are(tmp_path, monkeypatch):
    monkeypatch.setattr(question_answering, "LONGEST", 6)
    for split in ("train", "dev", "test"):
        squad(tmp_path, [asked("Where did Ann go?", "Oslo"), asked("Where is Bob?", "New York")], f"{split}.json")
    notes = question_answering.load_data(question_answering.Config(data=str(tmp_path), max_tokens=6)).notes
    assert "1 training answers stand behind word 6, left out" in notes
    for part in ("validation", "test"):
        assert f"2 of 2 {part} texts are longer than 6 words and are cut there" in notes
        assert f"1 of 2 {part} answers stand behind that and cannot be found" in notes
