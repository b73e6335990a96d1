"""Detections are judged as COCO judges them, kept in a folder, and learned; the drawn shapes fill their boxes."""

import contextlib
import io
import json
import os
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from app_cases import APP_CASES
from PIL import Image

import layers
from apps.common.data.images.shapes import NAMES, drawn_shapes
from apps.common.errors import UserError
from apps.common.reports.boxes import Folder, coco_evaluation, detect_all
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others


def test_drawn_shapes_fill_their_boxes_and_are_the_same_again():
    drawn, again = drawn_shapes(6, 48, seed=3), drawn_shapes(6, 48, seed=3)
    np.testing.assert_array_equal(drawn.images, again.images)
    assert set(drawn.classes.ravel()) <= {-1, *range(len(NAMES))} and (drawn.classes >= 0).any(1).all()
    sides = drawn.boxes[drawn.classes >= 0]
    assert (sides[:, 2:] > sides[:, :2]).all() and sides.min() >= 0 and sides.max() <= 1


@pytest.mark.parametrize(("count", "side", "sizes"), [(1, 32, [1]), (5, 32, [8]), (70, 32, [64, 64]), (3, 2048, [1, 1, 1])])
def test_a_detector_sees_no_more_pictures_at_a_time_than_there_are_and_few_large_ones(count, side, sizes):
    seen = []

    def detect(pictures):
        seen.append(len(pictures))
        return {"scores": keras.ops.convert_to_tensor(pictures[:, 0, 0, 0].astype("float32"))}

    images = np.broadcast_to(np.arange(count, dtype="uint8").reshape(-1, 1, 1, 1), (count, side, side, 3))
    found = detect_all(SimpleNamespace(_detect=detect), images)
    assert seen == sizes and found["scores"].tolist() == list(range(count))


def some_boxes(seed, count=6, most=5, classes=2):
    generator = np.random.default_rng(seed)
    corners = generator.uniform(0, 0.6, (count, most, 2))
    boxes = np.concatenate([corners, corners + generator.uniform(0.1, 0.4, (count, most, 2))], -1)
    chosen = generator.integers(-1, classes, (count, most))
    chosen[:, 0] = np.arange(count) % classes
    return {"boxes": boxes, "classes": chosen}


def test_perfect_predictions_have_a_precision_of_one_and_none_of_zero():
    truth = some_boxes(0)
    metrics, rows, _ = coco_evaluation(truth | {"scores": np.ones((6, 5))}, truth, ["cat", "dog"], (100, 100))
    assert metrics == pytest.approx({"map50": 1, "map": 1, "map75": 1})
    assert [row["boxes"] for row in rows] == [(truth["classes"] == index).sum() for index in range(2)]
    nothing = {"boxes": np.zeros((6, 5, 4)), "scores": np.zeros((6, 5)), "classes": np.full((6, 5), -1)}
    assert coco_evaluation(nothing, truth, ["cat", "dog"], (100, 100))[0]["map50"] == 0


