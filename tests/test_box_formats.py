"""Boxes are read alike from VOC, COCO and YOLO, in the splits they name, and turn with their pictures where they must."""

import json

import numpy as np
import pytest
from box_samples import HEIGHT, PICTURES, WIDTH, coco, refuses, write_coco, write_voc, write_yolo
from image_samples import save
from PIL import Image

from apps.common.data.images.boxes import TURNS, read_boxed_images, turn_boxes

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others


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
    (tmp_path / "annotations.json").unlink()
    boxed = {name: PICTURES[name] for name in "abc"}
    (tmp_path / "train.json").write_text(json.dumps(coco(boxed)))
    (tmp_path / "val.json").write_text(json.dumps(coco({"d": []})))
    splits, _, notes = read_boxed_images(tmp_path)
    assert {split: len(part) for split, part in splits.items()} == {"train": 3, "validation": 1}
    assert "val.json: no annotations: its pictures (1) count as pictures without objects" in notes
    (tmp_path / "train.json").write_text(json.dumps(coco({"d": []})))
    (tmp_path / "val.json").write_text(json.dumps(coco(boxed)))
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


def splits_of(path):
    splits, _, notes = read_boxed_images(path)
    return {split: sorted(each.stem for each in part.paths) for split, part in splits.items()}, notes


def write_places(folder):
    """YOLO's form without folders that name a split: a and c in `one`, b in `two`, d in `three`."""
    for place, names in (("one", "ac"), ("two", "b"), ("three", "d")):
        write_yolo(folder, {name: PICTURES[name] for name in names}, place)
    return folder


TWO = {"train": ["a", "c"], "validation": ["b"]}
NAMES = "names: [cat, dog]\n"


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize(
    "text",
    [
        "train: images/one\nval: images/two\n",
        "path: /content/cells\ntrain: ../images/one\nval: /content/cells/images/two/\n",
        "train: [images/one]\nval: lists/held.txt\ntest:\n",
    ],
)
def test_splits_are_those_that_data_yaml_names(tmp_path, text, given):
    (write_places(tmp_path) / "lists").mkdir()
    (tmp_path / "lists" / "held.txt").write_text("../images/two/b.png\n\n")
    (tmp_path / "data.yaml").write_text(text + NAMES)
    found, notes = splits_of(tmp_path / "data.yaml" if given else tmp_path)
    assert found == TWO and "1 pictures that no split of data.yaml has are left out: d.png" in notes


def test_folders_keep_the_splits_that_data_yaml_does_not_name_and_what_is_not_there_is_said(tmp_path):
    write_places(tmp_path)
    (tmp_path / "images" / "three").rename(tmp_path / "images" / "test")
    (tmp_path / "data.yaml").write_text("train: images/one\nval: [images/two, images/nine]\n" + NAMES)
    found, notes = splits_of(tmp_path)
    assert found == TWO | {"test": ["d"]}
    assert "data.yaml: val: no picture is at images/nine, which is passed over" in notes


@pytest.mark.parametrize("text", ["", "train: images/elsewhere\n"])
def test_with_only_what_is_held_out_named_the_rest_is_trained_on(tmp_path, text):
    (write_places(tmp_path) / "data.yaml").write_text(text + "val: images/two\n" + NAMES)
    assert splits_of(tmp_path)[0] == {"train": ["a", "c", "d"], "validation": ["b"]}


@pytest.mark.parametrize(("train", "val"), [("images", "images/two"), ("images/two", "images/two")])
def test_a_picture_in_two_splits_is_held_out_unless_nothing_is_left_to_train_on(tmp_path, train, val):
    (write_places(tmp_path) / "data.yaml").write_text(f"train: {train}\nval: {val}\n" + NAMES)
    found, notes = splits_of(tmp_path)
    kept = "validation" if train == "images" else "train"
    assert found[kept] == ["b"] and found["train"] == (["a", "c", "d"] if train == "images" else ["b"])
    assert f"1 pictures are in several splits of data.yaml and count for {kept} alone: b.png" in notes


def test_two_data_yaml_with_different_splits_are_refused_unless_one_is_given(tmp_path):
    (write_places(tmp_path) / "data.yaml").write_text("train: images/one\nval: images/two\n" + NAMES)
    (tmp_path / "other.yaml").write_text("train: images/two\nval: images/one\n" + NAMES)
    refuses(tmp_path, "data.yaml", "other.yaml", "name different splits")
    assert splits_of(tmp_path / "data.yaml")[0] == TWO
    (tmp_path / "other.yaml").write_text("val: images/two\ntrain: images/one\n" + NAMES)
    assert splits_of(tmp_path)[0] == TWO


def test_splits_are_those_of_darknets_lists(tmp_path):
    write_places(tmp_path)
    (tmp_path / "data.yaml").write_text(NAMES)
    (tmp_path / "train.txt").write_text("data/images/one/a.png\ndata/images/one/c.png\ndata/images/one/gone.png\n")
    (tmp_path / "valid.txt").write_text(f"{tmp_path}/images/two/b.png\n")
    found, notes = splits_of(tmp_path)
    assert found == TWO and "train.txt: 1 of the 3 pictures it names are not there: gone.png" in notes
    assert "1 pictures that no split of the lists has are left out: d.png" in notes
    for name in ("train", "valid"):
        (tmp_path / f"{name}.txt").write_text("elsewhere/x.png\n")
    assert splits_of(tmp_path)[0] == {"train": ["a", "b", "c", "d"]}


def test_lists_tell_pictures_of_one_name_apart_by_their_folders(tmp_path):
    for place in ("one", "two"):
        write_yolo(tmp_path, {"a": PICTURES["a"]}, place)
        (tmp_path / {"one": "train.txt", "two": "val.txt"}[place]).write_text(f"/content/images/{place}/a.png\n")
    (tmp_path / "data.yaml").write_text(NAMES)
    splits = read_boxed_images(tmp_path)[0]
    assert {split: part.paths[0].parent.name for split, part in splits.items()} == {"train": "one", "validation": "two"}


def test_pictures_without_a_label_file_are_counted(tmp_path):
    (write_yolo(tmp_path) / "labels" / "train" / "d.txt").unlink()
    found, notes = splits_of(tmp_path)
    assert found == {"train": ["a", "b", "c", "d"]}
    assert "1 of 4 pictures have no label file and count as pictures without objects: d.png" in notes


def test_lists_of_classes_are_read_in_latin_1_and_refused_with_doubles_or_gaps(tmp_path):
    (write_yolo(tmp_path) / "data.yaml").unlink()
    (tmp_path / "classes.txt").write_bytes("kät\ndög\n".encode("latin-1"))
    _, names, notes = read_boxed_images(tmp_path)
    assert names == ["kät", "dög"] and any("it is read as Latin-1" in note for note in notes)
    (tmp_path / "classes.txt").write_text("cat\ncat\n")
    refuses(tmp_path, "classes.txt: class cat stands there twice")
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "data.yaml").write_text("names: {1: cat, 2: dog}\n")
    refuses(tmp_path, "data.yaml: names: expected numbers from 0 to 1", "Received: 1, 2")
    (tmp_path / "data.yaml").write_text("names: {0: cat, a: dog}\n")
    refuses(tmp_path, "data.yaml: names: expected numbers from 0 to 1", "Received: 0, a")


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
