"""Examples nested in dicts and tuples, their digests, and losses divided by how much counts."""

import io
from dataclasses import replace

import keras
import numpy as np
import pytest

from apps.common.bundles.example import example_of
from apps.common.data import nested
from apps.common.data.examples import PICTURE, Data, Examples
from apps.common.data.fingerprint import digest, example_digests, row_digests
from apps.common.training.batches import Batches, InOrder, predict_all
from apps.common.training.losses import OneHotLoss, TokenCrossEntropy
from layers import backend


def two_inputs(count):
    """Inputs in a dict, one of them a tuple; targets in another dict."""
    rows = np.arange(count)
    x = {"wide": (rows[:, None] * np.ones((1, 3), "float32"), rows), "narrow": 10.0 * rows}
    return Examples(x, {"class": rows % 3, "number": rows / 2})


# Nested arrays


@pytest.mark.once
def test_leaves_come_in_one_order_whatever_that_of_the_dict():
    tree = {"b": [1, (2, 3)], "a": {"d": 4, "c": 5}}
    assert nested.leaves(tree) == [5, 4, 1, 2, 3]
    assert nested.paths(tree)[0] == (("a", "c"), 5) and nested.paths(tree)[-1] == (("b", 1, 1), 3)
    assert nested.map_leaves(lambda a, b: a + b, tree, tree) == {"b": [2, (4, 6)], "a": {"d": 8, "c": 10}}
    assert nested.paths(7) == [((), 7)]


@pytest.mark.once
def test_rows_are_counted_and_must_agree():
    assert nested.count_rows({"a": np.zeros(3), "b": (np.zeros((3, 2)),)}) == 3
    with pytest.raises(ValueError, match="b/0: 2"):
        nested.count_rows({"a": np.zeros(3), "b": (np.zeros((2, 2)),)})


@pytest.mark.once
def test_examples_are_taken_through_dicts_and_tuples():
    examples = two_inputs(5)
    assert len(examples) == 5
    part = examples.subset(np.array([4, 1]))
    for x, y in (examples.take(np.array([4, 1])), part.take(slice(None))):
        assert list(x["wide"][1]) == [4, 1] and list(x["narrow"]) == [40, 10] and x["wide"][0].shape == (2, 3)
        assert list(y["class"]) == [1, 1] and list(y["number"]) == [2, 0.5]
    weighted = Examples(np.arange(3), None, np.arange(3) / 2)
    x, y, weight = weighted.take(np.array([2]))
    assert (x, y, weight) == ([2], None, [1.0])


# Digests


@pytest.mark.once
def test_a_digest_is_the_same_in_every_process_and_whatever_the_order_of_a_dict():
    a, b = np.arange(6, dtype="<i8"), np.ones((2, 2), "<f4")
    known = "3508beb9b726d554f7a401d0"
    assert digest(a, None) == known, "of plain arrays, as it was before there were nested ones"
    assert digest({"a": a, "b": b}) == digest({"b": b, "a": a}) == "596d99a7c3aeb234d1afecbc"
    assert digest({"a": a, "b": b}) != digest({"a": b, "b": a}) and digest({"a": a}) != digest({"c": a})
    texts = np.array(["x", None, 2], object)
    assert digest(texts) == "b535ec3993ab4206a850a8a1", "by what the objects are, not where they lie"
    ragged = np.empty(2, object)
    ragged[:] = [np.arange(2, dtype="<i4"), np.arange(3, dtype="<i4")]
    assert digest(ragged) == "b263c44cfa5c73717030333d"
    assert digest(np.array(["2020-01-01"], "datetime64[D]")) != digest(np.array(["2020-01-02"], "datetime64[D]"))


@pytest.mark.once
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_each_example_has_a_digest_that_finds_it_again(rows, monkeypatch):
    monkeypatch.setattr("apps.common.data.fingerprint._rows_at_once", lambda examples: rows)
    examples = two_inputs(7)
    found = example_digests(examples)
    assert found.dtype == np.uint64 and len(set(found)) == 7
    order = np.array([3, 0, 6, 3])
    np.testing.assert_array_equal(example_digests(examples.subset(order)), found[order])
    other = Examples(examples.x, {**examples.y, "class": examples.y["class"] + 1})
    assert not np.isin(example_digests(other), found).any()
    np.testing.assert_array_equal(example_digests(other, targets=False), example_digests(examples, targets=False))


