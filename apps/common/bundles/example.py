"""What `triptych predict` can be tried on at once: a real input of the task, as typed."""

import shlex

import numpy as np

from apps.common.app import inputs_of
from apps.common.data import nested
from apps.common.data.examples import PICTURE
from apps.common.data.images.pictures import as_png

EXAMPLE = "example.png"


def example_of(app, data, bundle):
    """An input as typed, and the picture that must lie in the bundle for it, `{file name: PNG}`.

    Where pictures are taken but the data's are no files, it is the first of the test, kept as a file.
    """
    if inputs_of(app).kind != "files" or (data.example and PICTURE not in data.example):
        return data.example, {}
    arrays = [np.asarray(leaf) for leaf in nested.leaves(data.test.take(np.arange(1))[0])] if len(data.test) else []
    found = [each[0] for each in arrays if each.dtype == np.uint8 and each.ndim == 4 and each.shape[-1] in (1, 3)]
    if not found:
        return data.example, {}
    typed = (data.example or PICTURE).replace(PICTURE, shlex.quote(str(bundle.resolve() / EXAMPLE)))
    return typed, {EXAMPLE: as_png(found[0][..., 0] if found[0].shape[-1] == 1 else found[0])}
