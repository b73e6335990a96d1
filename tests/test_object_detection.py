"""Boxes are read alike from VOC, COCO and YOLO, turn with their pictures, and are judged as COCO judges."""

import contextlib
import io
import json
import os

import keras
import numpy as np
import pytest
from app_cases import APP_CASES
from image_samples import save
from PIL import Image

import layers
from apps.common.data.images.boxes import TURNS, read_boxed_images, turn_boxes
from apps.common.data.images.shapes import NAMES, drawn_shapes
from apps.common.errors import UserError
from apps.common.reports.boxes import Folder, coco_evaluation
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

WIDTH, HEIGHT = 40, 24
# Of each picture its boxes in pixels; the last has none.
PICTURES = {
    "a": [("cat", (4, 2, 20, 12)), ("dog", (10, 6, 40, 24))],
    "b": [("dog", (0, 0, 8, 12))],
    "c": [("cat", (20, 4, 30, 20))],
    "d": [],
}


def write_voc(folder, pictures=PICTURES, size=(WIDTH, HEIGHT), lists=None):
    for name, boxes in pictures.items():
        save(folder / "JPEGImages" / f"{name}.png", (WIDTH, HEIGHT))
        things = []
        for label, corners in boxes:
            sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
            things.append(f"<object><name>{label}</name><bndbox>{box}</bndbox></object>")
        top = f"<filename>{name}.png</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{top}{''.join(things)}</annotation>")
    for split, names in (lists or {}).items():
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    return folder


