"""Decoding image files: headers first, so that nothing enormous is unpacked, then pixels, straight into one array."""

import contextlib
import io
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apps.common.data.images.threads import Unreadable, each_in_threads, workers_for
from apps.common.data.reading import require_memory
from apps.common.errors import UserError, count_skipped

ENDINGS = (
    ".png .jpg .jpeg .jpe .jfif .bmp .gif .tif .tiff .webp .ppm .pgm .pbm .pnm".split()  # noqa: SIM905
)
# Pictures as phones and browsers write them, which nothing here decodes: they are counted and named, not passed over.
NOT_DECODED = (".heic", ".heif", ".avif", ".jxl", ".jp2")
# Only these decoders are tried: Pillow would hand an EPS file to Ghostscript.
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 50_000_000
DEFAULT_SIDE = 128
GREY_MODES = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")


# Pillow logs what it stumbles over besides raising it; without a handler that would reach standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class ImageFile:
    """One image still in its file: what it is called, its split, its label, and a path or the file's bytes."""

    name: str
    split: str
    label: str
    source: Path | bytes


def is_image_name(name):
    """Whether the name's ending is that of an image format, one that is not decoded too."""
    return str(name).lower().endswith((*ENDINGS, *NOT_DECODED))


def open_image(source):
    """A Pillow image whose header alone has been read and found reasonable.

    Raises:
        Unreadable: No such file, zero bytes, not an image, or more than `MAX_PIXELS` pixels.
    """
    from PIL import Image, UnidentifiedImageError

    if isinstance(source, Path):
        if not source.is_file():
            raise Unreadable("no such file")
        if source.stat().st_size == 0:
            raise Unreadable("zero bytes")
    elif not source:
        raise Unreadable("zero bytes")
    try:
        image = Image.open(source if isinstance(source, Path) else io.BytesIO(source), formats=FORMATS)
    except UnidentifiedImageError:
        ending = source.suffix.lower() if isinstance(source, Path) else ""
        if ending in NOT_DECODED:
            raise Unreadable(f"{ending} is not decoded here: save it as JPEG or PNG") from None
        raise Unreadable("not an image, or cut off in its header") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than {MAX_PIXELS / 1e6:.0f} megapixels") from None
    except PermissionError:
        raise Unreadable("permission denied") from None
    except Exception as error:  # a damaged header ends in whatever the decoder stumbles over
        raise Unreadable(f"damaged header: {error}") from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        image.close()
        raise Unreadable(f"{width} x {height} pixels, more than {MAX_PIXELS / 1e6:.0f} megapixels")
    return image


def read_header(source):
    """Height, width and whether an image is grey, from its header alone; a photograph's orientation is applied."""
    with open_image(source) as image:
        width, height = image.size
        try:
            turned = "exif" in image.info and image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        except Exception as error:
            raise Unreadable(f"damaged orientation: {error}") from None
        return (width, height) if turned else (height, width), image.mode in GREY_MODES


def decode(source, shape, white=None):
    """Pixels of one image as uint8 of `shape` (height, width, channels), resized when its own size is another.

    Transparent pixels are laid on white, a palette is looked up, CMYK converted, a photograph turned upright; of values of
    more than 8 bits `white` is the largest (65,535 by default).
    """
    with open_image(source) as image:
        try:
            return _pixels(image, shape, white or 65535)
        except Exception as error:  # truncated or damaged data end in whatever the decoder stumbles over
            raise Unreadable(f"damaged: {error}") from None


def fit_pixels(pixels, shape):
    """A uint8 array `(height, width, channels)` as another shape, resized and converted as files are."""
    from PIL import Image

    return _pixels(Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels), shape)


