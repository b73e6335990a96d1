"""Dialogues: only the answers are learnt, and a model trained on them answers."""

import json
import subprocess
import sys
from dataclasses import replace

import keras
import numpy as np
import pytest
from app_cases import write_lines
from runs import HOUSE, environment, forked, train

from apps import text_generation as app
from apps.common.data.text.dialogues import (
    ANSWERED,
    ASKED,
    ENDED,
    MARKS,
    asking_ids,
    dialogue_block,
    dialogue_examples,
    is_dialogues,
    limits_of,
    read_dialogues,
    turns_of,
    written,
)
from apps.common.data.text.plain import Vocabulary
from apps.common.data.text.subwords import Subwords, learn_subwords, vocabulary_of
from apps.common.errors import UserError
from apps.common.reports.next_tokens import next_token_losses
from apps.common.reports.sampling import Sampler
from apps.common.training.batches import Batches

TALK = [["hi", "hello there"], ["bye", "see you"]]
OPTIONS = ("--block-size", "24", "--width", "32", "--depth", "1", "--batch-size", "8", "--learning-rate", "0.01")


def test_a_loss_counts_answers_and_their_ends_alone():
    turns = turns_of({"turns": ["ab", "cd", "e", "f"]})
    vocabulary = Vocabulary("".join(sorted(set(written(turns)))))
    examples, cut = dialogue_examples([turns], vocabulary, 20)
    text = written(turns)
    counted = "".join(text[i + 1] for i in np.flatnonzero(examples.take([0])[2][0]))
    assert text == f"{ASKED}ab{ENDED}{ANSWERED}cd{ENDED}{ASKED}e{ENDED}{ANSWERED}f{ENDED}"
    assert counted == f"cd{ENDED}f{ENDED}" and cut == 0
    shorter, cut = dialogue_examples([turns], vocabulary, 6)
    assert cut == 1 and shorter.take([0])[2].sum() == 2, "the beginning is cut, the last answer stays"


@pytest.mark.once
@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": role, "content": text} for role, text in (("system", "x"), ("user", "a"), ("assistant", "b"))]},
        {"prompt": "a", "response": "b"},
        {"turns": ["a", "b"]},
        {"conversations": [{"from": who, "value": text} for who, text in (("system", "x"), ("human", "a"), ("gpt", "b"))]},
        {"instruction": "a", "input": "", "output": "b"},
        {"turns": [{"role": "user", "text": "a"}, {"role": "assistant", "text": "b"}]},
        {"messages": [{"role": who, "content": [{"type": "text", "text": text}]} for who, text in (("user", "a"), ("bot", "b"))]},
        {"messages": [{"role": "developer", "content": None}, {"role": "user", "content": "a"}, {"role": "gpt", "content": "b"}]},
    ],
)
def test_each_way_of_writing_a_dialogue_is_read(row):
    assert turns_of(row) == [(False, "a"), (True, "b")]


@pytest.mark.once
def test_what_an_instruction_is_about_stands_below_it():
    assert turns_of({"instruction": "say", "input": "this", "output": "b"}) == [(False, "say\nthis"), (True, "b")]


@pytest.mark.once
@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": None}]}, "message 2.*Received: null"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "parts of type text. Received: image_url"),
        ({"messages": [{"role": "user", "content": []}]}, "Received: an empty list"),
        ({"messages": [{"content": "a"}, "b"]}, "number 1 has no role"),
        ({"messages": "hello there"}, "messages: expected a list. Received: a text"),
        ({"turns": "hello there"}, "turns: expected a list. Received: a text"),
        ({"turns": [{"text": "a"}, {"text": "b"}]}, "number 1 has no role"),
        ({"conversations": [{"from": "human", "value": 7}]}, "message 1: expected a text. Received: a number"),
        ({"instruction": 7, "output": "b"}, "instruction: expected a text. Received: a number"),
        ({"turns": ["a", 7]}, "turn 2: expected a text. Received: a number"),
        ({"prompt": "a", "response": {"text": "b"}}, "response: expected a text. Received: an object"),
    ],
)
def test_what_is_no_text_is_not_learnt_as_one(row, reason):
    with pytest.raises(ValueError, match=reason):
        turns_of(row)


@pytest.mark.once
def test_parts_of_a_message_are_lines_of_it():
    parts = [{"type": "text", "text": "b"}, {"type": "output_text", "text": "c"}]
    assert turns_of({"prompt": "a", "response": parts}) == [(False, "a"), (True, "b\nc")]


