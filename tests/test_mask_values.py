"""What the values of masks mean: greys, smoothed edges, palettes, and what counts nothing."""

import numpy as np
import pytest
from mask_samples import label_masks, save, write_set
from PIL import Image

from apps import segmentation as app
from apps.common.data.images.mask_classes import Classes
from apps.common.data.images.mask_values import Values
from apps.common.data.images.masks import read_masked_pictures
from apps.common.errors import UserError
from apps.common.options.declare import make_config

pytestmark = pytest.mark.once  # reading asks no backend

SIZE = (24, 32)


def areas(count, labels, *, size=SIZE, cells=6, rare=1.0):
    """Masks of patches, each nearest to one of so many points; the higher `rare`, the rarer the last labels."""
    generator = np.random.default_rng(7)
    rows, columns = np.mgrid[: size[0], : size[1]]
    masks = []
    for _ in range(count):
        points = generator.random((cells, 2)) * size
        nearest = ((rows[..., None] - points[:, 0]) ** 2 + (columns[..., None] - points[:, 1]) ** 2).argmin(-1)
        masks.append((len(labels) * generator.random(cells) ** rare).astype(int)[nearest])
    return [np.array(labels)[mask].astype("uint8") for mask in masks]


def smoothed(mask):
    height, width = mask.shape[:2]
    return np.asarray(Image.fromarray(mask).resize((2 * width, 2 * height), Image.Resampling.BICUBIC).resize((width, height)))


def read(folder, masks, size=SIZE, **options):
    write_set(folder, masks, size=size)
    return read_masked_pictures(folder, **{"ignore": "auto", **options})


def test_pixels_and_squares_of_each_value_are_counted():
    found = Values.of(np.array([[0, 0, 5], [0, 0, 5], [5, 5, 5]]))
    assert [each.tolist() for each in (found.values, found.counts, found.flat)] == [[0, 5], [4, 5], [1, 0]]
    both = Values.of_all([found, Values.of(np.full((2, 2), 5))])
    assert [each.tolist() for each in (both.values, both.counts, both.flat)] == [[0, 5], [4, 9], [1, 1]]


def test_the_white_of_greys_is_a_class_unless_it_was_asked_to_count_nothing(tmp_path):
    masks = areas(4, (0, 127, 255))
    found = read(tmp_path, masks)
    assert found.classes.values == (0, 127, 255) and "0, 127, 255" in found.notes[0] and "none is ignored" in found.notes[0]
    asked = read_masked_pictures(tmp_path, ignore="255")
    assert asked.classes.values == (0, 127)


@pytest.mark.parametrize("labels", [(0, 1, 255), (0, 15, 255), (0, 7, 26, 255), (0, 1, 2, 3, 255)])
def test_a_mark_beside_labels_counts_nothing_and_its_share_is_said(tmp_path, labels):
    masks = areas(6, labels)
    found = read(tmp_path, masks)
    share = np.mean(np.stack(masks) == 255)
    assert found.classes.values == labels[:-1] and share > 0
    assert f"{share:.1%} of the pixels are label 255 and count nothing" in found.notes[0] and "--ignore" in found.notes[0]


def test_many_pixels_that_count_nothing_are_said_loudly_in_training_and_evaluation(tmp_path):
    read(tmp_path / "labels", areas(8, (0, 1, 2)))
    read(tmp_path / "white", areas(8, (0, 255)))
    data = app.load_data(make_config(app.Config, {"data": str(tmp_path / "labels")}))
    assert not any("count nothing" in note for note in data.notes)
    again = app.load_data(make_config(app.Config, {"data": str(tmp_path / "white")}), data.about)
    assert "beware" in again.notes[0] and "in no score" in again.notes[0] and "0, 1, 2" in again.notes[0]
    named = app.load_data(make_config(app.Config, {"data": str(tmp_path / "white"), "class_names": "ground,cell"}))
    assert "beware" in named.notes[0] and "--ignore none" in named.notes[0]