def coco(pictures, classes=("cat", "dog")):
    images = [{"id": i, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for i, name in enumerate(pictures)]
    rows = []
    for image, boxes in enumerate(pictures.values()):
        for label, (left, top, right, bottom) in boxes:
            box = [left, top, right - left, bottom - top]
            rows.append({"id": len(rows), "image_id": image, "category_id": 7 + classes.index(label), "bbox": box})
    categories = [{"id": 7 + index, "name": name} for index, name in enumerate(classes)]
    return {"images": images, "annotations": rows, "categories": categories}


def write_coco(folder, pictures=PICTURES):
    for name in pictures:
        save(folder / "images" / f"{name}.png", (WIDTH, HEIGHT))
    (folder / "annotations.json").write_text(json.dumps(coco(pictures)))
    return folder


def write_yolo(folder, pictures=PICTURES, split="train"):
    for name, boxes in pictures.items():
        save(folder / "images" / split / f"{name}.png", (WIDTH, HEIGHT))
        lines = []
        for label, (left, top, right, bottom) in boxes:
            numbers = [(left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT]
            lines.append(" ".join(map(str, [("cat", "dog").index(label), *numbers])))
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split / f"{name}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("train: images/train\nnames:\n  0: cat\n  1: dog\n")
    return folder


def refuses(path, *words, **options):
    with pytest.raises(UserError) as error:
        read_boxed_images(path, **options)
    assert all(word in str(error.value) for word in words), str(error.value)


@pytest.mark.parametrize("write", [write_voc, write_coco, write_yolo])
def test_voc_coco_and_yolo_give_the_same_boxes(tmp_path, write):
    splits, names, _ = read_boxed_images(write(tmp_path), image_size=40)
    part = splits["train"]
    assert names == ["cat", "dog"] and part.images.shape == (4, 24, 40, 3)
    order = [path.stem for path in part.paths]
    for row, name in enumerate(order):
        own = PICTURES[name]
        assert [names[index] for index in part.classes[row] if index >= 0] == [label for label, _ in own]
        expected = np.array([corners for _, corners in own]).reshape(-1, 4) / [WIDTH, HEIGHT, WIDTH, HEIGHT]
        np.testing.assert_allclose(part.boxes[row, : len(own)], expected, atol=1e-6)
        assert not part.boxes[row, len(own) :].any()


def test_splits_are_those_of_imagesets_of_folders_and_of_coco_files(tmp_path):
    lists = {"train": ["a", "d"], "val": ["b"], "test": ["c"], "trainval": ["a", "b", "d"]}
    splits, _, _ = read_boxed_images(write_voc(tmp_path / "voc", lists=lists))
    assert {split: [path.stem for path in part.paths] for split, part in splits.items()} == {
        "train": ["a", "d"], "validation": ["b"], "test": ["c"],
    }  # fmt: skip
    write_yolo(tmp_path / "yolo", {"a": PICTURES["a"]})
    write_yolo(tmp_path / "yolo", {"b": PICTURES["b"]}, "val")
    assert {split: len(part) for split, part in read_boxed_images(tmp_path / "yolo")[0].items()} == {"train": 1, "validation": 1}
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    for split in ("train2017", "val2017"):
        save(tmp_path / "coco" / split / "a.png", (WIDTH, HEIGHT))
        content = coco({"a": PICTURES["a"]})
        (tmp_path / "coco" / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    sole = read_boxed_images(tmp_path / "coco" / "annotations" / "instances_val2017.json")[0]
    assert sole["train"].paths[0].parent.name == "val2017"
    read = read_boxed_images(tmp_path / "coco")[0]
    assert {split: part.paths[0].parent.name for split, part in read.items()} == {"train": "train2017", "validation": "val2017"}


def test_of_several_splits_without_one_to_train_on_none_is_taken_for_it(tmp_path):
    write_yolo(tmp_path, {"a": PICTURES["a"]}, "val")
    assert list(read_boxed_images(tmp_path)[0]) == ["train"]
    write_yolo(tmp_path, {"b": PICTURES["a"]}, "test")
    refuses(tmp_path, "no training pictures, only test, validation")
    assert set(read_boxed_images(tmp_path, class_names=["cat", "dog"])[0]) == {"test", "validation"}


def test_a_coco_file_without_a_box_is_a_split_of_pictures_without_objects(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "annotations.json").rename(tmp_path / "train.json")
    (tmp_path / "val.json").write_text(json.dumps(coco({"d": []})))
    splits, _, notes = read_boxed_images(tmp_path)
    assert {split: len(part) for split, part in splits.items()} == {"train": 4, "validation": 1}
    assert "val.json: no annotations: its pictures (1) count as pictures without objects" in notes
    (tmp_path / "train.json").write_text(json.dumps(coco({"d": []})))
    (tmp_path / "val.json").write_text(json.dumps(coco(PICTURES)))
    refuses(tmp_path, "the validation split has boxes of cat, dog, the train split none")


def oriented(path, pixels, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [1, *TURNS])
def test_boxes_beside_the_size_of_the_stored_picture_turn_with_it(tmp_path, orientation):
    left, top, right, bottom = 8, 4, 24, 10
    pixels = np.zeros((HEIGHT, WIDTH, 3), "uint8")
    pixels[top:bottom, left:right] = 255
    write_voc(tmp_path, {"a": [("cat", (left, top, right, bottom))]})
    oriented(tmp_path / "JPEGImages" / "a.png", pixels, orientation)
    splits, _, notes = read_boxed_images(tmp_path, image_size=40)
    assert any("their boxes with them" in note for note in notes) == (orientation > 1)
    part = splits["train"]
    rows, columns = np.nonzero(part.images[0, ..., 0] > 127)
    height, width = part.images.shape[1:3]
    assert (height > width) == (orientation >= 5)
    found = np.array([columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height])
    np.testing.assert_allclose(part.boxes[0, 0], found, atol=1e-6)


@pytest.mark.parametrize("form", ["VOC", "VOC without a size", "YOLO"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_boxes_of_the_upright_picture_are_left_as_they_are(tmp_path, form, orientation):
    size = (HEIGHT, WIDTH) if orientation == 6 else (WIDTH, HEIGHT)
    if form == "YOLO":
        path = save(tmp_path / "a.png")
        (tmp_path / "a.txt").write_text(f"0 {7 / size[0]} {12 / size[1]} {10 / size[0]} {16 / size[1]}")
    else:
        write_voc(tmp_path, {"a": [("cat", (2, 4, 12, 20))]}, size=size if form == "VOC" else (0, 0))
        path = tmp_path / "JPEGImages" / "a.png"
    oriented(path, np.zeros((HEIGHT, WIDTH, 3), "uint8"), orientation)
    splits, _, notes = read_boxed_images(tmp_path)
    np.testing.assert_allclose(splits["train"].boxes[0, 0] * [*size, *size], [2, 4, 12, 20], atol=1e-5)
    assert "1 pictures are turned upright (EXIF), their boxes not: they are taken as drawn upright" in notes


def test_a_box_inside_out_stays_one_when_it_is_turned():
    for orientation in TURNS:
        turned = turn_boxes(np.array([[0.8, 0.1, 0.2, 0.4]]), orientation)
        assert np.any(turned[0, 2:] < turned[0, :2])


def test_boxes_without_area_are_dropped_and_named_and_those_outside_cut_off(tmp_path):
    boxes = [("cat", (4, 2, 4, 12)), ("cat", (20, 2, 10, 12)), ("cat", (50, 2, 60, 12)), ("cat", (-10, 2, 20, 30))]
    splits, _, notes = read_boxed_images(write_voc(tmp_path, {"a": boxes, "b": PICTURES["c"]}))
    assert any("left out 3 of 5 boxes" in note and "a.png (cat 4,2,4,12); a.png (cat 20,2,10,12)" in note for note in notes)
    assert any(note.startswith("1 of 5 boxes reach out") for note in notes)
    part = splits["train"]
    np.testing.assert_allclose(part.boxes[0, 0], [0, 2 / HEIGHT, 0.5, 1], atol=1e-6)
    assert part.boxes.shape == (2, 1, 4)


def test_what_cannot_be_trained_on_is_one_line(tmp_path):
    (tmp_path / "none").mkdir()
    refuses(tmp_path / "none", "the folder is empty", "VOC")
    save(tmp_path / "none" / "a.png")
    refuses(tmp_path / "none", "no annotation found (1 pictures)")
    refuses(write_voc(tmp_path / "empty", {"a": []}), "no box in 1 annotated pictures")
    voc = write_voc(tmp_path / "voc", lists={"train": ["b"], "val": ["c"]})
    refuses(voc, "the validation split has boxes of cat, the train split none")
    (write_voc(tmp_path / "gone") / "JPEGImages" / "a.png").unlink()
    refuses(tmp_path / "gone", "1 of 4 images cannot be read", "a.png (no such file)")
    (write_voc(tmp_path / "cut") / "Annotations" / "a.xml").write_text("<annotation><object>")
    refuses(tmp_path / "cut", "a.xml: damaged XML")
    (write_yolo(tmp_path / "yolo") / "labels" / "train" / "a.txt").write_text("5 0.5 0.5 0.1 0.1")
    refuses(tmp_path / "yolo", "a.txt: line 1: expected one of the 2 classes")
    write_yolo(tmp_path / "lists")
    (tmp_path / "lists" / "classes.txt").write_text("dog\ncat\n")
    refuses(tmp_path / "lists", "do not have the same classes")
    refuses(write_voc(tmp_path / "other"), "classes the model does not know: cat", class_names=["dog", "bird"])


def test_coco_files_of_two_splits_with_other_classes_are_refused(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "annotations.json").rename(tmp_path / "train.json")
    other = coco({"b": PICTURES["b"]}, ("cat", "dog", "horse"))
    (tmp_path / "val.json").write_text(json.dumps(other))
    refuses(tmp_path, "do not have the same classes (horse)")


@pytest.mark.parametrize("box", [[1, 2, 3], [], None, ["a", 2, 3, 4], [10**400, 2, 3, 4]])
def test_damaged_boxes_of_coco_are_left_out_and_named(tmp_path, box):
    many = {f"p{number}": PICTURES["a"] for number in range(10)}
    content = coco(many)
    content["annotations"][3]["bbox"] = box
    write_coco(tmp_path, many)
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    splits, _, notes = read_boxed_images(tmp_path)
    assert (splits["train"].classes >= 0).sum() == 19
    assert any("left out 1 of 20 boxes" in note and "annotation 3 of annotations.json" in note for note in notes)
    content["annotations"][4]["bbox"] = box
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    refuses(tmp_path, "2 of 20 boxes cannot be read", "At most 5%")


def test_sizes_that_are_no_numbers_end_in_a_line_or_are_unknown(tmp_path):
    content = coco(PICTURES)
    content["images"][1]["width"] = "wide"
    (write_coco(tmp_path / "coco") / "annotations.json").write_text(json.dumps(content))
    refuses(tmp_path / "coco", "annotations.json: not COCO as it should be", "'wide'")
    splits, _, _ = read_boxed_images(write_voc(tmp_path / "voc", size=("nan", "inf")))
    np.testing.assert_allclose(splits["train"].boxes[0, 0], [4 / WIDTH, 2 / HEIGHT, 20 / WIDTH, 12 / HEIGHT], atol=1e-6)


def test_pictures_without_an_annotation_are_counted_and_masks_are_not(tmp_path):
    write_voc(tmp_path / "voc")
    save(tmp_path / "voc" / "SegmentationClass" / "a.png", (WIDTH, HEIGHT))
    assert not any("no annotation" in note for note in read_boxed_images(tmp_path / "voc")[2])
    for name in "bd":
        (tmp_path / "voc" / "Annotations" / f"{name}.xml").unlink()
    splits, _, notes = read_boxed_images(tmp_path / "voc")
    assert "2 of 4 pictures have no annotation and are left out: b.png, d.png" in notes and len(splits["train"]) == 2
    save(write_coco(tmp_path / "coco") / "others" / "e.png")
    notes = read_boxed_images(tmp_path / "coco")[2]
    assert "1 of 5 pictures have no annotation and are left out: e.png" in notes


def test_categories_of_one_name_are_one_class_and_of_one_number_are_refused(tmp_path):
    content = coco(PICTURES)
    content["categories"] += [{"id": 3, "name": "cat"}]
    content["annotations"][0]["category_id"] = 3
    (write_coco(tmp_path) / "annotations.json").write_text(json.dumps(content))
    splits, names, notes = read_boxed_images(tmp_path)
    assert names == ["cat", "dog"] and splits["train"].classes.tolist() == [[0, 1], [1, -1], [0, -1], [-1, -1]]
    assert "categories 3, 7 are all called cat and are one class" in notes
    content["categories"] += [{"id": 3, "name": "horse"}]
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    refuses(tmp_path, "category 3 is called cat and horse")


def test_drawn_shapes_fill_their_boxes_and_are_the_same_again():
    drawn, again = drawn_shapes(6, 48, seed=3), drawn_shapes(6, 48, seed=3)
    np.testing.assert_array_equal(drawn.images, again.images)
    assert set(drawn.classes.ravel()) <= {-1, *range(len(NAMES))} and (drawn.classes >= 0).any(1).all()
    sides = drawn.boxes[drawn.classes >= 0]
    assert (sides[:, 2:] > sides[:, :2]).all() and sides.min() >= 0 and sides.max() <= 1


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
