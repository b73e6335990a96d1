"""COCO's annotations as masks: what is drawn, left out and refused."""

import json

import numpy as np
import pytest
from mask_samples import save

from apps.common.data.images.mask_classes import Classes
from apps.common.data.images.masks import read_masked_pictures
from apps.common.errors import UserError

pytestmark = pytest.mark.once  # reading asks no backend


def test_cocos_polygons_are_drawn_the_small_over_the_large(tmp_path):
    save(tmp_path, "train2017/a.png", np.zeros((10, 10, 3), "uint8"))
    square = [0, 0, 5, 0, 5, 9, 0, 9]
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 10, "height": 10}, {"id": 5, "file_name": "gone.png"}],
        "categories": [{"id": 9, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [
            {"image_id": 4, "category_id": 3, "area": 4, "segmentation": [[1, 1, 3, 1, 3, 3, 1, 3]]},
            {"image_id": 4, "category_id": 9, "area": 50, "segmentation": [square]},
            {"image_id": 4, "category_id": 9, "area": 1, "segmentation": [[1, 1]]},
        ],
    }
    (tmp_path / "instances_train2017.json").write_text(json.dumps(content))
    found = read_masked_pictures(tmp_path, ignore="255")
    assert found.classes.names == ("background", "cat", "dog") and found.splits == ["train"]
    expected = np.zeros((10, 10), "uint8")
    expected[:10, :6], expected[1:4, 1:4] = 2, 1
    np.testing.assert_array_equal(found.masks[0], expected)
    assert "gone.png" in found.notes[0] and "1 annotations" in found.notes[1]
    assert [path.name for path in found.paths] == ["a.png"]


@pytest.mark.parametrize("packed", [False, True], ids=["numbers", "packed"])
def test_cocos_crowds_in_run_lengths_count_nothing(tmp_path, packed):
    from pycocotools import mask as coco

    region = np.random.default_rng(0).random((40, 30)) < 0.3
    runs = np.flatnonzero(np.diff(region.T.reshape(-1), prepend=False))
    lengths = np.diff([0, *runs, region.size]).tolist()
    packed_lengths = coco.encode(np.asfortranarray(region.astype("uint8")))["counts"].decode()
    save(tmp_path, "a.png", np.zeros((40, 30, 3), "uint8"))
    square = {"image_id": 4, "category_id": 1, "area": 50, "segmentation": [[0, 0, 9, 0, 9, 9, 0, 9]]}
    counts = packed_lengths if packed else lengths
    crowd = {**square, "area": 20, "iscrowd": 1, "segmentation": {"counts": counts, "size": [40, 30]}}
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 30, "height": 40}],
        "categories": [{"id": 1, "name": "dog"}],
        "annotations": [square, crowd],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    expected = np.zeros((40, 30), "uint8")
    expected[:10, :10] = 1
    np.testing.assert_array_equal(read_masked_pictures(tmp_path).masks[0], np.where(region, 255, expected))
    crowd["segmentation"]["counts"] = counts[:-1]
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="run lengths that add up to"):
        read_masked_pictures(tmp_path)


