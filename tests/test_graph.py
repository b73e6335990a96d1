"""Node classification: what is read as a graph, how its nodes are split, and the app through the command line."""

import json

import numpy as np
import pytest
from runs import forked, train

from apps.common.data.graphs.nodes import GraphNodes, read_graph, split_nodes
from apps.common.errors import UserError


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
