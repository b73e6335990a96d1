"""What a model that owns its objective needs to be saved: its arguments on record, its parts of the precision of the whole."""

import contextlib
import functools
import inspect

import keras

OWN = ("self", "kwargs", "name", "dtype", "trainable")  # what Keras records itself


@contextlib.contextmanager
def built_under(policy):
    """What is built within has this dtype policy, whichever the process has: that of a file that is loaded, for example."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def recorded(model_class):
    """Class decorator: a saved model comes back with the arguments it was made with, and with its precision.

    Keras records the arguments of layers by itself; of subclasses of `keras.Model` it drops them. They must be plain values.
    """
    made, signature = model_class.__init__, inspect.signature(model_class.__init__)

    @functools.wraps(made)
    def initialize(self, *arguments, **options):
        policy = options.get("dtype")
        if isinstance(policy, dict):
            options["dtype"] = policy = keras.saving.deserialize_keras_object(policy)
        with built_under(policy) if policy is not None else contextlib.nullcontext():
            made(self, *arguments, **options)
        bound = signature.bind(self, *arguments, **options)
        bound.apply_defaults()
        given = {**bound.arguments, **bound.arguments.get("kwargs", {})}  # those of a class below among the latter
        named = {name: value for name, value in given.items() if name not in OWN}
        vars(self)["_made_with"] = {name: list(each) if isinstance(each, tuple) else each for name, each in named.items()}

    def get_config(self):
        return {**super(model_class, self).get_config(), **vars(self)["_made_with"]}

    model_class.__init__, model_class.get_config = initialize, get_config
    return model_class
