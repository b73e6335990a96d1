"""Enlarging pictures: brightness, PSNR and SSIM of known values, tiles without seams, squares cut out of pictures, the app."""

from pathlib import Path

import keras
import numpy as np
import pytest
from app_cases import write_coloured_pictures
from PIL import Image
from runs import train

import layers
from apps import super_resolution as app
from apps.common.data.images.pictures import Patches, Picture, WholePictures, luminance, resized
from apps.common.errors import UserError
from apps.common.options.declare import make_config, options_of
from apps.common.reports.linear_filter import LinearFilter
from apps.common.reports.pictures import Enlarger, enlarged_colours, in_size, psnr, quality, ssim
from apps.common.training.enlarging import BrightnessLoss, psnr_metric
from apps.common.training.fit import make_model, settled
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

generator = np.random.default_rng(0)
GREY = generator.integers(0, 256, (40, 33)).astype("uint8")


def test_luminance_is_that_of_itu_r_601():
    colours = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], "uint8")
    np.testing.assert_array_equal(luminance(colours)[0, :, 0], [16, 235, 81, 145, 41])


def test_psnr_of_an_error_of_one_level_is_48_decibels():
    assert psnr(GREY.astype(int) + 1, GREY) == pytest.approx(20 * np.log10(255), abs=1e-9)
    assert psnr(GREY, GREY) == 100.0


def test_ssim_is_one_of_equal_pictures_symmetric_and_falls_with_noise():
    noises = [np.clip(GREY + generator.normal(0, deviation, GREY.shape), 0, 255) for deviation in (5, 20, 80)]
    found = [ssim(noise, GREY) for noise in noises]
    assert ssim(GREY, GREY) == pytest.approx(1.0) and found == sorted(found, reverse=True) and found[0] < 1
    assert ssim(noises[1], GREY) == pytest.approx(ssim(GREY, noises[1]))


def test_ssim_of_two_even_pictures_is_their_brightness_alone():
    first, second, small = 100.0, 150.0, (0.01 * 255) ** 2
    expected = (2 * first * second + small) / (first**2 + second**2 + small)
    assert ssim(np.full((20, 20), first), np.full((20, 20), second)) == pytest.approx(expected)


def test_ssim_agrees_with_a_window_summed_by_hand():
    x, y = GREY[:11, :11].astype(float), np.clip(GREY[:11, :11] + generator.normal(0, 30, (11, 11)), 0, 255)
    distance = np.add.outer((np.arange(11) - 5) ** 2, (np.arange(11) - 5) ** 2)
    weights = np.exp(-distance / (2 * 1.5**2))
    weights /= weights.sum()
    m, n = (weights * x).sum(), (weights * y).sum()
    v, w, both = (weights * (x - m) ** 2).sum(), (weights * (y - n) ** 2).sum(), (weights * (x - m) * (y - n)).sum()
    first, second = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    expected = (2 * m * n + first) * (2 * both + second) / ((m * m + n * n + first) * (v + w + second))
    assert ssim(x, y) == pytest.approx(expected)


def test_bicubic_is_no_model_and_the_help_says_where_it_stands():
    with pytest.raises(UserError, match="--model"):
        make_config(app.Config, {"model": "bicubic"})
    assert "bicubic is no model: it stands beside every report" in options_of(app.Config)["model"].help


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        ({"model": "srgan"}, "last"),
        ({"model": "srgan", "keep": "best"}, "best"),
        ({"model": "srgan", "early_stopping": 3}, "best"),
        ({"model": "edsr"}, "best"),
    ],
)
def test_the_last_epoch_of_two_players_is_kept_unless_another_is_asked_for(options, kept):
    config, _ = settled(app, make_config(app.Config, options), None)
    assert config.keep == kept and config.keeps_best == (kept == "best")


