"""Node classification: the layers against their formulas, growth with the edges, and the app through the command line."""

import json

import keras
import numpy as np
import pytest
from runs import forked, train

import layers
from apps.common.data.graphs.nodes import Graph, GraphNodes, read_graph, split_nodes
from apps.common.errors import UserError
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


def test_the_loss_is_the_mean_over_the_nodes_of_the_split():
    from apps.common.training.losses import OneHotLoss

    graph = read_graph("karate")
    nodes = GraphNodes(graph, split_nodes(graph, 0.3, 0)["train"], None)
    _, y, weights = nodes.take([0])
    logits = np.random.default_rng(6).normal(size=(1, 34, 2)).astype("float32")
    found = float(OneHotLoss("cross-entropy", 2)(y, logits, sample_weight=weights))
    chosen = logits[0][nodes.mask].astype("float64")
    expected = np.log(np.exp(chosen).sum(1)) - chosen[np.arange(len(chosen)), y[0][nodes.mask]]
    assert found == pytest.approx(expected.mean(), rel=1e-5)


# The readers.


def write(path, **changes):
    arrays = {
        "features": np.ones((6, 2), "float32"), "labels": np.array([0, 0, 0, 1, 1, 1]),
        "edges": np.array([[0, 1, 2, 2], [1, 2, 2, 1]]),
        "train_mask": np.array([1, 0, 0, 1, 0, 0], bool), "validation_mask": np.array([0, 1, 0, 0, 1, 0], bool),
        "test_mask": np.array([0, 0, 1, 0, 0, 1], bool), **changes,
    }  # fmt: skip
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return str(path)


def test_edges_count_both_ways_once_and_never_to_themselves(tmp_path):
    graph = read_graph(write(tmp_path / "g.npz"))
    assert sorted(map(tuple, graph.edges.T)) == [(0, 1), (1, 0), (1, 2), (2, 1)]
    assert "left out 1 edges from a node to itself" in graph.notes
    directed = read_graph(write(tmp_path / "g.npz"), directed=True)
    assert sorted(map(tuple, directed.edges.T)) == [(0, 1), (1, 2), (2, 1)]


def test_masks_of_the_data_are_the_splits(tmp_path):
    graph = read_graph(write(tmp_path / "g.npz"))
    assert [np.flatnonzero(mask).tolist() for mask in split_nodes(graph, 0.3, 0).values()] == [[0, 3], [1, 4], [2, 5]]


def test_unlabelled_nodes_are_in_no_split(tmp_path):
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 1, -1, -1])
    masks = {"train_mask": None, "validation_mask": None, "test_mask": None}
    graph = read_graph(write(tmp_path / "g.npz", features=np.ones((10, 2)), labels=labels, **masks))
    assert not np.any([mask[8:] for mask in split_nodes(graph, 0.3, 0).values()])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"edges": np.array([[0, 9], [1, 2]])}, "name a node that is not there, the first one 9 - 2"),
        ({"edges": np.array([[0, -1], [1, 2]])}, "Expected numbers from 0 to 5"),
        ({"edges": np.ones((2, 3))}, "edges: expected whole numbers"),
        ({"edges": None}, "no array called edges"),
        ({"features": np.full((6, 2), np.nan)}, "6 nodes have NaN or infinite ones, the first is node 0"),
        ({"features": np.array([None] * 6)}, "never unpickled"),
        ({"features": np.ones(6)}, "features: expected numbers"),
        ({"features": None, "labels": None}, "the number of nodes is unknown"),
        ({"labels": np.arange(5)}, "labels: expected one whole number or word a node"),
        ({"labels": np.zeros(6, int)}, "a single class"),
        ({"train_mask": np.array([1, 0, 1, 1, 0, 0], bool)}, "share 1 nodes"),
        ({"train_mask": np.zeros(6, bool)}, "train_mask: no node is in it"),
        ({"train_mask": None}, "train_mask and test_mask are both needed"),
        ({"train_mask": np.arange(6)}, "train_mask: expected true or false"),
        ({"labels": np.array([-1, 0, 0, 1, 1, 1])}, "train_mask: 1 of its nodes have no label"),
    ],
)
def test_bad_graphs_are_refused_in_one_line(tmp_path, changes, words):
    with pytest.raises(UserError, match=words):
        graph = read_graph(write(tmp_path / "bad.npz", **changes))
        split_nodes(graph, 0.3, 0)


