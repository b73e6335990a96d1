"""The graph convolutional network, for the nodes of a graph."""

import keras

from ... import Dropout, GraphConvolution
from .._inputs import graph_inputs

__all__ = ["gcn"]


def gcn(num_features, num_classes, *, hidden_dim=16, depth=2, dropout=0.5, entries=None):
    """Graph convolutional network: normalised sums over neighbours, as many steps away as there are layers.

    `X <- ReLU(D^-1/2 (A + I) D^-1/2 dropout(X) W)`, the last layer without the ReLU.

    Args:
        num_features: Features of a node.
        num_classes: Number of logits of a node.
        hidden_dim: Width of each hidden layer.
        depth: Number of layers, the one to the logits included.
        dropout: Fraction of each layer's input dropped in training.
        entries: Features of a node that are not zero, at most, where they are given sparse.
    Input shape: a dict of `"features"`, `(batch, nodes, num_features)`, and `"edges"`, `(batch, 2, edges)`; with `entries`,
        `"values"` and `"columns"`, `(batch, nodes, entries)`, in the place of `"features"`.
    Output shape: `(batch, nodes, num_classes)`, logits.
    Reference: Kipf and Welling, 2017, arXiv 1609.02907.
    """
    inputs = graph_inputs(num_features, entries)
    *x, edges = inputs.values()
    for _ in range(depth - 1):
        x[0] = Dropout(dropout)(x[0])
        x, num_features = [GraphConvolution(hidden_dim, "relu", num_features)([*x, edges])], hidden_dim
    x[0] = Dropout(dropout)(x[0])
    logits = GraphConvolution(num_classes, None, num_features, dtype=keras.config.floatx(), name="logits")([*x, edges])
    return keras.Model(inputs, logits, name="gcn")
