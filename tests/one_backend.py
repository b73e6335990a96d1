"""What need not run on every backend runs on one of them, its neighbours on the others: each backend gets a third."""

import os

import keras

from apps.common.options.backends import BACKENDS

EVERYTHING = os.environ.get("TRIPTYCH_EVERYTHING")  # `make test-all`


def mostly(native, things):
    """Those of `things` that fall to the running backend where `native` is at less cost: of four it has three."""
    others = [name for name in BACKENDS if name != native]
    places = [native if i % 4 else others[i // 4 % len(others)] for i in range(len(things))]
    return [each for each, place in zip(things, places, strict=True) if EVERYTHING or place == keras.backend.backend()]


def share(things, check=""):
    """Those of `things` that fall to the running backend; another third for a check of another name."""
    offset = sum(map(ord, check))
    return [each for i, each in enumerate(things) if EVERYTHING or BACKENDS[(i + offset) % 3] == keras.backend.backend()]