@pytest.mark.once
def test_rows_of_text_have_digests_too():
    texts = np.array(["a", "b", "a"], object)
    found = row_digests({"text": texts, "number": np.array([1, 1, 1])})
    assert found[0] == found[2] != found[1]
    np.testing.assert_array_equal(found, row_digests({"number": np.array([1, 1, 1]), "text": texts}))


# Weighted losses

BATCH, POSITIONS, TOKENS = 4, 4, 5  # as many positions as examples, where a wrong axis would go unseen


def token_model(rate=0.0, **options):
    keras.utils.set_random_seed(1)
    ids = keras.Input((None,), dtype="int32")
    x = keras.layers.Embedding(TOKENS, 6, embeddings_initializer="normal")(ids)
    model = keras.Model(ids, keras.layers.Dense(TOKENS, kernel_initializer="normal")(x))
    metric = keras.metrics.SparseCategoricalAccuracy(name="accuracy")
    optimizer = keras.optimizers.SGD(rate, **options)
    model.compile(optimizer, loss=TokenCrossEntropy(), weighted_metrics=[metric])
    backend.accelerate_steps(model)
    return model


def token_examples(count, weighted=True, positions=POSITIONS):
    generator = np.random.default_rng(count)
    x, y = generator.integers(0, TOKENS, (2, count, positions)).astype("int32")
    weight = generator.random((count, positions)).astype("float32")
    weight[generator.random((count, positions)) < 0.4] = 0
    return Examples(x, y, weight if weighted else None)


def token_losses(model, examples):
    """`(losses, whether right)` of every token, by NumPy."""
    logits = predict_all(model, examples.x).astype("float64")
    chosen = np.take_along_axis(logits, examples.y[..., None], -1)[..., 0]
    return np.log(np.exp(logits).sum(-1)) - chosen, logits.argmax(-1) == examples.y


def fitted_loss(model, batches):
    return model.fit(backend.feed(batches), shuffle=False, verbose=0).history["loss"][0]