@pytest.mark.parametrize("colours", [False, True], ids=["labels", "colours"])
def test_smoothed_edges_are_refused(tmp_path, colours):
    table = np.array([(0, 0, 0), (200, 30, 30), (20, 200, 30)] if colours else [0, 255, 255], "uint8")
    masks = [smoothed(table[mask]) for mask in areas(4, (0, 1, 2))]
    with pytest.raises(UserError, match=r"lie along edges only.*of the pixels. Save masks as PNG, without smoothed edges"):
        read(tmp_path, masks)


@pytest.mark.parametrize(
    ("classes", "cells", "colours"),
    [(32, 12, True), (150, 60, False), (150, 60, True)],
    ids=["camvid", "ade20k", "ade20k in colours"],
)
def test_many_classes_of_which_most_are_rare_are_no_smoothed_edges(tmp_path, classes, cells, colours):
    masks = areas(30, range(classes), cells=cells, rare=6, size=(48, 64))
    table = np.random.default_rng(0).integers(0, 256, (classes, 3), dtype="uint8")
    found = read(tmp_path, [table[mask] if colours else mask for mask in masks], size=(48, 64))
    there = np.unique(np.stack(masks))
    shares = np.bincount(np.stack(masks).reshape(-1)) / np.stack(masks).size
    assert len(found.classes.names) == len(there) and (shares < 0.01).mean() > 0.5


def test_noise_and_a_class_as_thin_as_a_hair_are_no_smoothed_edges(tmp_path):
    assert len(read(tmp_path / "noise", label_masks(3, SIZE, range(12))).classes.names) == 12
    hair = np.zeros((2, *SIZE), "uint8")
    hair[:, :, 5], hair[:, :, 9] = 1, 2
    assert len(read(tmp_path / "hair", hair).classes.names) == 3


def write_palettes(folder, masks, colors, orders):
    """Masks with palettes, each with its colours in an order of its own."""
    write_set(folder, masks, size=SIZE)
    for number, (mask, order) in enumerate(zip(masks, orders, strict=True)):
        image = Image.fromarray(np.argsort(order)[mask].astype("uint8"))
        image.putpalette(colors[list(order)].tobytes())
        image.save(folder / f"masks/{number}.png")


def test_palettes_that_differ_by_file_make_colours_of_indices(tmp_path):
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], "uint8")
    masks = areas(3, (0, 1, 2))
    write_palettes(tmp_path, masks, colors, [(0, 1, 2), (2, 0, 1), (1, 2, 0)])
    found = read_masked_pictures(tmp_path, ignore="auto")
    assert found.classes.names == ("#000000", "#0000c8", "#c80000")
    np.testing.assert_array_equal(found.masks, np.array([0, 2, 1])[np.stack(masks)])
    assert "read as colours" in found.notes[0] and "0.png" in found.notes[0] and "1.png" in found.notes[0]
    with pytest.raises(UserError, match=r"index 0 is #000000 in the palette of 0.png and #0000c8 in that of 1.png"):
        read_masked_pictures(tmp_path, class_names=("ground", "cat", "dog"))


def test_palettes_of_greys_and_others_that_agree_are_labels(tmp_path):
    colors = np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], "uint8")
    masks = areas(3, (0, 1, 2))
    write_palettes(tmp_path, masks, colors, [(0, 1, 2)] * 3)
    save(tmp_path, "masks/1.png", masks[1], "P")  # Pillow writes greys in order where there was no palette
    image = Image.fromarray(masks[2])
    image.putpalette(np.concatenate([colors, [[9, 9, 9]]]).astype("uint8").tobytes())
    image.save(tmp_path / "masks/2.png")
    found = read_masked_pictures(tmp_path, ignore="auto")
    assert found.classes.values == (0, 1, 2) and not found.notes
    np.testing.assert_array_equal(found.masks, np.stack(masks))