@pytest.mark.parametrize("name", ["espcn", "fsrcnn", "edsr"])
def test_tiles_have_no_seams_and_a_pixel_does_not_depend_on_the_tile_it_is_in(name):
    sizes = {} if name == "espcn" else {"depth": 1}
    model = getattr(models, name)((6, 6, 1), factor=2, width=4, **sizes)
    layers.initialize(model, 0)
    border = app.border_of(name, 1)
    small = generator.integers(0, 256, (13, 10, 1)).astype("uint8")
    padded = np.pad(small, ((border, border), (border, border), (0, 0)), mode="edge")
    whole = keras.ops.convert_to_numpy(in_size(model, padded.shape)(padded[None]))[0]
    expected = np.clip(whole[2 * border : -2 * border, 2 * border : -2 * border], 0, 1) * 255
    found = Enlarger(model, 2, border, tile=5)(small)
    assert found.shape == (26, 20, 1)
    np.testing.assert_allclose(found, expected, atol=0.51)


def test_the_colours_of_an_enlarged_picture_are_those_of_the_small_one():
    pixels = np.tile(np.array([200, 60, 30], "uint8"), (6, 5, 1))
    large = enlarged_colours(lambda small: np.repeat(np.repeat(small, 3, 0), 3, 1), pixels)
    assert large.shape == (18, 15, 3)
    np.testing.assert_allclose(large, np.broadcast_to(pixels[0, 0], large.shape), atol=3)


def test_loss_and_metric_are_those_of_numpy():
    true = generator.integers(0, 256, (3, 4, 4, 1)).astype("uint8")
    made = generator.uniform(0, 1, true.shape).astype("float32")
    away = made - true / 255
    for kind, expected in (("mse", np.mean(away**2)), ("mae", np.mean(np.abs(away)))):
        assert float(BrightnessLoss(kind)(true, made)) == pytest.approx(expected, rel=1e-5)
    metric = psnr_metric()
    metric.update_state(true, made)
    assert float(metric.result()) == pytest.approx(np.mean([psnr(a * 255, b) for a, b in zip(made, true, strict=True)]), rel=1e-5)


def doubled(pictures):
    return np.repeat(np.repeat(pictures, 2, -3), 2, -2)


def test_squares_follow_from_seed_epoch_and_index_and_small_and_large_show_the_same_place():
    small = generator.integers(0, 256, (12, 15, 1)).astype("uint8")
    patches = Patches([(small, doubled(small))], 5, 8, 3)
    first, large = patches.take(np.arange(8))
    np.testing.assert_array_equal(doubled(first), large)
    patches.set_epoch(1)
    assert (patches.take(np.arange(8))[1] != large).any()
    patches.set_epoch(0)
    np.testing.assert_array_equal(patches.take(np.array([5, 2]))[1], large[[5, 2]])


def test_the_card_counts_squares_and_the_pictures_they_are_cut_out_of(tmp_path):
    write_coloured_pictures(tmp_path)
    options = ("--model", "espcn", "--width", "4", "--factor", "2", "--epochs", "1", "--patches", "16", "--patch-size", "6")
    model = train("super-resolution", "--data", "coloured", *options, cwd=tmp_path)["model"]
    card = (Path(model) / "README.md").read_text()
    count = len(list((tmp_path / "coloured").glob("*.png")))
    assert "8 validation squares of 1 pictures, 1 test pictures" in card, card
    assert f"16 train squares of {count - 2} pictures" in card, "their smaller copies are none"


def test_an_enlargement_that_is_the_truth_is_perfect_and_edges_are_shaved():
    picture = GREY[..., None].copy()
    other = picture.copy()
    other[0] = 255 - other[0]
    assert quality(other, picture, 1) == {"psnr": 100.0, "ssim": pytest.approx(1.0)}
    assert quality(other, picture, 0)["psnr"] < 100


def test_two_players_are_trained_and_the_given_features_stay_as_they_are(monkeypatch):
    from apps.common.training import feature_maps

    monkeypatch.setattr(feature_maps, "EPOCHS", 1)
    monkeypatch.setattr(feature_maps, "CROPS", 4)
    monkeypatch.setattr(feature_maps, "_textures", [])
    options = {"model": "srgan", "factor": 2, "patch_size": 8, "patches": 4, "batch_size": 2, "width": 4, "depth": 1}
    config = make_config(app.Config, options)
    data = app.load_data(config)
    model = make_model(app, config, data)
    before = model.features.get_weights()
    assert any(np.array_equal(weight, known) for weight in before for known in feature_maps._textures if weight.size > 100)
    started = [layer.get_weights() for layer in (model.generator, model.discriminator)]
    model.fit(*data.train.take(np.arange(4)), batch_size=2, verbose=0)
    for weight, known in zip(model.features.get_weights(), before, strict=True):
        np.testing.assert_array_equal(weight, known)
    for layer, weights in zip((model.generator, model.discriminator), started, strict=True):
        assert any((a != b).any() for a, b in zip(layer.get_weights(), weights, strict=True))


