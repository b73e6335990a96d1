"""GraphSAGE, for the nodes of a graph: what a node is, and what its neighbours are on average."""

import keras

from ... import Dropout, GraphSAGE
from .._inputs import graph_inputs

__all__ = ["graphsage"]


def graphsage(num_features, num_classes, *, hidden_dim=16, depth=2, dropout=0.5, entries=None):
    """GraphSAGE: a map of each node beside one of its neighbours' mean, so that it serves nodes never seen.

    `x_i <- ReLU(x_i W + mean_j x_j V)`, the last layer without the ReLU.

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
    Reference: Hamilton et al., 2017, arXiv 1706.02216.
    """
    inputs = graph_inputs(num_features, entries)
    *x, edges = inputs.values()
    for _ in range(depth - 1):
        x[0] = Dropout(dropout)(x[0])
        x, num_features = [GraphSAGE(hidden_dim, "relu", num_features)([*x, edges])], hidden_dim
    x[0] = Dropout(dropout)(x[0])
    logits = GraphSAGE(num_classes, None, num_features, dtype=keras.config.floatx(), name="logits")([*x, edges])
    return keras.Model(inputs, logits, name="graphsage")
