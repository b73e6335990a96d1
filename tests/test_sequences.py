"""Sequences of any length in batches of a few lengths."""

import itertools

import keras
import numpy as np
import pytest

from apps.common.data.fingerprint import example_digests
from apps.common.data.sequences import WORTH, Sequences, bucket_lengths, ragged
from apps.common.training.batches import Batches, InOrder, predict_examples
from apps.common.training.losses import TokenCrossEntropy
from layers import backend

once = pytest.mark.once
TOKENS = 5


def tagged(count, seed=0, longest=9):
    """Tokens with a tag for each, of lengths from 1 to `longest`."""
    generator = np.random.default_rng(seed)
    lengths = np.concatenate([[longest], generator.integers(1, longest + 1, count - 1)])
    x, y = ([generator.integers(1, TOKENS, length) for length in lengths] for _ in range(2))
    return Sequences(ragged(x, "int32"), ragged(y, "int32"), buckets=bucket_lengths(lengths, worth=0))


def padded_positions(lengths, ends):
    ends = np.asarray(ends)
    return ends[np.searchsorted(ends, lengths)].sum()


# The lengths of buckets


@once
def test_the_lengths_of_buckets_pad_the_least():
    generator = np.random.default_rng(1)
    for most in (1, 2, 3):
        lengths = generator.integers(1, 12, 30)
        found = bucket_lengths(lengths, most, worth=0)
        assert found[-1] == lengths.max() and len(found) <= most
        choices = itertools.chain.from_iterable(
            itertools.combinations(range(1, lengths.max()), size) for size in range(most)
        )
        best = min(padded_positions(lengths, [*choice, lengths.max()]) for choice in choices)
        assert padded_positions(lengths, found) <= best + 0.02 * lengths.max() * len(lengths)


@once
def test_a_length_that_saves_nothing_is_left_out():
    assert bucket_lengths(np.full(50, 7)).tolist() == [7]
    assert bucket_lengths(np.array([3] * 50 + [20] * 50), worth=0).tolist() == [3, 20]
    assert bucket_lengths(np.array([0, 0])).tolist() == [1]
    assert bucket_lengths(np.array([3] * 50 + [20] * 50), longest=8, worth=0).tolist() == [3, 8]
    assert bucket_lengths(np.arange(1, 5000), worth=0).tolist() == [1001, 2001, 3000, 4000, 4999]


@once
def test_few_examples_have_few_lengths_since_each_is_compiled_for():
    lengths = np.tile(np.arange(11, 71), 50)  # 3,000 examples
    assert len(bucket_lengths(lengths[:300])) == 1
    some, many = bucket_lengths(lengths), bucket_lengths(np.tile(lengths, 10))
    assert 1 < len(some) < len(many)
    one = np.array([70])
    assert padded_positions(lengths, one) - padded_positions(lengths, some) >= WORTH * (len(some) - 1)


