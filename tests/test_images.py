"""Labelled images are read from every format, whatever their sizes and modes."""

import os
import zipfile
from pathlib import Path

import numpy as np
import pytest
from image_samples import class_folders, pixels, png_bytes, save, write_idx, write_tar
from PIL import Image

from apps import image_classification
from apps.common.data.images.labelled import named_images, read_images, read_labelled_images
from apps.common.errors import UserError
from apps.common.options.declare import make_config

pytestmark = pytest.mark.once  # nothing in it depends on the backend

# Formats


def test_class_folders_name_the_classes(tmp_path):
    read = read_labelled_images(class_folders(tmp_path / "été 2024", classes=("Žába", "big dog")))
    train = read.splits["train"]
    assert read.class_names == ["big dog", "Žába"]
    assert train.images.shape == (6, 6, 6, 3) and train.images.dtype == np.uint8
    assert train.labels.dtype == np.int64 and sorted(train.labels) == [0, 0, 0, 1, 1, 1]
    assert train.names[0] == "big dog/0.png"


def test_pixels_and_labels_belong_together(tmp_path):
    for value, name in ((10, "dark"), (200, "light")):
        for number in range(2):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("L", (2, 2), value + number).save(tmp_path / name / f"{number}.png")
    train = read_labelled_images(tmp_path).splits["train"]
    values = {name: int(image[0, 0, 0]) for name, image in zip(train.names, train.images, strict=True)}
    assert values == {"dark/0.png": 10, "dark/1.png": 11, "light/0.png": 200, "light/1.png": 201}
    assert train.labels.tolist() == [0, 0, 1, 1]


def test_classes_called_by_numbers_are_in_numeric_order(tmp_path):
    assert read_labelled_images(class_folders(tmp_path, classes=("10", "9", "1"))).class_names == ["1", "9", "10"]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Training", "valid", "testing")])
def test_split_folders_are_kept_below_a_single_top_folder(tmp_path, names):
    for name in names:
        class_folders(tmp_path / "top" / name, 2)
    read = read_labelled_images(tmp_path)
    assert list(read.splits) == ["train", "validation", "test"]
    assert [len(split) for split in read.splits.values()] == [4, 4, 4]


def test_train_and_car_are_classes_when_images_lie_in_train(tmp_path):
    assert read_labelled_images(class_folders(tmp_path, classes=("train", "car"))).class_names == ["car", "train"]


def test_other_and_hidden_files_are_counted_or_ignored(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "cat" / ".DS_Store").write_bytes(b"x")
    (tmp_path / "cat" / "._0.png").write_bytes(b"x")
    (tmp_path / "notes.txt").write_text("x")
    save(tmp_path / "preview.png")
    notes = read_labelled_images(tmp_path).notes
    assert notes[0] == "1 files that are not images ignored, such as notes.txt"
    assert notes[1] == "1 images outside of any class folder ignored, such as preview.png"


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_are_read_with_their_test_split(tmp_path, ending):
    images = pixels(4, 5, 3)
    for prefix in ("train", "t10k"):
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte{ending}", images)
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte{ending}", np.array([7, 3, 7, 3], np.uint8))
    for path in (tmp_path, tmp_path / f"train-images-idx3-ubyte{ending}"):
        read = read_labelled_images(path)
        assert np.array_equal(read.splits["train"].images[..., 0], images)
        assert read.splits["test"].labels.tolist() == [1, 0, 1, 0]
        assert read.class_names == ["3", "7"]


@pytest.mark.parametrize(
    ("images", "labels"),
    [("x_{}", "y_{}"), ("{}_images", "{}_labels"), ("X_{}", "Y_{}"), ("images_{}", "labels_{}")],
)
def test_npz_names_its_splits(tmp_path, images, labels):
    arrays = {}
    for split in ("train", "val", "test"):
        arrays[images.format(split)] = pixels(4, 5, 5, 3)
        arrays[labels.format(split)] = np.array([[0], [1], [0], [1]])
    np.savez(tmp_path / "a.npz", **arrays)
    for path in (tmp_path, tmp_path / "a.npz"):
        assert list(read_labelled_images(path).splits) == ["train", "validation", "test"]


def test_npz_holds_floats_one_hot_rows_and_text_labels(tmp_path):
    images = np.random.default_rng(0).random((4, 5, 5)).astype(np.float32)
    np.savez(tmp_path / "a.npz", images=images, labels=np.eye(2)[[0, 1, 1, 0]])
    train = read_labelled_images(tmp_path / "a.npz").splits["train"]
    assert np.array_equal(train.images[..., 0], np.rint(images.astype(np.float64) * 255))
    assert train.labels.tolist() == [0, 1, 1, 0]
    np.savez(tmp_path / "b.npz", x=np.moveaxis(pixels(4, 5, 6, 3), -1, 1), y=np.array(["b", "a", "b", "a"]))
    read = read_labelled_images(tmp_path / "b.npz")
    assert read.splits["train"].images.shape == (4, 5, 6, 3) and read.class_names == ["a", "b"]


