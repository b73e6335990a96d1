"""Autoencoders as an app: pictures without labels, codes in files, errors beside those of plain methods."""

import gzip
import json
import struct
from pathlib import Path

import numpy as np
import pytest
from app_cases import write_pictures
from PIL import Image
from runs import forked, train

from apps import autoencoding as app
from apps.common.bundles import answers
from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import Data, Examples
from apps.common.data.images import codes
from apps.common.data.images.decoding import Unreadable
from apps.common.data.images.unlabelled import as_examples, example_of, read_pictures
from apps.common.errors import UserError
from apps.common.reports import reconstruction
from apps.common.reports.maps import neighbours_kept, principal_map
from apps.common.training.fit import make_model

draws = np.random.default_rng(0)
PICTURES = draws.integers(0, 256, (12, 8, 8, 1)).astype("uint8")


# Pictures without labels


def save_all(folder, names):
    for index, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(PICTURES[index, ..., 0]).save(folder / name)


def write_idx(path, array):
    head = b"\0\0\x08" + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    with gzip.open(path, "wb") as file:
        file.write(head + array.tobytes())


@pytest.mark.once
@pytest.mark.parametrize("names", [("a.png", "b.png"), ("2020/a.png", "2021/b.png", "c.png"), ("one/a.png", "one/b.png")])
def test_any_folder_of_pictures_is_read(tmp_path, names):
    save_all(tmp_path, names)
    found = read_pictures(str(tmp_path))
    assert found.class_names == [] and found.splits["train"].labels is None
    assert len(found.splits["train"]) == len(names) and any("no labels" in note for note in found.notes)
    np.testing.assert_array_equal(np.sort(found.splits["train"].images, 0), np.sort(PICTURES[: len(names)], 0))
    assert example_of(str(tmp_path), found).endswith(".png")
    assert as_examples(found)["train"].y.tolist() == [0] * len(names)


@pytest.mark.once
def test_folders_named_after_splits_are_splits_and_labels_are_kept(tmp_path):
    save_all(tmp_path / "bare", ("train/a.png", "train/b.png", "test/c.png"))
    found = read_pictures(str(tmp_path / "bare"))
    assert {split: len(part) for split, part in found.splits.items()} == {"train": 2, "test": 1}
    write_pictures(tmp_path, count=3)
    found = read_pictures(str(tmp_path / "pictures"))
    assert found.class_names == ["dark", "light"] and found.splits["train"].labels.tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.once
def test_arrays_are_read_without_labels(tmp_path):
    np.savez(tmp_path / "some.npz", x_train=PICTURES[:8], x_test=PICTURES[8:])
    (tmp_path / "idx").mkdir()
    write_idx(tmp_path / "idx" / "train-images-idx3-ubyte.gz", PICTURES[:8, ..., 0])
    write_idx(tmp_path / "idx" / "t10k-images-idx3-ubyte.gz", PICTURES[8:, ..., 0])
    for name in ("some.npz", "idx"):
        found = read_pictures(str(tmp_path / name))
        assert found.class_names == []
        np.testing.assert_array_equal(found.splits["train"].images, PICTURES[:8])
        np.testing.assert_array_equal(found.splits["test"].images, PICTURES[8:])


@pytest.mark.once
def test_a_folder_without_a_picture_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("no picture")
    with pytest.raises(UserError, match="no image found"):
        read_pictures(str(tmp_path))


# Codes


@pytest.mark.once
def test_a_code_in_a_file_is_off_by_half_a_step_at_most(tmp_path):
    values = draws.normal(size=(50, 2, 2, 3)) * [1, 10, 0.1]
    limits = codes.code_range(values)
    inside = np.clip(values, limits["low"], limits["high"])
    codes.write_code(tmp_path / "a.code", codes.to_bytes(values, limits)[0], limits)
    back = codes.from_bytes(codes.read_code(tmp_path / "a.code", (2, 2, 3), limits), limits)
    steps = (np.array(limits["high"]) - limits["low"]) / 255
    assert (np.abs(back - inside[0]) <= 0.5001 * steps).all() and (tmp_path / "a.code").stat().st_size == 12 + 8
    other = codes.code_range(values + 1)
    for shape, ranges, content in (((2, 2, 3), other, None), ((2, 2, 2), limits, None), ((2, 2, 3), limits, b"\x89PNG")):
        if content:
            (tmp_path / "a.code").write_bytes(content)
        with pytest.raises(Unreadable):
            codes.read_code(tmp_path / "a.code", shape, ranges)
    codes.write_code(tmp_path / "a.code", codes.to_bytes(values, limits)[0], limits)
    content = bytearray((tmp_path / "a.code").read_bytes())
    content[-1] ^= 1
    (tmp_path / "a.code").write_bytes(content)
    with pytest.raises(Unreadable, match="damaged"):
        codes.read_code(tmp_path / "a.code", (2, 2, 3), limits)


