"""Boxes that are none, in another unit, beside another size or of one picture twice are refused, or left out and named."""

import json
from xml.etree import ElementTree

import numpy as np
import pytest
from box_samples import HEIGHT, PICTURES, WIDTH, coco, refuses, write_coco, write_voc, write_yolo

from apps.common.data.images.boxes import read_boxed_images

pytestmark = pytest.mark.once  # reading asks no backend

SWAPPED = {name: [(label, (box[2], box[1], box[0], box[3])) for label, box in boxes] for name, boxes in PICTURES.items()}


@pytest.mark.parametrize("write", [write_voc, write_coco, write_yolo])
def test_a_split_whose_boxes_all_have_no_area_is_refused(tmp_path, write):
    refuses(write(tmp_path, SWAPPED), "no box of the train split has an area", "left out 4 of 4 boxes")
    write(tmp_path, {**SWAPPED, "b": PICTURES["b"], "c": PICTURES["c"]})
    assert [each for each in read_boxed_images(tmp_path)[2] if each.startswith("left out 2 of 4 boxes")]


def test_classes_are_those_of_the_boxes_that_have_an_area(tmp_path):
    boxes = {"a": [("cat", (4, 2, 20, 12)), ("dog", (20, 2, 4, 12))]}
    assert read_boxed_images(write_voc(tmp_path / "one", boxes))[1] == ["cat"]
    lists = {"train": ["a"], "val": ["b"]}
    voc = write_voc(tmp_path / "two", {**boxes, "b": PICTURES["b"]}, lists=lists)
    refuses(voc, "the validation split has boxes of dog, the train split none")
    voc = write_voc(tmp_path / "three", {"a": boxes["a"][:1], "b": [("cat", (20, 2, 4, 12))]}, lists=lists)
    refuses(voc, "no box of the validation split has an area")


@pytest.mark.parametrize(("side", "kept"), [(0.4, 1), (0.6, 2)])
def test_a_box_of_less_than_half_a_pixel_is_none(tmp_path, side, kept):
    write_voc(tmp_path, {"a": [("cat", (4, 2, 20, 12)), ("cat", (10, 6, 10 + side, 12))]})
    assert (read_boxed_images(tmp_path)[0]["train"].classes == 0).sum() == kept


def scaled(factor_x, factor_y):
    factors = (factor_x, factor_y, factor_x, factor_y)
    return {name: [(label, tuple(np.multiply(box, factors))) for label, box in own] for name, own in PICTURES.items()}


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_fractions_are_refused_where_pixels_are_expected(tmp_path, write):
    refuses(write(tmp_path, scaled(1 / WIDTH, 1 / HEIGHT)), "4 of 4 boxes of the train", "like fractions. Expected pixels")


def test_pixels_are_refused_where_yolo_has_fractions(tmp_path):
    words = "4 of 4 boxes of the train split look like pixels. Expected fractions"
    refuses(write_yolo(tmp_path, scaled(WIDTH, HEIGHT)), words, "divide them by the picture's width and height (a.png: 4, 2, 20")
    whole = {"a": [("cat", (0, 0, WIDTH, HEIGHT)), ("dog", (-4, 2, WIDTH + 4, HEIGHT))]}
    assert (read_boxed_images(write_yolo(tmp_path, {**whole, "b": [], "c": [], "d": []}))[0]["train"].classes >= 0).sum() == 2


def test_annotations_of_a_size_of_another_shape_are_left_out_and_named_and_of_another_scale_are_not(tmp_path):
    refuses(write_voc(tmp_path / "all", size=(30, 30)), "a.png (its annotation says 30 x 30 pixels, it has 40 x 24)")
    refuses(write_voc(tmp_path / "lying", size=(HEIGHT, WIDTH)), "a.png (its annotation says 24 x 40 pixels")
    many = {f"p{number:02}": PICTURES["a"] for number in range(40)}
    write_voc(tmp_path / "one", many, size=(10 * WIDTH, 10 * HEIGHT + 4))
    found, _, notes = read_boxed_images(tmp_path / "one")
    assert len(found["train"]) == 40 and not any("annotation" in note for note in notes)
    write_voc(tmp_path / "one", {"p07": PICTURES["a"]}, size=(64, 64))
    found, _, notes = read_boxed_images(tmp_path / "one")
    assert len(found["train"]) == 39 and "p07" not in {path.stem for path in found["train"].paths}
    assert any("left out 1 of 40 annotations" in note and "p07.png" in note for note in notes)