def test_manifest_gives_paths_labels_and_splits(tmp_path):
    for number in range(6):
        save(tmp_path / "my images" / f"é {number}.png")
    lines = [f"my images/é {n}.png,{'ab'[n % 2]},{'train' if n < 4 else 'test'}" for n in range(6)]
    (tmp_path / "labels.csv").write_text("\n".join(["Filename,Label,split", *lines]), encoding="utf-8")
    for path in (tmp_path, tmp_path / "labels.csv"):
        read = read_labelled_images(path)
        assert [len(split) for split in read.splits.values()] == [4, 2]
        assert read.splits["test"].names == ["my images/é 4.png", "my images/é 5.png"]


def test_archives_are_read_in_memory(tmp_path):
    members = [
        (f"top/{split}/{label}/{n}.png", png_bytes()) for split in ("train", "test") for label in "ab" for n in "01"
    ]
    write_tar(tmp_path / "a.tar.xz", [*members, ("top/README", b"x")], "w:xz")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        for name, content in [*members, ("__MACOSX/top/._a.png", b"x")]:
            archive.writestr(name, content)
    for name in ("a.tar.xz", "b.zip"):
        read = read_labelled_images(tmp_path / name)
        assert [len(split) for split in read.splits.values()] == [4, 4] and read.class_names == ["a", "b"]
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.tar.xz", "b.zip"]


def test_digits_come_with_scikit_learn():
    digits = named_images("digits")
    assert digits.splits["train"].images.shape == (1797, 8, 8, 1)
    assert digits.splits["train"].images.max() == 255 and digits.class_names == list("0123456789")
    assert named_images("no such name") is None


def test_keras_sets_are_taken_from_the_machine_or_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.delenv("TRIPTYCH_DATA", raising=False)
    with pytest.raises(UserError, match="TRIPTYCH_DATA"):
        named_images("mnist")
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets" / "mnist.npz", x_train=pixels(4, 8, 8), y_train=np.array([0, 1, 0, 1]))
    assert len(named_images("mnist").splits["train"]) == 4
    (tmp_path / "sets" / "mnist").mkdir(parents=True)
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path / "sets"))
    assert named_images("mnist") is None


@pytest.mark.skipif("TRIPTYCH_DATA" not in os.environ, reason="no folder of data sets")
@pytest.mark.parametrize(("name", "count", "classes"), [("fashion_mnist", 60000, 10), ("pneumoniamnist", 4708, 2)])
def test_real_sets_are_read(name, count, classes):
    path = Path(os.environ["TRIPTYCH_DATA"]) / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    read = read_labelled_images(path)
    assert read.splits["train"].images.shape == (count, 28, 28, 1) and len(read.class_names) == classes


def test_evaluation_needs_neither_training_images_nor_every_class(tmp_path):
    class_folders(tmp_path / "a", 1, classes=("dog",))
    read = read_labelled_images(tmp_path / "a", class_names=["cat", "dog"])
    assert read.splits["train"].labels.tolist() == [1] and read.class_names == ["cat", "dog"]
    np.savez(tmp_path / "b.npz", x_test=pixels(2, 3, 3), y_test=np.array([7, 7]))
    read = read_labelled_images(tmp_path / "b.npz", class_names=["3", "7"])
    assert read.splits["test"].labels.tolist() == [1, 1]
    np.savez(tmp_path / "fashion_mnist.npz", x_test=pixels(2, 3, 3), y_test=np.array([7, 0]))
    read = read_labelled_images(tmp_path / "fashion_mnist.npz", class_names=["T-shirt/top", "Sneaker"])
    assert read.splits["test"].labels.tolist() == [1, 0]
    assert named_images("digits", image_size=4, channels=3).splits["train"].images.shape == (1797, 4, 4, 3)


# Sizes and channels


def test_images_of_many_sizes_get_the_median_of_their_shorter_sides(tmp_path):
    class_folders(tmp_path, 2, size=(10, 20))
    save(tmp_path / "cat" / "large.png", size=(40, 30))
    read = read_labelled_images(tmp_path)
    assert read.splits["train"].images.shape == (5, 10, 10, 3)
    assert read.notes == ["5 of 5 images of 10 x 20 to 40 x 30 resized to 10 x 10"]


def test_image_size_and_channels_are_as_asked(tmp_path):
    np.savez(tmp_path / "a.npz", images=pixels(4, 6, 6), labels=[0, 1, 0, 1])
    assert read_labelled_images(tmp_path, image_size=4, channels=3).splits["train"].images.shape == (4, 4, 4, 3)
    class_folders(tmp_path / "b")
    assert read_labelled_images(tmp_path / "b", image_size=(4, 5), channels=1).splits["train"].images.shape[1:] == (
        4,
        5,
        1,
    )


