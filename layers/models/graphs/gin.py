"""The graph isomorphism network, for the nodes of a graph."""

import keras

from ... import BatchNormalization, Dense, Dropout, GraphIsomorphism
from .._inputs import graph_inputs

__all__ = ["gin"]


def gin(num_features, num_classes, *, hidden_dim=16, depth=2, dropout=0.5, entries=None):
    """Graph isomorphism network: sums over neighbours through a perceptron, as strong as the Weisfeiler-Lehman test.

    `x_i <- ReLU(W2 ReLU(norm(W1 ((1 + epsilon) x_i + sum_j x_j))))`; the logits are a map of the last such layer.

    Args:
        num_features: Features of a node.
        num_classes: Number of logits of a node.
        hidden_dim: Width of each layer.
        depth: Number of graph layers.
        dropout: Fraction of each layer's input dropped in training.
        entries: Features of a node that are not zero, at most, where they are given sparse.
    Input shape: a dict of `"features"`, `(batch, nodes, num_features)`, and `"edges"`, `(batch, 2, edges)`; with `entries`,
        `"values"` and `"columns"`, `(batch, nodes, entries)`, in the place of `"features"`.
    Output shape: `(batch, nodes, num_classes)`, logits.
    Reference: Xu et al., 2019, arXiv 1810.00826.
    """
    inputs = graph_inputs(num_features, entries)
    *x, edges = inputs.values()
    for _ in range(depth):
        x[0] = Dropout(dropout)(x[0])
        hidden = GraphIsomorphism(hidden_dim, num_features)([*x, edges])
        # A full batch is one step an epoch: the default of .99 would not forget the first ones within a short run.
        hidden = keras.layers.Activation("relu")(BatchNormalization(momentum=0.9)(hidden))
        x, num_features = [Dense(hidden_dim, activation="relu")(hidden)], hidden_dim
    x = Dropout(dropout)(x[0])
    logits = Dense(num_classes, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="gin")