def white_of(sources, most=200):
    """The largest value of pictures of more than 8 bits, of 10, 12, 14, 16, 24 or 32 bits by what some of them hold.

    `None` where there are no such pictures.
    """
    largest = 0
    for source in sources[:: max(1, len(sources) // most)]:
        with contextlib.suppress(Unreadable, OSError, SyntaxError, ValueError), open_image(source) as image:
            if image.mode == "I" or image.mode.startswith("I;16"):
                largest = max(largest, int(np.asarray(image).max()))
    return next(2**bits - 1 for bits in (8, 10, 12, 14, 16, 24, 32) if largest < 2**bits) if largest else None


def dark_notes(sources, white=None):
    """A line, if any, on pictures of more than 8 bits that are dark, since their largest value is far from `white`."""
    deepest, white = white_of(sources), white or 65535
    if not deepest or deepest >= white:
        return []
    held = f"pictures of more than 8 bits hold values up to {deepest:,}, where {white:,} is white"
    return [f"{held}: they are dark; save them as 8 bits, or scale them"]


def _pixels(image, shape, white=65535):
    from PIL import Image, ImageOps

    height, width, channels = shape
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        image = Image.fromarray(_eight_bits(np.asarray(image), white))
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        # What lies under transparent pixels is whatever the program left there.
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if channels == 1 else "RGB"
    image = image if image.mode == mode else image.convert(mode)
    if image.size != (width, height):
        image = image.resize((width, height), Image.Resampling.BILINEAR)  # Pillow widens the filter: antialiased
    return np.asarray(image, dtype=np.uint8).reshape(shape)


def _eight_bits(values, white):
    if values.dtype.kind == "f":
        scale = 255.0 if values.size and np.nanmax(values) <= 1 else 1.0
        return np.clip(np.nan_to_num(values) * scale, 0, 255).round().astype(np.uint8)
    return (np.clip(values, 0, white).astype(np.uint64) * 255 // white).astype(np.uint8)


def read_image_files(files, path, *, image_size=None, channels=None, white=None):
    """Decode many images of possibly many sizes into one array a split.

    Args:
        files: List of `ImageFile`.
        path: Where they come from, for messages.
        image_size: Side of the square (or `(height, width)`) all are resized to; `None` keeps a size they share.
        channels: 1 or 3; `None` keeps grey when all are grey.
        white: Largest value of pictures of more than 8 bits.
    Returns: `({split: (images, labels, names)}, notes)`; what cannot be read is left out, counted and named.
    """
    workers = workers_for([file.source for file in files])
    headers = each_in_threads(files, lambda file: read_header(file.source), "image headers read", workers)
    skipped = [f"{file.name} ({found})" for file, found in zip(files, headers, strict=True) if _failed(found)]
    note = count_skipped(skipped, len(files), "images")
    kept = [(file, found) for file, found in zip(files, headers, strict=True) if not _failed(found)]
    if not kept:
        raise UserError(f"{path}: no readable image")
    sizes = [size for _, (size, _) in kept]
    (height, width), notes = choose_size(sizes, image_size)
    notes += dark_notes([file.source for file, _ in kept], white)
    channels = channels or (1 if all(grey for _, (_, grey) in kept) else 3)
    shape = (height, width, channels)
    require_memory(len(kept) * int(np.prod(shape)), path, "Give a smaller --image-size, or fewer images")

    splits = {}
    for split in dict.fromkeys(file.split for file, _ in kept):
        members = [file for file, _ in kept if file.split == split]
        images = np.empty((len(members), *shape), np.uint8)

        def fill(position, members=members, images=images):
            images[position] = decode(members[position].source, shape, white)

        failures = each_in_threads(range(len(members)), fill, f"{split} images read", workers)
        skipped += [f"{members[i].name} ({failure})" for i, failure in enumerate(failures) if _failed(failure)]
        good = [i for i, failure in enumerate(failures) if not _failed(failure)]
        for new, old in enumerate(good):  # close the gaps in place: the array is never held twice
            if new != old:
                images[new] = images[old]
        labels = np.array([members[i].label for i in good], dtype=str)
        splits[split] = (images[: len(good)], labels, [members[i].name for i in good])
    note = count_skipped(skipped, len(files), "images") or note
    return splits, notes + ([note] if note else [])


def choose_size(sizes, image_size):
    """The height and width all images get, and the line that says what was done to them.

    One size that all share is kept; otherwise the side is the median of the shorter sides, at most `DEFAULT_SIDE`.
    """
    distinct = set(sizes)
    if image_size is not None:
        size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    elif len(distinct) == 1:
        size = sizes[0]
    else:
        side = max(1, min(DEFAULT_SIDE, int(np.median([min(each) for each in sizes]))))
        size = (side, side)
    changed = sum(each != size for each in sizes)
    if not changed:
        return size, []
    smallest, largest = min(distinct, key=np.prod), max(distinct, key=np.prod)
    was = f"{smallest[1]} x {smallest[0]}"
    was += "" if smallest == largest else f" to {largest[1]} x {largest[0]}"
    return size, [f"{changed} of {len(sizes)} images of {was} resized to {size[1]} x {size[0]}"]


def _failed(result):
    return isinstance(result, Unreadable)