def test_baselines_are_pillows_bicubic_repeated_pixels_and_a_linear_filter():
    large = resized(GREY[:20, :20, None], 40, 40)
    pair = (resized(large, 20, 20), large)
    parts = {"train": Patches([pair], 5, 8, 3), "test": WholePictures(["a"], [pair]), "about": {"factor": 2}}
    found = app.baselines(type("Data", (), parts), make_config(app.Config, {}))
    assert found["bicubic"]["psnr"] == pytest.approx(quality(resized(pair[0], 40, 40), large, 2)["psnr"])
    assert found["linear filter"]["psnr"] > found["bicubic"]["psnr"] > found["nearest"]["psnr"]


def test_the_linear_filter_finds_the_weights_there_are():
    small = generator.integers(0, 256, (12, 15, 1)).astype("uint8")
    above = np.pad(small.astype("float64"), ((3, 3), (3, 3), (0, 0)), mode="edge")
    mixed = [0.5 * above[3:-3, 3:-3] + 0.25 * above[3:-3, 4:-2] + 20, above[2:-4, 3:-3], above[3:-3, 3:-3], above[4:-2, 3:-3]]
    large = np.zeros((24, 30, 1))
    for index, values in enumerate(mixed):
        large[index // 2 :: 2, index % 2 :: 2] = values
    found = LinearFilter([(small, large)], seed=0)(small)
    np.testing.assert_allclose(found, large, atol=0.51)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "tiny", "patch_size": 24}, "fewer than 72 pixels a side"),
        ({"data": "empty"}, "no picture found"),
        ({"data": "nowhere"}, "no such file or folder"),
    ],
)
def test_pictures_that_cannot_be_trained_on_are_named(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "tiny").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "tiny" / "pixel.png")
    with pytest.raises(UserError, match=words):
        app.load_data(make_config(app.Config, options))


def test_a_picture_of_one_pixel_and_odd_files_are_enlarged_or_refused_with_a_reason(tmp_path):
    model = models.espcn((4, 4, 1), factor=3, width=2)
    layers.initialize(model, 0)
    Image.new("RGB", (1, 1), (255, 0, 0)).save(tmp_path / "pixel.png")
    Image.fromarray(np.full((5, 4), 40_000, "uint16")).save(tmp_path / "deep.png")
    Image.new("CMYK", (4, 5)).save(tmp_path / "print.jpg")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG\r\n")
    paths = [tmp_path / name for name in ("pixel.png", "deep.png", "print.jpg", "broken.png")]
    rows = app.predict(model, paths, {"factor": 3, "border": 4}, app.PredictOptions(str(tmp_path / "out")))
    sizes = [(row.get("width"), row.get("height")) for row in rows]
    assert sizes == [(3, 3), (12, 15), (12, 15), (None, None)] and "not a readable picture" in rows[3]["reason"]
    for row, size in zip(rows[:3], sizes, strict=False):
        with Image.open(row["picture"]) as picture:
            assert picture.size == size


def test_smaller_copies_shrink_by_a_fifth_while_a_square_fits():
    config = make_config(app.Config, {"smaller_copies": "3", "patch_size": "8", "factor": "2"})
    pixels = np.tile(np.arange(25, dtype="uint8")[:, None, None] * 8, (1, 40, 3))
    copies = app.smaller_copies(Picture("a", None, pixels), config)
    assert [each.pixels.shape for each in copies] == [(20, 32, 3), (16, 26, 3)], "a third one would have 13 rows, not 16"
    assert all(abs(float(each.pixels.mean()) - pixels.mean()) < 2 for each in copies)
