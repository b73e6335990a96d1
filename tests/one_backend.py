"""What need not run on every backend runs on one of them, its neighbours on the others: each backend gets a third."""

import os

import keras

from apps.common.options.backends import BACKENDS

EVERYTHING = os.environ.get("TRIPTYCH_EVERYTHING")  # `make test-all`


def share(things, check=""):
    """Those of `things` that fall to the running backend; another third for a check of another name."""
    offset = sum(map(ord, check))
    return [each for i, each in enumerate(things) if EVERYTHING or BACKENDS[(i + offset) % 3] == keras.backend.backend()]