def test_a_graph_that_cannot_fit_is_refused_on_its_header(tmp_path):
    import io
    import zipfile

    path = tmp_path / "huge.npz"
    write(path)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**8, 10**6)})
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, content in {**members, "features.npy": header.getvalue()}.items():
            new.writestr(name, content)
    with pytest.raises(UserError, match="of memory"):
        read_graph(str(path))


def test_text_in_the_place_of_an_npz_is_refused(tmp_path):
    (tmp_path / "g.npz").write_text("no graph")
    with pytest.raises(UserError, match=r"not an \.npz file"):
        read_graph(str(tmp_path / "g.npz"))


# The app.


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("graph")
    return folder, train("graph", "--data", "les_miserables", "--epochs", "60", "--model", "gat", cwd=folder)


def test_communities_are_found_and_nodes_predicted_by_number_and_name(trained):
    folder, result = trained
    assert result["metrics"]["accuracy"] > 0.6
    answer = forked("predict", result["model"], "0", "Javert", "--json", cwd=folder)
    rows = json.loads(answer.stdout)["predictions"]
    assert [row["node"] for row in rows] == ["Napoleon", "Javert"]
    assert all(row["class"].startswith("around ") for row in rows)


@pytest.mark.once
def test_a_node_that_is_not_there_is_refused(trained):
    folder, result = trained
    for word in ("77", "-1", "Javer"):
        refused = forked("predict", result["model"], word, cwd=folder, check=2)
        assert f"{word} (expected a number from 0 to 76" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1


@pytest.mark.once
def test_prediction_refuses_a_graph_that_has_changed(tmp_path):
    path = write(tmp_path / "g.npz")
    result = train("graph", "--data", path, "--epochs", "2", cwd=tmp_path)
    assert len(json.loads(forked("predict", result["model"], "0", "--json", cwd=tmp_path).stdout)["predictions"]) == 1
    write(path, edges=np.array([[0, 1], [1, 3]]))
    refused = forked("predict", result["model"], "0", cwd=tmp_path, check=2)
    assert "no longer the graph this model was trained on" in refused.stderr
    answer = json.loads(forked("predict", result["model"], path, "--json", cwd=tmp_path).stdout)
    assert len(answer["predictions"]) == 6


def test_options_that_mean_nothing_for_one_graph_are_refused(tmp_path):
    refused = forked("train", "graph", "--batch-size", "32", cwd=tmp_path, check=2)
    assert "every step sees the whole graph" in refused.stderr


def write_lists(folder, edges, nodes):
    (folder / "town-edges.csv").write_text(edges)
    (folder / "town-nodes.csv").write_text(nodes)
    return str(folder / "town-edges.csv")


def test_edges_without_classes_are_answered_with_what_is_missing(tmp_path):
    (tmp_path / "town.edgelist").write_text("0 1 {'weight': 4}\n1 2 {'weight': 1}\n")
    with pytest.raises(UserError, match=r"edges without classes. Expected beside it the nodes .* in town-nodes.csv"):
        read_graph(str(tmp_path / "town.edgelist"))