@pytest.mark.once
def test_dialogues_in_a_json_are_those_of_its_list_or_its_lines(tmp_path):
    rows, path = [{"turns": each} for each in TALK * 12], tmp_path / "talk.json"
    path.write_text(json.dumps([*rows, 7], indent=1))
    assert is_dialogues(path)
    dialogues, notes = read_dialogues(path)
    assert dialogues == [turns_of(row) for row in rows] and "entry 25 (not a JSON object)" in notes[-1]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_dialogues(path)[0] == dialogues
    path.write_text('{"title": "a story"}')
    with pytest.raises(UserError, match=r"talk.json: no dialogue: entry 1 \(no messages.*plain text must end in .txt"):
        read_dialogues(path)


@pytest.mark.once
def test_what_is_no_dialogue_is_named_with_its_line(tmp_path):
    write_lines(tmp_path, "talk.jsonl", [{"turns": each} for each in TALK * 12] + [{"question": "a"}])
    dialogues, notes = read_dialogues(tmp_path / "talk.jsonl")
    assert len(dialogues) == 24 and "line 25" in notes[-1]
    write_lines(tmp_path, "none.jsonl", [{"question": "a"}])
    with pytest.raises(UserError, match=r"none.jsonl: no dialogue: line 1.*Expected"):
        read_dialogues(tmp_path / "none.jsonl")


@pytest.mark.once
def test_a_chat_of_one_message_a_line_is_told_what_to_do(tmp_path):
    write_lines(tmp_path, "chat.jsonl", [{"id": 1, "from": "Ann", "date": "2024-05-01", "text": "hi"}])
    with pytest.raises(UserError, match=r"line 1 \(a single message: put those of a conversation into one line"):
        read_dialogues(tmp_path / "chat.jsonl")


@pytest.mark.once
def test_a_block_holds_nearly_all_dialogues_and_keeps_what_was_trained_before():
    assert dialogue_block([10] * 20, None, False) == 32, "never less than of any text"
    assert dialogue_block([70] * 19 + [5000], None, False) == 256 and dialogue_block([70] * 99 + [5000], None, False) == 72
    assert dialogue_block([5000] * 20, None, False) == 256
    begun = {"architecture": {"max_tokens": 64}}
    assert dialogue_block([100], begun, True) == 64 and dialogue_block([40], begun, True) == 40
    assert dialogue_block([40], begun, False) == 64
    assert dialogue_block([100], {"architecture": {"max_tokens": None}}, False) == 104


@pytest.mark.once
def test_the_block_of_dialogues_follows_their_length_and_is_in_the_bundle(tmp_path):
    write_lines(tmp_path, "talk.jsonl", [{"turns": ["x" * 40, f"hello {number:02}"]} for number in range(40)])
    small = ("--width", "8", "--depth", "1", "--num-heads", "2", "--epochs", "1", "--steps", "2", "--batch-size", "4")
    result = train("text-generation", "--data", "talk.jsonl", *small, cwd=tmp_path)
    record = json.loads((tmp_path / result["model"] / "bundle.json").read_text())
    assert record["options"]["block_size"] == 56, "forty, eight and four signs, in eights"
    answer = json.loads(forked("evaluate", result["model"], "--json", cwd=tmp_path).stdout)
    assert answer["metrics"]["cross_entropy"] == pytest.approx(result["metrics"]["cross_entropy"], rel=1e-4)


@pytest.mark.once
def test_dialogues_to_evaluate_that_are_cut_are_counted(tmp_path):
    write_lines(tmp_path, "talk.jsonl", [{"turns": each} for each in TALK * 3])
    write_lines(tmp_path, "long.jsonl", [{"turns": ["hi", "hello there" * 3]}] * 2 + [{"turns": TALK[0]}])
    about = app.load_data(app.Config(data=str(tmp_path / "talk.jsonl"))).about
    config = app.Config(data=str(tmp_path / "long.jsonl"), block_size=32)
    said = "2 of 3 dialogues are longer than --block-size 32: their beginning is cut"
    assert said in app.load_data(config, about).notes


