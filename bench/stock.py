"""Keras as it comes: its own layers in the place of ours, arrays given to `fit`, no callback of ours."""

import time

import keras


def in_layers_of_keras(model):
    """A clone whose layers are the ones of Keras that ours are made from, not compiled."""
    model.compiled = False  # the clone is compiled anew

    def replaced(layer):
        if isinstance(layer, keras.Model):
            return in_layers_of_keras(layer)
        parents = [each for each in type(layer).__mro__ if each.__module__.startswith("keras.")]
        own = type(layer).__module__.startswith("layers.")
        return (parents[0] if own and parents[0] is not keras.layers.Layer else type(layer)).from_config(layer.get_config())

    return keras.models.clone_model(model, clone_function=replaced)


class StockFit:
    """Keras's own `fit` over arrays; `run(steps)` gives seconds.

    Args:
        model: A compiled model.
        batch_size: Examples of a step.
        arrays: `arrays(steps)` is `(x, y)` of so many steps.
    """

    def __init__(self, model, batch_size, arrays):
        self.model = model
        self.batch_size = batch_size
        self.arrays = arrays

    def run(self, steps):
        x, y = self.arrays(steps)
        start = time.perf_counter()
        self.model.fit(x, y, batch_size=self.batch_size, verbose=0)
        return time.perf_counter() - start


@keras.saving.register_keras_serializable(package="bench")
class Positions(keras.layers.Layer):
    """Adds a learned vector at each place, which Keras has no layer for."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.table