def test_precision_is_what_the_summary_of_pycocotools_says(tmp_path):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth, generator = some_boxes(1, 12), np.random.default_rng(2)
    found = {
        "boxes": truth["boxes"] + generator.normal(0, 0.03, truth["boxes"].shape),
        "scores": generator.random((12, 5)),
        "classes": np.where(generator.random((12, 5)) < 0.2, 0, truth["classes"]),
    }
    metrics, _, _ = coco_evaluation(found, truth, ["cat", "dog", "absent"], (200, 300))

    def rows(boxes):
        for image, place in zip(*np.nonzero(boxes["classes"] >= 0), strict=True):
            left, top, right, bottom = boxes["boxes"][image, place] * [300, 200, 300, 200]
            own = {"image_id": int(image), "category_id": int(boxes["classes"][image, place]), "iscrowd": 0}
            yield own | {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}

    categories = [{"id": index, "name": str(index)} for index in range(3)]
    content = {"images": [{"id": index, "width": 300, "height": 200} for index in range(12)], "categories": categories}
    content["annotations"] = [row | {"id": index} for index, row in enumerate(rows(truth), 1)]
    (tmp_path / "truth.json").write_text(json.dumps(content))
    scores = found["scores"][found["classes"] >= 0]
    results = [row | {"score": score} for row, score in zip(rows(found), scores, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        whole = COCO(str(tmp_path / "truth.json"))
        rules = COCOeval(whole, whole.loadRes(results), "bbox")
        rules.evaluate(), rules.accumulate(), rules.summarize()
    assert 0.1 < metrics["map"] < metrics["map50"] < 0.99
    assert [metrics[key] for key in ("map", "map50", "map75")] == pytest.approx(list(rules.stats[:3]))


def test_what_is_aside_counts_neither_way_and_nothing_else_changes():
    boxes = np.array([[[0.1, 0.1, 0.3, 0.3], [0.5, 0.5, 0.9, 0.9]]])
    truth = {"boxes": boxes, "classes": np.array([[0, 0]])}
    both = {"boxes": boxes, "scores": np.array([[0.5, 0.9]]), "classes": np.array([[0, 0]])}
    one = {"boxes": boxes[:, :1], "scores": np.array([[0.5]]), "classes": np.array([[0]])}
    aside = {**truth, "classes": np.array([[0, -2]])}
    for found in (both, one):
        metrics, rows, _ = coco_evaluation(found, aside, ["cat"], (100, 100))
        assert metrics["map"] == pytest.approx(1) and rows[0]["boxes"] == 1
    without = {**truth, "classes": np.array([[0, -1]])}
    assert coco_evaluation(both, without, ["cat"], (100, 100))[0]["map"] == pytest.approx(0.5)
    assert coco_evaluation(one, truth, ["cat"], (100, 100))[0]["map"] < 0.6


def test_a_folder_keeps_the_pictures_of_earlier_calls_under_names_of_their_own(tmp_path):
    image = Image.new("RGB", (10, 10))
    row = {"category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "score": 0.5}
    for sources in (["a/1.jpg", "b/1.jpg"], ["c/2.jpg", "a/1.jpg"]):
        folder = Folder(tmp_path / "drawn", ["cat"])
        for source in sources:
            folder.add(source, image, (10, 10), [dict(row)])
        folder.write()
    content = json.loads((tmp_path / "drawn" / "detections.json").read_text())
    assert {each["file_name"]: each["drawn"] for each in content["images"]} == {
        "a/1.jpg": "1.png", "b/1.jpg": "1-2.png", "c/2.jpg": "2.png",
    }  # fmt: skip
    assert [each["image_id"] for each in content["annotations"]] == [1, 2, 3]
    assert all((tmp_path / "drawn" / each["drawn"]).is_file() for each in content["images"])


def test_a_folder_writes_over_no_picture_and_no_annotations_of_the_user(tmp_path):
    image = Image.new("RGB", (10, 10))
    image.save(tmp_path / "1.png")
    before, folder = (tmp_path / "1.png").read_bytes(), Folder(tmp_path, ["cat"])
    with pytest.raises(UserError, match=r"--folder .*1\.png is there and was not written by predict; name another folder"):
        folder.add(tmp_path / "1.png", image, (10, 10), [])
    assert (tmp_path / "1.png").read_bytes() == before
    for name in ("cat", "dog"):
        images, categories = [{"id": 1, "file_name": "1.png"}], [{"id": 1, "name": name}]
        (tmp_path / "detections.json").write_text(json.dumps({"images": images, "annotations": [], "categories": categories}))
        with pytest.raises(UserError, match=r"detections\.json: not written by this command"):
            Folder(tmp_path, ["cat"])


# What the contract's tests leave out, which train SSD on every backend; what takes longest to compile runs on one.
TRAINED = ["yolo", "detr"] if keras.backend.backend() == "torch" or os.environ.get("TRIPTYCH_EVERYTHING") else ["yolo"]


@pytest.mark.parametrize("model", TRAINED)
def test_the_loss_of_a_detector_falls_in_its_app(tmp_path, monkeypatch, model):
    from apps import object_detection as app
    from apps.common.options.declare import make_config
    from apps.common.reports.boxes import detect_all
    from apps.common.training.batches import Batches
    from apps.common.training.fit import make_model, train_epochs

    APP_CASES["object-detection"].write(tmp_path)
    width = {"width": "16"} if model == "detr" else {"width": "4", "levels": "2"}
    epochs = 15 if model == "detr" else 6
    chosen = {"epochs": str(epochs), "augment": "none", "schedule": "constant", "learning_rate": "0.003"}
    given = {"data": str(tmp_path / "squares"), "image_size": "32", "model": model, "batch_size": "8", **width}
    config = make_config(app.Config, {**given, **chosen})
    data = app.load_data(config)
    made = make_model(app, config, data)
    before = made.evaluate(data.train.x, data.train.y, verbose=0, return_dict=True)["loss"]
    train_epochs(made, Batches(data.train, 8, 0), seed=0, epochs=epochs)
    after = made.evaluate(data.train.x, data.train.y, verbose=0, return_dict=True)["loss"]
    assert after < 0.9 * before
    found = detect_all(made, data.test.x)
    assert found["boxes"].shape[0] == len(data.test.x) and found["classes"].max() < 2


@pytest.mark.parametrize("kind", ["SSD", "YOLO", "DETR"])
def test_what_is_deployed_are_the_boxes_and_scores_that_detections_are_chosen_from(kind):
    model = getattr(models, kind)((32, 32, 3), 2, width=16)
    layers.initialize(model, 0)
    x = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    found = keras.ops.convert_to_numpy(model.deployed()(x))
    assert found.shape[-1] == 4 + 2
    shown = model.detect(model(x, training=False), score_threshold=0.0)
    best = keras.ops.convert_to_numpy(shown["scores"])[:, 0]
    np.testing.assert_allclose(found[..., 4:].max((1, 2)), best, rtol=1e-5)
    places = found[..., 4:].max(-1).argmax(-1)
    boxes = np.clip(found[np.arange(2), places, :4], 0, 1)
    np.testing.assert_allclose(boxes, keras.ops.convert_to_numpy(shown["boxes"])[:, 0], atol=1e-5)