@pytest.mark.once
def test_dialogues_for_a_model_of_plain_text_are_refused_and_the_other_way_round(tmp_path, monkeypatch):
    write_lines(tmp_path, "talk.jsonl", [{"turns": each} for each in TALK * 3])
    (tmp_path / "plain.txt").write_text("hello there, see you " * 50)
    talk, plain = (app.Config(data=str(tmp_path / name), block_size=32) for name in ("talk.jsonl", "plain.txt"))
    abouts = {name: app.load_data(config).about for name, config in (("talk", talk), ("plain", plain))}
    with pytest.raises(UserError, match=r"talk.jsonl: dialogues, .* trained on plain text; give a .txt"):
        app.load_data(talk, abouts["plain"])
    with pytest.raises(UserError, match=r"plain.txt: plain text, .* trained on dialogues; give a .jsonl"):
        app.load_data(plain, abouts["talk"])
    monkeypatch.setattr(app, "begun", lambda config: abouts["plain"])
    with pytest.raises(UserError, match=r"--pretrained plain: knows the characters of its plain text"):
        app.load_data(app.Config(data=talk.data, pretrained="plain"))


@pytest.mark.once
def test_few_long_dialogues_do_not_make_the_many_short_ones_long(tmp_path):
    write_lines(tmp_path, "talk.jsonl", [{"turns": ["hi", "word " * (45 if number < 7 else 2)]} for number in range(100)])
    data = app.load_data(app.Config(data=str(tmp_path / "talk.jsonl")))
    batches = Batches(data.train, 32, seed=0)
    shapes = {batches[step][0].shape[1] for step in range(len(batches))}
    (note,) = (each for each in data.notes if "padding" in each)
    assert data.about["buckets"] == [15, 230, 232] and shapes == {15, 230}, "a whole block as well, for other dialogues"
    assert note.startswith("sequences in batches of length") and data.train.padding_share(32) < 0.15
    for epoch in (1, 2):  # whose batches have no other shapes
        batches.set_epoch(epoch)
        assert {batches[step][0].shape[1] for step in range(len(batches))} == shapes


@pytest.mark.parametrize("options", [{"positions": "learned"}, {"positions": "rotary"}, {"model": "lstm"}])
def test_a_model_of_dialogues_tells_the_same_whatever_is_padded_and_however_it_is_kept(tmp_path, options):
    write_lines(tmp_path, "talk.jsonl", [{"turns": TALK[0]}, {"turns": ["x" * 60, "y"]}] * 20)
    config = app.Config(data=str(tmp_path / "talk.jsonl"), width=8, num_heads=2, depth=1, **options)
    data = app.load_data(config)
    config, _ = app.settle(config, data)
    model = app.build_model(config, data)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras", compile=False)
    losses, weight = next_token_losses(model, data.test)
    assert losses.shape == (len(data.test), data.about["buckets"][-2]) and data.about["buckets"][0] < losses.shape[1]
    np.testing.assert_allclose(next_token_losses(again, data.test)[0], losses, atol=1e-5)
    whole, weight_of_whole = next_token_losses(model, replace(data.test, buckets=np.array([config.block_size])))
    assert whole.shape[1] == config.block_size
    np.testing.assert_allclose((whole * weight_of_whole).sum(1), (losses * weight).sum(1), rtol=1e-4)
    rows = app.predict(again, ["hi", "x" * 60], data.about, app.PredictOptions(length=100, stream=False))
    assert all("text" in row for row in rows)


@pytest.mark.once
def test_pieces_of_words_are_spelt_as_they_were():
    subwords = learn_subwords(lambda: iter(["the cat and the dog and the bird \u00e9t\u00e9 " * 20]), 300)
    again, text = Subwords(subwords.content), "the cat, the \u00e9t\u00e9!"
    spell = again.decoder()
    assert "".join(spell(token) for token in again.encode(text)) == text and len(again.encode(text)) < len(text.encode())


@pytest.mark.once
def test_a_token_of_a_long_text_costs_no_more_to_spell_than_one_of_a_short_one(monkeypatch):
    text = "the cat and the dog \u00e9t\u00e9 \u65e5\u672c \U0001f600 \ufffd\ufffd\ufffd\ufffd\ufffd. " * 20
    subwords, decoded = learn_subwords(lambda: iter(["the cat and the dog " * 20]), 300), []
    decode = subwords.tokenizer.decode
    monkeypatch.setattr(subwords.tokenizer, "decode", lambda ids: decoded.append(len(ids)) or decode(ids))
    spell = subwords.decoder()
    assert "".join(spell(token) for token in subwords.encode(text)) == text
    assert max(decoded) <= 8


@pytest.fixture
def punctuated(tmp_path):
    """What `load_data` makes of dialogues that end in the same sign, by pieces of words."""
    turns = ["hi?", "hello there.", "bye?", "see you."]
    write_lines(tmp_path, "talk.jsonl", [{"turns": turns}] * 20)
    return app.load_data(app.Config(data=str(tmp_path / "talk.jsonl"), level="subword", steps=1)), turns


