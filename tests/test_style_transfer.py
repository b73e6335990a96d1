"""Style transfer: the units of its losses, features that are given and stay, the optimisation of pixels, sizes, the app."""

import keras
import numpy as np
import pytest
from app_cases import write_coloured_pictures, write_pictures
from PIL import Image

import layers
from apps import image_classification
from apps import style_transfer as app
from apps.common.bundles.bundle import save_bundle
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.training import feature_maps
from apps.common.training.feature_maps import given_features
from apps.common.training.fit import make_model
from apps.common.training.restyling import (
    AnySize,
    Restyler,
    levelled,
    loss_units,
    mean_losses,
    optimised_picture,
    optimised_pixels,
)
from layers import models
from layers.style import gram_matrix

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

generator = np.random.default_rng(0)
SQUARES = generator.integers(0, 256, (3, 16, 16, 3)).astype("uint8")
TINY = {"image_size": 16, "picture_size": 64, "patches": 8, "batch_size": 4, "width": 2, "depth": 1, "optimised_steps": 2}


@pytest.fixture(autouse=True)
def quick_textures(monkeypatch):
    monkeypatch.setattr(feature_maps, "EPOCHS", 1)
    monkeypatch.setattr(feature_maps, "CROPS", 4)
    monkeypatch.setattr(feature_maps, "_textures", [])


@pytest.fixture
def made():
    config = make_config(app.Config, TINY)
    data = app.load_data(config)
    return make_model(app, config, data), data


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def test_given_features_are_not_drawn_again_and_not_trained(made):
    model, data = made
    known = [weight for weight in feature_maps._textures if weight.size > 100]
    found = model.features.get_weights()
    assert all(any(np.array_equal(weight, each) for each in found) for weight in known[:3])
    model.fit(data.train.take(np.arange(8))[0], batch_size=4, verbose=0)
    for weight, before in zip(model.features.get_weights(), found, strict=True):
        np.testing.assert_array_equal(weight, before)
    assert not model.features.trainable_variables


def test_losses_count_in_units_of_an_untouched_picture(made):
    model, *_ = made
    untouched = mean_losses(model, SQUARES, SQUARES)
    assert untouched["content_loss"] == 0 and untouched["style_loss"] > 0
    inputs = keras.Input((16, 16, 3))
    style = np.tile(SQUARES[:1, :8, :8], (1, 2, 2, 1))
    content, own, smooth = loss_units(keras.Model(inputs, [inputs / 255.0]), style, style, (0,))
    assert own < 1e-9, "a picture in its own style is no way from it"
    step = style.astype(float)
    right, down = np.diff(step, axis=2), np.diff(step, axis=1)
    assert smooth == pytest.approx((right**2).mean() + (down**2).mean(), rel=1e-4) and content > 0


def test_levelled_features_count_alike_however_strong_a_channel_or_a_map_is():
    inputs = keras.Input((16, 16, 3))
    strong = keras.layers.Rescaling([1.0, 10.0, 0.5])(inputs)
    pictures, style = SQUARES[:2], SQUARES[2:] // 3
    found = {}
    for name, outputs in {"plain": [inputs * 1.0, inputs * 5.0], "strong": [strong, inputs * 1.0]}.items():
        model = levelled(keras.Model(inputs, outputs), pictures, style)
        maps, wanted = (model(each.astype("float32")) for each in (pictures, style))
        found[name] = [array(each) for each in maps]
        for map_, target in zip(maps, wanted, strict=True):
            apart = array(gram_matrix(map_)) - array(gram_matrix(target))
            assert np.square(apart).sum((1, 2)).mean() == pytest.approx(1.0, rel=1e-3)
    for plain, other in zip(found["plain"], found["strong"], strict=True):
        np.testing.assert_allclose(plain, other, rtol=1e-3, atol=1e-4)


def test_a_network_begins_with_pixels_far_from_the_ends():
    network = models.transformer_net((16, 16, 3), width=8, depth=1)
    layers.initialize(network, 0)
    assert np.abs(array(network(SQUARES)) - 127.5).max() < 64


def test_optimised_pixels_come_nearer_to_the_style_and_stay_pixels(made):
    model, *_ = made
    found = optimised_pixels(model, SQUARES, 8)
    assert found.min() >= 0 and found.max() <= 255 and found.shape == SQUARES.shape

    def objective(pictures):
        parts = model.losses_of(keras.ops.convert_to_tensor(SQUARES.astype("float32")), keras.ops.convert_to_tensor(pictures))
        return sum(weight * array(part).mean() for weight, part in zip(model.part_weights, parts, strict=True))

    assert objective(found) < objective(SQUARES.astype("float32"))


def test_one_step_of_the_optimisation_is_adams_first_step_of_the_learning_rate(made):
    model, *_ = made
    inner = np.clip(SQUARES, 20, 235)
    moved = optimised_pixels(model, inner, 1, learning_rate=2.0) - inner
    assert np.abs(moved).max() <= 2.0001 and np.median(np.abs(moved)) == pytest.approx(2.0, abs=0.05)


def test_a_picture_of_any_size_is_optimised_as_a_square_of_the_training_is(made):
    model, *_ = made
    np.testing.assert_allclose(optimised_picture(model, SQUARES[0], 3), optimised_pixels(model, SQUARES[:1], 3)[0], atol=1e-2)
    assert optimised_picture(model, generator.integers(0, 256, (22, 37, 3)).astype("uint8"), 1).shape == (22, 37, 3)


