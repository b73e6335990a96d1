"""Texts with a label: the words that mattered, the app; and a language model of hidden words."""

import keras
import numpy as np
import pytest
from runs import forked

from apps import masked_language, text_classification
from apps.common.data.examples import About
from apps.common.data.sequences import Sequences, ragged
from apps.common.data.text.masking import MaskedTexts
from apps.common.data.text.reviews import CLASSES, reviews
from apps.common.data.text.tokenizer import train_tokenizer
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.reports.gaps import NeighbourCounts
from apps.common.reports.words import important_words, words_figure
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

# Data


def test_that_texts_were_whole_files_is_kept_for_prediction(tmp_path):
    for index in range(20):
        place = tmp_path / "good" / f"{index}.txt" if index % 2 else tmp_path / "bad" / f"{index}.txt"
        place.parent.mkdir(exist_ok=True)
        place.write_text(f"text {index}\nof two lines")
    config = make_config(text_classification.Config, {"data": str(tmp_path)})
    assert text_classification.load_data(config).about["whole_files"] is True
    assert "whole_files" not in text_classification.load_data(text_classification.Config()).about


def test_prose_is_not_taken_for_labels(tmp_path):
    (tmp_path / "prose.txt").write_text("".join(f"word{index} and more words\n" for index in range(50)))
    with pytest.raises(UserError, match="50 different labels for 50 texts"):
        text_classification.load_data(make_config(text_classification.Config, {"data": str(tmp_path / "prose.txt")}))


def test_the_reviews_are_hard_for_whoever_counts_words():
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression

    texts, labels = reviews(2000)
    assert reviews(2000) == (texts, labels) and len(set(texts)) == 2000 and set(labels) == set(CLASSES)
    counts = CountVectorizer().fit_transform(texts)
    score = LogisticRegression(max_iter=300).fit(counts[:1500], labels[:1500]).score(counts[1500:], labels[1500:])
    assert 0.5 < score < 0.75


def test_labels_unknown_to_the_model_are_named():
    assert text_classification.class_indices(["b", "a"], ["a", "b"]).tolist() == [1, 0]
    with pytest.raises(UserError, match=r"'c'\. It knows a, b"):
        text_classification.class_indices(["a", "c"], ["a", "b"])
    assert text_classification.class_indices(["pos"], ["__label__neg", "__label__pos"]).tolist() == [1]
    assert text_classification.class_names_of(["10", "2", "1"] * 3, "x") == ["1", "2", "10"]
    assert text_classification.class_names_of(["②", "①"] * 3, "x") == ["①", "②"], "digits that are no numbers"


# The words that mattered


def loud(model):
    for index, weight in enumerate(model.trainable_weights):
        weight.assign((weight.name == "gamma") + np.random.default_rng(index).normal(0, 0.4, weight.shape))
    return model


@pytest.mark.parametrize("name", ["cnn", "wide-cnn", "bert"])
def test_what_words_add_sums_to_the_score_less_that_of_no_words(name):
    if name == "cnn":
        model = loud(models.text_cnn(20, 3, width=6, filters=4, windows=(2, 3)))
    elif name == "wide-cnn":
        model = loud(models.wide_text_cnn(20, 3, width=6, filters=4, windows=(2, 3), num_rows=19))
    else:
        model = loud(models.bert_head(models.bert(20, max_tokens=8, width=6, depth=1), 3))
    tokens = ragged([[2, 3, 4], [5, 6, 7, 8, 9]], "int32")
    segments = ragged([[0] * 3, [0] * 5], "int32")
    examples = Sequences({"tokens": tokens, "segments": segments} if name == "bert" else tokens, buckets=[[5]])
    scores = important_words(model, examples, [0, 2], steps=200)
    assert [len(each) for each in scores] == [3, 5]

    def score():
        logits = keras.ops.convert_to_numpy(model(examples.take(np.arange(2))[0], training=False))
        return logits[[0, 1], [0, 2]] - logits.mean(1)

    whole = score()
    embedding = model.get_layer("embedding")
    embedding.embeddings.assign(np.zeros(embedding.embeddings.shape))
    if name == "wide-cnn":
        wide = model.get_layer("wide")
        wide.kernel.assign(np.zeros(wide.kernel.shape))
    tolerance = 0.002 if name == "bert" else 0.02
    np.testing.assert_allclose([each.sum() for each in scores], whole - score(), atol=tolerance)
    assert np.abs(whole - score()).max() > 2 * tolerance


def test_a_bag_gives_each_word_its_own_share():
    model = models.text_bag(5, 2, width=2)
    model.get_layer("embedding").set_weights([np.array([[0, 0], [0, 0], [1, 0], [0, 1], [1, 1]], "float32")])
    model.get_layer("logits").set_weights([np.array([[2, 0], [0, 4]], "float32"), np.zeros(2, "float32")])
    (scores,) = important_words(model, Sequences(ragged([[2, 3, 4, 1]], "int32")), [0])
    np.testing.assert_allclose(scores, np.array([1, -2, -1, 0]) / 4, atol=1e-6)


