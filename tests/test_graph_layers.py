"""Graph convolutions against their formulas, their symmetries, and memory that grows with the edges."""

import keras
import numpy as np
import pytest

import layers
from apps.common.data.graphs.nodes import Graph
from layers import backend
from layers import graph as graph_layers

NODES = 7
# An undirected path 0-1-2-3 with a branch 1-4; nodes 5 and 6 are isolated.
PAIRS = np.array([[0, 1], [1, 2], [2, 3], [1, 4]])
EDGES = np.concatenate([PAIRS, PAIRS[:, ::-1]]).T.astype("int32")
ALL_LAYERS = {
    "gcn": lambda: layers.GraphConvolution(4, "tanh"),
    "graphsage": lambda: layers.GraphSAGE(4, "tanh"),
    "gat": lambda: layers.GraphAttention(2, 2),
    "gin": lambda: layers.GraphIsomorphism(4),
}
every_layer = pytest.mark.parametrize("name", ALL_LAYERS)


def features(nodes=NODES, width=5):
    return np.random.default_rng(0).normal(size=(nodes, width)).astype("float32")


def adjacency():
    matrix = np.zeros((NODES, NODES))
    matrix[EDGES[1], EDGES[0]] = 1
    return matrix


def apply(layer, x, edges=EDGES):
    return keras.ops.convert_to_numpy(layer([x[None], edges[None]]))[0]


def weight(layer, name):
    return keras.ops.convert_to_numpy(getattr(layer, name)).astype("float64")


def filled(layer, x, edges=EDGES):
    """The layer, all its weights random, biases too."""
    apply(layer, x, edges)
    generator = np.random.default_rng(1)
    for variable in layer.weights:
        if "seed" not in variable.path:
            variable.assign(generator.normal(size=variable.shape))
    return layer


def tensor(array):
    return keras.ops.convert_to_tensor(array)


