"""Codes of pictures in files: a byte an entry, between the least and the greatest value of its channel in training."""

import json
import zlib
from pathlib import Path

import numpy as np

from apps.common.data.images.decoding import Unreadable
from apps.common.files import write_bytes

ENDING = ".code"
MAGIC = b"code"


def code_range(codes):
    """`{"low": [...], "high": [...]}` of codes `(n, ..., channels)`, by channel, a thousandth at each end left out."""
    rows = codes.reshape(-1, codes.shape[-1]).astype("float64")
    low, high = np.quantile(rows, (0.001, 0.999), axis=0)
    return {"low": low.tolist(), "high": np.maximum(high, low + 1e-6).tolist()}


def to_bytes(codes, limits):
    """uint8 codes: 0 at the low end of its channel's range, 255 at the high end."""
    low, high = np.array(limits["low"]), np.array(limits["high"])
    return np.rint(np.clip((codes - low) / (high - low), 0, 1) * 255).astype("uint8")


def from_bytes(codes, limits):
    """float32 codes of uint8 ones."""
    low, high = np.array(limits["low"]), np.array(limits["high"])
    return (low + codes / 255 * (high - low)).astype("float32")


def write_code(path, code, limits):
    """Write one uint8 code; the file is eight bytes longer than it."""
    content = code.tobytes()
    write_bytes(path, MAGIC + mark(limits, content) + content)


def read_code(path, shape, limits):
    """The uint8 code of one file.

    Raises:
        Unreadable: The file is none of this model's codes.
    """
    content = Path(path).read_bytes()
    if content[:4] != MAGIC:
        raise Unreadable("not a code")
    if content[4:8] != mark(limits, content[8:]) or len(content) != 8 + int(np.prod(shape)):
        raise Unreadable("a code of another model, or damaged")
    return np.frombuffer(content[8:], "uint8").reshape(shape)


def mark(limits, content):
    """Four bytes that tell the code of one model from that of another, and a whole one from a damaged one."""
    return zlib.crc32(content, zlib.crc32(json.dumps(limits, sort_keys=True).encode())).to_bytes(4, "big")