@once
def test_several_fields_grow_together_and_every_example_goes_into_a_bucket():
    generator = np.random.default_rng(2)
    source = generator.integers(1, 200, 300)
    lengths = np.stack([source, np.maximum(1, source // 10 + generator.integers(-2, 3, 300))], axis=1)
    found = bucket_lengths(lengths, 4, worth=0)
    assert found.shape == (4, 2) and (np.diff(found, axis=0) >= 0).all()
    assert (found[-1] == lengths.max(0)).all(), "the last bucket has room for all"
    assert found[0, 1] < 0.5 * found[0, 0], "a short field is not padded to the length of the long one"


# Batches


@once
def test_a_batch_is_padded_behind_the_ends_of_its_sequences():
    features = ragged([np.ones((2, 3)), np.full((1, 3), 2.0), np.ones((4, 3))], "float32", padding=-1)
    x = {"tokens": ragged([[1, 2], [3], [4, 5, 6, 7]], "int32"), "mask": features.mask(), "features": features}
    examples = Sequences(x, {"tags": ragged([[1, 1], [2], [3, 3, 3, 3]]), "class": np.array([7, 8, 9])}, buckets=[2, 4])
    x, y, weight = examples.take(np.array([1, 0]))
    assert x["tokens"].tolist() == [[3, 0], [1, 2]] and x["tokens"].dtype == np.int32
    assert x["mask"].tolist() == [[True, False], [True, True]]
    assert x["features"][0].tolist() == [[2, 2, 2], [-1, -1, -1]]
    assert y["tags"].tolist() == [[2, 0], [1, 1]] and y["class"].tolist() == [8, 7]
    assert weight["tags"].tolist() == [[1, 0], [1, 1]] and weight["class"].tolist() == [1, 1]
    assert examples.take(np.array([1, 2]))[0]["tokens"].tolist() == [[3, 0, 0, 0], [4, 5, 6, 7]]


@once
def test_weights_are_those_given_where_there_is_something():
    x = ragged([[1, 2], [3]])
    by_token = Sequences(x, x, ragged([[0.5, 0.0], [2.0]]), buckets=[2]).take(np.arange(2))[2]
    assert by_token.tolist() == [[0.5, 0], [2, 0]]
    by_example = Sequences(x, x, np.array([0.5, 2.0]), buckets=[2]).take(np.arange(2))[2]
    assert by_example.tolist() == [[0.5, 0.5], [2, 0]]
    assert Sequences(x, np.arange(2), np.array([0.5, 2.0])).take(np.array([1]))[2].tolist() == [2.0]
    assert Sequences(x).take(np.array([1]))[1:][1].tolist() == [1.0], "a model may know its own targets"


@once
@pytest.mark.parametrize("parts", [1, 2])
def test_an_epoch_has_every_example_once_in_batches_of_the_same_shapes(parts):
    examples = tagged(46)
    seen, tables = [], []
    batches = Batches(examples, 8, seed=3, parts=parts)
    for epoch in range(3):
        batches.set_epoch(epoch)
        tables.append(batches.index_table())
        seen.append(sorted(batches[step][0].shape for step in range(len(batches))))
        assert sorted(tables[-1][tables[-1] >= 0]) == list(range(46))
        assert (tables[-1] < 0).sum() == 2
    assert len(batches) == 6 * parts and seen[0] == seen[1] == seen[2]
    assert not np.array_equal(tables[0], tables[1])
    again = Batches(examples, 8, seed=3, parts=parts)
    again.set_epoch(2)
    np.testing.assert_array_equal(again.index_table(), tables[2])
    assert {x.shape for x, _, _ in batches.samples()} == set(seen[0]) and len(batches.samples()) == len(set(seen[0]))


@once
def test_a_batch_is_of_one_bucket_but_for_what_others_left():
    examples = tagged(200)
    mixed = [batch for batch in examples.plan(8, np.random.default_rng(0)) if len(set(examples.bucket[batch])) > 1]
    assert len(mixed) < len(examples.buckets)
    for batch in mixed:
        assert examples.take(batch)[0].shape[1] == examples.buckets[examples.bucket[batch].max()][0]


@once
def test_what_is_too_long_is_cut_and_counted():
    examples = Sequences(ragged([[1] * 5, [2] * 3, [3]]), np.arange(3), buckets=[2, 3])
    assert examples.take(np.array([0, 2]))[0].tolist() == [[1, 1, 1], [3, 0, 0]]
    first, second = examples.notes(batch_size=2)
    assert "length 2, 3" in first and "42%" in first, "7 of 12: two batches of 2 x 3"
    assert "1 of 3 sequences are longer than 3" in second
    assert len(examples.subset(np.array([1, 2])).notes(2)) == 1


@once
def test_the_digest_of_a_sequence_is_that_of_itself_alone():
    examples = Sequences(*(ragged(np.split(np.arange(60), np.cumsum(range(1, 11)))) for _ in range(2)))
    found = examples.example_digests()
    assert len(set(found)) == len(examples) == 11
    part = examples.subset(np.array([3, 7, 3]))
    np.testing.assert_array_equal(example_digests(part), found[[3, 7, 3]])
    longer = Sequences(examples.x, examples.y, buckets=[4, 9])
    assert longer.fingerprint() == examples.fingerprint() != part.fingerprint()
    split = Sequences({"a": ragged([[1, 2], [1]]), "b": ragged([[3], [2, 3]])}, buckets=[2])
    assert len(set(split.example_digests())) == 2, "where one field ends and the next begins counts"
    labels = [Sequences(examples.x, np.full(11, label)) for label in (0, 1)]
    assert not np.isin(*(each.example_digests() for each in labels)).any()
    np.testing.assert_array_equal(*(each.example_digests(targets=False) for each in labels))


# Models


def model_of_tokens(rate=0.0):
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, 4, embeddings_initializer="normal")(ids)
    model = keras.Model(ids, keras.layers.Dense(TOKENS, kernel_initializer="normal")(x))
    metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    model.compile(keras.optimizers.SGD(rate), loss=TokenCrossEntropy(), weighted_metrics=[metric])
    backend.accelerate_steps(model)
    return model


def output_of(model, sequence):
    return keras.ops.convert_to_numpy(model(sequence[None]))[0]


def losses_alone(model, examples):
    """Losses of each example's tokens, and whether they are right, computed without padding."""
    table = output_of(model, np.arange(TOKENS)).astype("float64")
    found = []
    for row in range(len(examples)):
        logits, y = table[examples.x[row]], examples.y[row]
        each = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(y)), y]
        found.append((each, logits.argmax(-1) == y))
    return found