def test_predict_optimises_the_pixels_for_as_many_steps_as_are_asked_for(made, tmp_path):
    model, data = made
    Image.fromarray(SQUARES[0]).save(tmp_path / "noise.png")
    found = {}
    for steps in (0, 1, 8):
        options = app.PredictOptions(folder=str(tmp_path / str(steps)), optimise=steps)
        (row,) = app.predict(model, [tmp_path / "noise.png"], data.about, options)
        found[steps] = np.asarray(Image.open(row["picture"])).astype(int)
    away = {steps: np.abs(pixels - SQUARES[0].astype(int)) for steps, pixels in found.items()}
    assert away[1].max() <= 4, "one step of four pixel values"
    assert away[1].mean() < away[8].mean() and not np.array_equal(found[0], found[8])


@pytest.mark.parametrize(("style", "content", "said"), [(0.1, 0.2, True), (0.3, 0.2, False), (0.1, 0.6, False)])
def test_a_control_that_wins_on_both_losses_is_remarked(style, content, said):
    network = {"method": "network", "style_loss": 0.2, "content_loss": 0.5}
    control = {"method": "optimised", "style_loss": style, "content_loss": content}
    found = app.control_remarks([network, control], 100)
    assert bool(found) == said and all("--optimise 100" in line and f"{style:.3g} of style_loss" in line for line in found)
    assert app.control_remarks([network], 0) == []


def test_the_report_has_the_remark(made, monkeypatch):
    model, data = made
    monkeypatch.setattr(app, "control_remarks", lambda rows, steps: [f"{len(rows)} methods, {steps} steps"])
    assert app.evaluate(model, data, make_config(app.Config, TINY)).remarks == ["3 methods, 2 steps"]


def test_a_picture_of_any_size_comes_back_in_its_size_and_in_full_where_it_fits():
    network = models.transformer_net((8, 8, 3), width=2, depth=1)
    layers.initialize(network, 0)
    restyle = Restyler(AnySize(network), margin=0)
    picture = generator.integers(0, 256, (13, 18, 3)).astype("uint8")
    assert restyle(picture, 100).shape == (13, 18, 3) and restyle(picture, 9).shape == (6, 9, 3)
    assert restyle(picture[:1, :1], 100).shape == (1, 1, 3)
    square = picture[:8, :8]
    np.testing.assert_allclose(restyle(square, 100), array(network(square[None]))[0], atol=0.51)


def test_a_network_that_paints_nothing_gives_what_the_skip_makes_of_the_picture():
    network = models.transformer_net((9, 10, 3), width=2, depth=1, skip=True)
    layers.initialize(network, 0)
    for layer in network.layers:
        if isinstance(layer, layers.Conv2D) and layer.filters == 3:
            kernel, bias = layer.get_weights()
            kernel[:] = 0.0
            if layer.kernel_size == (3, 3):  # the skip: of each pixel, its own colours
                kernel[1, 1] = np.eye(3)
            layer.set_weights([kernel, np.zeros_like(bias)])
    picture = generator.integers(0, 256, (1, 9, 10, 3)).astype("uint8")
    np.testing.assert_allclose(array(network(picture)), 127.5 + 127.5 * np.tanh(picture / 127.5 - 1), atol=1e-2)


def test_features_of_a_bundle_are_those_of_its_network(tmp_path):
    write_pictures(tmp_path)
    config = make_config(image_classification.Config, {"data": str(tmp_path / "pictures"), "model": "small-cnn"})
    data = image_classification.load_data(config)
    record = {"task": "image-classification", "options": {}, "about": data.about, "metrics": {}, "versions": {}}
    bundle = str(tmp_path / "bundle")
    save_bundle(bundle, make_model(image_classification, config, data), record, {})
    network, scale, offset = feature_maps.image_network("--features", bundle)
    features = given_features(bundle, (8, 8, 3))
    assert [tuple(map_.shape[1:3]) for map_ in features.outputs] == [(8, 8), (4, 4)]
    pixels = SQUARES[:, :8, :8]
    grey = (pixels.astype("float32").mean(-1, keepdims=True) * scale[0] + offset[0]).astype("float32")
    trunk = keras.Model(network.inputs[0], feature_maps.feature_maps(network))
    for found, expected in zip(features(pixels), trunk(grey, training=False), strict=True):
        np.testing.assert_allclose(array(found), array(expected), atol=1e-4)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"style": "coloured"}, "expected a picture, this is a folder"),
        ({"style": "broken.png"}, "not a readable picture"),
        ({"style": "pixel.png"}, "1 x 1 pixels, but squares of 16"),
        ({"image_size": 18}, "a multiple of 4"),
        ({"data": "pixel.png"}, "1 of 1 pictures have fewer than 16 pixels a side"),
    ],
)
def test_pictures_and_styles_that_cannot_be_are_named(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_coloured_pictures(tmp_path)
    Image.new("RGB", (1, 1)).save(tmp_path / "pixel.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    with pytest.raises(UserError, match=words):
        app.load_data(make_config(app.Config, {**TINY, **options}))


@pytest.mark.parametrize("source", ["keras:VGG7=x.h5", "keras:VGG16=missing.h5"])
def test_a_network_that_is_not_there_is_one_line(source):
    with pytest.raises(UserError, match="--features keras:VGG"):
        given_features(source, (32, 32, 3))
