"""Images that cannot be read are refused or counted, in one clear line."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_samples import class_folders, pixels, png_bytes, refuses, save, write_idx, write_tar
from PIL import Image

from apps.common.data import archives, reading
from apps.common.data.images.labelled import read_images, read_labelled_images

pytestmark = pytest.mark.once  # nothing in it depends on the backend


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
        read.notes[-1].startswith("left out 1 of 21 images that cannot be read (4.8%): cat/bad.png")
        and words in read.notes[-1]
    )
    damaged(tmp_path / "dog" / "bad.png", kind)
    refuses(tmp_path, "2 of 22 images cannot be read", "cat/bad.png", "dog/bad.png", "At most 5%")
    _, (reason,) = read_images([tmp_path / "cat" / "bad.png"], (8, 8, 3))
    assert words in reason


@pytest.mark.filterwarnings("error")
def test_an_enormous_image_says_nothing_but_the_error(tmp_path, capfd):
    Image.new("1", (10_000, 10_000)).save(tmp_path / "a.png")
    _, (reason,) = read_images([tmp_path / "a.png"], (8, 8, 3))
    assert "10000 x 10000 pixels, more than 50 megapixels" in reason
    assert capfd.readouterr().err == ""


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
    assert "not an image" in read_images([tmp_path / "a.png"], (8, 8, 3))[1][0]


def test_more_than_fits_in_memory_is_refused_before_decoding(tmp_path, monkeypatch):
    class_folders(tmp_path)
    monkeypatch.setattr("apps.common.data.reading.available_memory", lambda: 100)
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
    images.write_bytes(whole[:14])
    refuses(tmp_path, "cut short in its header")
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
    refuses(tmp_path, "class 5 of the test images is not among those trained on: 0, 1")


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
    monkeypatch.setattr(reading.Progress, "seconds", 0.0)
    read_labelled_images(tmp_path)
    assert "64 of 80 image headers read\n" in capsys.readouterr().err


def test_pictures_of_a_phone_that_are_not_decoded_are_counted_and_named(tmp_path):
    class_folders(tmp_path, 20)
    heic = b"\0\0\0\x18ftypheic" + bytes(50)
    (tmp_path / "cat" / "IMG_1.HEIC").write_bytes(heic)
    read = read_labelled_images(tmp_path)
    assert "cat/IMG_1.HEIC (.heic is not decoded here: save it as JPEG or PNG)" in read.notes[-1]
    for number in (2, 3):
        (tmp_path / "cat" / f"IMG_{number}.HEIC").write_bytes(heic)
    refuses(tmp_path, "3 of 43 images cannot be read", "not decoded here")