def test_tables_of_edges_and_nodes_are_a_graph(tmp_path):
    edges = "Source,Target,Weight\nAnn,\"Bob, Jr.\",3\n\"Bob, Jr.\",Cid,1\nCid,Dan,1\nAnn,Eve,2\n"
    nodes = "Id,age,group,town\nAnn,20,x,A\n\"Bob, Jr.\",30,y,B\nCid,40,x,A\nDan,,,B\n"
    graph = read_graph(write_lists(tmp_path, edges, nodes), normalize=False)
    assert graph.node_names == ["Ann", "Bob, Jr.", "Cid", "Dan", "Eve"] and graph.class_names == ["x", "y"]
    assert graph.labels.tolist() == [0, 1, 0, -1, -1], "an empty cell, and a node of the edges alone, have no class"
    assert {tuple(pair) for pair in graph.edges.T.tolist()} >= {(0, 1), (1, 2), (2, 3), (0, 4)} and graph.edges.shape == (2, 8)
    deviation = np.std([20, 30, 40])
    np.testing.assert_allclose(graph.features[:, 0], [-10 / deviation, 0, 10 / deviation, 0, 0], rtol=1e-6)
    np.testing.assert_array_equal(graph.features[:4, 1:], [[1, 0], [0, 1], [1, 0], [0, 1]])
    said = " ".join(graph.notes)
    assert "weights, is not used" in said and "the column 'group'" in said and "features: age, town" in said and "Eve" in said
    assert read_graph(str(tmp_path)).node_names == graph.node_names, "the folder means the same"


def test_lists_without_headers_keep_their_first_rows(tmp_path):
    graph = read_graph(write_lists(tmp_path, "a b\nb c\nc d\n", "# nodes\na one\nb two\nc two\nd two\n"))
    assert graph.node_names == ["a", "b", "c", "d"] and graph.edges.shape == (2, 6) and graph.class_names == ["one", "two"]


def test_columns_of_nodes_are_read_as_those_of_tables(tmp_path):
    nodes = "# of the town\nId,income,group\nAnn,\"$1,000\",x\nBob,n/a,y\nCid,\"$3,000\",x\n"
    graph = read_graph(write_lists(tmp_path, "Ann,Bob\nBob,Cid\n", nodes), normalize=False)
    assert graph.node_names == ["Ann", "Bob", "Cid"] and graph.features.tolist() == [[-1], [0], [1]]


@pytest.mark.parametrize(
    ("edges", "nodes", "named"),
    [
        ("a,b\n", "a,x\nb,y\na,x\n", "'a' stands there twice"),
        ("a,b\n", "# a comment\na,1,x\nb,y\n", r"line 3 \(2 cells, not 3\)"),
        ("a,b\n", "a\nb\n", "a single column"),
        ("p,q\nr,s\nt,u\n", "a,x\nb,y\n", "most of its nodes are not in town-nodes.csv"),
        ("a\nb\n", "a,x\nb,y\n", "expected the names of two nodes"),
        ("", "a,x\nb,y\n", "empty"),
        ("# none\n", "a,x\nb,y\n", "nothing but comments"),
    ],
)
def test_lists_that_are_no_graph_are_refused_in_one_line(tmp_path, edges, nodes, named):
    with pytest.raises(UserError, match=named):
        read_graph(write_lists(tmp_path, edges, nodes))


def test_a_node_that_is_not_there_keeps_its_place_with_a_reason(tmp_path):
    result = train("graph", "--epochs", "2", cwd=tmp_path)
    done = forked("predict", result["model"], "3", "33333", "5", "--json", cwd=tmp_path)
    rows = json.loads(done.stdout)["predictions"]
    assert [row["node"] for row in rows] == ["3", "33333", "5"] and "expected a number from 0 to 33" in rows[1]["reason"]
    assert "class" in rows[0] and "class" in rows[2] and "class" not in rows[1]


def test_names_of_two_columns_are_refused(tmp_path):
    names = np.array([["a", "b"]] * 3)
    np.savez(tmp_path / "g.npz", edges=np.array([[0, 1], [1, 2]]), labels=np.array([0, 1, 0]), names=names)
    with pytest.raises(UserError, match=r"names: an array of shape \(3, 2\)"):
        read_graph(str(tmp_path / "g.npz"))
