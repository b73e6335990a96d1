"""A class for every pixel: how it is read, weighed, counted, put together from tiles and written."""

import dataclasses

import keras
import numpy as np
import pytest
from mask_samples import label_masks, save, write_set
from PIL import Image
from sklearn.metrics import jaccard_score

from apps import segmentation as app
from apps.common.data.examples import Examples
from apps.common.data.images import gathering
from apps.common.data.images.drawn_masks import draw_shapes
from apps.common.data.images.mask_classes import IGNORED
from apps.common.data.images.masks import read_masked_pictures
from apps.common.data.images.moving import Moves, Moving
from apps.common.data.images.pixels import Pixels, median_frequency_weights
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.reports.segmentation import confusion_of, mask_of, scores, tiled_mask
from apps.common.training.batches import scaled
from apps.common.training.pixels import MeanIoU, PixelLoss

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

generator = np.random.default_rng(0)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def channels_as_classes(shape):
    """A model whose logits are the picture's three channels."""
    inputs = keras.Input(shape)
    return keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))


# Losses, metrics, evaluation


def test_mean_iou_is_macro_over_classes_that_are_there_or_predicted():
    matrix = np.array([[8, 2, 0, 0], [0, 5, 5, 0], [0, 0, 0, 0], [0, 0, 0, 0]])
    expected = {"mean_iou": (8 / 10 + 5 / 12 + 0) / 3, "pixel_accuracy": 13 / 20, "class_accuracy": (0.8 + 0.5) / 2}
    assert scores(matrix).items() >= {key: pytest.approx(value) for key, value in expected.items()}.items()


def test_evaluation_by_batches_counts_every_pixel_once_and_no_ignored_one():
    pictures = generator.integers(0, 256, (5, 4, 3, 3), dtype="uint8")
    masks = generator.integers(0, 3, (5, 4, 3)).astype("uint8")
    masks[:, 0] = IGNORED
    matrix = confusion_of(channels_as_classes((4, 3, 3)), Pixels(Examples(pictures, masks), np.ones(3)), 3, batch_size=2)
    truth, found = masks[:, 1:].reshape(-1), pictures[:, 1:].argmax(-1).reshape(-1)
    assert matrix.sum() == len(truth)
    assert scores(matrix)["mean_iou"] == pytest.approx(jaccard_score(truth, found, average="macro"))
    metric = MeanIoU(3)
    for part in (slice(0, 2), slice(2, 5)):
        x, y, weight = Pixels(Examples(pictures, masks), np.full(3, 7.0)).take(np.arange(5)[part])
        metric.update_state(y, x.astype("float32"), weight)
    assert float(array(metric.result())) == pytest.approx(scores(matrix)["mean_iou"], abs=1e-6)


@pytest.mark.parametrize("kind", ["cross-entropy", "focal", "dice", "dice-cross-entropy"])
def test_what_stands_at_ignored_pixels_changes_no_loss(kind):
    masks = generator.integers(0, 3, (2, 4, 5)).astype("uint8")
    masks[0, :2] = IGNORED
    _, y, weight = Pixels(Examples(np.zeros((2, 1)), masks), np.ones(3)).take(np.arange(2))
    logits = generator.normal(size=(2, 4, 5, 3)).astype("float32")
    other = np.where((masks == IGNORED)[..., None], 5 * logits[..., ::-1] + 1, logits)
    loss = PixelLoss(kind)
    weight = scaled(weight, 1, float(weight.sum()))
    first, second = (float(array(loss(y, each, weight))) for each in (logits, other))
    assert first == pytest.approx(second, rel=1e-5) and first > 0.01