def close(ours, expected):
    np.testing.assert_allclose(keras.ops.convert_to_numpy(ours), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("deterministic", [True, False])
def test_sums_by_segments_and_rows_by_index_are_those_of_numpy(deterministic):
    backend.configure(deterministic=deterministic)
    numbers = np.random.default_rng(0)
    segments, indices = numbers.integers(0, 5, 40).astype("int32"), numbers.integers(0, 5, (7, 3)).astype("int32")
    weights = numbers.normal(size=(7, 3)).astype("float32")
    for shape in ((3,), (1,), (2, 4)):
        x, factor = (numbers.normal(size=(count, *shape)).astype("float32") for count in (40, 6))
        expected = np.zeros((6, *shape), "float32")
        np.add.at(expected, segments, x)
        close(backend.segment_sum(tensor(x), tensor(segments), 6), expected)
        slopes = backend.gradient(lambda x, f=factor: backend.segment_sum(x, tensor(segments), 6) * tensor(f), tensor(x))
        close(slopes, factor[segments])
    x, factor = numbers.normal(size=(5, 3)).astype("float32"), numbers.normal(size=(7, 3)).astype("float32")
    close(backend.weighted_rows(tensor(x), tensor(indices), tensor(weights)), np.einsum("nk,nkc->nc", weights, x[indices]))
    expected = np.zeros_like(x)
    np.add.at(expected, indices, weights[..., None] * factor[:, None])
    slopes = backend.gradient(lambda x: backend.weighted_rows(x, tensor(indices), tensor(weights)) * tensor(factor), tensor(x))
    close(slopes, expected)
    slopes = backend.gradient(lambda w: backend.weighted_rows(tensor(x), tensor(indices), w) * tensor(factor), tensor(weights))
    close(slopes, np.einsum("nc,nkc->nk", factor, x[indices]))
    expected = np.zeros_like(x)
    np.add.at(expected, indices, np.ones((7, 3, 3), "float32"))
    close(backend.gradient(lambda x: backend.take_rows(x, tensor(indices)), tensor(x)), expected)


@pytest.mark.parametrize("deterministic", [False, True])
def test_adam_squares_the_sum_of_the_gradients_of_a_row_that_is_read_twice(deterministic):
    backend.configure(deterministic=deterministic)

    class Rows(keras.layers.Layer):
        def build(self, shape):
            self.kernel = self.add_weight(shape=(3, 1), initializer="ones")

        def call(self, indices):
            kernel, ones = keras.ops.convert_to_tensor(self.kernel), keras.ops.ones_like(indices, "float32")
            return backend.weighted_rows(kernel, indices, ones)

    indices = keras.Input((2,), dtype="int32")
    model = keras.Model(indices, Rows()(indices))
    model.compile(keras.optimizers.Adam(0.1), "mse")
    model.fit(np.array([[0, 0], [1, 2]]), np.zeros((2, 1)), verbose=0)
    # Mean of y^2 over two examples, y = 2 in both: dL/dy = 2, and 4 for row 0, which is in its sum twice.
    close(model.optimizer._velocities[0], 0.001 * np.array([[16], [4], [4]]))


def test_gcn_is_the_normalised_adjacency_times_features_times_kernel():
    x, layer = features(), layers.GraphConvolution(4)
    found = apply(filled(layer, x), x)
    a = adjacency() + np.eye(NODES)
    scale = np.diag(a.sum(1) ** -0.5)
    expected = scale @ a @ scale @ x @ weight(layer, "kernel") + weight(layer, "bias")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_graphsage_adds_the_mean_of_the_neighbours():
    x, layer = features(), layers.GraphSAGE(4)
    found = apply(filled(layer, x), x)
    a = adjacency()
    mean = a / np.maximum(a.sum(1, keepdims=True), 1)
    expected = x @ weight(layer, "self_kernel") + mean @ x @ weight(layer, "neighbour_kernel") + weight(layer, "bias")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_gin_sums_the_neighbours_and_the_scaled_node():
    x, layer = features(), layers.GraphIsomorphism(4)
    found = apply(filled(layer, x), x)
    summed = (1 + weight(layer, "epsilon")) * x + adjacency() @ x
    np.testing.assert_allclose(found, summed @ weight(layer, "kernel") + weight(layer, "bias"), rtol=1e-5, atol=1e-5)


def test_gat_is_the_masked_softmax_of_the_paper():
    x, layer = features(), layers.GraphAttention(3, 2)
    found = apply(filled(layer, x), x)
    h = (x @ weight(layer, "kernel")).reshape(NODES, 2, 3)
    source, target = ((h * weight(layer, f"{end}_attention")).sum(-1) for end in ("source", "target"))
    scores = target[:, None] + source[None]
    scores = np.where(scores > 0, scores, 0.2 * scores)
    scores = np.where((adjacency() + np.eye(NODES))[..., None] > 0, scores, -np.inf)
    attention = np.exp(scores - scores.max(1, keepdims=True))
    attention /= attention.sum(1, keepdims=True)
    expected = np.einsum("ijh,jhd->ihd", attention, h).reshape(NODES, 6) + weight(layer, "bias")
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_mean_of_heads_is_the_mean_of_the_concatenated_ones():
    x = features()
    side, mean = layers.GraphAttention(3, 2), layers.GraphAttention(3, 2, merge="mean")
    apply(mean, x)
    filled(side, x)
    for variable, given in zip(mean.weights[:3], side.weights[:3], strict=True):
        variable.assign(given)
    side.bias.assign(np.zeros(6))
    np.testing.assert_allclose(apply(mean, x), apply(side, x).reshape(NODES, 2, 3).mean(1), rtol=1e-5, atol=1e-6)


def test_attention_sums_to_one_over_the_neighbours_of_each_node():
    x, layer = features(), layers.GraphAttention(3, 4)
    filled(layer, x)
    source, target = graph_layers.with_self_loops(*keras.ops.convert_to_tensor(EDGES), NODES)
    h = keras.ops.convert_to_tensor(np.random.default_rng(2).normal(size=(NODES, 4, 3)).astype("float32") * 50)
    attention = keras.ops.convert_to_numpy(layer.attention(h, source, target))
    total = np.zeros((NODES, 4))
    np.add.at(total, keras.ops.convert_to_numpy(target), attention)
    np.testing.assert_allclose(total, 1.0, rtol=1e-5)


def test_heads_that_go_one_after_another_give_what_all_at_once_give(monkeypatch):
    x, layer = features(), layers.GraphAttention(3, 4)
    whole = apply(layer, x)
    calls, take = [], backend.take_rows
    monkeypatch.setattr(backend, "take_rows", lambda rows, index: calls.append(rows.shape) or take(rows, index))
    monkeypatch.setattr(graph_layers, "LARGEST_SENT", 3 * (EDGES.shape[1] + NODES) * 2)  # of two heads
    np.testing.assert_array_equal(apply(layer, x), whole)
    assert calls.count((NODES, 2, 3)) == 2


@every_layer
def test_renumbering_the_nodes_permutes_the_outputs(name):
    x, layer = features(), ALL_LAYERS[name]()
    filled(layer, x)
    order = np.random.default_rng(3).permutation(NODES)
    number = np.argsort(order).astype("int32")  # node i of old is number[i] of new
    shuffled = np.random.default_rng(4).permutation(EDGES.shape[1])
    found = apply(layer, x[order], number[EDGES][:, shuffled])
    np.testing.assert_allclose(found, apply(layer, x)[order], rtol=1e-5, atol=1e-5)


@every_layer
def test_isolated_nodes_survive_and_hear_nobody(name):
    x, layer = features(), ALL_LAYERS[name]()
    filled(layer, x)
    before = apply(layer, x)
    other = x.copy()
    other[:5] += 1.0
    after = apply(layer, other)
    assert np.isfinite(before).all() and np.abs(before[5] - before[6]).max() > 1e-3
    np.testing.assert_allclose(after[5:], before[5:], rtol=1e-6, atol=1e-6)
    assert np.abs(after[:5] - before[:5]).max() > 1e-3


@every_layer
def test_a_graph_without_any_edge_is_no_error(name):
    x, layer = features(), ALL_LAYERS[name]()
    assert np.isfinite(apply(layer, x, np.zeros((2, 0), "int32"))).all()


@every_layer
def test_graphs_of_a_batch_do_not_mix(name):
    x, layer = np.stack([features(), features() + 1]), ALL_LAYERS[name]()
    edges = np.stack([EDGES, EDGES[:, ::-1]])
    filled(layer, x[0])
    both = keras.ops.convert_to_numpy(layer([x, edges]))
    for index in range(2):
        np.testing.assert_allclose(both[index], apply(layer, x[index], edges[index]), rtol=1e-5, atol=1e-5)


@every_layer
def test_no_tensor_grows_faster_than_the_edges(name):
    """200,000 nodes: a matrix of nodes by nodes would need 160 GB, and 400,000 messages of 4 features 6 MB."""
    nodes, count = 200_000, 400_000
    generator = np.random.default_rng(5)
    x = generator.normal(size=(nodes, 3)).astype("float32")
    edges = generator.integers(0, nodes, (2, count)).astype("int32")
    assert apply(ALL_LAYERS[name](), x, edges).shape == (nodes, 4)


def test_an_empty_name_of_merging_is_refused():
    with pytest.raises(ValueError, match="`merge` must be concatenate or mean"):
        layers.GraphAttention(3, merge="sum")


@every_layer
def test_sparse_features_give_what_dense_ones_do(name):
    x = features(width=8)
    x[:, 2:] *= np.random.default_rng(7).random((NODES, 6)) < 0.2
    graph = Graph(x, EDGES, None, [], [], {})
    sparse = graph.inputs(int(np.count_nonzero(x, axis=1).max()))
    dense = ALL_LAYERS[name]()
    expected = apply(filled(dense, x), x)
    layer = type(dense).from_config({**dense.get_config(), "num_features": 8})
    layer(list(sparse.values()))
    for variable, given in zip(layer.weights, dense.weights, strict=True):
        variable.assign(given)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(list(sparse.values())))[0], expected, rtol=1e-4, atol=1e-5)
