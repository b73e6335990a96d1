"""The parts of a model that owns its objective have the precision of the whole."""

import contextlib

import keras


@contextlib.contextmanager
def built_under(policy):
    """What is built within has this dtype policy, whichever the process has: that of a file that is loaded, for example."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)
