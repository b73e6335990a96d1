"""Classifiers on the features of a TensorFlow SavedModel: a head on features made before, or the whole trained on TensorFlow."""

import keras

from apps.common.bundles.saved_model import opened
from apps.common.errors import UserError

HEAD = "head"


def head(features, num_classes, dropout):
    """From features to logits."""
    from layers import Dense, Dropout

    inputs = keras.Input((features,), name="features")
    return keras.Model(inputs, Dense(num_classes, name="logits")(Dropout(dropout, name="dropout")(inputs)), name=HEAD)


def saved_model_classifier(content, source, shape, num_classes, pixels, dropout):
    """A classifier that trains the SavedModel with its head; TensorFlow alone can.

    Args:
        content: The packed SavedModel.
        source: What names it, for a message.
        shape: `(height, width, channels)`, of one or three channels.
        pixels: `(factor, offset)` that takes the network's inputs to pixels in 0..255.
    Returns: The `keras.Model` from inputs of `shape` to logits; the layers of its trunk.
    Raises:
        UserError: Another backend runs, or the SavedModel cannot be read.
    """
    from layers.backend.saved_model import trainable_here
    from layers.saved_model import SavedModelFeatures

    if not trainable_here():
        raise UserError(f"--pretrained {source}: only TensorFlow trains a SavedModel; add --freeze, or --backend tensorflow")
    graph = opened(content, shape, f"--pretrained {source}")
    inputs = x = keras.Input(shape)
    x = keras.layers.Rescaling(*([value / 255 for value in values] for values in pixels))(x)
    if shape[-1] == 1:
        x = keras.layers.Concatenate()([x] * 3)
    layer = SavedModelFeatures(graph.features, graph.specification(), dtype="float32", name="saved_model")
    model = keras.Model(inputs, head(graph.features, num_classes, dropout)(layer(x)), name="classifier")
    layer.attach(graph)
    return model, [layer]
