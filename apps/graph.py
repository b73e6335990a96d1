"""Classify the nodes of a graph by their features and their neighbours."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.app import Metric
from apps.common.command import start
from apps.common.data.examples import Data, Report
from apps.common.data.graphs.nodes import NAMED, GraphNodes, chosen_nodes, graph_source, read_graph, split_nodes
from apps.common.errors import UserError
from apps.common.options.backends import give_back_large_blocks
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Training

FIRST_L2 = 5e-4  # of 0, 0.00025, 0.0005 and 0.001 the best on Cora's validation nodes
MANY_EDGES = 500_000  # whose messages are blocks of hundreds of megabytes


@dataclass(frozen=True)
class Config(Training):
    epochs: int = option(200, "steps: each sees the whole graph", low=1, high=100_000)
    batch_size: int = refused(1, "every step sees the whole graph")
    distribute: Literal["none"] = refused("none", "one graph cannot be split over devices")
    learning_rate: float = option(1e-2, "step size (its peak, with a schedule)", above=0, high=100, search=(1e-3, 1e-1), log=True)
    checkpoint_every: int = option(0, "epochs between checkpoints; 0 for as many as take a thousandth of the time", low=0)
    model: Literal["gcn", "graphsage", "gat", "gin"] = option(
        "gcn", "architecture", search=("gcn", "graphsage", "gat", "gin")
    )
    hidden_dim: int = option(16, "width of a hidden layer; with gat, of each of its heads", low=1, search=(8, 16, 32, 64))
    num_heads: int = option(8, "attention heads of a hidden layer", low=1, needs={"model": "gat"})
    depth: int = option(2, "graph layers: how many steps away a node still hears", low=1, high=64, search=(1, 2, 3))
    dropout: float = option(0.5, "share of features (and attention) dropped in training", low=0, high=0.95, search=(0.0, 0.8))
    first_l2: float | None = option(
        None, "L2 penalty on the kernels of the first layer alone; none: 0.0005 where there is no --l2", low=0, high=10
    )
    normalize: bool = option(True, "scale the sizes of each node's features to sum to one")
    directed: bool = option(False, "edges count in their own direction only, else both ways")
    train_share: float = option(
        0.3, "labelled nodes to train on where the data have no masks; the rest is halved", above=0, high=0.9
    )

    def check(self):
        super().check()
        if self.first_l2 and self.l2:
            raise UserError("--l2 and --first-l2 exclude each other: the first penalises all kernels already; leave one out")


METRIC = Metric("accuracy")
RECIPES = {
    "cora-gcn": Recipe(
        "GCN on Cora, the public split",
        data="planetoid/cora.npz",
        options={"keep": "last",
                 "model": "gcn", "hidden_dim": 16, "dropout": 0.5, "learning_rate": 0.01, "first_l2": 2.5e-4, "epochs": 200},
        metric="accuracy", published=0.815, tolerance=0.01, seeds=10, minutes=0.2,
        source="Kipf and Welling, 2017, arXiv 1609.02907, table 2",
    ),
    "cora-gat": Recipe(
        "GAT on Cora, the public split, 8 heads of 8",
        data="planetoid/cora.npz",
        options={"model": "gat", "hidden_dim": 8, "num_heads": 8, "dropout": 0.6, "learning_rate": 0.005, "l2": 2.5e-4,
                 "epochs": 1000, "early_stopping": 100},
        metric="accuracy", published=0.83, tolerance=0.01, seeds=10, minutes=1,
        source="Velickovic et al., 2018, arXiv 1710.10903, table 2",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """The whole graph in each split, whose nodes alone have a weight."""
    name = config.data or "karate"
    wanted = {key: about[key] for key in ("class_names", "num_features")} if about else {}
    graph = read_graph(name, directed=config.directed, normalize=config.normalize, **wanted)
    if graph.labels is None:
        raise UserError(f"--data {name}: no array called labels, which training and evaluation need")
    masks = split_nodes(graph, config.train_share, config.seed)
    weight = None
    if config.class_weights == "balanced":
        from apps.common.data.examples import class_weights

        weight = class_weights(graph.labels[masks["train"]], len(graph.class_names))
    entries = about["entries"] if about else graph.entries()
    about = {
        "class_names": graph.class_names,
        "num_features": graph.features.shape[1],
        "entries": entries,
        # Prediction reads the graph again, and refuses one that is not the same.
        "graph": {"data": graph_source(name), "directed": config.directed, "normalize": config.normalize},
        "fingerprint": graph.fingerprint(),
    }
    train = GraphNodes(graph, masks["train"], entries, weight)
    held, test = (GraphNodes(graph, masks[each], entries) for each in ("validation", "test"))
    example = shlex.join(graph.node_names[node] for node in np.flatnonzero(masks["test"])[:3])
    return Data(train, held, test, about, graph.notes, name, example)


def settle(config, data):
    """The first layer sees every word of a node and few labelled nodes: without a penalty it learns them by heart."""
    if config.first_l2 is not None:
        return config, ""
    return replace(config, first_l2=0.0 if config.l2 else FIRST_L2), ""


def build_model(config, data):
    """Features and edges -> two or so graph convolutions -> the logits of every node."""
    import keras

    from apps.common.training.losses import OneHotLoss, accuracy
    from apps.common.training.optimizers import compile_model
    from layers import models

    if data.train.x["edges"].shape[-1] > MANY_EDGES:
        give_back_large_blocks()
    about, names = data.about, data.about["class_names"]
    options = {"hidden_dim": config.hidden_dim, "depth": config.depth, "dropout": config.dropout, "entries": about["entries"]}
    if config.model == "gat":
        options["num_heads"] = config.num_heads
    build = {"gcn": models.gcn, "graphsage": models.graphsage, "gat": models.gat, "gin": models.gin}[config.model]
    model = build(about["num_features"], len(names), **options)
    if config.first_l2:
        first = next(layer for layer in model.layers if layer.weights)
        for weight in first.weights:
            if len(weight.shape) > 1:
                weight.regularizer = keras.regularizers.L2(config.first_l2)
    return compile_model(model, config, data.train, loss=OneHotLoss("cross-entropy", len(names)), metrics=[accuracy()])


def baselines(data, config):
    """The commonest class; labels spread along the edges; logistic regression on each node's own features."""
    import warnings

    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import normalize

    from apps.common.data.graphs.nodes import feature_rows, spread_labels
    from apps.common.reports.baselines import class_shares, fitted_classes
    from apps.common.reports.classification import classification_metrics

    train, test, labels = data.train.mask, data.test.mask, data.train.y[0]
    count = len(data.about["class_names"])
    spread = spread_labels(data.train.x["edges"][0], labels, train, count)
    found = {
        "majority": class_shares(labels[train], labels[test], count),
        "labels spread along edges": classification_metrics(spread[test], labels[test]),
    }
    if len(set(labels[train])) > 1:
        # Rows are shares of a node's words: brought to unit length, the penalty means the same for any number of them.
        x = normalize(feature_rows(data.train.x, data.about["num_features"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an end before it converges is good enough beside a network
            regression = LogisticRegression(C=10.0, max_iter=100)
            parts = (x[train], labels[train]), (x[test], labels[test])
            found["logistic regression on features"] = fitted_classes(regression, *parts, count)
    return found


def evaluate(model, data, config):
    """Accuracy, F1, AUC and calibration on the test nodes; confusion, and the graph as the model sees it."""
    import keras

    from apps.common import figures
    from apps.common.data.graphs.nodes import node_positions, principal_plane
    from apps.common.reports.classification import classification_report, softmax
    from apps.common.training.batches import predict_all

    names, test = data.about["class_names"], data.test.mask
    hidden = keras.tree.flatten(model.get_layer("logits").input)[0]
    logits, hidden = predict_all(keras.Model(model.input, [model.output, hidden]), data.test.x)
    probabilities, labels = softmax(logits[0]), data.test.y[0]
    metrics, tables, drawn = classification_report(probabilities[test], labels[test], names)
    predicted = probabilities.argmax(1)
    wrong = test & (predicted != labels)
    if len(labels) <= 200:
        edges = data.test.x["edges"][0]
        title = "predicted classes; a red ring is a wrong test node"
        drawn["graph"] = figures.nodes(node_positions(edges, len(labels)), predicted, names, title, edges=edges, wrong=wrong)
    title = "last hidden layer, by its two principal directions; true classes of the test nodes"
    drawn["embedding"] = figures.nodes(principal_plane(hidden[0][test]), labels[test], names, title, wrong=wrong[test])
    return Report(metrics, drawn, tables)


def predict(model, inputs, about):
    """Classes of nodes by number or name, in the graph the model was trained on; or `GRAPH.npz [NODE ...]` in another.

    Raises:
        UserError: The graph is no longer the one of the training, or another has other features.
    """
    from apps.common.reports.classification import class_prediction, softmax
    from apps.common.training.batches import predict_all

    options, other = dict(about["graph"]), inputs[0] in NAMED or Path(inputs[0]).suffix == ".npz"
    if other:
        options["data"], inputs = inputs[0], inputs[1:]
    data = options.pop("data")
    graph = read_graph(data, **options, class_names=about["class_names"], num_features=about["num_features"] if other else None)
    if not other and graph.fingerprint() != about["fingerprint"]:
        raise UserError(f"{data}: no longer the graph this model was trained on. Restore it, or name a graph: {data} 0 5 17")
    nodes, reasons = chosen_nodes(graph, inputs)
    probabilities = softmax(predict_all(model, graph.inputs(about["entries"]))[0])
    rows = iter(class_prediction(probabilities[nodes], about["class_names"]))
    if not inputs:
        return [{"node": graph.node_names[node], **row} for node, row in zip(nodes, rows, strict=True)]
    named = iter(nodes)
    return [
        {"node": word, "reason": reason} if reason else {"node": graph.node_names[next(named)], **next(rows)}
        for word, reason in zip(inputs, reasons, strict=True)
    ]


if __name__ == "__main__":
    start(__spec__)