def test_losses_have_their_known_values():
    y = np.array([[[0, 1], [1, 1]]])
    sure = 40.0 * np.eye(2, dtype="float32")[y]
    for kind in ("cross-entropy", "focal", "dice", "dice-cross-entropy"):
        assert float(array(PixelLoss(kind)(y, sure))) == pytest.approx(0, abs=1e-4)
    even, counts = np.zeros((1, 2, 2, 2), "float32"), np.array([[[1, 1], [1, 0]]], "float32")
    weight = scaled(counts, 1, float(counts.sum()))
    assert float(array(PixelLoss("cross-entropy")(y, even, weight))) == pytest.approx(np.log(2), rel=1e-5)
    assert float(array(PixelLoss("focal")(y, even, weight))) == pytest.approx(np.log(2) / 4, rel=1e-5)
    # One pixel of class 0 and two of class 1 count, each half: 1 - 2 * .5 / (1.5 + 1) and 1 - 2 * 1 / (1.5 + 2).
    assert float(array(PixelLoss("dice")(y, even, weight))) == pytest.approx((0.6 + 3 / 7) / 2, rel=1e-4)


def test_weights_are_median_frequencies():
    masks = np.array([[[0, 0, 0, 1]], [[0, 0, 0, 0]], [[2, 2, 0, IGNORED]]], "uint8")
    # Frequencies: 8 of 11, 1 of 4, 2 of 3; class 3 is nowhere.
    found = median_frequency_weights(Examples(np.zeros((3, 1)), masks), 4)
    np.testing.assert_allclose(found, [(2 / 3) / (8 / 11), (2 / 3) / (1 / 4), 1, 1], rtol=1e-6)


def test_places_from_outside_of_a_moved_picture_are_ignored():
    pictures, masks = draw_shapes(4, 16, 0)
    moving = Moving(Examples(pictures, masks), Moves(shift=0.5, empty=IGNORED), ("image", "mask"), 0)
    x, y, weight = Pixels(moving, np.ones(4)).take(np.arange(4))
    black = (x == 0).all(-1)
    assert black.sum() > 50 and (weight[black] == 0).mean() > 0.9 and (weight == 0).sum() < weight.size
    assert y.max() < 4


# Tiles and predictions


def test_tiles_of_a_model_that_sees_single_pixels_are_the_whole():
    picture = generator.integers(0, 256, (21, 30, 3), dtype="uint8")
    found = tiled_mask(channels_as_classes((8, 12, 3)), picture, (8, 12))
    np.testing.assert_array_equal(found, picture.argmax(-1))
    small = picture[:5, :7]
    np.testing.assert_array_equal(tiled_mask(channels_as_classes((8, 12, 3)), small, (8, 12)), small.argmax(-1))


def test_tiles_leave_no_seams():
    inputs = keras.Input((16, 16, 3))
    blur = keras.layers.Conv2D(2, 5, padding="same")
    model = keras.Model(inputs, blur(inputs))
    kernel = np.zeros((5, 5, 3, 2), "float32")
    kernel[..., 0] = 1 / 75
    blur.set_weights([kernel, np.array([0, 90], "float32")])  # class 0 where the mean around is above 90: not at borders
    picture = np.full((50, 60, 3), 100, "uint8")
    assert (mask_of(model, picture[:16, :16], {"image_shape": [16, 16, 3], "resized": False})[0] == 1).all()
    found = mask_of(model, picture, {"image_shape": [16, 16, 3], "resized": False})
    assert found.shape == (50, 60) and (found[2:-2, 2:-2] == 0).all()