def test_the_figure_takes_any_script_and_long_texts():
    words = ["$x", "😀", "שלום", "映画", "a" * 200] * 40
    figure = words_figure([words, []], [np.linspace(-1, 1, len(words)), np.zeros(0)], ["one", "two"])
    figure.canvas.draw()
    assert len(figure.axes[0].texts) == 120 + 2


# The apps


@pytest.mark.parametrize("model", ["bag", "simple-rnn", "gru", "bilstm", "transformer", "bert"])
def test_every_model_is_built_trained_and_judged(model):
    shape = {"model": model, "width": "8", "epochs": "1", "batch_size": "16"}
    shape |= {"num_heads": "2"} if model in ("transformer", "bert") else {}
    config = make_config(text_classification.Config, shape)
    data = text_classification.load_data(config)
    few = np.arange(16)
    data = type(data)(*(part.subset(few) for part in (data.train, data.validation, data.test)), data.about)
    built = text_classification.build_model(config, data)
    x, y, weight = data.train.take(few)
    before = built.test_on_batch(x, y, weight)[0]
    for _ in range(3):
        after = built.train_on_batch(x, y, weight)[0]
    assert np.isfinite(after) and after < before * 1.5
    report = text_classification.evaluate(built, data, config)
    assert 0 <= report.metrics["accuracy"] <= 1 and "words-that-mattered" in report.figures
    rows = text_classification.predict(built, ["fine", "x " * 500, "\u200d"], data.about)
    assert [set(row) >= {"class", "probability"} for row in rows] == [True] * 3 and "note" in rows[1]


def test_a_vocabulary_is_that_of_the_training_texts_alone(tmp_path):
    (tmp_path / "x.train").write_text("good fine food\nbad cold food\n" * 10)
    (tmp_path / "x.test").write_text("good splendid food\nbad no\n" * 3)
    data = text_classification.load_data(make_config(text_classification.Config, {"data": str(tmp_path / "x.train")}))
    tokenizer = text_classification.tokenizer_of(data.about)
    assert tokenizer.unknown in tokenizer.encode(["splendid"])[0] and tokenizer.unknown not in tokenizer.encode(["cold"])[0]


def given(folder, texts, name="x.csv", **options):
    """The data of some texts of two classes, or those of a trained model with its `about`."""
    lines = [f"{text},{('good', 'bad')[index % 2]}\n" for index, text in enumerate(texts)]
    (folder / name).write_text("text,label\n" + "".join(lines))
    about = options.pop("about", None)
    options = {"data": str(folder / name), **options}
    return text_classification.load_data(make_config(text_classification.Config, options), about)


def test_texts_longer_than_those_of_training_are_read_up_to_max_tokens_and_what_is_cut_is_said(tmp_path):
    short, long = ["a fine film", "a dull film"] * 10, ["film " * 9 + "dull"] * 3 + ["film " * 30]
    data = given(tmp_path, short, max_tokens="20")
    other = given(tmp_path, long, about=data.about, max_tokens="20")
    assert other.test.take(np.arange(2))[0].shape == (2, 20)
    assert other.notes == ["1 of 4 texts are longer than 20 tokens and are cut there"]
    model = text_classification.build_model(text_classification.Config(width=8, batch_size=4), data)
    notes = [row.get("note") for row in text_classification.predict(model, long[2:], data.about)]
    assert notes == [None, "read up to token 20 of 30"]
    # The positions behind the longest training text are not learnt where BERT is made here.
    begun = given(tmp_path, short, max_tokens="20", model="bert")
    assert given(tmp_path, long, about=begun.about).notes == ["4 of 4 texts are longer than 5 tokens and are cut there"]


def test_the_padding_that_is_said_is_that_of_the_batches_of_the_run(tmp_path):
    data = given(tmp_path, ["a fine film " * (1 + index % 7) for index in range(100)])
    config, _ = text_classification.settle(text_classification.Config(), data)
    assert config.batch_size == 16 and data.train.padding_share(16) != pytest.approx(data.train.padding_share(64), abs=0.02)
    assert f"; {data.train.padding_share(16):.0%} of them is padding" in next(note for note in data.notes if "padding" in note)


def test_chinese_is_known_by_its_characters_and_many_unknown_tokens_are_said(tmp_path):
    generator, letters = np.random.default_rng(0), np.array(list("我們他這那電影書很真的太最也還都"))
    texts = ["".join(generator.choice(letters, 9)) + ("喜", "爛")[index % 2] for index in range(60)]
    data = given(tmp_path, texts)
    assert not any("none of the vocabulary" in note for note in data.notes)
    assert text_classification.baselines(data, None)["tf-idf and logistic regression"]["accuracy"] > 0.8
    words = given(tmp_path, [f"fine{index}" for index in range(60)])
    assert "100% of the tokens of the validation texts are none of the vocabulary's" in words.notes


def masked_texts(epoch=0, **options):
    tokenizer = train_tokenizer(["a b c d e f g h i j"], "words", 50, specials=("begin", "end", "mask"))
    made = MaskedTexts(np.arange(5, 205, dtype="int32") % 10 + 5, 22, tokenizer, **options)
    made.set_epoch(epoch)
    return made, tokenizer