@pytest.mark.once
def test_no_piece_of_a_word_holds_the_mark_of_a_turn(punctuated):
    data, _ = punctuated
    vocabulary = vocabulary_of(data.about)
    pieces = [vocabulary.tokenizer.decode([token]) for token in range(len(vocabulary))]
    assert {piece for piece in pieces if set(piece) & set(MARKS)} == set(MARKS)


@pytest.mark.once
def test_a_dialogue_is_asked_with_the_tokens_it_was_trained_on(punctuated):
    data, turns = punctuated
    marked = learn_subwords(lambda: iter([written(turns_of({"turns": turns}))] * 20), 300)  # as models before had them
    for vocabulary in (vocabulary_of(data.about), marked):
        examples, _ = dialogue_examples([turns_of({"turns": turns})], vocabulary, 64)
        asked = asking_ids([(False, turns[0]), (True, turns[1]), (False, turns[2])], vocabulary, 64)
        assert asked == examples.take([0])[0][0, : len(asked)].tolist()


@pytest.mark.once
def test_a_model_is_asked_with_the_last_whole_turns_that_it_can_take():
    vocabulary, turns = Vocabulary(), [(index % 2 == 1, letter * 4) for index, letter in enumerate("abcde")]

    def asked(block_size=100, **limits):
        return bytes(asking_ids(turns, vocabulary, block_size, **limits)).decode()

    def expected(first):
        return written(turns[first:]) + ANSWERED

    assert asked() == expected(0), "without a record all that fit"
    assert asked(most_turns=2) == expected(4) and asked(most_turns=4) == expected(2)
    assert asked(most_turns=3) == expected(4), "two turns would begin with an answer"
    assert asked(block_size=31) == expected(0) and asked(block_size=30) == expected(2)
    assert asked(block_size=31, answer_tokens=5) == expected(2), "room is left for the answer"
    assert asked(block_size=4, most_turns=6) == expected(4), "the question is whole, however long"


@pytest.mark.once
def test_the_record_of_dialogues_has_their_most_turns_and_the_length_of_their_answers(punctuated):
    dialogues = [turns_of({"turns": turns}) for turns in (["a", "bcd"], ["a", "b", "c", "def"])]
    assert limits_of(dialogues, Vocabulary()) == {"most_turns": 4, "answer_tokens": 4}
    assert punctuated[0].about["most_turns"] == 4


@pytest.mark.once
def test_a_repetition_penalty_makes_what_was_said_less_likely():
    logits, generator = np.array([2.0, 1.9, -1.0]), np.random.default_rng(0)
    assert Sampler(0.0).draw(logits, generator, [0]) == 0
    assert Sampler(0.0, repetition_penalty=2.0).draw(logits, generator, [0]) == 1
    assert Sampler(0.0, repetition_penalty=2.0).draw(np.array([-1.0, -1.5]), generator, [0]) == 1


def test_a_model_of_few_dialogues_answers_as_it_was_taught(tmp_path):
    write_lines(tmp_path, "talk.jsonl", [{"turns": each} for each in TALK * 5])
    result = train("text-generation", "--data", "talk.jsonl", "--epochs", "4", "--steps", "30", *OPTIONS, cwd=tmp_path)
    assert result["metrics"]["cross_entropy"] < 0.3
    options = ("--temperature", "0", "--no-stream", "--json")
    rows = json.loads(forked("predict", result["model"], "hi", "bye", *options, cwd=tmp_path).stdout)["predictions"]
    assert [row["text"] for row in rows] == ["hello there", "see you"]


@pytest.mark.once
def test_chat_answers_line_by_line_and_ends_at_an_empty_one(tmp_path):
    write_lines(tmp_path, "talk.jsonl", [{"turns": each} for each in TALK * 5])
    result = train("text-generation", "--data", "talk.jsonl", "--epochs", "4", "--steps", "30", *OPTIONS, cwd=tmp_path)
    said = "hi\nbye\nwhy %\nhi\n\n"
    command = [sys.executable, str(HOUSE / "triptych.py"), "chat", result["model"], "--temperature", "0", "--json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), input=said, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["turns"] == ["hi", "hello there", "bye", "see you", "hi", "hello there"]
    assert "(prompt 'why %': has characters the model has never seen: '%' (U+0025), 'w'" in done.stderr
