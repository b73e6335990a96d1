"""Tagging: CoNLL as it is written, entities as CoNLL-2000 counts them, and words that training never saw."""

import keras
import numpy as np
import pytest

import layers
from apps import tagging
from apps.common.bundles.answers import read_items
from apps.common.data.examples import About
from apps.common.data.text.invented import invented_sentences
from apps.common.data.text.tagged import begin_entities, read_tagged, spans, split_at_blanks, splitting_of
from apps.common.data.text.tokenizer import TOKENIZER_FILE, train_tokenizer
from apps.common.data.text.words import Entries, fit_entries, split_words
from apps.common.errors import UserError
from apps.common.reports.tagging import entity_scores, linear_tags, majority_tags, sentences_figure
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

SENTENCE = "Ann\tB-person\nLee\tI-person\nleft\tO\nOslo\tB-place\n"


def written(folder, content, name="data.conll"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_sentences_end_at_blank_lines_and_split_files_are_known_by_their_names(tmp_path):
    written(tmp_path, SENTENCE + "\n" + SENTENCE + "\t\n#tag\tO\n", "wnut17train.conll")
    written(tmp_path, "-DOCSTART- O\n\n" + SENTENCE.replace("\t", " POS "), "emerging.dev.conll")
    splits, notes = read_tagged(tmp_path)
    assert splits["train"][0] == (["Ann", "Lee", "left", "Oslo"], ["B-person", "I-person", "O", "B-place"])
    assert [len(words) for words, _ in splits["train"]] == [4, 4, 1] and not notes
    assert splits["validation"] == splits["train"][:1]


def test_an_entity_that_begins_with_i_is_counted_and_begun(tmp_path):
    splits, notes = read_tagged(written(tmp_path, "Ann I-person\nLee I-person\nOslo I-place\n"))
    assert splits["train"][0][1] == ["B-person", "I-person", "B-place"] and notes[0].startswith("2 I- tags")


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (SENTENCE + "Rome\tplace\n", "line 5: expected the tag O, B-TYPE or I-TYPE. Received: 'place'"),
        (SENTENCE + "Rome\tS-place\n", "line 5.*S- as B-"),
        (SENTENCE + "Rome\n", "line 5: expected a word and its tag"),
        (b"caf\xe9\tO\n", "line 1 is not UTF-8"),
        (b"a\0b\tO\n", "line 1 holds a NUL byte"),
        ("\n\n", "the file is empty"),
    ],
)
def test_what_is_not_bio_is_refused_by_its_line(tmp_path, content, named):
    with pytest.raises(UserError, match=named):
        read_tagged(written(tmp_path, content))


def test_spans_follow_the_convention_of_conll():
    tags = ["B-a", "I-a", "B-a", "O", "I-b", "I-a", "I-a"]
    assert spans(tags) == [("a", 0, 2), ("a", 2, 3), ("b", 4, 5), ("a", 5, 7)]
    assert begin_entities(tags) == ["B-a", "I-a", "B-a", "O", "B-b", "B-a", "I-a"]


def test_entities_count_only_when_whole_and_named_right():
    true = [["B-a", "I-a", "O", "B-b"], ["O", "B-b"]]
    predicted = [["B-a", "O", "O", "B-b"], ["O", "B-a"]]
    # Of three entities there is one; three were found, one of them right.
    scores = entity_scores(true, predicted)
    assert scores["precision"] == pytest.approx(1 / 3) and scores["recall"] == pytest.approx(1 / 3)
    assert scores["f1"] == pytest.approx(1 / 3) and scores["tag_accuracy"] == pytest.approx(4 / 6)
    assert entity_scores(true, true)["f1"] == 1 and entity_scores(true, [["O"] * 4, ["O"] * 2])["f1"] == 0


def test_words_are_split_with_their_places():
    text = "Ann's e-mail: @ann #x https://a.b/c?d=1 שלום 😀"
    words = [word for word, _, _ in split_words(text)]
    assert words == ["Ann", "'s", "e-mail", ":", "@ann", "#x", "https://a.b/c?d=1", "שלום", "😀"]
    assert all(text[start:end] == word for word, start, end in split_words(text))


def test_marks_and_joined_pictures_stay_with_what_they_belong_to():
    words = [word for word, _, _ in split_words("cafe\u0301 שָׁלוֹם हिन्दी 👨‍👩‍👧 👍🏽!?")]
    assert words == ["cafe\u0301", "שָׁלוֹם", "हिन्दी", "👨‍👩‍👧", "👍🏽", "!", "?"]


def test_what_was_not_seen_often_enough_is_unknown():
    entries = fit_entries([["a", "b"], ["a", "c", "b"]], least=2)
    assert entries.ids(["b", "a", "c"]).tolist() == [3, 2, 1] and len(entries) == 4
    assert Entries.read(entries.written()) == entries


