"""What is learned without labels or from pairs: losses by hand, a target that follows, a gate that is shut at the start."""

import math

import keras
import numpy as np
import pytest

import layers
from layers import backend, models
from layers.contrastive import nt_xent, regression_loss, symmetric_loss
from layers.flamingo import selective_attention
from layers.models.representation.simclr import two_views

draws = np.random.default_rng(0)
IMAGES = draws.integers(0, 256, (6, 8, 8, 1)).astype("uint8")
TEXTS = draws.integers(1, 7, (6, 5)).astype("int32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def tensor(values):
    return keras.ops.convert_to_tensor(np.asarray(values, "float32"))


def unit(x):
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def made(kind, *arguments, **options):
    model = kind((8, 8, 1), *arguments, **options)
    layers.initialize(model, 0)
    model.compile("sgd")
    return model


# Losses


def test_nt_xent_is_its_formula():
    first, second, t = draws.normal(size=(4, 3)), draws.normal(size=(4, 3)), 0.3
    z = unit(np.concatenate([first, second]))
    losses = []
    for i in range(8):
        partner = (i + 4) % 8
        others = [np.exp(z[i] @ z[k] / t) for k in range(8) if k != i]
        losses.append(-np.log(np.exp(z[i] @ z[partner] / t) / sum(others)))
    expected = (np.array(losses[:4]) + losses[4:]) / 2
    np.testing.assert_allclose(array(nt_xent(tensor(first), tensor(second), t)), expected, rtol=1e-5)


def test_the_loss_of_clip_is_its_formula():
    first, second, scale = unit(draws.normal(size=(4, 3))), unit(draws.normal(size=(4, 3))), 5.0
    logits = scale * first @ second.T
    rows = [-np.log(np.exp(logits[i, i]) / np.exp(logits[i]).sum()) for i in range(4)]
    columns = [-np.log(np.exp(logits[i, i]) / np.exp(logits[:, i]).sum()) for i in range(4)]
    found = array(symmetric_loss(tensor(first), tensor(second), scale))
    np.testing.assert_allclose(found, (np.array(rows) + columns) / 2, rtol=1e-5)


def test_the_regression_loss_is_the_squared_distance_of_unit_vectors():
    first, second = draws.normal(size=(2, 4, 3))
    expected = ((unit(first) - unit(second)) ** 2).sum(-1)
    np.testing.assert_allclose(array(regression_loss(tensor(first), tensor(second))), expected, rtol=1e-5)


# SimCLR


@pytest.mark.once
def test_partners_are_views_of_the_same_picture_and_views_differ():
    model = made(models.SimCLR, "small_cnn", smallest_crop=0.5)
    grey = np.arange(0, 240, 40, dtype="uint8")[:, None, None, None] * np.ones((1, 8, 8, 1), "uint8")
    views = array(two_views(grey, [layers.RandomResizedCrop(0.5)]))
    np.testing.assert_allclose(views[:6], views[6:], atol=1e-5)  # a picture of one grey looks the same wherever it is cut
    np.testing.assert_allclose(views[:6, 0, 0, 0], grey[:, 0, 0, 0] / 127.5 - 1, atol=1e-5)
    views = array(two_views(IMAGES, model.views))
    assert np.abs(views[:6] - views[6:]).max() > 0.1


@pytest.mark.once
def test_the_projections_are_what_the_loss_of_a_step_is_made_of():
    model = made(models.SimCLR, "small_cnn", projection_dim=4)
    projections, loss, _ = backend.loss_and_gradients(model, IMAGES, None)
    expected = array(nt_xent(*(tensor(part) for part in np.split(projections, 2)), 0.5)).mean()
    assert loss == pytest.approx(expected, rel=1e-5)


def test_the_encoder_is_the_classifier_before_its_logits():
    model, classifier = made(models.SimCLR, "small_cnn"), models.small_cnn((8, 8, 1), 3)
    trunk = [variable for variable in classifier.variables if "logits" not in variable.path]
    assert [v.shape for v in model.encoder.variables] == [v.shape for v in trunk]
    with pytest.raises(ValueError, match="must be an image classifier"):
        models.SimCLR((8, 8, 1), "image_generator")


@pytest.mark.once
@pytest.mark.parametrize("share", [1.0, 0.25])
def test_a_window_is_stretched_to_the_whole(share):
    ramp = np.broadcast_to(np.arange(8.0, dtype="float32")[None, None, :, None], (50, 8, 8, 1))
    x = array(layers.RandomResizedCrop(share, 1.0)(ramp, training=True))[:, :, :, 0]
    assert x.min() >= 0.0 and x.max() <= 7.0
    steps = np.diff(x[:, 4], axis=1)[:, 2:5]  # the ends may lie outside the first and the last middle of a pixel
    if share == 1.0:
        np.testing.assert_allclose(x, ramp[..., 0], atol=1e-5)
    else:
        np.testing.assert_allclose(steps, np.broadcast_to(steps[:, :1], steps.shape), atol=1e-4)
        assert steps.min() >= 0.5 - 1e-4 and steps.max() <= 1.0 + 1e-4 and steps.std() > 0.05
    np.testing.assert_array_equal(array(layers.RandomResizedCrop(share)(ramp)), ramp)


# BYOL


def test_the_target_moves_by_exactly_its_decay_and_gets_no_gradient():
    model = made(models.BYOL, "small_cnn", projection_dim=4, decay=0.9)
    trained = {id(variable) for variable in model.trainable_variables}
    assert len(model.pairs()) == len(model.online.trainable_variables) > 4
    assert not any(id(follower) in trained for _, follower in model.pairs())
    for _ in range(2):
        before = [(array(followed), array(follower)) for followed, follower in model.pairs()]
        model.train_on_batch(IMAGES)
        for (followed, follower), (_, now) in zip(before, model.pairs(), strict=True):
            np.testing.assert_allclose(array(now), 0.9 * follower + np.float32(0.1) * followed, rtol=1e-5, atol=1e-7)
    before = [array(follower) for _, follower in model.pairs()]
    model.test_on_batch(IMAGES)
    for value, (_, now) in zip(before, model.pairs(), strict=True):
        np.testing.assert_array_equal(array(now), value)


def test_the_loss_of_byol_ignores_how_the_target_would_change():
    """The gradient of the online network is that of a loss whose targets are given numbers."""
    model = made(models.BYOL, "small_cnn", projection_dim=4)
    (predictions, targets), loss, _ = backend.loss_and_gradients(model, IMAGES, None)
    expected = 2.0 * array(regression_loss(tensor(predictions), tensor(targets))).mean()
    assert loss == pytest.approx(expected, rel=1e-5)


# CLIP


@pytest.mark.once
def test_both_towers_give_unit_vectors_and_padding_counts_nothing():
    model = made(models.CLIP, 7, 5, width=8, depth=1, embedding_dim=4)
    texts = TEXTS.copy()
    texts[:, 3:] = 0
    images, embedded = (array(part) for part in model({"image": IMAGES, "text": texts}))
    for part in (images, embedded):
        np.testing.assert_allclose(np.linalg.norm(part, axis=-1), 1.0, rtol=1e-5)
    features = array(model.text_encoder(texts)["text"])
    changed = model.text_encoder.get_layer("embedding").embeddings
    rows = array(changed)
    rows[0] = 9.0  # the vector of padding
    changed.assign(rows)
    np.testing.assert_allclose(array(model.text_encoder(texts)["text"])[:, :3], features[:, :3], atol=1e-5)


def test_the_scale_is_learned_and_bounded():
    model = made(models.CLIP, 7, 5, width=8, depth=1, embedding_dim=4)
    assert float(array(model.scale())) == pytest.approx(1 / 0.07, rel=1e-5)
    model.log_scale.assign(9.0)
    assert float(array(model.scale())) == pytest.approx(100.0, rel=1e-5)


def test_a_scale_at_its_bound_still_learns():
    model = made(models.CLIP, 7, 5, width=8, depth=1, embedding_dim=4)
    model.log_scale.assign(math.log(100) + 0.1)
    inputs = {"image": IMAGES, "text": np.arange(5 * len(IMAGES)).reshape(-1, 5) % 7}
    gradients = backend.loss_and_gradients(model, inputs, None)[2]
    place = next(index for index, each in enumerate(model.trainable_variables) if each is model.log_scale)
    assert abs(float(array(gradients[place]))) > 1e-3


# Flamingo


def small_flamingo(**options):
    vision, language = models.small_cnn((8, 8, 1), 5), models.gpt(7, 5, width=8, depth=2, num_heads=2)
    for index, model in enumerate((vision, language)):
        layers.initialize(model, index)
    return language, models.flamingo(vision, language, num_latents=3, num_heads=2, **options)


@pytest.mark.once
def test_with_its_gates_shut_a_flamingo_is_its_language_model():
    language, model = small_flamingo()
    expected = array(language(TEXTS))
    images = IMAGES[:, None]
    np.testing.assert_array_equal(array(model({"image": images, "tokens": TEXTS})), expected)
    trunk = {id(variable) for variable in language.variables}
    assert not any(id(variable) in trunk for variable in model.trainable_variables)
    open_gates(model)
    assert np.abs(array(model({"image": images, "tokens": TEXTS})) - expected).max() > 1e-4


def open_gates(model):
    for variable in model.variables:
        if variable.name.endswith("_gate"):
            variable.assign(0.9)


@pytest.mark.once
def test_a_token_sees_the_last_picture_before_it():
    _, model = small_flamingo(image_token=6, num_images=2)
    open_gates(model)
    tokens = np.array([[1, 6, 2, 6, 3]], "int32")
    images = np.stack([IMAGES[:1], IMAGES[1:2]], axis=1)
    before = array(model({"image": images, "tokens": tokens}))
    for picture, first in ((0, 1), (1, 3)):
        changed = images.copy()
        changed[:, picture] = 255 - changed[:, picture]
        moved = np.abs(array(model({"image": changed, "tokens": tokens})) - before).max((0, 2)) > 1e-6
        assert not moved[:first].any() and moved[first]
    seen = array(layers.LastPicture(6, 2, 3)(tokens))[0].reshape(5, 2, 3)
    assert (seen == seen[:, :, :1]).all()
    assert seen[:, :, 0].tolist() == [[False, False], [True, False], [True, False], [False, True], [False, True]]


def test_a_mask_for_each_query_that_hides_nothing_is_plain_attention():
    query, key, value = (tensor(draws.normal(size=(2, n, 2, 4))) for n in (5, 3, 3))
    found = array(selective_attention(query, key, value, np.ones((2, 5, 3), "bool")))
    np.testing.assert_allclose(found, array(backend.attention(query, key, value, False, None)), atol=1e-6)
    np.testing.assert_array_equal(array(selective_attention(query, key, value, np.zeros((2, 5, 3), "bool"))), 0.0)


# Precision


@pytest.mark.parametrize("kind", [models.SimCLR, models.BYOL])
def test_half_precision_trains(kind):
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        losses = [made(kind, "small_cnn", projection_dim=4).train_on_batch(IMAGES)]
    finally:
        keras.config.set_dtype_policy("float32")
    assert np.isfinite(losses).all()


@pytest.mark.once
def test_a_flamingo_in_half_precision_loses_little():
    batch = {"image": np.stack([IMAGES, 255 - IMAGES], axis=1), "tokens": np.where(TEXTS == 5, 6, TEXTS)}
    told = {"image_token": 6, "num_images": 2}
    _, single = small_flamingo(**told)
    open_gates(single)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        _, half = small_flamingo(**told)
        half.set_weights(single.get_weights())
        outputs = []
        for model in (half, single):
            model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
            outputs.append(backend.loss_and_gradients(model, batch, TEXTS, training=False)[:2])
    finally:
        keras.config.set_dtype_policy("float32")
    (found, loss), (expected, loss_of_single) = outputs
    assert half.compute_dtype == "bfloat16" and loss == pytest.approx(loss_of_single, rel=0.02)
    np.testing.assert_allclose(found, expected, atol=0.05 * np.abs(expected).max())


# What is exported


@pytest.mark.parametrize("kind", [models.SimCLR, models.BYOL])
def test_what_is_deployed_of_a_model_without_labels_are_its_features_of_pixels(kind):
    model = made(kind, "small_cnn")
    np.testing.assert_allclose(array(model.deployed()(tensor(IMAGES))), array(model(IMAGES)), atol=1e-5)


def test_the_towers_of_clip_give_alone_what_they_give_together():
    model = made(models.CLIP, 7, 5, architecture="small_cnn", embedding_dim=4, width=8)
    parts, (images, texts) = model.parts(), model({"image": IMAGES, "text": TEXTS})
    np.testing.assert_allclose(array(parts["image"](tensor(IMAGES))), array(images), atol=1e-5)
    np.testing.assert_allclose(array(parts["text"](TEXTS)), array(texts), atol=1e-5)
