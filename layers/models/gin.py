"""The graph isomorphism network, for the nodes of a graph."""

import keras

from .. import BatchNormalization, Dense, GraphIsomorphism
from ._inputs import graph_inputs


def gin(num_features, num_classes, *, hidden_dim=16, depth=2, dropout=0.5):
    """Graph isomorphism network: sums over neighbours through a perceptron, as strong as the Weisfeiler-Lehman test.

    `x_i <- ReLU(W2 ReLU(norm(W1 ((1 + epsilon) x_i + sum_j x_j))))`; the logits are a map of the last such layer.

    Args:
        num_features: Features of a node.
        num_classes: Number of logits of a node.
        hidden_dim: Width of each layer.
        depth: Number of graph layers.
        dropout: Fraction of each layer's input dropped in training.
    Input shape: a dict of `"features"`, `(batch, nodes, num_features)`, and `"edges"`, `(batch, 2, edges)`.
    Output shape: `(batch, nodes, num_classes)`, logits.
    Reference: Xu et al., 2019, arXiv 1810.00826.
    """
    inputs = graph_inputs(num_features)
    x, edges = inputs["features"], inputs["edges"]
    for _ in range(depth):
        x = keras.layers.Dropout(dropout)(x)
        x = GraphIsomorphism(hidden_dim)([x, edges])
        # A full batch is one step an epoch: the default of .99 would not forget the first ones within a short run.
        x = keras.layers.Activation("relu")(BatchNormalization(momentum=0.9)(x))
        x = Dense(hidden_dim, activation="relu")(x)
    x = keras.layers.Dropout(dropout)(x)
    logits = Dense(num_classes, dtype="float32", name="logits")(x)
    return keras.Model(inputs, logits, name="gin")
