"""The graph attention network, for the nodes of a graph."""

import keras

from ... import Dropout, GraphAttention
from .._inputs import graph_inputs

__all__ = ["gat"]


def gat(num_features, num_classes, *, hidden_dim=8, num_heads=8, depth=2, dropout=0.6, entries=None):
    """Graph attention network: each node learns which of its neighbours to listen to, in several heads.

    `X <- ELU(heads of attention(dropout(X)) side by side)`, the last layer one head without the ELU.

    Args:
        num_features: Features of a node.
        num_classes: Number of logits of a node.
        hidden_dim: Width of each head of a hidden layer.
        num_heads: Number of heads of a hidden layer.
        depth: Number of layers, the one to the logits included.
        dropout: Fraction of each layer's input, and of its attention weights, dropped in training.
        entries: Features of a node that are not zero, at most, where they are given sparse.
    Input shape: a dict of `"features"`, `(batch, nodes, num_features)`, and `"edges"`, `(batch, 2, edges)`; with `entries`,
        `"values"` and `"columns"`, `(batch, nodes, entries)`, in the place of `"features"`.
    Output shape: `(batch, nodes, num_classes)`, logits.
    Reference: Velickovic et al., 2018, arXiv 1710.10903.
    """
    inputs = graph_inputs(num_features, entries)
    *x, edges = inputs.values()
    for _ in range(depth - 1):
        x[0] = Dropout(dropout)(x[0])
        layer = GraphAttention(hidden_dim, num_heads, activation="elu", dropout=dropout, num_features=num_features)
        x, num_features = [layer([*x, edges])], hidden_dim * num_heads
    x[0] = Dropout(dropout)(x[0])
    last = {"merge": "mean", "num_features": num_features, "dtype": keras.config.floatx(), "name": "logits"}
    logits = GraphAttention(num_classes, 1, dropout=dropout, **last)([*x, edges])
    return keras.Model(inputs, logits, name="gat")