def test_cocos_shapes_are_drawn_in_the_classes_of_a_model_that_was_trained_on_colours(tmp_path):
    save(tmp_path, "a.png", np.zeros((10, 10, 3), "uint8"))
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 10, "height": 10}],
        "categories": [{"id": 7, "name": "dog"}],
        "annotations": [{"image_id": 4, "category_id": 7, "area": 9, "segmentation": [[0, 0, 5, 0, 5, 9, 0, 9]]}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    known = Classes(("dog", "background"), (0xFF0000, 0x0000FF), True, None, ((255, 0, 0), (0, 0, 255)))
    masks = read_masked_pictures(tmp_path, classes=known).masks
    assert (masks[0, :, :6] == 0).all() and (masks[0, :, 6:] == 1).all()
    without = Classes(("dog", "sky"), (0xFF0000, 0x0000FF), True, None, ((255, 0, 0), (0, 0, 255)))
    masks = read_masked_pictures(tmp_path, classes=without).masks
    assert (masks[0, :, :6] == 0).all() and (masks[0, :, 6:] == 255).all()
    (tmp_path / "coco.json").write_text(json.dumps({**content, "annotations": []}))
    with pytest.raises(UserError, match="no pixel is of a class that the model knows"):
        read_masked_pictures(tmp_path, classes=without)


def test_cocos_categories_are_those_of_the_model_by_their_names_not_their_order(tmp_path):
    save(tmp_path, "a.png", np.zeros((10, 10, 3), "uint8"))
    shape = {"image_id": 4, "area": 50, "segmentation": [[0, 0, 5, 0, 5, 9, 0, 9]]}
    content = {
        "images": [{"id": 4, "file_name": "a.png", "width": 10, "height": 10}],
        "categories": [{"id": 1, "name": "ant"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [{**shape, "category_id": 2}],
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    known = Classes(("background", "cat", "dog"), (0, 1, 2), False, None, ((0, 0, 0),) * 3)
    assert set(np.unique(read_masked_pictures(tmp_path, classes=known).masks)) == {0, 2}
    content["annotations"].append({**shape, "category_id": 1})
    (tmp_path / "coco.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="classes the model does not know: ant"):
        read_masked_pictures(tmp_path, classes=known)


def write_coco(folder, **changed):
    """A picture of 10 x 10 with a cat left and a dog right, and annotations of which some lists are others."""
    left, right = [0, 0, 3, 0, 3, 9, 0, 9], [6, 0, 9, 0, 9, 9, 6, 9]
    content = {
        "images": [{"id": 4, "file_name": "a.png"}],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": 11, "image_id": 4, "category_id": 1, "segmentation": [left]},
            {"id": 12, "image_id": 4, "category_id": 2, "segmentation": [right]},
        ],
    }
    save(folder, "a.png", np.zeros((10, 10, 3), "uint8"))
    (folder / "coco.json").write_text(json.dumps({**content, **changed}))
    return content


@pytest.mark.parametrize(
    "part",
    [[1, 1, 8, 1, 8, 8, 1], ["a", 1, 8, 1, 8, 8], [1, 1, float("nan"), 1, 8, 8], [1, 1, 1e30, 1, 8, 8], 7],
    ids=["odd", "text", "nan", "huge", "number"],
)
def test_a_part_of_a_shape_that_is_no_polygon_is_left_out_and_counted(tmp_path, part):
    annotations = write_coco(tmp_path)["annotations"]
    whole = read_masked_pictures(tmp_path)
    annotations[0]["segmentation"].append(part)
    annotations.append({**annotations[0], "id": 13, "segmentation": [part]})
    write_coco(tmp_path, annotations=annotations)
    found = read_masked_pictures(tmp_path)
    np.testing.assert_array_equal(found.masks, whole.masks)
    assert "1 annotations are drawn without a part" in found.notes[0] and "id 11" in found.notes[0]
    assert "1 annotations without a polygon" in found.notes[1] and "id 13" in found.notes[1]


@pytest.mark.parametrize(
    ("key", "entry", "words"),
    [
        ("annotations", 7, "entry 1 of annotations: expected an object with image_id and category_id. Received: 7"),
        ("annotations", {"image_id": [4], "category_id": 1}, "entry 1 of annotations"),
        ("categories", {"id": 1}, "entry 1 of categories: expected an object with id and name"),
        ("images", {"file_name": "a.png"}, "entry 1 of images: expected an object with id"),
        ("images", {"id": 4, "file_name": "a.png", "width": "wide"}, "`width` must be a number. Received: wide, id 4"),
        ("images", {"id": 4, "file_name": "a.png", "width": 4000, "height": 4000}, "annotations say 4000 x 4000 pixels"),
        ("annotations", {"id": 11, "image_id": 4, "category_id": 1, "area": "x", "segmentation": [[0, 0, 5, 0, 5, 9]]}, "`area`"),
    ],
)
def test_annotations_that_are_not_coco_are_refused_in_one_line(tmp_path, key, entry, words):
    entries = write_coco(tmp_path)[key]
    write_coco(tmp_path, **{key: [entry, *entries[1:]]})
    with pytest.raises(UserError) as caught:
        read_masked_pictures(tmp_path)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_coco_with_boxes_alone_is_for_object_detection(tmp_path):
    annotations = write_coco(tmp_path)["annotations"]
    write_coco(tmp_path, annotations=[{**each, "segmentation": [], "bbox": [0, 0, 3, 9]} for each in annotations])
    with pytest.raises(UserError, match=r"no annotation has a shape.*2 annotations without a polygon.*train object-detection"):
        read_masked_pictures(tmp_path)


def test_annotations_of_unknown_pictures_and_categories_are_counted(tmp_path):
    annotations = write_coco(tmp_path)["annotations"]
    annotations += [{**annotations[0], "id": 13, "image_id": 99}, {**annotations[0], "id": 14, "category_id": 99}]
    write_coco(tmp_path, annotations=annotations)
    pictures, categories = read_masked_pictures(tmp_path).notes
    assert "1 annotations of pictures that are not in the list" in pictures and "id 13" in pictures
    assert "1 annotations of categories that are not in the list" in categories and "id 14" in categories


def test_categories_of_one_name_are_one_class_and_background_is_what_no_shape_covers(tmp_path):
    named = [{"id": 0, "name": "Background"}, {"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}, {"id": 3, "name": "dog"}]
    annotations = write_coco(tmp_path)["annotations"]
    annotations += [{**annotations[0], "category_id": 0, "segmentation": [[0, 0, 1, 0, 1, 9, 0, 9]]}]
    write_coco(tmp_path, categories=named, annotations=annotations)
    found = read_masked_pictures(tmp_path)
    assert found.classes.names == ("background", "cat", "dog")
    assert "categories 1, 2 are all called cat" in found.notes[0]
    np.testing.assert_array_equal(found.masks[0, 0], [0, 0, 1, 1, 0, 0, 1, 1, 1, 1])


def test_an_image_id_of_two_pictures_is_refused_and_of_one_picture_is_read_once(tmp_path):
    images = [{"id": 4, "file_name": "a.png"}, {"id": 4, "file_name": "b.png"}]
    save(tmp_path, "b.png", np.zeros((10, 10, 3), "uint8"))
    write_coco(tmp_path, images=images)
    with pytest.raises(UserError, match=r"coco.json: image 4 is a.png and b.png; give each picture an id of its own"):
        read_masked_pictures(tmp_path)
    write_coco(tmp_path, images=images[:1] * 2)
    assert len(read_masked_pictures(tmp_path).images) == 1


@pytest.mark.parametrize("name", ["a.png", "./a.png"])
def test_a_picture_that_is_listed_twice_is_one_example_with_the_shapes_of_both(tmp_path, name):
    content = write_coco(tmp_path)
    whole = read_masked_pictures(tmp_path)
    content["annotations"][1]["image_id"] = 5
    write_coco(tmp_path, images=[*content["images"], {"id": 5, "file_name": name}], annotations=content["annotations"])
    found = read_masked_pictures(tmp_path)
    np.testing.assert_array_equal(found.masks, whole.masks)
    assert found.notes[0].startswith("1 pictures are annotated more than once and count once") and "a.png" in found.notes[0]


def test_a_picture_of_two_splits_is_refused(tmp_path):
    content = write_coco(tmp_path)
    (tmp_path / "coco.json").rename(tmp_path / "train.json")
    (tmp_path / "val.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=r"a.png is there twice, in two splits"):
        read_masked_pictures(tmp_path)


def test_polygons_in_fractions_are_refused(tmp_path):
    annotations = write_coco(tmp_path)["annotations"]
    fractions = [{**each, "segmentation": [[value / 10 for value in each["segmentation"][0]]]} for each in annotations]
    write_coco(tmp_path, annotations=fractions)
    with pytest.raises(UserError, match=r"coco.json: 2 of 2 polygons look like fractions, such as 0, 0, 0.3, 0, .*pixels"):
        read_masked_pictures(tmp_path)


def test_shapes_outside_of_their_pictures_are_refused_as_masks_of_one_class_are(tmp_path):
    annotations = write_coco(tmp_path)["annotations"]
    outside = [{**each, "segmentation": [[value + 500 for value in each["segmentation"][0]]]} for each in annotations]
    write_coco(tmp_path, annotations=outside)
    with pytest.raises(UserError, match=r"the masks hold a single class \(background\). Expected two or more"):
        read_masked_pictures(tmp_path)
    write_coco(tmp_path, annotations=[outside[0], annotations[1]])
    assert set(np.unique(read_masked_pictures(tmp_path).masks)) == {0, 2}