def test_padding_changes_no_loss():
    examples, model = tagged(21), model_of_tokens()
    alone = losses_alone(model, examples)
    batches = Batches(examples, 4, seed=0)
    rows = [indices[indices >= 0] for indices in batches.index_table()]
    expected = [np.concatenate([alone[row][0] for row in each]).mean() for each in rows]
    history = model.fit(backend.feed(batches), shuffle=False, verbose=0).history
    assert history["loss"][0] == pytest.approx(np.mean(expected), rel=1e-5)
    losses, right = (np.concatenate(each) for each in zip(*alone, strict=True))
    found = backend.evaluation(model, InOrder(examples, 4))()
    assert found["loss"] == pytest.approx(losses.mean(), rel=1e-5)
    assert found["accuracy"] == pytest.approx(right.mean(), rel=1e-5)


def test_nothing_compiles_after_the_first_epoch():
    model = model_of_tokens(rate=0.1)
    batches, held, counts = Batches(tagged(40), 4, seed=0), InOrder(tagged(13, seed=1), 4), []
    assert len(batches.samples()) > 2
    backend.compilations()
    evaluate = backend.evaluation(model, held)

    class Counts(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            batches.set_epoch(epoch)

        def on_epoch_end(self, epoch, logs=None):
            evaluate()
            counts.append(backend.compilations())

    model.fit(backend.feed(batches), epochs=3, shuffle=False, verbose=0, callbacks=[Counts()])
    assert counts[0] == counts[1] == counts[2]


def test_outputs_come_in_the_order_of_the_examples():
    examples, model = tagged(11), model_of_tokens()
    found = predict_examples(model, examples, batch_size=4)
    assert len(found) == 11 and len({each.shape for each in found}) > 1
    for row, output in enumerate(found):
        length = examples.x.lengths[row]
        np.testing.assert_allclose(output[:length], output_of(model, examples.x[row]), rtol=1e-4, atol=1e-6)
    last = keras.Model(model.input, {"last": keras.layers.GlobalMaxPooling1D()(model.output)})
    assert predict_examples(last, examples, batch_size=4)["last"].shape == (11, TOKENS)
