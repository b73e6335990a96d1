"""Labelled images are read from every format, and what cannot be read is refused or counted in one clear line."""

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from apps.common import archives, image_files
from apps.common.errors import UserError
from apps.common.images import named_images, read_image, read_labelled_images

GENERATOR = np.random.default_rng(0)


def pixels(*shape):
    return GENERATOR.integers(0, 256, shape, dtype=np.uint8)


def save(path, size=(6, 6), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels(size[1], size[0], 3)).convert(mode).save(path, **options)
    return path


def class_folders(root, count=3, classes=("cat", "dog"), **options):
    for name in classes:
        for number in range(count):
            save(root / name / f"{number}.png", **options)
    return root


def png_bytes(size=(4, 4)):
    file = io.BytesIO()
    Image.fromarray(pixels(size[1], size[0], 3)).save(file, "PNG")
    return file.getvalue()


def write_idx(path, array, code=8, magic=b"\0\0"):
    data = magic + bytes([code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_tar(path, members, mode="w:gz"):
    with tarfile.open(path, mode) as archive:
        for name, content in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def refuses(path, *words, **options):
    with pytest.raises(UserError) as caught:
        read_labelled_images(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message, message
    return message


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
    images = GENERATOR.random((4, 5, 5)).astype(np.float32)
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
    with pytest.raises(UserError, match="TRIPTYCH_DATA"):
        named_images("mnist")
    (tmp_path / "datasets").mkdir()
    np.savez(tmp_path / "datasets" / "mnist.npz", x_train=pixels(4, 8, 8), y_train=np.array([0, 1, 0, 1]))
    assert len(named_images("mnist").splits["train"]) == 4


@pytest.mark.skipif("TRIPTYCH_DATA" not in os.environ, reason="no folder of data sets")
@pytest.mark.parametrize(("name", "count", "classes"), [("fashion_mnist", 60000, 10), ("pneumoniamnist", 4708, 2)])
def test_real_sets_are_read(name, count, classes):
    path = Path(os.environ["TRIPTYCH_DATA"]) / name
    if not path.exists():
        pytest.skip(f"{name} is not there")
    read = read_labelled_images(path)
    assert read.splits["train"].images.shape == (count, 28, 28, 1) and len(read.class_names) == classes


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
    assert np.ptp(read_image(tmp_path / "a.png", (4, 4, 1)).astype(int)) < 40


def test_all_grey_images_have_one_channel(tmp_path):
    class_folders(tmp_path, mode="L")
    assert read_labelled_images(tmp_path).splits["train"].images.shape[-1] == 1
    save(tmp_path / "cat" / "colour.png")
    assert read_labelled_images(tmp_path).splits["train"].images.shape[-1] == 3


@pytest.mark.parametrize("kind", ["RGBA.png", "P.png", "CMYK.jpg", "1.png", "LA.png", "RGB.webp", "RGB.tif", "RGB.gif"])
def test_any_mode_becomes_plain_colour(tmp_path, kind):
    path = save(tmp_path / kind, mode=kind.split(".")[0])
    image = read_image(path, (6, 6, 3))
    assert image.dtype == np.uint8
    assert np.array_equal(image, np.asarray(Image.open(path).convert("RGB")))


def test_16_bit_values_are_scaled_and_alpha_is_dropped(tmp_path):
    Image.fromarray(np.array([[0, 65535], [257, 32896]], np.uint16)).save(tmp_path / "a.png")
    assert read_image(tmp_path / "a.png", (2, 2, 1))[..., 0].tolist() == [[0, 255], [1, 128]]
    Image.new("RGBA", (1, 1), (1, 2, 3, 0)).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", (1, 1, 3)).tolist() == [[[1, 2, 3]]]


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


# Bad input


def test_no_images_no_classes_or_one_example_are_refused(tmp_path):
    refuses(tmp_path, "the folder is empty", "a folder a class")
    (tmp_path / "read me.txt").write_text("x")
    refuses(tmp_path, "no image found (only read me.txt)")
    save(tmp_path / "1.png")
    refuses(tmp_path, "labels missing", "no class folders")
    class_folders(tmp_path, classes=("cat",))
    refuses(tmp_path, "single class (cat)")
    save(tmp_path / "dog" / "1.png")
    refuses(tmp_path, "one example only of class dog")
    (tmp_path / "zero.npz").touch()
    refuses(tmp_path / "zero.npz", "the file is empty")
    refuses(tmp_path / "read me.txt", "not a set of labelled images")


def damaged(path, kind):
    path.parent.mkdir(exist_ok=True)
    whole = save(path, size=(64, 64)).read_bytes()
    header = b"IHDR" + struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    enormous = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    content = {"truncated": whole[: len(whole) // 2], "zero": b"", "text": b"not an image", "enormous": enormous}[kind]
    path.write_bytes(content + (whole[33:] if kind == "enormous" else b""))
    return path


BAD_IMAGES = {"truncated": "damaged", "zero": "zero bytes", "text": "not an image", "enormous": "megapixels"}


@pytest.mark.parametrize(("kind", "words"), BAD_IMAGES.items())
def test_a_bad_image_is_counted_and_named_up_to_five_percent(tmp_path, kind, words):
    class_folders(tmp_path, 10, size=(64, 64))
    damaged(tmp_path / "cat" / "bad.png", kind)
    read = read_labelled_images(tmp_path)
    assert len(read.splits["train"]) == 20 and "cat/bad.png" not in read.splits["train"].names
    assert (
        read.notes[-1].startswith("left out 1 of 21 images cannot be read (4.8%): cat/bad.png")
        and words in read.notes[-1]
    )
    damaged(tmp_path / "dog" / "bad.png", kind)
    refuses(tmp_path, "2 of 22 images cannot be read", "cat/bad.png", "dog/bad.png", "At most 5%")
    with pytest.raises(UserError, match=words):
        read_image(tmp_path / "cat" / "bad.png", (8, 8, 3))


def test_images_after_a_bad_one_keep_their_place(tmp_path):
    for number in range(25):
        path = tmp_path / "ab"[number % 2] / f"{number:02}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (64, 64), number).save(path)
    Image.fromarray(pixels(64, 64)).save(tmp_path / "a" / "00.png")
    (tmp_path / "a" / "00.png").write_bytes((tmp_path / "a" / "00.png").read_bytes()[:2000])
    train = read_labelled_images(tmp_path).splits["train"]
    assert len(train) == 24
    for name, image, label in zip(train.names, train.images, train.labels, strict=True):
        assert image[0, 0, 0] == int(Path(name).stem) and label == int(Path(name).stem) % 2


def test_eps_is_never_handed_to_an_interpreter(tmp_path):
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UserError, match="not an image"):
        read_image(tmp_path / "a.png", (8, 8, 3))


def test_more_than_fits_in_memory_is_refused_before_decoding(tmp_path, monkeypatch):
    class_folders(tmp_path)
    monkeypatch.setattr("apps.common.reading.available_memory", lambda: 100)
    refuses(tmp_path, "needs 648 bytes of memory", "70 bytes", "--image-size")


def test_damaged_idx_files_are_refused(tmp_path):
    images, labels = tmp_path / "train-images-idx3-ubyte", tmp_path / "train-labels-idx1-ubyte"
    write_idx(images, pixels(4, 3, 3))
    refuses(tmp_path, "labels missing", "train-images-idx3-ubyte")
    write_idx(labels, np.array([0, 1, 0], np.uint8))
    refuses(tmp_path, "3 labels for 4 images")
    write_idx(labels, np.array([0, 1, 0, 1], np.uint8), magic=b"\1\0")
    refuses(tmp_path, "train-labels-idx1-ubyte: not IDX", "begin 00 00 08 01", "Received: 01 00 08 01")
    write_idx(labels, np.array([0, 1, 0, 1], np.uint8))
    whole = images.read_bytes()
    for content in (whole[:-1], whole + b"x"):
        images.write_bytes(content)
        refuses(tmp_path, "expected 36 bytes of data for 4 x 3 x 3")
    images.unlink()
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(pixels(9999).tobytes() + whole)[:500])
    refuses(tmp_path, "not IDX")
    packed = gzip.compress(struct.pack(">I3I", 0x803, 60, 28, 28) + pixels(60 * 28 * 28).tobytes())
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(packed[: len(packed) // 2])
    refuses(tmp_path, "damaged or cut short")
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(struct.pack(">I3I", 0x803, *[2**31] * 3)))
    refuses(tmp_path, "of memory")


def test_damaged_npz_files_are_refused(tmp_path):
    path, images, labels = tmp_path / "a.npz", pixels(4, 3, 3), np.array([0, 1, 0, 1])
    path.write_bytes(b"not a zip file")
    refuses(path, "not an .npz file")
    np.savez(path, images=images, labels=np.array([{}] * 4, dtype=object))
    refuses(path, "labels holds Python objects", "never unpickled")
    np.savez(path, some=images)
    refuses(path, "no images found", "Received: some")
    np.savez(path, images=images)
    refuses(path, "labels missing")
    np.savez(path, x=images, images=images, y=labels)
    refuses(path, "x and images are both")
    np.savez(path, x_test=images, y_test=labels)
    refuses(path, "no training images")
    np.savez_compressed(path, images=pixels(40, 30, 30), labels=np.arange(40) % 2)
    path.write_bytes(path.read_bytes().replace(b"PK\3\4", b"PK\3\5", 1))
    refuses(path, "not an .npz file, or damaged")


def test_npz_with_an_enormous_declared_shape_is_refused_on_its_header(tmp_path):
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": (10**9, 10**4, 10)})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", header.getvalue())
        labels = io.BytesIO()
        np.save(labels, np.array([0, 1]))
        archive.writestr("labels.npy", labels.getvalue())
    refuses(tmp_path / "a.npz", "needs 100.0 TB of memory")


@pytest.mark.parametrize(
    ("images", "labels", "words"),
    [
        (pixels(4, 3, 3), np.array([0, 1, np.nan, 1]), "1 of 4 are NaN"),
        (pixels(4, 3, 3), np.array([0, -1, 0, -1]), "labels of 0 and more. Received: -1"),
        (pixels(4, 3, 3), np.array([0.5, 1, 0, 1]), "expected whole numbers"),
        (pixels(4, 3, 3), np.zeros((4, 3)), "one label an image, or one-hot rows"),
        (pixels(4, 3, 3), np.array([0, 1]), "2 labels for 4 images"),
        (pixels(4, 9), np.array([0, 1, 0, 1]), "expected the shape"),
        (pixels(4, 9, 9, 7), np.array([0, 1, 0, 1]), "1 or 3 channels"),
        (np.full((4, 3, 3), np.nan), np.array([0, 1, 0, 1]), "NaN or infinite"),
        (np.full((4, 3, 3), -1.0), np.array([0, 1, 0, 1]), "Received: -1 to -1"),
    ],
)
def test_arrays_that_make_no_sense_are_refused(tmp_path, images, labels, words):
    np.savez(tmp_path / "a.npz", images=images, labels=labels)
    refuses(tmp_path, words)


def test_a_class_only_the_test_images_have_is_refused(tmp_path):
    arrays = {"x_train": pixels(4, 3, 3), "y_train": np.array([0, 1, 0, 1])}
    np.savez(tmp_path / "a.npz", **arrays, x_test=pixels(1, 3, 3), y_test=np.array([5]))
    refuses(tmp_path, "class 5 is in the test images but not in the training images")


def test_manifests_say_what_is_missing(tmp_path):
    path = tmp_path / "labels.csv"
    path.write_text("name,label\na.png,x\nb.png,y\n")
    refuses(path, "no column of image paths", "filename", "Received: name, label")
    path.write_text("path,other\na.png,x\nb.png,y\n")
    refuses(path, "no column of labels", "target")
    path.write_text("path,label\na.png,x\nb.png,y\n")
    refuses(path, "no such file", "a.png", "relative to")
    for number in range(40):
        save(tmp_path / f"{number}.png")
    rows = [f"{number}.png,{'xy'[number % 2]}" for number in range(40)]
    path.write_text("\n".join(["path,label", *rows, "gone.png,x"]))
    assert "gone.png (no such file)" in read_labelled_images(path).notes[-1]
    path.write_text("\n".join(["path,label", *rows, "1.png,"]))
    refuses(path, "labels missing in 1 of 41 rows", "line 42")
    path.write_text("\n".join(["path,label,split", *(f"{row},train" for row in rows), "1.png,x,later"]))
    refuses(path, "line 42: expected train, validation or test", "Received: later")


@pytest.mark.parametrize("name", ["../out.png", "/etc/out.png", "a/../../out.png"])
def test_archive_members_that_point_outside_are_refused(tmp_path, name):
    refuses(write_tar(tmp_path / "a.tar.gz", [("x/1.png", png_bytes()), (name, b"x")]), name, "outside of the archive")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr(name, b"x")
    refuses(tmp_path / "b.zip", name, "outside of the archive")


def test_archives_with_links_bombs_or_damage_are_refused(tmp_path, monkeypatch):
    link = tarfile.TarInfo("x/1.png")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    refuses(write_tar(tmp_path / "link.tar", [(link, b"")], "w"), "'x/1.png' is a link")
    (tmp_path / "text.tar.gz").write_bytes(b"not an archive")
    refuses(tmp_path / "text.tar.gz", "damaged, or not an archive")
    members = [(f"{label}/{n}.png", png_bytes((40, 40))) for label in "ab" for n in range(3)]
    whole = write_tar(tmp_path / "a.tar.xz", members, "w:xz").read_bytes()
    (tmp_path / "a.tar.xz").write_bytes(whole[: len(whole) // 2])
    refuses(tmp_path / "a.tar.xz", "damaged, or not an archive")
    bomb = tarfile.TarInfo("x/1.png")
    bomb.size = 10**15  # declared only: refused before anything is unpacked
    with gzip.open(tmp_path / "bomb.tar.gz", "wb") as file:
        file.write(bomb.tobuf())
    refuses(tmp_path / "bomb.tar.gz", "needs 1,000.0 TB of memory")
    monkeypatch.setattr(archives, "MAX_READ", 1000)
    long = tarfile.TarInfo("x" * 5000 + ".png")  # its name is an extended header that tarfile reads whole
    refuses(write_tar(tmp_path / "long.tar.gz", [(long, b"")]), "one member is larger than 1.0 kB")


def test_a_long_read_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    class_folders(tmp_path, 40)
    monkeypatch.setattr(image_files.Progress, "seconds", 0.0)
    read_labelled_images(tmp_path)
    assert "64 of 80 image headers read\n" in capsys.readouterr().err
