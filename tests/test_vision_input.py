"""What people's pictures are like: of other modes, turned, animated, transparent, one pixel large; the same in each reader."""

import numpy as np
import pytest
from PIL import Image

from apps import style_transfer
from apps.common.data.images.boxes import read_boxed_images
from apps.common.data.images.driving import read_drive
from apps.common.data.images.masks import read_masked_pictures
from apps.common.data.images.pictures import read_picture, read_pictures
from apps.common.errors import UserError
from apps.common.options.declare import make_config

pytestmark = pytest.mark.once
GREY = np.full((6, 8), 100, "uint8")


def write_odd(kind, path):
    """A picture of 8 x 6 pixels, `shown(kind)`, as a `kind` of file; the path that it got."""
    image = Image.fromarray(GREY)
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "16 bit":
        Image.fromarray(GREY.astype("uint16") * 257).save(path)
    elif kind == "CMYK":
        path = path.with_suffix(".jpg")
        image.convert("CMYK").save(path, quality=100)
    elif kind == "animated":
        path = path.with_suffix(".gif")
        image.save(path, save_all=True, append_images=[Image.fromarray(GREY + 100)])
    elif kind == "transparent":
        odd = np.random.default_rng(0).integers(0, 256, (6, 8, 4), dtype="uint8")
        odd[:, :4, :3], odd[..., 3] = 100, 0
        odd[:, :4, 3] = 255
        Image.fromarray(odd).save(path)
    else:
        path = path.with_suffix(".jpg")
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(np.rot90(shown(kind))).save(path, exif=exif, quality=100, subsampling=0)
    return path


def shown(kind):
    """What one sees of it: the grey 100; on the right white, where it is transparent; a light corner, of the one turned."""
    pixels = np.full((6, 8, 3), 100, "uint8")
    if kind == "transparent":
        pixels[:, 4:] = 255
    if kind == "turned":
        pixels[:3, 5:] = 200
    return pixels


KINDS = ("16 bit", "CMYK", "animated", "transparent", "turned")


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_picture_is_the_picture_it_shows(tmp_path, kind):
    pixels = read_picture(write_odd(kind, tmp_path / "a.png"))
    assert pixels.shape == (6, 8, 3) and pixels.dtype == "uint8"
    np.testing.assert_allclose(pixels.astype(int), shown(kind), atol=3)


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_picture_keeps_its_boxes(tmp_path, kind):
    path = write_odd(kind, tmp_path / "a.png")
    write_odd("transparent", tmp_path / "b.png")
    # Fractions of the upright picture, as labelling tools show it: the left upper quarter.
    for name in ("a", "b"):
        (tmp_path / f"{name}.txt").write_text("0 0.25 0.25 0.5 0.5\n")
    (tmp_path / "classes.txt").write_text("cell\n")
    splits, names, _ = read_boxed_images(tmp_path, image_size=8)
    part = splits["train"]
    place = [each.name for each in part.paths].index(path.name)
    np.testing.assert_allclose(part.boxes[place, 0], [0, 0, 0.5, 0.5], atol=1e-6)
    assert names == ["cell"] and part.images.shape[0] == 2


@pytest.mark.parametrize("kind", KINDS)
def test_an_odd_picture_keeps_its_mask(tmp_path, kind):
    write_odd(kind, tmp_path / "images/a.png")
    write_odd("transparent", tmp_path / "images/b.png")
    (tmp_path / "masks").mkdir()
    upright = np.zeros((6, 8), "uint8")
    upright[:3, 4:] = 1
    for name in ("a", "b"):
        Image.fromarray(upright).save(tmp_path / f"masks/{name}.png")
    found = read_masked_pictures(tmp_path)
    assert found.images.shape == (2, 6, 8, 3)
    np.testing.assert_array_equal(found.masks, np.stack([upright] * 2))
    np.testing.assert_allclose(found.images.astype(int), [shown(kind), shown("transparent")], atol=3)


def read_boxed(folder):
    (folder / "a.txt").write_text("0 0.5 0.5 1 1\n")
    return read_boxed_images(folder)[2]


def read_masked(folder):
    (folder / "masks").mkdir(exist_ok=True)
    Image.fromarray(np.eye(6, 8, dtype="uint8")).save(folder / "masks/a.png")
    return read_masked_pictures(folder).notes


def read_driven(folder):
    (folder / "driving_log.csv").write_text("a.png,l,r,0.5\n")
    return read_drive(folder, (6, 8), (0, 0)).notes


def read_style(folder):
    Image.fromarray(np.resize(np.asarray(Image.open(folder / "a.png")), (64, 64))).save(folder / "a.png")
    settings = make_config(style_transfer.Config, {"style": str(folder / "a.png"), "image_size": "32"})
    return style_transfer.load_data(settings).notes


READERS = (read_boxed, read_masked, read_driven, read_style, lambda folder: read_pictures(folder)[1])


@pytest.mark.parametrize("read", READERS, ids=["boxes", "masks", "driving", "style", "pictures"])
@pytest.mark.parametrize("white", [1023, 4095, 65535])
def test_pictures_of_ten_or_twelve_bits_are_dark_and_each_reader_says_so(tmp_path, read, white):
    Image.fromarray(np.full((6, 8), white, "uint16")).save(tmp_path / "a.png")
    said = [note for note in read(tmp_path) if "pictures of more than 8 bits" in note]
    assert len(said) == (white < 65535)
    assert all(f"hold values up to {white:,}, where 65,535 is white: they are dark; save them as 8 bits" in note for note in said)


def test_a_picture_of_one_pixel_can_have_boxes_and_a_mask(tmp_path):
    for folder in ("boxed", "masked/images"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (1, 1), (9, 9, 9)).save(tmp_path / folder / "a.png")
        Image.new("RGB", (8, 6)).save(tmp_path / folder / "b.png")
    (tmp_path / "boxed/a.txt").write_text("0 0.5 0.5 1 1\n")
    (tmp_path / "boxed/b.txt").write_text("0 0.5 0.5 1 1\n")
    splits, *_ = read_boxed_images(tmp_path / "boxed", image_size=32)
    assert splits["train"].images.shape[0] == 2 and np.all(splits["train"].classes[:, 0] == 0)
    (tmp_path / "masked/masks").mkdir()
    Image.new("L", (1, 1), 1).save(tmp_path / "masked/masks/a.png")
    Image.new("L", (8, 6), 0).save(tmp_path / "masked/masks/b.png")
    found = read_masked_pictures(tmp_path / "masked", image_size=(8, 8))
    assert sorted(int(mask[0, 0]) for mask in found.masks) == [0, 1]


def test_pictures_without_any_annotation_are_refused_with_what_was_expected(tmp_path):
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    for read in (read_boxed_images, read_masked_pictures):
        with pytest.raises(UserError, match=r"1 pictures") as caught:
            read(tmp_path)
        assert "Expected" in str(caught.value) or "expected" in str(caught.value)
    with pytest.raises(UserError, match="no picture found"):
        (tmp_path / "empty").mkdir()
        read_pictures(tmp_path / "empty")


def test_annotations_of_pictures_that_are_not_there_are_counted_and_named_up_to_a_twentieth(tmp_path):
    (tmp_path / "classes.txt").write_text("cell\n")
    for number in range(41):
        (tmp_path / f"{number}.txt").write_text("0 0.5 0.5 0.5 0.5\n")
        if number < 40:
            Image.new("RGB", (8, 6)).save(tmp_path / f"{number}.png")
    splits, _, notes = read_boxed_images(tmp_path, image_size=8)
    assert len(splits["train"]) == 40 and any("40" in note for note in notes), notes
