"""Graph convolutions on edge lists: every node sums what its neighbours send it, segment by segment.

Edges are two rows of node numbers, source above target. Time and memory grow with the number of edges; a matrix of
nodes by nodes is never made. A map of the features commutes with a sum over neighbours, so each layer maps first: the
messages are as narrow as its output.

Features that are mostly zeros may be given sparse, as two inputs in the place of one: the values of each node that are
not zero and their columns, both `(batch, nodes, entries)`, filled up with zeros.
"""

import keras

from . import backend
from .regularization import Dropout
from .transformer import positive

__all__ = ["GraphAttention", "GraphConvolution", "GraphIsomorphism", "GraphSAGE"]

ops = keras.ops
LARGEST_SENT = 1 << 26  # numbers that attention sends along all edges at a time: 256 MB


def as_one_graph(x, edges):
    """A batch of graphs as one graph of many parts.

    Args:
        x: Node features `(batch, nodes, features)`.
        edges: `(batch, 2, edges)`, node numbers within each graph.
    Returns: Features `(batch * nodes, features)`; source and target of each edge, `(batch * edges,)`.
    """
    batch, nodes = ops.shape(x)[0], ops.shape(x)[1]
    first = ops.reshape(ops.arange(batch, dtype="int32") * nodes, (-1, 1))
    source, target = ops.reshape(edges[:, 0] + first, (-1,)), ops.reshape(edges[:, 1] + first, (-1,))
    return ops.reshape(x, (-1, x.shape[-1])), source, target


def linear(features, kernel, bias=None):
    """`x W + b` of every node, from `[x]`, or from `[values, columns]` as `y_i = sum_k values_ik W[columns_ik] + b`.

    The second is for features that are mostly zeros: bags of words. It reads the rows of W that count and no others.
    """
    kernel, bias = ops.convert_to_tensor(kernel), None if bias is None else ops.convert_to_tensor(bias)
    if len(features) == 1:
        return backend.dense(features[0], kernel, bias)
    values, columns = features
    entries = values.shape[-1]
    x = backend.weighted_rows(kernel, ops.reshape(columns, (-1, entries)), ops.reshape(values, (-1, entries)))
    x = ops.reshape(x, (-1, ops.shape(values)[1], kernel.shape[-1]))
    return x if bias is None else x + bias


def with_self_loops(source, target, num_nodes):
    """The edges and, after them, one from each node to itself."""
    loops = ops.arange(num_nodes, dtype="int32")
    return ops.concatenate([source, loops]), ops.concatenate([target, loops])


def neighbour_sum(x, source, target):
    """`y_i = sum_j x_j` over the edges from j to i; zeros for a node without neighbours."""
    # A half-precision sum over a node with thousands of neighbours would stop growing.
    sent = ops.cast(backend.take_rows(x, source), keras.config.floatx())
    return ops.cast(backend.segment_sum(sent, target, ops.shape(x)[0]), x.dtype)


def neighbour_count(x, target):
    """`(nodes, 1)`: how many edges end at each node of `x`, in single precision."""
    return backend.segment_sum(ops.ones((ops.shape(target)[0], 1), keras.config.floatx()), target, ops.shape(x)[0])


def segment_softmax(scores, target, num_nodes):
    """Softmax of `scores` `(edges, ...)` over the edges that end at the same node."""
    highest = backend.segment_max(ops.stop_gradient(scores), target, num_nodes)
    weights = ops.exp(scores - backend.take_rows(highest, target))
    return weights / backend.take_rows(backend.segment_sum(weights, target, num_nodes), target)