def test_masks_are_written_in_the_labels_of_training_and_the_size_of_the_picture(tmp_path):
    about = {"class_names": ["ground", "cell", "wall"], "values": [0, 255, 7], "colors": [[0, 0, 0], [255, 0, 0], [0, 255, 0]],
             "coloured": False, "image_shape": [8, 8, 3], "resized": True}  # fmt: skip
    picture = np.zeros((20, 12, 3), "uint8")
    picture[:10, :, 1] = picture[10:, :, 0] = 200
    save(tmp_path, "a/view.png", picture)
    save(tmp_path, "b/view.png", picture)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    options = app.PredictOptions(folder=str(tmp_path / "out"))
    paths = [tmp_path / "a/view.png", tmp_path / "broken.png", tmp_path / "b/view.png"]
    first, broken, second = app.predict(channels_as_classes((8, 8, 3)), paths, about, options)
    written = Image.open(first["mask"])
    assert set(broken) == {"reason"} and first["mask"] != second["mask"]
    assert written.mode == "P" and written.size == (12, 20) and Image.open(first["overlay"]).size == (12, 20)
    np.testing.assert_array_equal(np.asarray(written), np.repeat([255, 0], 10)[:, None].repeat(12, 1))
    assert first["shares"] == {"ground": 0.5, "cell": 0.5}
    # Again into the same folder, but over no mask that was drawn by hand.
    app.predict(channels_as_classes((8, 8, 3)), paths[:1], about, app.PredictOptions(folder=str(tmp_path / "out")))
    save(tmp_path, "a/view-mask.png", picture[..., 0])
    with pytest.raises(UserError, match=r"view-mask\.png is there and was not written by predict"):
        app.predict(channels_as_classes((8, 8, 3)), paths[:1], about, app.PredictOptions(folder=str(tmp_path / "a")))


# Reading


def test_camvids_layout_keeps_its_splits_and_ignores_a_label(tmp_path):
    for split in ("train", "val", "test"):
        write_set(tmp_path / "CamVid", label_masks(labels=(0, 1, 2, 11)), split, f"{split}annot")
    options = {"data": str(tmp_path), "class_names": "Sky,Road,Car", "ignore": "11"}
    data = app.load_data(make_config(app.Config, options))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [3, 3, 3]
    assert data.about["class_names"] == ["Sky", "Road", "Car"] and data.about["values"] == [0, 1, 2]
    _, y, weight = data.test.take(np.arange(3))
    for number in range(3):
        mask = np.asarray(Image.open(tmp_path / f"CamVid/testannot/{number}.png"))
        np.testing.assert_array_equal(weight[number] > 0, mask != 11)
        np.testing.assert_array_equal(y[number][mask != 11], mask[mask != 11])
    again = app.load_data(make_config(app.Config, {"data": str(tmp_path)}), data.about)
    np.testing.assert_array_equal(again.test.take(np.arange(3))[1], y)


def test_labels_palettes_and_colours_of_one_drawing_read_alike(tmp_path):
    masks = label_masks()
    colors = np.array([[10, 20, 30], [200, 0, 0], [0, 0, 200]], "uint8")
    write_set(tmp_path / "labels", masks)
    write_set(tmp_path / "colours", [colors[mask] for mask in masks])
    (tmp_path / "colours" / "classes.txt").write_text("ground,10,20,30\nbig car,200,0,0\nsea,0,0,200\n")
    write_set(tmp_path / "palette", masks)
    for number, mask in enumerate(masks):
        image = Image.fromarray(mask)
        image.putpalette(colors.tobytes())
        image.save(tmp_path / f"palette/masks/{number}.png")
    sixteen = tmp_path / "sixteen"
    write_set(sixteen, [mask.astype("uint16") * 300 for mask in masks])
    found = {name: read_masked_pictures(tmp_path / name, ignore="255") for name in ("labels", "colours", "palette", "sixteen")}
    for each in found.values():
        np.testing.assert_array_equal(each.masks, masks)
    assert found["colours"].classes.names == ("ground", "big car", "sea")
    assert found["sixteen"].classes.values == (0, 300, 600)


def test_masks_of_black_and_white_are_two_classes(tmp_path):
    write_set(tmp_path, label_masks(labels=(0, 255)))
    found = read_masked_pictures(tmp_path, ignore="255")
    assert found.classes.values == (0, 255) and "both are classes" in found.notes[0]


