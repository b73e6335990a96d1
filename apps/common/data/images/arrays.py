"""Labelled images stored as arrays: IDX files and NumPy's .npz, checked on their headers before they are read."""

import gzip
import math
import re
import zlib
from pathlib import Path

import numpy as np

from apps.common.data.images.decoding import fit_pixels
from apps.common.data.npz import npz_headers, read_npz_arrays
from apps.common.data.reading import list_folder, readable_size, require_memory, split_of
from apps.common.errors import UserError

IDX_NAME = re.compile(r"(?P<prefix>.*?)(?P<role>images|labels)[-._]idx\d-ubyte(\.gz)?", re.IGNORECASE)
IDX_TYPES = {8: np.uint8, 9: np.int8, 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
ROLES = {
    "images": ("x", "image", "images", "data", "features"),
    "labels": ("y", "label", "labels", "target", "targets"),
}
ADVICE = "Give a smaller file"


class LabelsMissing(UserError):
    """There are pictures, but no labels, or none that classes could be learned from."""


def is_idx_name(name):
    """Whether a file is called as IDX files are, for example `train-images-idx3-ubyte.gz`."""
    return IDX_NAME.fullmatch(name) is not None


def read_idx_folder(folder, roles=tuple(ROLES)):
    """The splits of a folder of IDX files: `({split: (images, labels, names)}, notes)`; labels `None` if not among `roles`."""
    found = {}
    for path in reversed(list_folder(folder)):  # a plain file replaces its .gz
        match = IDX_NAME.fullmatch(path.name)
        if match:
            words = re.split(r"[-._]", match["prefix"])
            split = next((split_of(word) for word in words if split_of(word)), "train")
            other = found.setdefault(split, {}).get(match["role"].lower())
            if other and other.name.removesuffix(".gz") != path.name.removesuffix(".gz"):
                raise UserError(f"{folder}: {other.name} and {path.name} are both {split} sets. Keep one in a folder")
            found[split][match["role"].lower()] = path
    arrays = {}
    for split, paths in found.items():
        for role in roles:
            if role not in paths:
                there = next(iter(paths.values())).name
                kind = LabelsMissing if role == "labels" else UserError
                raise kind(f"{folder}: {role} missing: {there} is there, but no {role} file beside it")
        labels = read_idx(paths["labels"], (1,)) if "labels" in roles else None
        arrays[split] = (read_idx(paths["images"], (3, 4)), labels)
    return _labelled_arrays(arrays, folder)


def read_idx(path, dimensions):
    """The array in an IDX file, packed by gzip or not.

    Args:
        path: The file.
        dimensions: The numbers of dimensions that make sense, for example `(1,)` for labels.
    Raises:
        UserError: Wrong magic number, cut short, too long, damaged, or more than fits in memory.
    """
    with open(path, "rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else open(path, "rb") as file:
            magic = file.read(4)
            if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in IDX_TYPES or magic[3] not in dimensions:
                expected = " or ".join(f"00 00 08 {count:02x}" for count in dimensions)
                raise UserError(f"{path}: not IDX: expected it to begin {expected}. Received: {magic.hex(' ')}")
            sizes = file.read(4 * magic[3])
            if len(sizes) < 4 * magic[3]:
                raise UserError(f"{path}: cut short in its header. Copy or download it again")
            shape = np.frombuffer(sizes, ">u4").tolist()
            dtype = np.dtype(IDX_TYPES[magic[2]])
            size = math.prod(shape) * dtype.itemsize
            if size == 0:
                raise UserError(f"{path}: holds no examples. Copy or download it again")
            require_memory(size, path, ADVICE)
            if not packed and path.stat().st_size != 4 + 4 * len(shape) + size:
                raise _wrong_size(path, shape, size)
            array = np.empty(shape, dtype)
            view, done = array.reshape(-1).view(np.uint8), 0
            while done < size and (count := file.readinto(view[done : done + (1 << 24)])):
                done += count
            if done < size or file.read(1):
                raise _wrong_size(path, shape, size)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path}: damaged or cut short ({error}). Copy or download it again") from None
    return array


def _wrong_size(path, shape, size):
    shape = " x ".join(map(str, shape))
    return UserError(
        f"{path}: expected {readable_size(size)} of data for {shape}, found another amount. Copy or download it again"
    )


def read_npz(path, roles=tuple(ROLES)):
    """The splits of an .npz: `({split: (images, labels, names)}, notes)`; nothing in it is ever unpickled.

    Labels are `None` if they are not among `roles`.
    """
    headers = npz_headers(path)
    found = {}
    for key in headers:
        split, role = _split_and_role(key)
        if role:
            other = found.setdefault(split, {}).setdefault(role, key)
            if other != key:
                raise UserError(f"{path}: {other} and {key} are both {split} {role}. Keep one of them")
    found = {split: keys for split, keys in found.items() if split or not any(found)}
    if not any("images" in keys for keys in found.values()):
        raise UserError(
            f"{path}: no images found: expected x_train and y_train, train_images and train_labels, "
            f"or images and labels. Received: {', '.join(headers) or 'nothing'}"
        )
    for keys in found.values():
        for role in roles:
            if role not in keys:
                kind = LabelsMissing if role == "labels" else UserError
                raise kind(f"{path}: {role} missing: {next(iter(keys.values()))} has no {role} beside it")
    wanted = {keys[role]: headers[keys[role]] for keys in found.values() for role in roles}
    arrays = read_npz_arrays(path, wanted, ADVICE)
    named = {}
    for split, keys in found.items():
        named[split or "train"] = (arrays[keys["images"]], arrays[keys["labels"]] if "labels" in roles else None)
    return _labelled_arrays(named, path)


def _split_and_role(key):
    """Split (`None` when it names none) and role of an array called `key`, for example `x_train` or `val_labels`."""
    words = key.lower().split("_")
    splits = [split_of(word) for word in words if split_of(word)]
    roles = [role for word in words for role, names in ROLES.items() if word in names]
    if len(roles) == 1 and len(splits) <= 1 and len(roles) + len(splits) == len(words):
        return (splits[0] if splits else None), roles[0]
    return None, None


def _labelled_arrays(arrays, path):
    """Checked `{split: (uint8 images with a channel axis, labels, names)}` and notes."""
    splits, notes = {}, []
    largest = max(_largest(images, f"{path}: {split} images") for split, (images, _) in arrays.items())
    for split, (images, labels) in arrays.items():
        where = f"{path}: {split}"
        images = eight_bit_images(images, largest, f"{where} images")
        labels = None if labels is None else class_labels(labels, len(images), f"{where} labels")
        splits[split] = (images, labels, [f"{split}[{position}]" for position in range(len(images))])
    return splits, notes


def _largest(images, where):
    if images.dtype.kind not in "buif":
        raise UserError(f"{where}: expected numbers. Received: {images.dtype}")
    if images.ndim not in (3, 4) or not images.size:
        shape = "(examples, height, width) or (examples, height, width, channels)"
        raise UserError(f"{where}: expected the shape {shape}. Received: {images.shape}")
    low, high = images.min(), images.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise UserError(f"{where}: NaN or infinite values. Replace them by numbers from 0 to 1, or from 0 to 255")
    if low < 0 or high > (255 if images.dtype.kind == "f" else 65535):
        raise UserError(f"{where}: expected values from 0 to 255, or from 0 to 1. Received: {low:g} to {high:g}")
    return float(high)


def eight_bit_images(images, largest, where):
    """Images as uint8 `(examples, height, width, 1 or 3)`; `largest` is the largest value of all splits."""
    if images.ndim == 3:
        images = images[..., None]
    elif images.shape[-1] not in (1, 2, 3, 4) and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, -1)
    if images.shape[-1] not in (1, 2, 3, 4):
        raise UserError(f"{where}: expected 1 or 3 channels in the last axis. Received: shape {images.shape}")
    images = images[..., : 1 if images.shape[-1] < 3 else 3]  # alpha is dropped
    if images.dtype == np.uint8 and images.flags.c_contiguous:
        return images
    # A whole number from 0 to 1 is a bit; one above 255 is a 16-bit value.
    scale = 255.0 if largest <= 1 and images.dtype != np.uint8 else 1 / 257 if largest > 255 else 1.0
    result = np.empty(images.shape, np.uint8)
    for start in range(0, len(images), 1024):  # a float copy of all would be eight times as large
        part = images[start : start + 1024].astype(np.float64)
        result[start : start + 1024] = np.rint(part * scale)
    return result