# Errors


@pytest.mark.once
def test_psnr_is_its_formula_and_a_picture_of_one_grey_is_off_by_a_known_error():
    dark, light = np.full((3, 4, 4, 1), 51, "uint8"), np.full((3, 4, 4, 1), 102, "uint8")
    errors = reconstruction.squared_errors(lambda x: x / 255, dark, light)
    np.testing.assert_allclose(errors, 0.04)
    assert reconstruction.psnr(errors) == pytest.approx(10 * np.log10(1 / 0.04))
    assert reconstruction.psnr(np.zeros(3)) == pytest.approx(100)


@pytest.mark.once
def test_principal_components_lose_what_the_spectrum_says():
    images = draws.integers(90, 160, (40, 4, 4, 1)).astype("uint8")
    found = reconstruction.Components(images, 5, 0)
    rows = images.reshape(40, -1) / 255
    values = np.linalg.svd(rows - rows.mean(0), compute_uv=False)
    errors = reconstruction.squared_errors(found.restored, images, images)
    assert errors.mean() == pytest.approx((values[5:] ** 2).sum() / rows.size, rel=1e-4)


@pytest.mark.once
def test_jpeg_lies_in_one_file_whose_pictures_do_not_touch():
    smooth = np.broadcast_to(np.linspace(0, 255, 10)[None, :, None, None], (7, 10, 9, 3)).astype("uint8")
    quality, size, back = reconstruction.as_jpeg(smooth, 1e6)
    assert quality == max(reconstruction.QUALITIES) and back.shape == smooth.shape
    assert np.abs(back.astype(int) - smooth).max() < 16
    small = reconstruction.as_jpeg(smooth, 1)
    assert small[0] < quality and small[1] < size


@pytest.mark.once
def test_the_median_filter_takes_single_pixels_away_and_noise_has_its_deviation():
    flat = np.full((1, 9, 9, 1), 100, "uint8")
    spoiled = flat.copy()
    spoiled[0, 4, 4] = 255
    np.testing.assert_allclose(reconstruction.median_filtered(spoiled), flat / 255)
    noise = reconstruction.noisy(np.full((10, 32, 32, 1), 128, "uint8"), 0.1, 0)
    assert noise.std() == pytest.approx(12.75, rel=0.05)


@pytest.mark.once
def test_a_map_of_points_in_a_plane_keeps_every_neighbour():
    plane = draws.normal(size=(60, 2)) @ draws.normal(size=(2, 9))
    assert neighbours_kept(plane, principal_map(plane)) == 1.0
    assert neighbours_kept(plane, draws.normal(size=(60, 2))) < 0.5


# The app


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("autoencoding")
    write_pictures(folder, ("a", "b", "c"), count=12)
    options = ("--latent-dim", "2", "--width", "4", "--epochs", "2", "--batch-size", "8", "--leave-out", "c", "--model", "vae")
    return folder, train("autoencoding", "--data", "pictures", *options, cwd=folder)


def rows_of(folder, *words):
    return json.loads(forked("predict", *words, "--json", cwd=folder).stdout)["predictions"]


@pytest.mark.once
def test_codes_written_to_files_give_the_picture_of_the_model(trained):
    folder, result = trained
    picture = "pictures/a/0.png"
    (direct,) = rows_of(folder, result["model"], picture, "--folder", "direct")
    (packed,) = rows_of(folder, result["model"], picture, "--mode", "codes", "--folder", "codes")
    for drawn in (folder / direct["picture"], folder / result["model"] / "reconstructions.png"):
        said = Image.open(drawn).text
        assert (said["Generated"], said["Model"], said["Run"]) == ("yes", "vae", result["run_id"])
    assert packed["bytes"] == 2 + 8 and packed["score"] == direct["score"]
    (folder / "codes" / "bad.code").write_bytes(b"code?")
    bad, again = rows_of(folder, result["model"], "codes", "--folder", "unpacked")
    assert "not a readable code" in json.dumps(bad) or "not a readable code" in json.dumps(again)
    written = next(row["picture"] for row in (bad, again) if "picture" in row)
    first, second = (np.asarray(Image.open(folder / path)).astype(int) for path in (direct["picture"], written))
    assert np.abs(first - second).max() <= 24 and first.shape == (8, 8)


