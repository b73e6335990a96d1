"""LabelMe's files: shapes are boxes for detection and masks for segmentation."""

import json
import zipfile

import numpy as np
import pytest
from mask_samples import label_masks, save, write_set

from apps.common.data.images.boxes import read_boxed_images
from apps.common.data.images.mask_classes import Classes
from apps.common.data.images.masks import read_masked_pictures
from apps.common.errors import UserError

pytestmark = pytest.mark.once  # reading asks no backend

RECTANGLE = {"label": "cat", "points": [[12, 8], [2, 3]], "shape_type": "rectangle"}
TRIANGLE = {"label": "dog", "points": [[10, 2], [18, 2], [10, 10]], "shape_type": "polygon"}
CIRCLE = {"label": "dog", "points": [[10, 6], [13, 10]], "shape_type": "circle"}


def write(folder, shapes, name="a", **changed):
    """A picture of 20 x 12 pixels and its file."""
    save(folder, f"{name}.png", np.zeros((12, 20, 3), "uint8"))
    content = {"version": "5.4.1", "flags": {}, "shapes": shapes, "imagePath": f"{name}.png", "imageData": "AAAA"}
    content |= {"imageHeight": 12, "imageWidth": 20, **changed}
    (folder / f"{name}.json").write_text(json.dumps(content))
    return folder


def test_boxes_are_around_rectangles_polygons_and_circles(tmp_path):
    write(tmp_path, [RECTANGLE, TRIANGLE, CIRCLE])
    splits, names, _ = read_boxed_images(tmp_path)
    part = splits["train"]
    assert names == ["cat", "dog"] and part.classes.tolist() == [[0, 1, 1]]
    expected = [[2, 3, 12, 8], [10, 2, 18, 10], [5, 1, 15, 11]]
    np.testing.assert_allclose(part.boxes[0] * [20, 12, 20, 12], expected, atol=1e-4)


def test_shapes_are_drawn_in_their_order(tmp_path):
    write(tmp_path, [RECTANGLE, TRIANGLE, {**RECTANGLE, "label": "__ignore__", "points": [[0, 10], [3, 11]]}])
    found = read_masked_pictures(tmp_path)
    assert found.classes.names == ("background", "cat", "dog")
    expected = np.zeros((12, 20), "uint8")
    expected[3:9, 2:13] = 1
    for row in range(2, 11):
        expected[row, 10 : 21 - row] = 2
    expected[10:12, 0:4] = 255
    np.testing.assert_array_equal(found.masks[0], expected)


def test_splits_are_those_of_folders_and_pictures_without_a_file_are_counted(tmp_path):
    for split in ("train", "val"):
        write(tmp_path / split / "annotations", [RECTANGLE, TRIANGLE], imagePath="..\\images\\a.png")
        (tmp_path / split / "images").mkdir()
        (tmp_path / split / "annotations/a.png").rename(tmp_path / split / "images/a.png")
    save(tmp_path, "train/images/b.png", np.zeros((12, 20, 3), "uint8"))
    boxed, _, notes = read_boxed_images(tmp_path)
    masked = read_masked_pictures(tmp_path)
    assert {split: len(part) for split, part in boxed.items()} == {"train": 1, "validation": 1}
    assert sorted(masked.splits) == ["train", "validation"]
    for said in (notes, masked.notes):
        assert "1 of 3 pictures have no annotation and are left out: b.png" in said


def test_shapes_without_an_area_are_counted_and_named(tmp_path):
    bad = [{**TRIANGLE, "shape_type": "line"}, {**TRIANGLE, "points": [["x", 2]]}, {**RECTANGLE, "label": None}, 7]
    write(tmp_path, [RECTANGLE, TRIANGLE, *bad])
    for said in (read_boxed_images(tmp_path)[2], read_masked_pictures(tmp_path).notes):
        assert any(note.startswith("4 shapes that are no rectangle") and "a.json (shape 3: line)" in note for note in said)


def test_a_trained_models_classes_are_drawn_by_their_names(tmp_path):
    write(tmp_path, [RECTANGLE])
    known = Classes(("background", "dog", "cat"), (0, 1, 2), False, None, ((0, 0, 0),) * 3)
    assert set(np.unique(read_masked_pictures(tmp_path, classes=known).masks)) == {0, 2}
    write(tmp_path, [RECTANGLE, {**TRIANGLE, "label": "ant"}])
    with pytest.raises(UserError, match=r"classes the model does not know: ant\. It knows background, dog, cat"):
        read_masked_pictures(tmp_path, classes=known)


def test_masks_come_before_the_files_they_were_made_from(tmp_path):
    write_set(tmp_path, label_masks())
    write(tmp_path / "images", [RECTANGLE], "0")
    save(tmp_path, "images/0.png", np.zeros((6, 8, 3), "uint8"))
    assert len(read_masked_pictures(tmp_path).masks) == 3


def test_files_that_cannot_be_used_are_refused_in_one_line(tmp_path):
    write(tmp_path / "size", [RECTANGLE], imageHeight="tall")
    write(tmp_path / "none", [])
    write(tmp_path / "gone", [RECTANGLE])
    (tmp_path / "gone/a.png").unlink()
    expected = {"size": ("imageHeight",) * 2, "none": ("no box", "no shape"), "gone": ("no such file", "of no file of LabelMe")}
    for folder, words in expected.items():
        for read, match in zip((read_boxed_images, read_masked_pictures), words, strict=True):
            with pytest.raises(UserError, match=match):
                read(tmp_path / folder)


@pytest.mark.parametrize("read", [read_boxed_images, read_masked_pictures])
def test_an_archive_is_to_be_unpacked(tmp_path, read):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("a.txt", "")
    for path in (tmp_path, tmp_path / "set.zip"):
        with pytest.raises(UserError, match=r"set.zip: an archive, which is not read here. Unpack it and give the folder"):
            read(path)
