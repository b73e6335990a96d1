"""A network of TensorFlow's within one of ours."""

import keras

from .backend import keras_private

__all__ = []  # nothing to build a network of: only TensorFlow computes it, and its weights come with a file


@keras.saving.register_keras_serializable(package="triptych")
class SavedModelFeatures(keras.layers.Layer):
    """Features of pictures by a TensorFlow SavedModel, whose weights are this layer's and are trained with it.

    The graph itself is no part of the layer: `attach` gives it one, which only TensorFlow can compute. Without it the layer
    holds the weights, on every backend.

    Args:
        features: Numbers of a picture.
        weights_specification: `[name, shape, whether it is trained]` of each weight.
    Input shape: `(batch, height, width, 3)`, in 0..1.
    Output shape: `(batch, features)`.
    Raises:
        ValueError: It is called without a graph.
    """

    def __init__(self, features, weights_specification, **kwargs):
        super().__init__(**kwargs)
        self.features, self.weights_specification, self._graph = features, weights_specification, None

    def build(self, input_shape):
        self.all_weights = [
            self.add_weight(name=name, shape=shape, trainable=trained, initializer="zeros")
            for name, shape, trained in self.weights_specification
        ]

    def attach(self, graph):
        """Compute by this `layers.backend.saved_model.SavedModel`, whose variables become the values of the weights."""
        for weight, variable in zip(self.all_weights, graph.variables, strict=True):
            keras_private.put_value(weight, variable)
        self._graph = lambda x: graph(x)  # a function, for Keras would look into an object for layers and variables

    def call(self, x):
        if self._graph is None:
            raise ValueError("`SavedModelFeatures` computes nothing before `attach`. Attach the graph of a SavedModel.")
        return self._graph(x)

    def compute_output_spec(self, x):
        return keras.KerasTensor((x.shape[0], self.features), dtype=self.compute_dtype)
