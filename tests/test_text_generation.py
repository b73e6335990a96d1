"""Language models: what a causal model must not see, generation that is the same with and without memory, the app."""

import json
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from runs import forked, train

import layers
from apps import text_generation as app
from apps.common.data.examples import Examples
from apps.common.reports.next_tokens import next_token_losses
from apps.common.reports.sampling import Generation, Sampler, continuation, generate_texts, stream_texts
from apps.common.training.losses import TokenCrossEntropy
from layers import backend, models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

VOCABULARY, BLOCK = 11, 8
MODELS = {
    "gpt": lambda: models.gpt(VOCABULARY, BLOCK, width=16, depth=2, num_heads=2),
    "rotary": lambda: models.gpt(VOCABULARY, BLOCK, width=16, depth=2, num_heads=2, positions="rotary"),
    "lstm": lambda: models.lstm_language_model(VOCABULARY, BLOCK, width=16),
}
each_model = pytest.mark.parametrize("name", MODELS)


class Uncached:
    """A `layers.Decoder` that computes everything anew for each token: slow, and what the other is held against."""

    many = 1

    def __init__(self, model):
        self.model, self.block_size = model, model.inputs[0].shape[1]
        self.reset()

    def reset(self):
        self.tokens = []

    @property
    def position(self):
        return len(self.tokens)

    def __call__(self, token):
        self.tokens.append(token)
        padded = np.zeros((1, self.block_size), "int32")
        padded[0, : len(self.tokens)] = self.tokens
        return np.asarray(self.model.predict_on_batch(padded))[0, len(self.tokens) - 1]


def loud(name):
    """A model whose weights are large enough for every token to matter."""
    model = MODELS[name]()
    for index, weight in enumerate(model.trainable_weights):
        if len(weight.shape) > 1:
            weight.assign(np.random.default_rng(index).normal(0, 0.4, weight.shape))
    return model


def tokens(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, VOCABULARY, shape).astype("int32")


def logits(model, ids):
    return np.asarray(model.predict_on_batch(ids))


@each_model
def test_the_losses_of_a_text_are_those_of_its_logits(name):
    model, ids, after = loud(name), tokens(5, BLOCK), tokens(5, BLOCK, seed=1)
    shares = logits(model, ids).astype("float64")
    shares = np.exp(shares) / np.exp(shares).sum(-1, keepdims=True)
    losses, weights = next_token_losses(model, Examples(ids, after))
    np.testing.assert_allclose(losses, -np.log(np.take_along_axis(shares, after[..., None], -1)[..., 0]), rtol=1e-4)
    assert weights.shape == losses.shape and (weights == 1).all()


# What a causal model sees


@each_model
def test_the_past_does_not_move_when_the_future_does(name):
    model, before = loud(name), tokens(2, BLOCK)
    after = before.copy()
    after[:, 5:] = (after[:, 5:] + 1) % VOCABULARY
    left, right = logits(model, before), logits(model, after)
    np.testing.assert_allclose(left[:, :5], right[:, :5], rtol=1e-5, atol=1e-6)
    assert (np.abs(left[:, 5:] - right[:, 5:]).max((0, 2)) > 1e-3).all()


@each_model
def test_every_earlier_token_reaches_the_last(name):
    model, before = loud(name), tokens(1, BLOCK)
    changed = np.repeat(before, BLOCK, axis=0)
    changed[np.arange(BLOCK), np.arange(BLOCK)] = (before[0] + 1) % VOCABULARY
    after = logits(model, np.concatenate([before, changed]))[:, -1]
    assert (np.abs(after[1:] - after[0]).max(-1) > 1e-6).all()


def test_attention_is_the_formula():
    query, key, value = np.random.default_rng(0).normal(size=(3, 2, 5, 3, 4)).astype("float32")
    scores = np.einsum("bqhd,bkhd->bhqk", query, key) / np.sqrt(4)
    scores = np.where(np.tril(np.ones((5, 5), bool)), scores, -np.inf)
    shares = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    expected = np.einsum("bhqk,bkhd->bqhd", shares, value)
    given = [keras.ops.convert_to_tensor(array) for array in (query, key, value)]
    found = keras.ops.convert_to_numpy(backend.attention(*given, True, None))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "torch", reason="torch's own attention is there on the torch backend alone")