def test_token_losses_are_multiplied_by_their_own_weights():
    generator = np.random.default_rng(0)
    logits = generator.normal(size=(BATCH, POSITIONS, TOKENS)).astype("float32")
    y = generator.integers(0, TOKENS, (BATCH, POSITIONS))
    each = np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, y[..., None], -1)[..., 0]
    by_token = generator.random((BATCH, POSITIONS)).astype("float32")
    by_example = generator.random(BATCH).astype("float32")
    for loss in (TokenCrossEntropy(), OneHotLoss("cross-entropy", TOKENS)):
        assert float(loss(y, logits)) == pytest.approx(each.mean(), rel=1e-5)
        assert float(loss(y, logits, by_token)) == pytest.approx((each * by_token).mean(), rel=1e-5)
        assert float(loss(y, logits, by_example)) == pytest.approx((each * by_example[:, None]).mean(), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_loss_of_a_batch_is_the_sum_over_what_counts_divided_by_how_much_counts(weighted):
    model, examples = token_model(), token_examples(2 * BATCH, weighted)
    each, _ = token_losses(model, examples)
    batches = Batches(examples, BATCH, seed=0)
    weight = examples.weight if weighted else np.ones(examples.y.shape)
    expected = [(weight[rows] * each[rows]).sum() / weight[rows].sum() for rows in batches.index_table()]
    assert fitted_loss(model, batches) == pytest.approx(np.mean(expected), rel=1e-5)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_validation_loss_is_that_over_all_tokens_at_once(weighted):
    model, examples = token_model(), token_examples(11, weighted)
    each, right = token_losses(model, examples)
    weight = examples.weight if weighted else np.ones(examples.y.shape)
    model.fit(backend.feed(Batches(examples, BATCH, seed=0)), shuffle=False, verbose=0)
    found = backend.evaluation(model, InOrder(examples, BATCH))()
    assert found["loss"] == pytest.approx((weight * each).sum() / weight.sum(), rel=1e-5)
    assert found["accuracy"] == pytest.approx((weight * right).sum() / weight.sum(), rel=1e-5)


def test_what_is_padded_counts_nothing():
    model, examples = token_model(rate=1.0), token_examples(BATCH)
    other = Examples(examples.x, np.where(examples.weight > 0, examples.y, 0), examples.weight)
    losses = [fitted_loss(each, Batches(given, BATCH, 0)) for each, given in ((model, examples), (token_model(1.0), other))]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_where_nothing_counts_the_loss_is_zero():
    model, examples = token_model(), token_examples(BATCH)
    nothing = Examples(examples.x, examples.y, np.zeros_like(examples.weight))
    assert fitted_loss(model, Batches(nothing, BATCH, seed=0)) == 0
    assert backend.evaluation(model, InOrder(nothing, BATCH))()["loss"] == 0


def test_a_batch_in_parts_takes_the_step_of_the_whole_whatever_counts_in_each():
    whole, parts, examples = token_model(1.0), token_model(1.0, gradient_accumulation_steps=2), token_examples(BATCH)
    before = whole.get_weights()[0]
    whole.fit(backend.feed(Batches(examples, BATCH, seed=0)), shuffle=False, verbose=0)
    parts.fit(backend.feed(Batches(examples, BATCH, seed=0, parts=2)), shuffle=False, verbose=0)
    for ours, theirs in zip(parts.get_weights(), whole.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert np.abs(before - whole.get_weights()[0]).max() > 1e-3


def two_headed(kind):
    """A model with two inputs and two targets, in dicts or in tuples."""
    keras.utils.set_random_seed(2)
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    both = keras.layers.Concatenate()([a, b])
    heads = keras.layers.Dense(3, name="class")(both), keras.layers.Dense(1, name="number")(both)
    inputs, outputs, losses = (a, b), heads, (OneHotLoss("cross-entropy", 3), "mse")
    if kind == "dict":
        inputs = {"a": a, "b": b}
        outputs, losses = (dict(zip(("class", "number"), each, strict=True)) for each in (outputs, losses))
    model = keras.Model(inputs, outputs)
    model.compile(keras.optimizers.SGD(0.0), loss=losses)
    backend.accelerate_steps(model)
    return model


@pytest.mark.parametrize("kind", ["dict", "tuple"])
@pytest.mark.parametrize("weighted", ["not", "examples", "targets"])
def test_each_target_of_several_is_divided_by_what_counts_of_it(kind, weighted):
    generator, count = np.random.default_rng(5), 7
    x = {"a": generator.normal(size=(count, 3)), "b": generator.normal(size=(count, 2))}
    y = {"class": generator.integers(0, 3, count), "number": generator.normal(size=(count, 1))}
    one = generator.random(count).astype("float32")
    two = {"class": (generator.random(count) < 0.5) * np.float32(1), "number": one}
    weights = {"not": {"class": np.ones(count), "number": np.ones(count)}, "examples": dict.fromkeys(y, one), "targets": two}
    given = {"not": None, "examples": one, "targets": two}[weighted]
    x = {name: each.astype("float32") for name, each in x.items()}
    if kind == "tuple":
        x, y, given = (tuple(each.values()) if isinstance(each, dict) else each for each in (x, y, given))
    examples, model = Examples(x, y, given), two_headed(kind)
    logits, numbers = (np.asarray(each, "float64") for each in nested.leaves(predict_all(model, x, batch_size=4)))
    classes, values = nested.leaves(y)
    losses = {
        "class": np.log(np.exp(logits).sum(-1)) - logits[np.arange(count), classes],
        "number": np.square(numbers - values)[:, 0],
    }

    def expected(rows):
        shares = [(weights[weighted][name][rows], losses[name][rows]) for name in losses]
        return sum((w * each).sum() / w.sum() for w, each in shares)

    batches = Batches(examples, 4, seed=0)
    trained = model.fit(backend.feed(batches), shuffle=False, verbose=0).history["loss"][0]
    assert trained == pytest.approx(np.mean([expected(rows) for rows in batches.index_table()]), rel=1e-4)
    found = backend.evaluation(model, InOrder(examples, 4))()
    assert found["loss"] == pytest.approx(expected(np.arange(count)), rel=1e-4)


@pytest.mark.once
def test_where_pictures_are_no_files_the_first_of_the_test_is_kept_to_be_tried(tmp_path):
    from PIL import Image

    from apps import image_classification, tabular

    pixels = np.arange(2 * 4 * 5, dtype="uint8").reshape(2, 4, 5, 1)
    drawn = Data(None, None, Examples({"image": pixels, "text": np.zeros((2, 3), "int32")}), {}, example=f"{PICTURE} --x 1")
    typed, kept = example_of(image_classification, drawn, tmp_path)
    assert typed == f"{tmp_path / 'example.png'} --x 1"
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(kept["example.png"]))), pixels[0, ..., 0])
    own = replace(drawn, example="my/own.jpg")
    assert example_of(image_classification, own, tmp_path) == ("my/own.jpg", {})
    assert example_of(tabular, replace(drawn, example="age=4"), tmp_path) == ("age=4", {})