@keras.saving.register_keras_serializable(package="triptych")
class GraphConvolution(keras.layers.Layer):
    """Normalised sum over a node and its neighbours: `y_i = act(sum_j x_j W / sqrt(d_i d_j) + b)`.

    j runs over the sources of the edges into i and over i itself; d counts them. On an undirected graph (every edge
    given both ways) it is `act(D^-1/2 (A + I) D^-1/2 X W + b)`, without the matrix. An isolated node keeps its own map.

    Args:
        units: Features of a node after the layer.
        activation: Name of a Keras activation, or `None`.
        num_features: Features of a node, where they are given sparse.
    Input shape: `[(batch, nodes, features), (batch, 2, edges)]`, the edges as whole numbers, source above target.
    Output shape: `(batch, nodes, units)`.
    Reference: Kipf and Welling, 2017, arXiv 1609.02907.
    """

    def __init__(self, units, activation=None, num_features=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation = positive("units", units), keras.activations.get(activation)
        self.num_features = num_features
        self.kernel_initializer = keras.initializers.GlorotUniform()

    def build(self, input_shape):
        shape = (self.num_features or input_shape[0][-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        *features, edges = inputs
        x = linear(features, self.kernel)
        x, source, target = as_one_graph(x, edges)
        scale = ops.cast(ops.rsqrt(1.0 + neighbour_count(x, target)), x.dtype)
        x = x * scale
        x = scale * (neighbour_sum(x, source, target) + x)
        return self.activation(like(features, x) + ops.convert_to_tensor(self.bias))

    def compute_output_shape(self, input_shape):
        return *input_shape[0][:-1], self.units


@keras.saving.register_keras_serializable(package="triptych")
class GraphSAGE(keras.layers.Layer):
    """A node's own map beside that of its neighbours' mean: `y_i = act(x_i W_self + mean_j x_j W_neighbour + b)`.

    The mean aggregator of the paper, over all neighbours instead of a sample of them, and without its rescaling of
    every output to length one. The mean over no neighbours is zero.

    Args:
        units: Features of a node after the layer.
        activation: Name of a Keras activation, or `None`.
        num_features: Features of a node, where they are given sparse.
    Input shape: `[(batch, nodes, features), (batch, 2, edges)]`, the edges as whole numbers, source above target.
    Output shape: `(batch, nodes, units)`.
    Reference: Hamilton et al., 2017, arXiv 1706.02216.
    """

    def __init__(self, units, activation=None, num_features=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.activation = positive("units", units), keras.activations.get(activation)
        self.num_features = num_features
        self.self_initializer = keras.initializers.GlorotUniform()
        self.neighbour_initializer = keras.initializers.GlorotUniform()

    def build(self, input_shape):
        shape = (self.num_features or input_shape[0][-1], self.units)
        self.self_kernel = self.add_weight(name="self_kernel", shape=shape, initializer=self.self_initializer)
        self.neighbour_kernel = self.add_weight(name="neighbour_kernel", shape=shape, initializer=self.neighbour_initializer)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")

    def call(self, inputs):
        *features, edges = inputs
        x = linear(features, self.neighbour_kernel)
        x, source, target = as_one_graph(x, edges)
        count = ops.cast(ops.maximum(neighbour_count(x, target), 1.0), x.dtype)
        mean = like(features, neighbour_sum(x, source, target) / count)
        own = linear(features, self.self_kernel, self.bias)
        return self.activation(own + mean)

    def compute_output_shape(self, input_shape):
        return *input_shape[0][:-1], self.units


@keras.saving.register_keras_serializable(package="triptych")
class GraphAttention(keras.layers.Layer):
    """Sum over a node and its neighbours, weighted by learned attention, in several heads.

    With `h = x W` of a head: `a_ij = softmax over j of LeakyReLU(s . h_j + t . h_i)`, `y_i = sum_j a_ij h_j`, where j
    runs over the sources of the edges into i and over i itself.

    Args:
        units: Features of a head.
        num_heads: Number of heads.
        merge: `"concatenate"` puts the heads side by side, `"mean"` averages them (for the output layer).
        activation: Name of a Keras activation, or `None`.
        dropout: Fraction of the attention weights dropped in training, so that a node hears a sample of its neighbours.
        num_features: Features of a node, where they are given sparse.
        seed: Seed of the dropout.
    Input shape: `[(batch, nodes, features), (batch, 2, edges)]`, the edges as whole numbers, source above target.
    Output shape: `(batch, nodes, num_heads * units)`, or `(batch, nodes, units)` for the mean.
    Raises:
        ValueError: `merge` is neither.
    Reference: Velickovic et al., 2018, arXiv 1710.10903.
    """

    def __init__(self, units, num_heads=8, *, merge="concatenate", activation=None, dropout=0.0,
                 num_features=None, seed=None, **kwargs):  # fmt: skip
        super().__init__(**kwargs)
        if merge not in ("concatenate", "mean"):
            raise ValueError(f"`merge` must be concatenate or mean. Received: merge={merge!r}")
        self.units, self.num_heads = positive("units", units), positive("num_heads", num_heads)
        self.merge, self.activation, self.num_features = merge, keras.activations.get(activation), num_features
        self.dropout = Dropout(dropout, seed=seed, dtype=self.dtype_policy)
        self.kernel_initializer = keras.initializers.GlorotUniform()
        self.source_attention_initializer = keras.initializers.GlorotUniform()
        self.target_attention_initializer = keras.initializers.GlorotUniform()

    def build(self, input_shape):
        heads, units = self.num_heads, self.units
        shape = (self.num_features or input_shape[0][-1], heads * units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        self.source_attention = self.add_weight(
            name="source_attention", shape=(heads, units), initializer=self.source_attention_initializer
        )
        self.target_attention = self.add_weight(
            name="target_attention", shape=(heads, units), initializer=self.target_attention_initializer
        )
        size = heads * units if self.merge == "concatenate" else units
        self.bias = self.add_weight(name="bias", shape=(size,), initializer="zeros")

    def call(self, inputs):
        *features, edges = inputs
        h = linear(features, self.kernel)
        h, source, target = as_one_graph(h, edges)
        source, target = with_self_loops(source, target, ops.shape(h)[0])
        h = ops.reshape(h, (-1, self.num_heads, self.units))
        x = self.heard(h, self.dropout(self.attention(h, source, target)), source, target)
        x = ops.mean(x, axis=1) if self.merge == "mean" else ops.reshape(x, (-1, self.num_heads * self.units))
        return self.activation(like(features, ops.cast(x, h.dtype)) + ops.convert_to_tensor(self.bias))

    def heard(self, h, attention, source, target):
        """The weighted sums of what is sent, `(nodes, heads, units)`; over many edges of some heads at a time.

        What is sent takes as much memory as there are edges, heads and units, and training holds it several times.
        """
        each = (source.shape[0] or 0) * self.units  # an unknown number of edges goes at once
        at_once = max(1, LARGEST_SENT // each) if each else self.num_heads
        parts = []
        for first in range(0, self.num_heads, at_once):
            some = slice(first, first + at_once)
            sent = backend.take_rows(h[:, some], source) * ops.expand_dims(attention[:, some], -1)
            parts.append(backend.segment_sum(ops.cast(sent, keras.config.floatx()), target, ops.shape(h)[0]))
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)

    def attention(self, h, source, target):
        """Weights `(edges, heads)` of the edges, which sum to one over the edges into a node."""
        of_source = ops.sum(h * ops.convert_to_tensor(self.source_attention), axis=-1)
        of_target = ops.sum(h * ops.convert_to_tensor(self.target_attention), axis=-1)
        scores = backend.take_rows(of_source, source) + backend.take_rows(of_target, target)
        scores = ops.cast(ops.leaky_relu(scores, 0.2), keras.config.floatx())  # the paper's slope
        return ops.cast(segment_softmax(scores, target, ops.shape(h)[0]), h.dtype)

    def compute_output_shape(self, input_shape):
        size = self.units * (self.num_heads if self.merge == "concatenate" else 1)
        return *input_shape[0][:-1], size


@keras.saving.register_keras_serializable(package="triptych")
class GraphIsomorphism(keras.layers.Layer):
    """Sum over a node and its neighbours, then a linear map: `y_i = ((1 + epsilon) x_i + sum_j x_j) W + b`.

    The sum, unlike a mean or a maximum, tells any two sets of neighbours apart. The map is the first of the paper's
    two-layer perceptron; the model adds the rest. `epsilon` is learned, from zero.

    Args:
        units: Features of a node after the layer.
        num_features: Features of a node, where they are given sparse.
    Input shape: `[(batch, nodes, features), (batch, 2, edges)]`, the edges as whole numbers, source above target.
    Output shape: `(batch, nodes, units)`.
    Reference: Xu et al., 2019, arXiv 1810.00826.
    """

    def __init__(self, units, num_features=None, **kwargs):
        super().__init__(**kwargs)
        self.units, self.num_features = positive("units", units), num_features
        self.kernel_initializer = keras.initializers.GlorotUniform()

    def build(self, input_shape):
        shape = (self.num_features or input_shape[0][-1], self.units)
        self.kernel = self.add_weight(name="kernel", shape=shape, initializer=self.kernel_initializer)
        self.bias = self.add_weight(name="bias", shape=(self.units,), initializer="zeros")
        self.epsilon = self.add_weight(name="epsilon", shape=(), initializer="zeros")

    def call(self, inputs):
        *features, edges = inputs
        x = linear(features, self.kernel)
        x, source, target = as_one_graph(x, edges)
        x = (1.0 + ops.convert_to_tensor(self.epsilon)) * x + neighbour_sum(x, source, target)
        return like(features, x) + ops.convert_to_tensor(self.bias)

    def compute_output_shape(self, input_shape):
        return *input_shape[0][:-1], self.units


def like(features, x):
    """The rows of `x` as nodes of the graphs that `features` describes."""
    return ops.reshape(x, (-1, ops.shape(features[0])[1], x.shape[-1]))
