"""Arrays in an .npz, judged on their headers before they are read; nothing in it is ever unpickled."""

import math
import zipfile
import zlib

import numpy as np

from apps.common.data.reading import require_memory
from apps.common.errors import UserError


def npz_headers(path):
    """`{name: (shape, dtype)}` from the headers of the arrays in an .npz, without reading the arrays.

    Raises:
        UserError: It is no .npz, or damaged.
    """
    headers = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if member.filename.endswith(".npy"):
                    with archive.open(member) as file:
                        version = np.lib.format.read_magic(file)
                        read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                            version, np.lib.format.read_array_header_2_0
                        )
                        shape, _, dtype = read(file)
                    headers[member.filename.removesuffix(".npy")] = (shape, dtype)
    except (ValueError, OSError, EOFError, zlib.error, RuntimeError, NotImplementedError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: not an .npz file, or damaged ({error}). Save it again with numpy.savez") from None
    return headers


def read_npz_arrays(path, headers, advice):
    """The arrays of an .npz whose headers are given, as `{name: array}`.

    Args:
        path: The file.
        headers: Those of `npz_headers` that are wanted.
        advice: What to do when they do not fit in memory, a sentence.
    Raises:
        UserError: One holds Python objects, they need more memory than there is, or the file is damaged.
    """
    for name, (_, dtype) in headers.items():
        if dtype.hasobject:
            raise UserError(f"{path}: {name} holds Python objects, which are never unpickled. Save it as plain numbers")
    require_memory(sum(math.prod(shape) * dtype.itemsize for shape, dtype in headers.values()), path, advice)
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in headers}
    except (ValueError, OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged or cut short ({error}). Copy or download it again") from None
