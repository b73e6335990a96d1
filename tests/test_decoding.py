"""Generation: cached and uncached agree, a batch is one text at a time, beams of width one are greedy and wide ones complete."""

import itertools

import keras
import numpy as np
import pytest
from test_language import WRITERS, loud

import layers
from layers import models

START, END, ENTRIES = 1, 2, 9
SOURCE = np.array([[3, 5, 1, 8], [4, 6, 0, 0]], "int32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def log_softmax(x):
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


@pytest.mark.parametrize("name", WRITERS)
def test_a_decoder_says_what_the_whole_model_says(name):
    model = loud(WRITERS[name]())
    target = np.array([[1, 4, 2, 7, 3], [1, 3, 3, 5, 2]], "int32")
    expected = array(model({"source": SOURCE, "target": target}))
    decoder = layers.Decoder(model, batch_size=2, length=6)
    for _ in range(2):  # nothing is left of the first time
        decoder.reset(SOURCE)
        found = np.stack([decoder(column) for column in target.T], axis=1)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


def grouped():
    tokens = keras.Input((None,), dtype="int32")
    embedding = layers.TokenEmbedding(ENTRIES, 16)
    x = embedding(tokens)
    for form in ("parallel", "pre"):
        attention = {"causal": True, "rotary": True, "num_kv_heads": 2}
        x = layers.EncoderBlock(4, 8, form=form, activation="swiglu", attention=attention)(x)
    return keras.Model(tokens, embedding(x, reverse=True))


CAUSAL = {
    "gpt": lambda: models.gpt(ENTRIES, 8, width=8, depth=1, num_heads=2),
    "grouped": grouped,
    "lstm": lambda: models.lstm_language_model(ENTRIES, 8, width=8, depth=1),
}


@pytest.mark.parametrize("name", CAUSAL)
def test_a_batch_of_prompts_of_different_lengths_is_one_at_a_time(name):
    model, prompts = loud(CAUSAL[name]()), [[1, 4, 2], [3], [5, 5]]
    together = layers.Decoder(model, batch_size=3, length=8).generate(prompts, 4)
    alone = []
    for prompt in prompts:
        text = list(prompt)
        for _ in range(4):
            padded = np.zeros((1, 8), "int32")
            padded[0, : len(text)] = text
            text.append(int(array(model(padded))[0, len(text) - 1].argmax()))
        alone.append(text[len(prompt) :])
    assert together == alone


@pytest.mark.parametrize("name", ["gpt", "grouped"])
def test_prompts_that_are_read_several_tokens_at_a_time_say_the_same(name, monkeypatch):
    model, prompts = loud(CAUSAL[name]()), [[1, 4, 2, 5, 3, 3], [3, 1, 1, 2], [5, 5, 6, 2, 1]]
    slow = layers.Decoder(model, batch_size=3, length=8)
    ids = np.array([[1, 4, 2, 5, 3, 3], [3, 1, 1, 2, 4, 4], [5, 5, 6, 2, 1, 7]], "int32")
    expected = np.stack([slow(column) for column in ids.T], axis=1)
    np.testing.assert_allclose(expected, array(model(np.pad(ids, ((0, 0), (0, 2)))))[:, :6], rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(layers.decoding, "MANY", 2)
    decoder = layers.Decoder(model, batch_size=3, length=8)
    assert decoder.many == 2
    found = [decoder(ids[:, :2]), decoder(ids[:, 2]), decoder(ids[:, 3:5]), decoder(ids[:, 5])]
    np.testing.assert_allclose(np.stack(found, axis=1), expected[:, [1, 2, 4, 5]], rtol=1e-3, atol=1e-4)
    decoder.reset(), slow.reset()
    assert decoder.generate(prompts, 2) == slow.generate(prompts, 2)
    decoder.reset(), decoder(ids)
    with pytest.raises(ValueError, match="Received: token 9"):
        decoder(ids[:, :3])


def test_a_text_stops_at_its_end_and_others_go_on():
    decoder = layers.Decoder(loud(CAUSAL["gpt"]()), batch_size=2)
    script = {0: iter([4, END, 4, 4]), 1: iter([5, 5, 5, 5])}
    added = decoder.generate([[1], [1, 3]], 4, lambda _, texts: [next(script[text]) for text in texts], END)
    assert added == [[4, END], [5, 5, 5, 5]]


def greedy(decoder, source, count):
    decoder.reset(source)
    return decoder.generate([[START]] * decoder.batch_size, count, end=END)


@pytest.mark.parametrize("name", ["luong", "transformer"])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_beam_of_width_one_is_greedy(name, alpha):
    decoder = layers.Decoder(loud(WRITERS[name](), seed=3), batch_size=2, length=8)
    expected = greedy(decoder, SOURCE, 5)
    decoder.reset(SOURCE)
    assert [texts[0][1] for texts in decoder.beams([START], 5, END, width=1, alpha=alpha)] == expected


@pytest.mark.parametrize("alpha", [0.0, 0.8])
def test_a_wide_beam_finds_the_best_of_all(alpha):
    count, entries, width = 3, 4, 16
    model = loud(models.seq2seq(9, entries, width=4), seed=5, deviation=1.0)
    decoder = layers.Decoder(model, batch_size=2 * width, length=8)
    decoder.reset(np.repeat(SOURCE, width, axis=0))
    found = decoder.beams([START], count, END, width=width, alpha=alpha)
    every = list(itertools.product(range(entries), repeat=count))
    given = np.array([[START, *ids[:-1]] for ids in every], "int32")
    for source, texts in zip(SOURCE, found, strict=True):
        scores = {}
        logits = array(model({"source": np.repeat(source[None], len(every), axis=0), "target": given}))
        for ids, log_p in zip(every, map(log_softmax, logits), strict=True):
            length = ids.index(END) + 1 if END in ids else count
            total = log_p[np.arange(length), ids[:length]].sum()
            scores[ids[:length]] = total / ((5 + length) / 6) ** alpha
        best = max(scores, key=scores.get)
        assert tuple(texts[0][1]) == best
        assert texts[0][0] == pytest.approx(scores[best], rel=1e-3)


class Sure(layers.Decoder):
    """A model that is sure of five tokens and the end, and takes the end to be the next likely everywhere."""

    def __init__(self, batch_size):
        self.batch_size, self.block_size, self.position = batch_size, 8, 0

    def __call__(self, token):
        self.position += 1
        logits = np.full((self.batch_size, ENTRIES), -20.0)
        logits[:, END] = -9.0
        logits[:, [4, 5, 6, 7, 8, END][self.position - 1]] = 0.0
        return logits

    def reorder(self, rows):
        pass


@pytest.mark.once
@pytest.mark.parametrize("width", [1, 2, 4])
def test_unlikely_ends_do_not_stop_the_search_for_a_likely_text(width):
    for texts in Sure(2 * width).beams([START], 6, END, width=width):
        assert texts[0][1] == [4, 5, 6, 7, 8, END]


@pytest.mark.once
def test_the_largest_come_in_their_order_and_of_equal_ones_the_earlier_first():
    values = np.random.default_rng(0).integers(0, 6, (5, 40)).astype("float64")
    values[0] = -np.inf
    places, found = layers.decoding.largest(values, 7)
    expected = np.argsort(-values, axis=-1, kind="stable")[:, :7]
    assert (places == expected).all() and (found == np.take_along_axis(values, expected, -1)).all()