def test_invented_names_of_one_split_are_new_to_the_others():
    splits = invented_sentences(0, {"train": 200, "test": 100})
    kinds = ("person", "place", "product")
    names = [
        {word for words, tags in part for word, tag in zip(words, tags, strict=True) if tag[2:] in kinds and not word.isdigit()}
        for part in splits.values()
    ]
    assert names[0] and names[1] and not names[0] & names[1]


@pytest.mark.filterwarnings("error")
def test_the_picture_of_sentences_takes_any_script(tmp_path):
    figure = sentences_figure([["😂", "$5", "שלום", "東京"]], [["O", "O", "B-a", "B-b"]], [["O", "B-b", "O", "B-b"]])
    figure.savefig(tmp_path / "sentences.png")


def test_plain_taggers_know_words_and_neighbours():
    tags = ["B-person", "O", "B-place"]
    train = [(["Ann", "left", "Oslo"], tags), (["Bob", "left", "Rome"], tags)] * 20
    assert majority_tags(train, [["ann", "saw", "Rome"]]) == [tags]
    assert linear_tags(train, [["Eve", "left", "Bern"]], seed=0) == [tags]


def test_dropped_words_become_the_unknown_one_and_padding_stays():
    tokens = np.array([[5] * 1000 + [0] * 1000], "int32")
    dropped = keras.ops.convert_to_numpy(layers.WordDropout(0.3, seed=1)(tokens, training=True))
    assert set(dropped[0, :1000]) == {1, 5} and not dropped[0, 1000:].any()
    assert 0.25 < (dropped[0, :1000] == 1).mean() < 0.35
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(layers.WordDropout(0.3)(tokens)), tokens)


def test_long_sentences_are_cut_for_training_and_whole_for_the_test(tmp_path):
    path = written(tmp_path, "\n".join(["a\tB-x\n" + "b\tO\n" * 9] * 10))
    data = tagging.load_data(tagging.Config(data=str(path), max_tokens=4))
    assert data.train.take(np.arange(2))[0]["tokens"].shape == (2, 4)
    assert data.test.take(np.arange(1))[0]["tokens"].shape[1] >= 10
    assert any("longer than 4" in note for note in data.notes)


def test_tags_a_model_does_not_know_are_named(tmp_path):
    config = tagging.Config(data=str(written(tmp_path, SENTENCE + "\n" + SENTENCE + "\n" + SENTENCE)))
    about = tagging.load_data(config).about
    other = tagging.Config(data=str(written(tmp_path, "Rome\tB-river\n", "other.conll")))
    with pytest.raises(UserError, match="B-river"):
        tagging.load_data(other, about)


def test_prediction_gives_spans_of_the_text_and_a_conll_file(tmp_path):
    config = tagging.Config(data=str(written(tmp_path, "\n".join([SENTENCE] * 40))), epochs=1, width=8)
    data = tagging.load_data(config)
    model = tagging.build_model(config, data)
    # Emissions of nothing: the CRF's transitions alone decide, from a person's name to a place's.
    tags = data.about["tags"]
    first = np.full(len(tags), -9.0, "float32")
    first[tags.index("B-person")] = 9
    onward = np.full((len(tags), len(tags)), -9.0, "float32")
    onward[tags.index("B-person"), tags.index("I-person")] = 9
    onward[tags.index("I-person"), tags.index("O")] = 9
    onward[tags.index("O"), tags.index("B-place")] = 9
    model.crf.first.assign(first)
    model.crf.transitions.assign(onward)
    options = tagging.PredictOptions(format="conll", file=str(tmp_path / "out.conll"))
    rows = tagging.predict(model, ["Ann  Lee left Oslo", ""], data.about, options)
    assert [(each["type"], each["text"]) for each in rows[0]["entities"]] == [("person", "Ann  Lee"), ("place", "Oslo")]
    assert rows[0]["entities"][1]["start"] == 14 and rows[1] == {"reason": "no word in it"}
    assert read_tagged(tmp_path / "out.conll")[0]["train"] == [(rows[0]["words"], rows[0]["tags"])]


UNUSUAL = "O'Neil\tB-person\nof\tO\nAT&T\tB-firm\nleft\tO\nYahoo!\tB-firm\n.\tO\n"


def test_texts_are_split_as_the_words_of_training_are(tmp_path):
    usual = tagging.load_data(tagging.Config(data=str(written(tmp_path, "\n".join([SENTENCE] * 20))))).about
    about = tagging.load_data(tagging.Config(data=str(written(tmp_path, "\n".join([UNUSUAL] * 20))))).about
    text = "(O'Neil left the U.K. and Yahoo!, Inc.)"
    words = tagging.words_of(text, about)
    assert [word for word, _, _ in words] == ["(", "O'Neil", "left", "the", "U.K.", "and", "Yahoo!", ",", "Inc", ".", ")"]
    assert all(text[start:end] == word for word, start, end in words)
    assert [word for word, _, _ in tagging.words_of("O'Neil", usual)] == ["O", "'Neil"]
    del about["splitting"]  # a bundle made before there was a choice
    assert [word for word, _, _ in tagging.words_of("AT&T", about)] == ["AT", "&", "T"]


