"""The graph attention network, for the nodes of a graph."""

import keras

from .. import GraphAttention
from ._inputs import graph_inputs


def gat(num_features, num_classes, *, hidden_dim=8, num_heads=8, depth=2, dropout=0.6):
    """Graph attention network: each node learns which of its neighbours to listen to, in several heads.

    `X <- ELU(heads of attention(dropout(X)) side by side)`, the last layer one head without the ELU.

    Args:
        num_features: Features of a node.
        num_classes: Number of logits of a node.
        hidden_dim: Width of each head of a hidden layer.
        num_heads: Number of heads of a hidden layer.
        depth: Number of layers, the one to the logits included.
        dropout: Fraction of each layer's input, and of its attention weights, dropped in training.
    Input shape: a dict of `"features"`, `(batch, nodes, num_features)`, and `"edges"`, `(batch, 2, edges)`.
    Output shape: `(batch, nodes, num_classes)`, logits.
    Reference: Velickovic et al., 2018, arXiv 1710.10903.
    """
    inputs = graph_inputs(num_features)
    x, edges = inputs["features"], inputs["edges"]
    for _ in range(depth - 1):
        x = keras.layers.Dropout(dropout)(x)
        x = GraphAttention(hidden_dim, num_heads, activation="elu", dropout=dropout)([x, edges])
    x = keras.layers.Dropout(dropout)(x)
    logits = GraphAttention(num_classes, 1, merge="mean", dropout=dropout, dtype="float32", name="logits")([x, edges])
    return keras.Model(inputs, logits, name="gat")
