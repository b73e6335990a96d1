"""Small image sets for the tests of the readers."""

import gzip
import io
import struct
import tarfile

import numpy as np
import pytest
from PIL import Image

from apps.common.data.images.labelled import read_labelled_images
from apps.common.errors import UserError

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