def test_words_that_training_has_apart_are_split_off_and_its_runs_of_marks_stay():
    sentences = [["Ann", "'s", "cat", "did", "n't", "?!"], ["I'm", "off", "..."], ["U.S.", "AT&T"]]
    splitting = splitting_of(sentences)
    for words in sentences:
        assert [word for word, _, _ in split_at_blanks(" ".join(words), **splitting)] == words
    found = split_at_blanks("Bob's son couldn't... I'm?!", **splitting)
    assert [word for word, _, _ in found] == ["Bob", "'s", "son", "could", "n't", "...", "I'm", "?!"]
    assert splitting_of([["Ann", "left", "."]] * 99 + [["AT&T"]]) is None


def test_a_file_with_a_word_a_line_is_predicted_from_sentence_by_sentence(tmp_path):
    path = written(tmp_path, ("-DOCSTART- O\n\n" + UNUSUAL + "\n\nAnn\nU.K.\n\ncaf\xe9 O\n").encode("latin-1"))
    items = list(read_items([str(path)], tagging.INPUTS))
    assert [item.value for item in items] == [["O'Neil", "of", "AT&T", "left", "Yahoo!", "."], ["Ann", "U.K."], None]
    assert items[1].fields == {"input": "Ann U.K."} and items[2].reason.startswith("line 14: not UTF-8")
    config = tagging.Config(data=str(written(tmp_path, "\n".join([UNUSUAL] * 20))), epochs=1, width=8)
    data = tagging.load_data(config)
    (row,) = tagging.predict(tagging.build_model(config, data), [["Ann", "U.K."]], data.about)
    assert row["words"] == ["Ann", "U.K."]
    assert all("Ann U.K."[each["start"] : each["end"]] == each["text"] for each in row["entities"])
    for content, said in (("Ann left Oslo\n", "line 1: expected the tag O"), ("\n", "has no sentence")):
        with pytest.raises(UserError, match=said):
            list(read_items([str(written(tmp_path, content))], tagging.INPUTS))


@pytest.mark.parametrize("name", ["words.txt", "words.tsv"])
def test_a_txt_or_tsv_with_a_tag_behind_each_word_is_sentences_and_another_is_texts(tmp_path, name):
    path = written(tmp_path, "\ufeff-DOCSTART- O\n\n" + SENTENCE + "\t\n" + SENTENCE.replace("\t", " X "), name)
    words = ["Ann", "Lee", "left", "Oslo"]
    assert [item.value for item in read_items([str(path)], tagging.INPUTS)] == [words, words]
    path.write_text("text\tB-side\nAnn left\tO\nAnn is back\tgone\n" if name.endswith("tsv") else "Ann O\nBob left\n")
    texts = ["Ann left", "Ann is back"] if name.endswith("tsv") else ["Ann O", "Bob left"]
    assert [item.value for item in read_items([str(path)], tagging.INPUTS)] == texts


def test_what_a_pretrained_network_has_no_room_for_is_counted_and_noted(tmp_path):
    tokenizer = train_tokenizer(["ann lee left oslo"] * 3, "words", specials=("begin", "end", "mask"))
    sizes = {"vocabulary_size": len(tokenizer), "max_tokens": 8, "width": 8, "depth": 1, "num_heads": 2}
    architecture = {"network": "bert", "sizes": sizes, "max_tokens": 8}
    about = {"tags": ["O", "B-person", "I-person", "B-place", "I-place"], "architecture": architecture, "buckets": [[6, 4]]}
    about = About(about, {TOKENIZER_FILE: tokenizer.to_bytes()})
    path = written(tmp_path, SENTENCE + "\n" + SENTENCE * 3)
    data = tagging.load_data(tagging.Config(data=str(path)), about)
    assert data.notes == ["1 of 2 sentences are longer than 8 tokens or 8 words and are cut there"]
    model = models.bert_tagger(models.bert(**sizes), 5)
    rows = tagging.predict(model, ["Ann left Oslo", "Ann Lee left Oslo " * 3], about)
    assert "note" not in rows[0] and rows[1]["note"] == "read up to word 6 of 12"
    assert rows[1]["tags"][6:] == ["O"] * 6


@pytest.mark.parametrize("build", [models.tagger, models.transformer_tagger])
def test_padding_changes_no_emission_and_letters_do(build):
    model = build(7, 3, characters=5, width=8)
    tokens, letters = np.array([[2, 3, 1]], "int32"), np.array([[[2, 3], [4, 0], [2, 2]]], "int32")
    alone = keras.ops.convert_to_numpy(model({"tokens": tokens, "characters": letters}))
    padded = {"tokens": np.pad(tokens, ((0, 0), (0, 2))), "characters": np.pad(letters, ((0, 0), (0, 2), (0, 3)))}
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(padded))[:, :3], alone, atol=1e-5)
    changed = keras.ops.convert_to_numpy(model({"tokens": tokens, "characters": letters[:, ::-1]}))
    assert np.abs(changed - alone).max() > 1e-3