@pytest.mark.parametrize("turned", [False, True], ids=["drawn upright", "drawn as it lies in the file"])
@pytest.mark.parametrize("orientation", [6, 8, 5])
def test_a_picture_turned_by_its_camera_keeps_its_mask(tmp_path, orientation, turned):
    picture = np.zeros((8, 12, 3), "uint8")
    picture[:4, :4] = 255
    mask = Image.fromarray((picture[..., 0] > 0).astype("uint8"))
    exif = Image.Exif()
    exif[0x0112] = orientation
    save(tmp_path, "images/a.png", picture, exif=exif)
    (tmp_path / "masks").mkdir()
    if not turned:
        ways = Image.Transpose
        mask = mask.transpose({6: ways.ROTATE_270, 8: ways.ROTATE_90, 5: ways.TRANSPOSE}[orientation])
    mask.save(tmp_path / "masks/a.png")
    found = read_masked_pictures(tmp_path)
    assert found.images.shape == (1, 12, 8, 3)
    np.testing.assert_array_equal(found.images[0, ..., 0] > 0, found.masks[0] == 1)


def test_pictures_of_every_mode_are_read(tmp_path):
    write_set(tmp_path, label_masks(6))
    grey = generator.integers(0, 256, (6, 8), dtype="uint8")
    save(tmp_path, "images/0.png", grey)
    save(tmp_path, "images/1.png", grey.astype("uint16") * 257)
    (tmp_path / "images/2.png").unlink()
    save(tmp_path, "images/2.jpg", grey, "CMYK", quality=100)
    clear = np.dstack([grey, grey, grey, np.where(np.arange(8) < 4, 255, 0) + np.zeros((6, 1), int)]).astype("uint8")
    save(tmp_path, "images/3.png", clear)
    found = read_masked_pictures(tmp_path)
    assert found.images.shape == (6, 6, 8, 3) and not found.notes
    pictures = {path.name: picture for path, picture in zip(found.paths, found.images, strict=True)}
    colours = np.dstack([grey] * 3)
    for name, room in (("0.png", 0), ("1.png", 0), ("2.jpg", 3)):
        np.testing.assert_allclose(pictures[name].astype(int), colours, atol=room)
    np.testing.assert_array_equal(pictures["3.png"], np.where(np.arange(8)[:, None] < 4, colours, 255))


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: save(f, "masks/1.png", np.zeros((5, 8), "uint8")), ("1.png", "8 x 5 pixels", "8 x 6")),
        (lambda f: save(f, "masks/1.png", np.zeros((6, 8), "uint8"), "CMYK", format="TIFF"), ("CMYK",)),
        (lambda f: save(f, "masks/1.png", np.zeros((6, 8), "uint8"), format="JPEG"), ("JPEG", "PNG")),
        (lambda f: save(f, "masks/1.png", np.full((6, 8, 3), (1, 2, 3), "uint8")), ("colours",)),
        (lambda f: (f / "masks/1.png").write_bytes(b""), ("zero bytes",)),
        (lambda f: [each.unlink() for each in (f / "masks").iterdir()], ("3 pictures, 0 masks", "Expected")),
        (lambda f: [each.rename(each.with_name("x" + each.name)) for each in (f / "masks").iterdir()], ("no mask is called",)),
        (lambda f: (f / "classes.txt").write_text("ground\nroad\n"), ("label 2 is no class", "ground")),
        (lambda f: (f / "classes.txt").write_text("ground 1 2\nroad\n"), ("classes.txt: line 1",)),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line(tmp_path, spoil, words):
    write_set(tmp_path, label_masks())
    spoil(tmp_path)
    with pytest.raises(UserError) as caught:
        read_masked_pictures(tmp_path)
    assert "\n" not in str(caught.value) and all(word in str(caught.value) for word in words), str(caught.value)