def test_attention_is_torchs():
    import torch

    ours = layers.SelfAttention(2, causal=True)
    x = np.random.default_rng(0).normal(size=(3, 5, 8)).astype("float32")
    ours.build(x.shape)
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    for dense, weight, bias in (
        (ours.query_key_value, theirs.in_proj_weight, theirs.in_proj_bias),
        (ours.output_projection, theirs.out_proj.weight, theirs.out_proj.bias),
    ):
        dense.set_weights([weight.detach().numpy().T, bias.detach().numpy()])
    mask = torch.ones(5, 5, dtype=torch.bool).triu(1)
    given = torch.from_numpy(x)
    expected = theirs(given, given, given, attn_mask=mask, need_weights=False)[0].detach().numpy()
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours(x)), expected, rtol=1e-4, atol=1e-6)


def test_rotary_products_depend_on_the_distance_alone():
    layer = layers.RotaryEmbedding()
    query, key = np.random.default_rng(0).normal(size=(2, 6)).astype("float32")
    turned = [keras.ops.convert_to_numpy(layer(np.broadcast_to(x, (1, 20, 1, 6)))) for x in (query, key)]
    products = np.einsum("qd,kd->qk", turned[0][0, :, 0], turned[1][0, :, 0])
    for distance in range(-10, 11):
        along = np.diagonal(products, distance)
        np.testing.assert_allclose(along, along[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(products[0, 0], query @ key, rtol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(turned[0], axis=-1), np.linalg.norm(query), rtol=1e-5)


def test_weights_are_as_many_as_published_and_drawn_with_the_published_deviations():
    def size(tokens, block, width, depth):
        return (tokens + block) * width + depth * (12 * width**2 + 13 * width) + 2 * width

    assert size(50257, 1024, 768, 12) == 124_439_808  # GPT-2 small
    assert models.gpt(50, 16, width=24, depth=3, num_heads=2).count_params() == size(50, 16, 24, 3)
    model = models.gpt(65, 64)
    layers.initialize(model, 0)
    block = model.get_layer("block_1")
    deviations = [
        float(np.std(keras.ops.convert_to_numpy(dense.kernel)))
        for dense in (block.attention.query_key_value, block.hidden, block.attention.output_projection, block.output_projection)
    ]
    np.testing.assert_allclose(deviations, [0.02, 0.02, 0.02 / 8**0.5, 0.02 / 8**0.5], rtol=0.05)
    # So drawn, every token is about as likely as any other: the loss begins at log(65).
    x, y = tokens(4, 64), tokens(4, 64, seed=1)
    begin = TokenCrossEntropy()(y, logits(model, x))
    assert abs(float(begin) - np.log(65)) < 0.1


# Generation


@each_model
def test_a_decoder_says_what_the_whole_model_says(name):
    model, ids = loud(name), tokens(1, BLOCK)
    decoder = layers.Decoder(model)
    for _ in range(2):  # nothing is left of the first time
        decoder.reset()
        found = np.stack([decoder(int(token)) for token in ids[0]])
        np.testing.assert_allclose(found, logits(model, ids)[0], rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="block_size"):
        decoder(0)


@each_model
def test_a_decoder_follows_the_weights(name):
    model, ids = loud(name), tokens(1, BLOCK)
    decoder = layers.Decoder(model)
    before = decoder(int(ids[0, 0]))
    model.trainable_weights[0].assign(model.trainable_weights[0] * 2.0)
    decoder.reset()
    after = decoder(int(ids[0, 0]))
    np.testing.assert_allclose(after, logits(model, ids)[0, 0], rtol=1e-4, atol=1e-4)
    assert np.abs(after - before).max() > 1e-3


def written(decoder, count, prompt=(1, 2, 3), temperature=1.0, seed=0):
    following = continuation(decoder, prompt, Sampler(temperature), np.random.default_rng(seed))
    return [next(following) for _ in range(count)]


@each_model
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_cached_and_uncached_generation_give_the_same_text(name, temperature):
    model = loud(name)
    cached = written(layers.Decoder(model), 5 * BLOCK, temperature=temperature)
    assert cached == written(Uncached(model), 5 * BLOCK, temperature=temperature)
    assert len(set(cached)) > 1 or temperature == 0.0


class Counted:
    """A decoder that counts its steps."""

    def __init__(self, model):
        self.inner, self.steps = layers.Decoder(model), 0
        self.block_size, self.reset, self.many = self.inner.block_size, self.inner.reset, self.inner.many

    @property
    def position(self):
        return self.inner.position

    def __call__(self, token):
        self.steps += 1
        return self.inner(token)


@each_model
def test_the_cost_of_a_token_does_not_grow_with_the_text(name):
    decoder = Counted(loud(name))
    steps = [0]
    following = continuation(decoder, [1], Sampler(), np.random.default_rng(0))
    for _ in range(12 * BLOCK):
        next(following)
        steps.append(decoder.steps)
    for first in range(0, 11 * BLOCK, BLOCK):
        assert steps[first + BLOCK] - steps[first] <= 2 * BLOCK
    assert steps[BLOCK] == BLOCK  # within one block a token is a step


def test_a_prompt_and_a_window_begun_anew_are_read_in_few_steps(monkeypatch):
    model = loud("gpt")
    slow = written(layers.Decoder(model), 4 * BLOCK, prompt=(1, 2, 3, 4, 5))
    monkeypatch.setattr(layers.decoding, "MANY", BLOCK // 2)
    decoder = Counted(model)
    assert written(decoder, 4 * BLOCK, prompt=(1, 2, 3, 4, 5)) == slow
    windows = -(-(4 * BLOCK + 5 - BLOCK) // (BLOCK // 2))
    assert decoder.steps <= 4 * BLOCK + windows + 1
    assert layers.Decoder(loud("lstm")).many == 1  # an LSTM has no way to


def test_a_step_is_traced_once(monkeypatch):
    model, traced = loud("gpt"), []
    step = layers.PositionEmbedding.step
    monkeypatch.setattr(layers.PositionEmbedding, "step", lambda *given: traced.append(1) or step(*given))
    written(layers.Decoder(model), 3 * BLOCK)
    if keras.backend.backend() == "torch":
        pytest.skip("torch runs each step as it is written")
    assert len(traced) == 1


def test_a_prompt_longer_than_the_block_is_read_from_its_end():
    model, long = loud("gpt"), tokens(30).tolist()
    decoder = layers.Decoder(model)
    assert written(decoder, 20, prompt=long) == written(decoder, 20, prompt=long[-BLOCK:])


# The sampler


LOGITS = np.array([0.5, 2.0, -1.0, 1.9, 0.0])


def test_no_temperature_and_one_candidate_are_the_likeliest_token():
    generator = np.random.default_rng(0)
    for sampler in (Sampler(temperature=0.0), Sampler(temperature=1e-6), Sampler(top_k=1), Sampler(top_p=1e-9)):
        assert {sampler.draw(LOGITS, generator) for _ in range(50)} == {1}


def test_temperature_one_is_the_softmax_and_a_high_one_is_uniform():
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum()
    np.testing.assert_allclose(Sampler().probabilities(LOGITS), softmax)
    np.testing.assert_allclose(Sampler(temperature=1e9).probabilities(LOGITS), 0.2, rtol=1e-6)
    np.testing.assert_allclose(Sampler(temperature=2.0).probabilities(2 * LOGITS), softmax)


def test_top_k_keeps_the_likeliest_k_in_their_proportions():
    found = Sampler(top_k=2).probabilities(LOGITS)
    np.testing.assert_allclose(found[[1, 3]], np.exp(LOGITS[[1, 3]]) / np.exp(LOGITS[[1, 3]]).sum())
    assert np.count_nonzero(found) == 2 and np.count_nonzero(Sampler(top_k=99).probabilities(LOGITS)) == 5


@pytest.mark.parametrize(("top_p", "kept"), [(0.3, 1), (0.45, 2), (0.5, 2), (0.74, 3), (0.9, 4), (1.0, 5)])
def test_top_p_keeps_the_smallest_set_that_reaches_it(top_p, kept):
    probabilities = np.array([0.15, 0.4, 0.05, 0.3, 0.1])
    found = Sampler(top_p=top_p).probabilities(np.log(probabilities))
    likeliest = np.argsort(-probabilities)[:kept]
    assert set(np.flatnonzero(found)) == set(likeliest)
    if kept > 1:
        assert probabilities[likeliest[:-1]].sum() < top_p <= probabilities[likeliest].sum() + 1e-12


def test_draws_have_the_stated_frequencies_and_follow_from_the_seed():
    draw = Sampler(temperature=0.7, top_k=4).draw
    first = [draw(LOGITS, generator) for generator in [np.random.default_rng(3)] for _ in range(20_000)]
    again = [draw(LOGITS, generator) for generator in [np.random.default_rng(3)] for _ in range(20_000)]
    assert first == again
    shares = np.bincount(first, minlength=5) / len(first)
    np.testing.assert_allclose(shares, Sampler(temperature=0.7, top_k=4).probabilities(LOGITS), atol=0.01)


# The app

SMALL = ("text-generation", "--width", "16", "--depth", "1", "--block-size", "16", "--steps", "20", "--seed", "3")  # fmt: skip


@pytest.fixture(scope="module")
def text_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("text") / "rhyme.txt"
    path.write_text("Humpty Dumpty sat on a wall, Humpty Dumpty had a great fall.\n" * 40)
    return path


def test_the_app_trains_continues_prompts_and_names_what_it_cannot_read(text_file, tmp_path):
    result = train(*SMALL, "--data", text_file, "--epochs", "2", cwd=tmp_path)
    assert set(result["metrics"]) == {"cross_entropy", "bits_per_token", "perplexity"}
    assert result["metrics"]["cross_entropy"] < np.log(24)
    bundle = tmp_path / result["model"]
    options = ("--length", "40", "--temperature", "0.9", "--top-k", "5", "--seed", "4", "--json")
    done = forked("predict", bundle, "Humpty", "sat", *options, cwd=tmp_path)
    rows = json.loads(done.stdout)["predictions"]
    assert [row["prompt"] for row in rows] == ["Humpty", "sat"] and all(len(row["text"]) == 40 for row in rows)
    assert "Humpty" + rows[0]["text"] in done.stderr
    for arguments, words in (
        (("X~",), "never seen: 'X' (U+0058), '~' (U+007E)"),
        (("Humpty", "--top-q", "3"), "Did you mean '--top-"),
        (("Humpty", "--top-p", "2"), "--top-p: expected a number above 0 and at most 1"),
    ):
        refused = forked("predict", bundle, *arguments, cwd=tmp_path, check=2)
        assert words in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
    other = tmp_path / "other.txt"
    other.write_text("Humpty Dumpty had a wall.\n" * 10)
    evaluated = json.loads(forked("evaluate", bundle, "--data", other, "--json", cwd=tmp_path).stdout)
    assert evaluated["metrics"]["perplexity"] > 1


def test_the_text_is_shown_while_it_is_written_unless_that_is_not_wanted(capsys):
    about = {"characters": "".join(map(chr, range(97, 97 + VOCABULARY)))}
    (row,) = app.predict(loud("gpt"), ["abc"], about, app.PredictOptions(length=30))
    assert capsys.readouterr() == ("", f"abc{row['text']}\n\n") and len(row["text"]) == 30
    assert app.predict(loud("gpt"), ["abc"], about, app.PredictOptions(length=30, stream=False)) == [row]
    assert capsys.readouterr() == ("", "")
    assert "empty prompt" in app.predict(loud("gpt"), [""], about)[0]["reason"]


@each_model
def test_texts_written_side_by_side_are_those_written_one_by_one(name):
    about = {"characters": "".join(map(chr, range(97, 97 + VOCABULARY)))}
    model, prompts = loud(name), ["abc", "c", "abcabcabcabcabcabc", "ba", "aabb"]
    alone = [app.predict(model, [each], about, app.PredictOptions(length=20, stream=False))[0] for each in prompts]
    assert app.predict(model, prompts, about, app.PredictOptions(length=20, stream=False)) == alone
    assert "note" in alone[2] and "note" not in alone[0] and len({row["text"] for row in alone}) > 1


def test_what_stands_before_the_end_in_the_last_piece_is_of_the_text():
    pieces = [f"{chr(97 + token)}.\x03!" if token % 4 == 3 else chr(97 + token) for token in range(VOCABULARY)]
    vocabulary = SimpleNamespace(decoder=lambda: pieces.__getitem__)
    given = loud("gpt"), [[1], [2, 4], [0, 8, 6]], vocabulary, Generation(Sampler(), 200, end="\x03")
    texts = generate_texts(*given)
    assert texts == stream_texts(*given, names=["", "", ""])
    assert all(text.index(".") == len(text) - 1 for text in texts)