def test_resizing_is_antialiased(tmp_path):
    stripes = np.tile(np.array([0, 255], np.uint8), (32, 16))
    Image.fromarray(stripes).save(tmp_path / "a.png")
    assert np.ptp(read_images([tmp_path / "a.png"], (4, 4, 1))[0][0].astype(int)) < 40


def test_all_grey_images_have_one_channel(tmp_path):
    class_folders(tmp_path, mode="L")
    assert read_labelled_images(tmp_path).splits["train"].images.shape[-1] == 1
    save(tmp_path / "cat" / "colour.png")
    assert read_labelled_images(tmp_path).splits["train"].images.shape[-1] == 3


@pytest.mark.parametrize("kind", ["RGBA.png", "P.png", "CMYK.jpg", "1.png", "LA.png", "RGB.webp", "RGB.tif", "RGB.gif"])
def test_any_mode_becomes_plain_colour(tmp_path, kind):
    path = save(tmp_path / kind, mode=kind.split(".")[0])
    image = read_images([path], (6, 6, 3))[0][0]
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.asarray(Image.open(path).convert("RGB")))


def test_16_bit_values_are_scaled_and_clear_pixels_are_white(tmp_path):
    Image.fromarray(np.array([[0, 65535], [257, 32896]], np.uint16)).save(tmp_path / "a.png")
    assert read_images([tmp_path / "a.png"], (2, 2, 1))[0][0][..., 0].tolist() == [[0, 255], [1, 128]]
    Image.new("RGBA", (1, 1), (1, 2, 3, 0)).save(tmp_path / "b.png")
    assert read_images([tmp_path / "b.png"], (1, 1, 3))[0][0].tolist() == [[[255, 255, 255]]]


def test_photographs_are_turned_upright(tmp_path):
    image = Image.new("L", (4, 2), 0)
    image.paste(255, (0, 0, 2, 2))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees clockwise
    for name in ("a/1.png", "a/2.png", "b/1.png", "b/2.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        image.save((tmp_path / name).with_suffix(".jpg"), exif=exif, quality=100)
    train = read_labelled_images(tmp_path).splits["train"]
    assert train.images.shape == (4, 4, 2, 1)
    assert train.images[0, 0].min() > 200 and train.images[0, 3].max() < 50


def deep_pictures(folder, largest):
    """Two classes of 16-bit pictures whose values end below `largest`."""
    for name, low in (("dark", 0), ("light", largest // 2)):
        (folder / name).mkdir(parents=True)
        for index in range(3):
            values = np.linspace(low, low + largest // 2, 16).reshape(4, 4).astype("uint16")
            Image.fromarray(values).save(folder / name / f"{index}.png")
    return folder


def test_the_white_of_deep_pictures_is_found_kept_and_used_for_prediction(tmp_path):
    read = read_labelled_images(deep_pictures(tmp_path / "a", 4000))
    light = next(image for image, label in zip(*(read.splits["train"].images, read.splits["train"].labels), strict=True) if label)
    assert read.white == 4095 and light.max() == 4000 * 255 // 4095 and "4,095 is white" in read.notes[-1]
    found, _ = read_images([tmp_path / "a" / "light" / "0.png"], (4, 4, 1), read.white)
    assert (found[0] == light).all(), "as in training"
    assert read_labelled_images(deep_pictures(tmp_path / "b", 60_000)).white == 65535
    assert read_labelled_images(class_folders(tmp_path / "c")).white is None


def test_transparent_pixels_are_white_whatever_colour_lies_under_them(tmp_path):
    Image.new("RGBA", (2, 2), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    Image.new("LA", (2, 2), (0, 128)).save(tmp_path / "half.png")
    found, reasons = read_images([tmp_path / "clear.png", tmp_path / "half.png"], (2, 2, 3))
    assert reasons == ["", ""] and (found[0] == 255).all() and set(found[1].ravel().tolist()) == {127}


def test_folders_that_are_passed_by_are_named(tmp_path):
    class_folders(tmp_path)
    (tmp_path / "..x").mkdir()
    (tmp_path / "again").symlink_to(next(entry for entry in tmp_path.iterdir() if entry.is_dir() and entry.name != "..x"))
    notes = " ".join(read_labelled_images(tmp_path).notes)
    assert "begin with a dot: ..x" in notes and "read themselves: again" in notes


def test_a_class_folder_that_is_not_utf8_has_a_name_that_can_be_written(tmp_path):
    class_folders(tmp_path, classes=("cat", "dog"))
    os.rename(os.fsencode(tmp_path / "cat"), os.fsencode(tmp_path) + b"/caf\xe9")
    assert read_labelled_images(tmp_path).class_names == ["caf\\xe9", "dog"]


def test_classes_of_two_pictures_each_are_split(tmp_path):
    class_folders(tmp_path, classes=tuple("abcdefgh"), count=2)
    config = make_config(image_classification.Config, {"data": str(tmp_path)})
    data = image_classification.load_data(config)
    assert all(len(part) for part in (data.train, data.validation, data.test))