def test_unknown_colours_and_labels_of_other_splits_are_refused(tmp_path):
    write_set(tmp_path / "colours", [np.full((6, 8, 3), 9, "uint8"), np.full((6, 8, 3), (1, 2, 3), "uint8")])
    (tmp_path / "colours/classes.txt").write_text("ground 9 9 9\nroad 5 5 5\n")
    with pytest.raises(UserError, match="colour #010203 is no class"):
        read_masked_pictures(tmp_path / "colours")
    write_set(tmp_path / "splits", label_masks(), "images/train", "masks/train")
    write_set(tmp_path / "splits", label_masks(labels=(0, 9)), "images/val", "masks/val")
    with pytest.raises(UserError, match=r"val.*label 9 is no class"):
        read_masked_pictures(tmp_path / "splits")


def test_pictures_without_a_mask_are_named(tmp_path):
    write_set(tmp_path, label_masks())
    save(tmp_path, "images/lonely.png", np.zeros((6, 8, 3), "uint8"))
    assert "lonely.png" in read_masked_pictures(tmp_path).notes[0]


def test_large_sets_lie_on_disk_and_are_the_same(tmp_path, monkeypatch):
    write_set(tmp_path / "set", label_masks(5))
    inside = read_masked_pictures(tmp_path / "set")
    monkeypatch.setattr(gathering, "STORED_ABOVE", 10)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for _ in range(2):
        stored = read_masked_pictures(tmp_path / "set")
        assert isinstance(stored.images, np.memmap) and isinstance(stored.masks, np.memmap)
        np.testing.assert_array_equal(stored.images, inside.images)
        np.testing.assert_array_equal(stored.masks, inside.masks)
    assert len(list((tmp_path / "cache/triptych/pictures").iterdir())) == 1
    data = app.load_data(make_config(app.Config, {"data": str(tmp_path / "set")}))
    assert data.train.take(np.arange(2))[0].shape == (2, 6, 8, 3)


def test_a_class_weight_that_does_nothing_is_refused():
    with pytest.raises(UserError, match="does nothing with --loss dice"):
        make_config(app.Config, {"loss": "dice", "class_weights": "balanced"})
    assert dataclasses.is_dataclass(app.Config)


@pytest.mark.parametrize("second", ["images/1.jpg", "masks/1_mask.png"])
def test_two_pictures_or_masks_of_one_name_are_refused(tmp_path, second):
    write_set(tmp_path, label_masks())
    save(tmp_path, second, np.zeros((6, 8), "uint8"))
    with pytest.raises(UserError, match=r"1\.png.* have one name \(1 such\)"):
        read_masked_pictures(tmp_path)


def write_voc(folder, **lists):
    """PASCAL VOC's layout of three pictures, and lists of splits."""
    write_set(folder, label_masks(), "JPEGImages", "SegmentationClass")
    write_set(folder, label_masks(), "JPEGImages", "SegmentationObject")
    (folder / "ImageSets/Segmentation").mkdir(parents=True)
    for name, words in lists.items():
        (folder / f"ImageSets/Segmentation/{name}.txt").write_text(words.replace(" ", "\n"))


def test_vocs_lists_name_the_splits(tmp_path):
    write_voc(tmp_path, train="1", val="0 7", trainval="0 1 7")
    found = read_masked_pictures(tmp_path)
    assert {path.stem: split for path, split in zip(found.paths, found.splits, strict=True)} == {"0": "validation", "1": "train"}
    assert "1 pictures that no list" in found.notes[0] and "name have no mask: 7" in found.notes[1] and len(found.notes) == 2


@pytest.mark.parametrize(("val", "words"), [("1 2", "1 is in several lists"), ("8 9", "has a mask, such as 8")])
def test_vocs_lists_that_contradict_themselves_or_the_pictures_are_refused(tmp_path, val, words):
    write_voc(tmp_path, val=val, **({"train": "0 1"} if "several" in words else {}))
    with pytest.raises(UserError, match=words):
        read_masked_pictures(tmp_path)
