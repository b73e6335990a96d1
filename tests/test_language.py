"""Layers and models for language: what padding may not change, known formulas, a memory that is looked at."""

import itertools
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import layers
from layers import models

ops = keras.ops


def numbers(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype("float32")


def array(x):
    return keras.ops.convert_to_numpy(x)


def loud(model, seed=0, deviation=0.4):
    """A model whose weights are large enough for every token to matter."""
    for index, weight in enumerate(model.trainable_weights):
        weight.assign(np.random.default_rng([seed, index]).normal(0, deviation, weight.shape))
    return model


MASK = np.array([[True] * 5, [True] * 3 + [False] * 2])

CLASSIFIERS = {
    "bag": lambda: models.text_bag(9, 3, width=4),
    "cnn": lambda: models.text_cnn(9, 3, width=4, filters=3, windows=(2, 3)),
    "wide": lambda: models.wide_text_cnn(9, 3, width=4, filters=3, windows=(2, 3), num_rows=11),
    "simple": lambda: models.text_rnn(9, 3, cell="simple", width=4),
    "lstm": lambda: models.text_rnn(9, 3, cell="lstm", width=4, bidirectional=True, depth=2),
    "gru": lambda: models.text_rnn(9, 3, cell="gru", width=4),
    "transformer": lambda: models.text_transformer(9, 3, width=8, depth=2, num_heads=2),
}


@pytest.mark.once
def test_logits_of_words_and_pairs_are_sums_over_them():
    layer = layers.NGramLogits(2, num_rows=50, gain=3.0)
    layer.build((None, 4))
    kernel = numbers(100, 2)
    layer.kernel.assign(kernel)
    tokens = np.array([[7, 4, 61, 0], [7, 0, 0, 0]], "int32")  # 61 shares the row of 11
    pairs = kernel[50 + (7 * 211 + 4 * 1621) % 50] + kernel[50 + (4 * 211 + 61 * 1621) % 50]
    expected = 3 * (kernel[[7, 4, 11]].sum(0) / 3**0.5 + pairs / 2**0.5)
    np.testing.assert_allclose(array(layer(tokens)), [expected, 3 * kernel[7]], rtol=1e-5)
    np.testing.assert_allclose(array(layer.contributions(tokens)).sum(1), array(layer(tokens)), rtol=1e-5)
    assert abs(array(layer(tokens[:, [1, 0, 2, 3]])) - expected)[0].max() > 0.1  # order counts, by the pairs


# Padding


@pytest.mark.once
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_padding_changes_no_class(name):
    model = loud(CLASSIFIERS[name]())
    ids = np.array([[3, 5, 1, 7], [2, 8, 0, 0]], "int32")
    short, long = (array(model(np.pad(ids, ((0, 0), (0, more))))) for more in (0, 5))
    np.testing.assert_allclose(short, long, rtol=1e-4, atol=1e-5)
    alone = array(model(ids[1:, :2]))
    np.testing.assert_allclose(short[1:], alone, rtol=1e-4, atol=1e-5)
    assert np.abs(short[0] - short[1]).max() > 1e-3


@pytest.mark.once
@pytest.mark.parametrize("name", ["seq2seq", "luong", "transformer", "pointer"])
def test_padding_of_a_source_changes_no_target(name):
    model, source = loud(WRITERS[name]()), np.array([[3, 5, 1, 0]], "int32")
    target = np.array([[1, 4, 2]], "int32")
    short = array(model({"source": source[:, :3], "target": target}))
    long = array(model({"source": np.pad(source, ((0, 0), (0, 3))), "target": target}))
    np.testing.assert_allclose(short, long, rtol=1e-4, atol=1e-5)


@pytest.mark.once
def test_padding_changes_no_token_of_a_bert():
    model = loud(models.bert(9, max_tokens=8, width=8), deviation=0.2)
    ids, segments = np.array([[3, 5, 1]], "int32"), np.array([[0, 1, 1]], "int32")
    short = array(model({"tokens": ids, "segments": segments}))
    pad = ((0, 0), (0, 4))
    long = array(model({"tokens": np.pad(ids, pad), "segments": np.pad(segments, pad)}))
    np.testing.assert_allclose(short, long[:, :3], rtol=1e-4, atol=1e-5)
    first = array(model({"tokens": ids, "segments": segments * 0}))
    assert np.abs(first - short).max() > 1e-3  # segments count


@pytest.mark.once
def test_a_bert_keeps_its_weights_under_another_head():
    encoder = models.bert(9, max_tokens=8, width=8)
    head = models.bert_head(encoder, 3)
    assert head.get_layer("block_0") is encoder.get_layer("block_0")
    assert not [layer.name for layer in head.layers if layer.name.startswith("head")]
    tiny = 4_385_920  # published, with a pooler of 16,512, in whose place the head has a layer alike, a norm and a bias
    assert models.bert(30522).count_params() == tiny + 2 * 128 + 30522


@pytest.mark.parametrize("cell", ["simple", "lstm", "gru"])
@pytest.mark.parametrize("mask", [MASK, np.array([[False, True, False, True, True], [False] * 5])])
def test_masked_recurrence_is_that_of_keras(cell, mask):
    ours = {"simple": layers.SimpleRNN, "lstm": layers.LSTM, "gru": layers.GRU}[cell]
    theirs = {"simple": keras.layers.SimpleRNN, "lstm": keras.layers.LSTM, "gru": keras.layers.GRU}[cell]
    x = numbers(2, 5, 3)
    for return_sequences in (False, True):
        one, other = ours(4, return_sequences=return_sequences), theirs(4, return_sequences=return_sequences)
        one.build(x.shape)
        other.build(x.shape)
        other.set_weights(one.get_weights())
        found, expected = (array(each(x, mask=ops.convert_to_tensor(mask))) for each in (one, other))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_the_second_direction_begins_at_the_last_token():
    layer, x = layers.BidirectionalRNN(3, "gru"), numbers(2, 5, 2)
    found = array(layer(x, mask=ops.convert_to_tensor(MASK)))
    alone = array(layer(x[1:, :3], mask=ops.convert_to_tensor(MASK[1:, :3])))
    np.testing.assert_allclose(found[1:, :3], alone, rtol=1e-5, atol=1e-6)
    backwards = array(layer.backward(x[:1, ::-1]))[:, ::-1]
    np.testing.assert_allclose(found[:1, :, 3:], backwards, rtol=1e-5, atol=1e-6)


def test_pooling_sees_only_what_counts():
    x = numbers(2, 5, 3)
    expected = {"mean": x[1, :3].mean(0), "max": x[1, :3].max(0), "last": x[1, 2], "first": x[1, 0]}
    for kind, value in expected.items():
        found = array(layers.SequencePooling(kind)(x, mask=ops.convert_to_tensor(MASK)))
        np.testing.assert_allclose(found[1], value, rtol=1e-5, err_msg=kind)
        nothing = array(layers.SequencePooling(kind)(x, mask=ops.convert_to_tensor(np.zeros_like(MASK))))
        np.testing.assert_array_equal(nothing, 0.0)


# Attention


def softmax(x):
    shares = np.exp(x - x.max(-1, keepdims=True))
    return shares / shares.sum(-1, keepdims=True)


def test_attention_to_a_memory_is_the_formula_and_masked_positions_get_no_weight():
    layer, x, memory = layers.CrossAttention(2), numbers(2, 3, 8), numbers(2, 5, 4)
    found = array(layer(x, memory, mask=ops.convert_to_tensor(MASK)))
    query = (x @ array(layer.query.kernel)).reshape(2, 3, 2, 4)
    key, value = np.split(memory @ array(layer.key_value.kernel), 2, -1)
    key, value = key.reshape(2, 5, 2, 4), value.reshape(2, 5, 2, 4)
    scores = np.where(MASK[:, None, None], np.einsum("bqhd,bkhd->bhqk", query, key) / 2.0, -np.inf)
    heads = np.einsum("bhqk,bkhd->bqhd", softmax(scores), value).reshape(2, 3, 8)
    np.testing.assert_allclose(found, heads @ array(layer.output_projection.kernel), rtol=1e-4, atol=1e-5)
    memory[1, 3:] = 100.0
    np.testing.assert_array_equal(array(layer(x, memory, mask=ops.convert_to_tensor(MASK))), found)


def test_groups_of_heads_share_keys():
    grouped, whole, x = layers.SelfAttention(4, num_kv_heads=2), layers.SelfAttention(4), numbers(2, 5, 8)
    grouped.build(x.shape)
    whole.build(x.shape)
    kernel = array(grouped.query_key_value.kernel)
    query, key, value = kernel[:, :8], kernel[:, 8:12].reshape(8, 2, 2), kernel[:, 12:].reshape(8, 2, 2)
    key, value = (np.repeat(each, 2, axis=1).reshape(8, 8) for each in (key, value))
    whole.query_key_value.kernel.assign(np.concatenate([query, key, value], axis=1))
    whole.output_projection.kernel.assign(array(grouped.output_projection.kernel))
    np.testing.assert_allclose(array(grouped(x)), array(whole(x)), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="num_kv_heads=3, num_heads=4"):
        layers.SelfAttention(4, num_kv_heads=3)


def test_scores_of_a_recurrent_decoder_are_those_published():
    query, memory = numbers(2, 3, 4), numbers(2, 5, 6)
    layer = layers.AdditiveAttention(7)
    context, weights = (array(each) for each in layer(query, memory, mask=ops.convert_to_tensor(MASK)))
    queries, keys = query @ array(layer.query_projection.kernel), memory @ array(layer.key_projection.kernel)
    hidden = np.tanh(queries[:, :, None] + keys[:, None])
    scores = np.where(MASK[:, None], (hidden @ array(layer.score.kernel))[..., 0], -np.inf)
    np.testing.assert_allclose(weights, softmax(scores), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(context, softmax(scores) @ memory, rtol=1e-4, atol=1e-5)
    layer = layers.MultiplicativeAttention()
    _, weights = (array(each) for each in layer(query, memory))
    scores = np.einsum("bqd,bkd->bqk", query, memory @ array(layer.key_projection.kernel))
    np.testing.assert_allclose(weights, softmax(scores), rtol=1e-4, atol=1e-6)


@pytest.mark.once
def test_the_additive_decoder_is_a_cell_fed_what_it_looked_at():
    layer, x, memory = layers.AttentionRNN(4), numbers(2, 3, 5), numbers(2, 6, 2)
    outputs, weights = (array(each) for each in layer(x, memory))
    state = np.zeros((2, 4), "float32")
    for step in range(3):
        context, looked = (array(each)[:, 0] for each in layer.attention(state[:, None], memory))
        state = array(layer.cell(np.concatenate([x[:, step], context], -1), [state])[0])
        np.testing.assert_allclose(outputs[:, step], np.concatenate([state, context], -1), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(weights[:, step], looked, rtol=1e-4, atol=1e-5)


def test_sinusoidal_positions_are_turned_by_a_shift():
    table = array(layers.SinusoidalPositions(20)(np.zeros((1, 20, 6), "float32")))[0]
    sine, cosine = table[:, :3], table[:, 3:]
    np.testing.assert_allclose(sine[7], np.sin(7 / 10000 ** (np.arange(3) / 3)), rtol=1e-5)
    products = table @ table.T
    np.testing.assert_allclose(np.diagonal(products, 4), products[0, 4], rtol=1e-4)
    np.testing.assert_allclose(sine**2 + cosine**2, 1.0, rtol=1e-5)


def test_tables_of_positions_serve_any_length_up_to_their_own():
    for layer in (layers.PositionEmbedding(6), layers.SinusoidalPositions(6)):
        x = np.zeros((1, 6, 4), "float32")
        layer.build((None, None, 4))
        np.testing.assert_array_equal(array(layer(x))[:, :3], array(layer(x[:, :3])))
        with pytest.raises(ValueError, match="6 tokens at most"):
            layer(np.zeros((1, 7, 4), "float32"))


# Blocks


def test_forms_of_a_block():
    x, mask = ops.convert_to_tensor(numbers(2, 5, 8)), ops.convert_to_tensor(MASK)
    for form in ("post", "pre", "parallel"):
        block = layers.EncoderBlock(2, 6, form=form, activation="swiglu")
        found = array(block(x, mask=mask))
        first, attention = block.attention_norm, block.attention
        perceptron = block.feed_forward
        if form == "post":
            middle = first(x + attention(x, mask=mask))
            expected = block.hidden_norm(middle + perceptron(middle))
        elif form == "pre":
            middle = x + attention(first(x), mask=mask)
            expected = middle + perceptron(block.hidden_norm(middle))
        else:
            expected = x + attention(first(x), mask=mask) + perceptron(first(x))
        np.testing.assert_allclose(found, array(expected), rtol=1e-5, atol=1e-5, err_msg=form)


def test_a_gate_scales_the_hidden_layer():
    layer, x = layers.FeedForward(6, "swiglu"), numbers(2, 4)
    found = array(layer(x))
    gate = x @ array(layer.gate.kernel)
    hidden = gate / (1 + np.exp(-gate)) * (x @ array(layer.hidden.kernel))
    np.testing.assert_allclose(found, hidden @ array(layer.output_projection.kernel), rtol=1e-4, atol=1e-5)


WRITERS = {
    "seq2seq": lambda: models.seq2seq(9, 9, width=6),
    "luong": lambda: models.seq2seq(9, 9, cell="lstm", attention="multiplicative", width=6),
    "transformer": lambda: models.transformer(9, 9, width=8, depth=2, num_heads=2),
    "post": lambda: models.transformer(9, 9, width=8, depth=1, num_heads=2, form="post"),
    "pointer": lambda: models.pointer_generator(7, num_copied=2, width=4, units=6),
}


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_does_not_depend_on_what_follows(name):
    model, source = loud(WRITERS[name]()), np.array([[3, 5, 1]], "int32")
    one, other = (array(model({"source": source, "target": np.array([[1, 4, last]], "int32")})) for last in (2, 6))
    np.testing.assert_allclose(one[:, :2], other[:, :2], rtol=1e-5, atol=1e-6)
    assert np.abs(one[:, 2] - other[:, 2]).max() > 1e-4
    assert np.abs(one - array(model({"source": source[:, ::-1], "target": np.array([[1, 4, 2]], "int32")}))).max() > 1e-4


# Conditional random fields


def crf_and_batch():
    crf = layers.CRF(3)
    crf.build()
    loud(crf, deviation=1.0)
    return crf, numbers(2, 5, 3), np.random.default_rng(0).integers(0, 3, (2, 5)).astype("int32")


def scores_of_all_paths(crf, emissions):
    transitions, first, last = (array(each) for each in (crf.transitions, crf.first, crf.last))
    paths = np.array(list(itertools.product(range(3), repeat=len(emissions))))
    scores = first[paths[:, 0]] + last[paths[:, -1]] + emissions[np.arange(len(emissions)), paths].sum(1)
    return paths, scores + transitions[paths[:, :-1], paths[:, 1:]].sum(1)


def test_a_crf_agrees_with_all_paths():
    crf, emissions, tags = crf_and_batch()
    found = array(crf(emissions, tags, mask=ops.convert_to_tensor(MASK)))
    decoded = crf.decode(emissions, MASK)
    for row, length in enumerate(MASK.sum(1)):
        paths, scores = scores_of_all_paths(crf, emissions[row, :length])
        own = scores[(paths == tags[row, :length]).all(1)][0]
        np.testing.assert_allclose(found[row], own - np.log(np.exp(scores).sum()), rtol=1e-4)
        np.testing.assert_array_equal(decoded[row, :length], paths[scores.argmax()])
        assert (decoded[row, length:] == 0).all()
    nothing = array(crf(emissions, tags, mask=ops.convert_to_tensor(np.zeros_like(MASK))))
    np.testing.assert_array_equal(nothing, 0.0)


@pytest.mark.once
def test_a_tagger_learns_what_only_neighbours_tell():
    """Tag 1 stands after tag 1 or 0 by turns; words say nothing: the transitions must."""
    model = models.tagger(4, 2, width=4, dropout=0.0)
    model.compile(keras.optimizers.Adam(0.05))
    x = {"tokens": np.full((8, 6), 2, "int32")}
    x["tokens"][4:, 4:] = 0
    y = np.tile(np.arange(6) % 2, (8, 1))
    before = model.train_on_batch(x, y)
    for _ in range(60):
        after = model.train_on_batch(x, y)
    assert float(after) < 0.3 < float(before)
    mask = x["tokens"] != 0
    np.testing.assert_array_equal(model.decode(np.asarray(model.predict_on_batch(x)), mask), np.where(mask, y, 0))


# Copying


def test_a_copied_word_has_the_weights_of_all_its_places():
    logits, number, ids = numbers(1, 2, 4), numbers(1, 2, 1), np.array([[5, 1, 5]], "int32")
    weights = np.array([[[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]], "float32")
    found = np.exp(array(layers.CopyMixture(6)(logits, number, weights, ids)))
    share = 1 / (1 + np.exp(-number))
    expected = np.concatenate([share * softmax(logits), np.zeros((1, 2, 2))], -1)
    copied = (1 - share) * weights
    expected[..., 5] += copied[..., 0] + copied[..., 2]
    expected[..., 1] += copied[..., 1]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(found.sum(-1), 1.0, rtol=1e-5)


# The loss of a large vocabulary


def test_cross_entropy_by_chunks_is_that_of_all_logits():
    x, targets = numbers(3, 5, 4), np.random.default_rng(0).integers(0, 11, (3, 5)).astype("int32")
    weights = np.random.default_rng(1).random((3, 5)).astype("float32")

    def trained(chunk_size):
        symbols = [keras.Input((5, 4)), keras.Input((5,), dtype="int32")]
        features = layers.Dense(4, use_bias=False, name="dense")(symbols[0])
        model = keras.Model(symbols, layers.LinearCrossEntropy(11, chunk_size, name="loss")(features, symbols[1]))
        loud(model)
        model.compile(loss=lambda y, losses: losses * y)
        return layers.backend.loss_and_gradients(model, [x, targets], weights, training=False)

    logits = (x @ trained_kernel()) @ trained_table().T
    expected = -np.log(softmax(logits))[np.arange(3)[:, None], np.arange(5), targets]
    for chunk_size in (4, 15, 100):
        losses, _, gradients = trained(chunk_size)
        np.testing.assert_allclose(losses, expected, rtol=1e-4, atol=1e-5)
        by_logits = (softmax(logits) - np.eye(11)[targets]) * weights[..., None] / weights.size
        by_table = np.einsum("btv,btw->vw", by_logits, x @ trained_kernel())
        by_kernel = np.einsum("bti,btw->iw", x, by_logits @ trained_table())
        np.testing.assert_allclose(gradients[0], by_kernel, atol=1e-5)
        np.testing.assert_allclose(gradients[-1], by_table, atol=1e-5)


def test_cross_entropy_by_chunks_keeps_the_logits_of_one_chunk_alone():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("the highest memory of a process is asked of Linux")
    count, width, entries = 2048, 8, 20_000

    def peak(chunk_size):
        """Bytes that the loss and its gradients need more than there were before."""
        symbols = [keras.Input((count, width)), keras.Input((count,), dtype="int32")]
        features = layers.Dense(width, name="dense")(symbols[0])
        model = keras.Model(symbols, layers.LinearCrossEntropy(entries, chunk_size, name="loss")(features, symbols[1]))
        model.compile(loss=lambda y, losses: losses * y)
        Path("/proc/self/clear_refs").write_text("5")
        before = resident("VmRSS")
        x, targets = numbers(1, count, width), np.zeros((1, count), "int32")
        layers.backend.loss_and_gradients(model, [x, targets], np.ones((1, count), "float32"), training=False)
        return resident("VmHWM") - before

    def resident(name):
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", Path("/proc/self/status").read_text())[1])

    few, all_logits = peak(64), peak(count)
    assert 2 * few < all_logits > 4 * count * entries, f"{few:,} bytes by chunks of 64, {all_logits:,} at once"


def trained_kernel():
    return np.random.default_rng([0, 0]).normal(0, 0.4, (4, 4)).astype("float32")


def trained_table():
    return np.random.default_rng([0, 1]).normal(0, 0.4, (11, 4)).astype("float32")