def test_a_picture_that_coco_lists_twice_is_one_example_with_the_boxes_of_both(tmp_path):
    content = coco({"a": PICTURES["a"], "b": PICTURES["b"]})
    content["images"].append({**content["images"][0], "id": 9})
    box = {"category_id": 8, "image_id": 9, "bbox": [1, 1, 9, 9]}
    content["annotations"] += [{**content["annotations"][0], "id": 8, "image_id": 9}, {**box, "id": 9}]
    (write_coco(tmp_path, {"a": [], "b": []}) / "annotations.json").write_text(json.dumps(content))
    splits, _, notes = read_boxed_images(tmp_path)
    assert splits["train"].classes.tolist() == [[0, 1, 1], [1, -1, -1]]
    np.testing.assert_allclose(splits["train"].boxes[0, 2] * [WIDTH, HEIGHT, WIDTH, HEIGHT], [1, 1, 10, 10], atol=1e-4)
    assert "1 pictures are annotated more than once and count once, with the boxes of all their annotations: a.png" in notes


def test_an_image_id_of_two_pictures_is_refused(tmp_path):
    content = coco(PICTURES)
    content["images"].append({**content["images"][1], "id": 0})
    (write_coco(tmp_path) / "annotations.json").write_text(json.dumps(content))
    refuses(tmp_path, "annotations.json: image 0 is a.png and b.png; give each picture an id of its own")
    content["images"][-1]["file_name"] = "a.png"
    (tmp_path / "annotations.json").write_text(json.dumps(content))
    assert len(read_boxed_images(tmp_path)[0]["train"]) == 4


def test_a_picture_that_is_annotated_in_two_splits_is_refused(tmp_path):
    write_coco(tmp_path)
    (tmp_path / "annotations.json").rename(tmp_path / "train.json")
    (tmp_path / "val.json").write_text(json.dumps(coco({"b": PICTURES["b"]})))
    refuses(tmp_path, "b.png is in the train and the validation split. Keep each picture in one")


def test_two_annotations_of_one_picture_are_one_example(tmp_path):
    copied = (write_voc(tmp_path) / "Annotations" / "a.xml").read_text()
    (tmp_path / "Annotations" / "a_copy.xml").write_text(copied)
    splits, _, notes = read_boxed_images(tmp_path)
    assert len(splits["train"]) == 4 and splits["train"].classes[0].tolist() == [0, 1]
    assert any(note.startswith("1 pictures are annotated more than once") and "a.png" in note for note in notes)


def test_a_stale_file_name_in_voc_gives_way_to_the_picture_called_as_the_annotation(tmp_path):
    stale = (write_voc(tmp_path) / "Annotations" / "b.xml").read_text().replace("b.png", "a.png")
    (tmp_path / "Annotations" / "b.xml").write_text(stale)
    splits, _, notes = read_boxed_images(tmp_path)
    part = splits["train"]
    assert [path.stem for path in part.paths] == list("abcd")
    assert [(row >= 0).sum() for row in part.classes] == [2, 1, 1, 0]
    assert (
        "1 annotations name another picture than the one called as they are, which counts: b.xml (it names a.png)" in notes
    )
    (tmp_path / "others").mkdir()
    (tmp_path / "JPEGImages" / "b.png").rename(tmp_path / "others" / "b.png")  # of another place: perhaps another picture
    assert len(read_boxed_images(tmp_path)[0]["train"]) == 3


@pytest.mark.parametrize("write", [write_voc, write_coco])
def test_crowds_and_difficult_objects_are_aside_and_a_class_of_no_other_box_is_none(tmp_path, write):
    boxes = {"a": [("dog", (4, 2, 20, 12)), ("dog", (20, 2, 30, 12))], "b": [("dog", (1, 1, 9, 9)), ("cat", (1, 9, 9, 20))]}
    write(tmp_path, boxes)
    ordinary, names, notes = read_boxed_images(tmp_path)
    assert (ordinary["train"].classes >= 0).all() and not any("crowds" in note for note in notes) and names == ["cat", "dog"]
    mark_aside(tmp_path, {(20, 2, 30, 12), (1, 9, 9, 20)})
    found, names, notes = read_boxed_images(tmp_path)
    assert names == ["dog"] and any(note.startswith("2 of 4 boxes are crowds or marked difficult") for note in notes)
    assert sorted(map(tuple, found["train"].classes.tolist())) == [(0, -2), (0, -1)]
    mark_aside(tmp_path, {box for own in boxes.values() for _, box in own})
    refuses(tmp_path, "no box in 2 annotated pictures")


def mark_aside(folder, boxes):
    """Mark these boxes, of corners, in each file there is."""
    for path in folder.rglob("*.json"):
        content = json.loads(path.read_text())
        for each in content["annotations"]:
            left, top, width, height = each["bbox"]
            each["iscrowd"] = int((left, top, left + width, top + height) in boxes)
        path.write_text(json.dumps(content))
    for path in folder.rglob("*.xml"):
        tree = ElementTree.parse(path)
        for thing in tree.iter("object"):
            box = tuple(float(thing.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax"))
            if box in boxes:
                ElementTree.SubElement(thing, "difficult").text = "1"
        tree.write(path)