@pytest.mark.once
def test_no_two_inputs_of_a_call_write_the_same_file(trained, tmp_path, monkeypatch):
    folder, result = trained
    inputs = ["dup/cat.png", "dup/cat.jpg", "dup/cat.bmp", "x/a/1.png", "y/a/1.png", "dup/CAT-2.png"]
    save_all(tmp_path, inputs)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(answers, "CHUNK", 2)  # a call comes to the app in parts
    bundle = open_bundle(str(folder / result["model"]))
    model = load_model(bundle)
    for mode, kind in (("codes", "code"), ("reconstruct", "picture")):
        options = app.PredictOptions(mode=mode, folder=mode)
        written = [row[kind] for row in answers.answer(app, model, bundle.about, inputs, (options,))]
        assert len({name.lower() for name in written}) == len(inputs) and all((tmp_path / name).is_file() for name in written)
        assert [Path(name).stem for name in written[:3]] == ["dup-cat", "dup-cat-2", "dup-cat-3"]
        again = [row[kind] for row in answers.answer(app, model, bundle.about, inputs, (app.PredictOptions(mode, mode),))]
        assert again == written, "another call writes the same files anew"


@pytest.mark.once
def test_neighbours_are_counted_only_where_there_are_others_as_well(trained):
    assert "neighbours_kept" not in trained[1]["metrics"]  # each of 5 pictures is a neighbour of each other one
    about = {"class_names": [], "image_shape": [8, 8, 1]}
    data = Data(*(Examples(np.tile(PICTURES, (2, 1, 1, 1)), np.zeros(24, int)) for _ in range(3)), about)
    config = app.Config(latent_dim=2, width=4, epochs=1)
    assert "neighbours_kept" in app.evaluate(make_model(app, config, data), data, config).metrics


@pytest.mark.once
def test_a_class_that_is_left_out_is_judged_as_an_anomaly(trained):
    folder, result = trained
    assert {"anomaly_auc", "anomaly_recall", "psnr", "psnr_pca"} <= result["metrics"].keys()
    (row,) = rows_of(folder, result["model"], "pictures/a/0.png", "--mode", "scores")
    assert row["anomalous"] == (row["score"] > row["threshold"])
    refused = forked("train", "autoencoding", "--data", "pictures", "--leave-out", "d", cwd=folder, check=2)
    assert "--leave-out d: not a class" in refused.stderr


@pytest.mark.once
def test_other_pictures_that_are_all_of_the_class_left_out_are_judged():
    about = {"class_names": ["a", "b"], "image_shape": [8, 8, 1]}
    data = Data(*(Examples(PICTURES, np.arange(12) % 2) for _ in range(3)), about)
    config = app.Config(latent_dim=3, width=4, epochs=1, leave_out="b")
    model = make_model(app, config, data)
    app.evaluate(model, data, config)
    other = Data(None, None, Examples(PICTURES, np.ones(12, int)), data.about)
    found = app.evaluate(model, other, config).metrics
    assert np.isfinite(found["psnr"]) and 0 <= found["anomaly_recall"] <= 1 and "anomaly_auc" not in found


@pytest.mark.once
def test_what_is_judged_and_the_range_of_codes_are_of_all_classes_where_pictures_lie_class_by_class(monkeypatch):
    monkeypatch.setattr(app, "MOST", 4)
    pictures = np.sort(PICTURES.reshape(-1)).reshape(PICTURES.shape)  # from dark to bright
    spread = pictures[[0, 3, 7, 11]]
    data = Data(*(Examples(pictures, np.zeros(12, int)) for _ in range(3)), {"class_names": [], "image_shape": [8, 8, 1]})
    config = app.Config(latent_dim=3, width=4, epochs=1)
    model = make_model(app, config, data)
    app.evaluate(model, data, config)
    assert data.about["code_range"] == codes.code_range(reconstruction.codes_of(model, spread))
    seen = []
    monkeypatch.setattr(reconstruction, "restored", lambda model, x: seen.append(x) or x / 255)
    app.on_epoch(model, 1, None, data, config)
    np.testing.assert_array_equal(np.concatenate(seen), spread)


@pytest.mark.once
def test_noise_is_taken_away_beside_the_median_filter(tmp_path):
    data = Data(*(Examples(PICTURES, np.zeros(12, int)) for _ in range(3)), {"class_names": [], "image_shape": [8, 8, 1]})
    config = app.Config(noise=0.3, latent_dim=3, width=4, epochs=1)
    report = app.evaluate(make_model(app, config, data), data, config)
    found = app.baselines(data, config)
    assert report.metrics["psnr_median"] == found["median filter"]["psnr"]
    best = max(report.metrics["psnr_median"], report.metrics["psnr_pca"])
    assert report.metrics["psnr_gain"] == pytest.approx(report.metrics["psnr"] - best)
    assert found["noisy as it is"]["psnr"] == report.metrics["psnr_noisy"]
    noise = 10 * np.log10(1 / np.mean(np.square((reconstruction.noisy(PICTURES, 0.3, 1) - PICTURES * 1.0) / 255)))
    assert report.metrics["psnr_noisy"] == pytest.approx(noise)


@pytest.mark.once
def test_one_picture_is_too_few_and_says_so(tmp_path):
    save_all(tmp_path, ["one.png"])
    with pytest.raises(UserError, match="more examples are needed"):
        app.load_data(app.Config(data=str(tmp_path)))