def test_the_layouts_of_labelling_tools_are_read(tmp_path):
    masks, colors = label_masks(), np.array([[0, 0, 0], [200, 0, 0], [0, 0, 200]], "uint8")
    for folder in ("cvat", "roboflow", "plain"):
        (tmp_path / folder).mkdir()
    write_set(tmp_path / "cvat", [colors[mask] for mask in masks], pictures="JPEGImages", masked="SegmentationClass")
    lines = ["background:0,0,0::", "big car:200,0,0::", "sea:0,0,200:keel,sail:float"]
    (tmp_path / "cvat" / "labelmap.txt").write_text("\n".join(["# label:color_rgb:parts:actions", *lines]))
    for split in ("train", "valid"):
        for number, mask in enumerate(masks):
            picture = np.random.default_rng(number).integers(0, 256, (*mask.shape, 3), dtype="uint8")
            save(tmp_path / "roboflow", f"{split}/{number}_jpg.rf.1a2b.jpg", picture)
            save(tmp_path / "roboflow", f"{split}/{number}_jpg.rf.1a2b_mask.png", mask)
            save(tmp_path / "plain", f"{number}.jpg", picture)
            save(tmp_path / "plain", f"{number}_segmentation.png", mask)
        (tmp_path / "roboflow" / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n2, sea\n1, big car\n")
    for folder in ("cvat", "roboflow"):
        found = read_masked_pictures(tmp_path / folder)
        assert found.classes.names == ("background", "big car", "sea")
        np.testing.assert_array_equal(found.masks[:3], masks)
    assert found.splits == ["train"] * 3 + ["validation"] * 3
    np.testing.assert_array_equal(read_masked_pictures(tmp_path / "plain").masks, masks)
    (tmp_path / "roboflow" / "valid" / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, sea\n2, big car\n")
    with pytest.raises(UserError, match=r"valid/_classes.csv: other classes than in .*train/_classes.csv"):
        read_masked_pictures(tmp_path / "roboflow")


def test_masks_are_colours_though_the_first_are_empty(tmp_path):
    red = np.array([255, 0, 0], "uint8")
    write_set(tmp_path, [(np.arange(48).reshape(6, 8, 1) % 2 * (number > 23) * red).astype("uint8") for number in range(26)])
    assert read_masked_pictures(tmp_path).classes.coloured


LISTED = Classes(("background", "cat", "dog"), (0, 1, 2), False, 255, ((0, 0, 0), (128, 0, 0), (0, 128, 0)))
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0)], "uint8")  # of background, dog and cat in the list below


@pytest.mark.parametrize("colours", [False, True])
def test_other_masks_are_read_by_their_own_list_of_classes(tmp_path, colours):
    masks = label_masks()
    write_set(tmp_path, COLOURS[masks] if colours else masks)
    ends = (" 0 0 0", " 255 0 0", " 0 255 0") if colours else ("", "", "")
    (tmp_path / "classes.txt").write_text("\n".join(map("".join, zip(("background", "Dog", "cat"), ends, strict=True))))
    found = read_masked_pictures(tmp_path, classes=LISTED, ignore="auto")
    assert (found.masks == np.array([0, 2, 1])[masks]).all()
    assert found.classes == LISTED and any("list of classes" in note for note in found.notes)
    # Names that an option gave in training count before the list, there and here.
    if not colours:
        named = read_masked_pictures(tmp_path, classes=LISTED, class_names=LISTED.names)
        assert (named.masks == masks).all()


def test_a_class_that_the_list_of_other_masks_does_not_name_is_nowhere(tmp_path):
    write_set(tmp_path, label_masks(labels=(0, 1)))
    (tmp_path / "classes.txt").write_text("background\ndog\n")
    found = read_masked_pictures(tmp_path, classes=LISTED, ignore="auto")
    assert set(np.unique(found.masks)) == {0, 2}
    (tmp_path / "classes.txt").write_text("background\nhorse\n")
    with pytest.raises(UserError, match=r"label 1 is no class .*\(0 background\)"):
        read_masked_pictures(tmp_path, classes=LISTED, ignore="auto")