def class_labels(labels, count, where):
    """Labels of shape `(count,)` as whole numbers or text, from `(n,)`, `(n, 1)` or one-hot rows.

    Raises:
        UserError: Another length or shape, NaN, fractions or negative numbers.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    numbers = labels.dtype.kind in "buif"
    if labels.ndim == 2 and numbers and np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all():
        labels = labels.argmax(1)
    if labels.ndim != 1:
        raise UserError(f"{where}: expected one label an image, or one-hot rows. Received: shape {labels.shape}")
    if len(labels) != count:
        raise UserError(f"{where}: {len(labels):,} labels for {count:,} images. Each image needs its own")
    if labels.dtype.kind in "US":
        return labels.astype(str)
    if not numbers:
        raise UserError(f"{where}: expected whole numbers or text. Received: {labels.dtype}")
    if labels.dtype.kind == "f":
        missing = int(np.count_nonzero(~np.isfinite(labels)))
        if missing:
            raise UserError(f"{where}: {missing:,} of {count:,} are NaN or infinite. Leave those images out")
        if (labels != np.floor(labels)).any():
            raise UserError(f"{where}: expected whole numbers, one a class. Received: {labels[labels % 1 != 0][0]}")
    labels = labels.astype(np.int64)
    if (labels < 0).any():
        raise UserError(f"{where}: expected labels of 0 and more. Received: {labels.min()}")
    return labels


def resize_images(images, shape, path):
    """A uint8 array of images with another height, width or number of channels."""
    if images.shape[1:] == shape:
        return images
    require_memory(len(images) * math.prod(shape), path, "Give a smaller --image-size")
    result = np.empty((len(images), *shape), np.uint8)
    for position, pixels in enumerate(images):
        result[position] = fit_pixels(pixels, shape)
    return result


def idx_folder_of(path):
    """The folder of IDX files that `path` is or lies in, or `None`."""
    path = Path(path)
    if path.is_file():
        return path.parent if is_idx_name(path.name) else None
    return path if any(is_idx_name(entry.name) for entry in list_folder(path)) else None