def test_what_is_hidden_follows_from_the_seed_the_epoch_and_the_passage():
    made, _ = masked_texts(share=0.3)
    assert len(made) == 10
    (x, y, weight), whole = made.take(np.arange(10)), made.passages(np.arange(10))
    assert (weight == 1).all() and y.shape == (10, 6) and (np.diff(np.sort(x["places"])) > 0).all()
    np.testing.assert_array_equal(np.take_along_axis(whole, x["places"], 1), y)
    untouched = np.ones(whole.shape, bool)
    np.put_along_axis(untouched, x["places"], False, 1)
    np.testing.assert_array_equal(x["tokens"][untouched], whole[untouched])
    again = masked_texts(share=0.3)[0].take(np.array([7, 3]))[0]
    np.testing.assert_array_equal(again["tokens"], x["tokens"][[7, 3]])
    for other in ({"epoch": 1}, {"seed": 1}):
        assert (masked_texts(share=0.3, **other)[0].take(np.arange(10))[0]["tokens"] != x["tokens"]).any()


def test_four_in_five_are_masked_one_in_ten_replaced_and_one_in_ten_stays():
    made, tokenizer = masked_texts(share=0.5)
    shown, right = [], []
    for epoch in range(60):
        made.set_epoch(epoch)
        x, y, _ = made.take(np.arange(10))
        shown.append(np.take_along_axis(x["tokens"], x["places"], 1))
        right.append(y)
    shown, right = np.concatenate(shown), np.concatenate(right)
    masked = (shown == tokenizer.mask).mean()
    # One in ten of the replaced is by chance the token itself.
    stays = (shown == right).mean()
    assert masked == pytest.approx(0.8, abs=0.02) and stays == pytest.approx(0.11, abs=0.02)
    assert shown.min() >= tokenizer.mask and shown.max() < len(tokenizer)


def test_the_last_passage_is_padded_and_padding_is_never_hidden():
    made, _ = masked_texts()
    made.ids = made.ids[:23]
    x, _, weight = made.take(np.array([1]))
    assert len(made) == 2 and x["tokens"][0, 5:].tolist() == [0] * 17 and weight.sum() == 1
    assert 1 <= x["places"][0, 0] <= 3


def test_logits_at_chosen_places_are_those_of_bert():
    whole, some = models.bert(9, max_tokens=6, width=8), models.masked_language_model(9, max_tokens=6, width=8)
    assert {layer.name for layer in whole.layers} < {layer.name for layer in some.layers}
    loud(whole)
    for layer in whole.layers:
        some.get_layer(layer.name).set_weights(layer.get_weights())
    x = {"tokens": np.array([[2, 5, 4, 6, 3, 0]], "int32"), "segments": np.zeros((1, 6), "int32")}
    every = keras.ops.convert_to_numpy(whole(x, training=False))
    chosen = keras.ops.convert_to_numpy(some({**x, "places": np.array([[2, 4]], "int32")}, training=False))
    np.testing.assert_allclose(chosen, every[:, [2, 4]], rtol=1e-5, atol=1e-5)


def test_neighbours_tell_the_token_between_them():
    counts = NeighbourCounts(np.array([0, 1, 2, 0, 1, 2, 0, 3, 4] * 20), 5)
    assert counts.between(0, 2).argmax() == 1 and counts.between(0, 4).argmax() == 3
    assert counts.between(0, 2).sum() == pytest.approx(1)


def test_gaps_are_filled_in_their_order_and_texts_without_one_say_so():
    tokenizer = train_tokenizer(["to be or not"] * 3, "words", 30, specials=("begin", "end", "mask"))
    model = models.masked_language_model(len(tokenizer), max_tokens=8, width=8, depth=1)
    about = About({"max_tokens": 8, "architecture": {"sizes": {}}}, {masked_language.TOKENIZER_FILE: tokenizer.to_bytes()})
    texts = ["to [MASK] or [mask] now", "to be", "be " * 20 + "[MASK]"]
    first, second, third = masked_language.predict(model, texts, about)
    assert len(first["gaps"]) == 2 and all(len(gap) == 4 for gap in first["gaps"])
    assert first["filled"] == f"to {next(iter(first['gaps'][0]))} or {next(iter(first['gaps'][1]))} now"
    assert "write [MASK]" in second["reason"] and "beyond the 8 tokens" in third["reason"]
    alone = masked_language.predict(model, texts[:1], about)
    for gap, same in zip(first["gaps"], alone[0]["gaps"], strict=True):
        assert list(gap) == list(same) and list(gap.values()) == pytest.approx(list(same.values()), abs=1e-5)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("one.csv", "text,label\nfine,good\nwell,good\n", "every text is of class 'good'"),
        ("empty.csv", "", "is empty"),
        ("empty.all", "", "is empty"),
        ("bad.jsonl", "{not json}\n", "not JSON"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tmp_path, name, content, said):
    (tmp_path / name).write_text(content)
    done = forked("train", "text-classification", "--data", name, cwd=tmp_path, check=2)
    assert said in done.stderr and len(done.stderr.strip().splitlines()) == 1
