"""One graph whose nodes have features and labels: read from .npz or tables or made by networkx, checked, split, drawn.

Edges are two rows of node numbers, source above target; nothing here is a matrix of nodes by nodes.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from apps.common.data.examples import find_data, split_indices
from apps.common.data.fingerprint import digest
from apps.common.data.graphs.lists import is_lists, read_lists
from apps.common.data.npz import npz_headers, read_npz_arrays
from apps.common.data.reading import list_folder, require_memory, split_of
from apps.common.errors import UserError, nearest

NAMED = {"karate": "karate_club_graph", "les_miserables": "les_miserables_graph"}
ADVICE = "Give a smaller graph"
# Nodes without features are told apart by a one-hot code; beyond this many nodes they share columns.
MAX_CODES = 128


@dataclass(frozen=True)
class Graph:
    """A graph.

    Args:
        features: float32 `(nodes, features)`.
        edges: int32 `(2, edges)`, each once, sorted by target; no edge from a node to itself.
        labels: `(nodes,)` class indices, -1 where unknown; `None` when the data have none.
        class_names, node_names: One name each.
        masks: `{split: bool (nodes,)}`, of the splits the data name.
        notes: Lines about what was left out.
    """

    features: np.ndarray
    edges: np.ndarray
    labels: np.ndarray | None
    class_names: list
    node_names: list
    masks: dict
    notes: list = field(default_factory=list)

    def entries(self):
        """Most features of a node that are not zero, where a sparse form saves much; else `None`: the dense one."""
        most = max(1, int(np.count_nonzero(self.features, axis=1).max()))
        return most if 8 * most <= self.features.shape[1] else None

    def inputs(self, entries=None):
        """What a graph model takes: this graph as a batch of one, sparse where `entries` are given.

        Raises:
            UserError: A node has more entries than that.
        """
        if entries is None:
            return {"features": self.features[None], "edges": self.edges[None]}
        counts = np.count_nonzero(self.features, axis=1)
        if counts.max() > entries:
            raise UserError(
                f"node {counts.argmax()} has {counts.max()} features that are not zero, more than the {entries} of any "
                "node in training. Train again on a graph with such nodes"
            )
        rows, found = np.nonzero(self.features)
        position = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
        values, columns = np.zeros((2, len(counts), entries), "float32")
        values[rows, position], columns[rows, position] = self.features[rows, found], found
        return {"values": values[None], "columns": columns[None].astype("int32"), "edges": self.edges[None]}

    def fingerprint(self):
        """A digest of features and edges."""
        return digest(self.features, self.edges)


class GraphNodes:
    """The nodes of one split: the one example of a full batch is the whole graph, and the other nodes weigh nothing.

    Args:
        graph: A `Graph` with labels.
        mask: bool `(nodes,)`, the nodes of this split.
        entries: As for `Graph.inputs`.
        weight: One number a node of the split, of mean one; all alike when `None`.
    """

    def __init__(self, graph, mask, entries, weight=None):
        self.x, self.y, self.mask = graph.inputs(entries), np.maximum(graph.labels, 0)[None], mask
        self.weight = np.zeros((1, len(mask)), "float32")
        # Keras divides the loss by the number of all nodes: so the sum of the weights must be that.
        self.weight[0, mask] = len(mask) / mask.sum() * (1.0 if weight is None else weight)

    def __len__(self):
        return 1

    def take(self, indices):
        return self.x, self.y, self.weight

    def fingerprint(self):
        return digest(*self.x.values(), self.y, self.weight)


def graph_source(name):
    """What finds the graph again from any folder: its own name, or its whole path."""
    return name if name in NAMED else str(_path(name).resolve())


def read_graph(name, *, directed=False, normalize=True, class_names=None, num_features=None):
    """The graph that `--data NAME` means.

    Args:
        name: `karate`, `les_miserables`, or an .npz of `edges` `(2, edges)` and, where there are any, `features`
            `(nodes, features)`, `labels` `(nodes,)` (negative where unknown), `names` and `train_mask`,
            `validation_mask`, `test_mask` `(nodes,)`; or tables of edges and nodes (see `lists.py`).
        directed: Whether an edge counts in its own direction only.
        normalize: Whether the sizes of each node's features are scaled to sum to one.
        class_names: Classes the labels must be among; found in the data when `None`.
        num_features: Features a node must have; any number when `None`.
    Raises:
        UserError: What is wrong with the data, in one line.
    """
    if name in NAMED:
        arrays, notes, where = _named_arrays(name), [], name
    else:
        where = _path(name)
        arrays, notes = read_lists(where) if is_lists(where) else (_npz_arrays(where), [])
    num_nodes = next((len(arrays[key]) for key in ("features", "labels", "names") if key in arrays), None)
    if num_nodes is None:
        raise UserError(f"{where}: neither features nor labels: the number of nodes is unknown. Add one of the arrays")
    edges = _checked_edges(arrays["edges"], num_nodes, where)
    edges = _plain_edges(edges, num_nodes, directed, notes)
    if "features" in arrays:
        features = _checked_features(arrays["features"], where)
        if normalize:
            features /= np.maximum(np.abs(features).sum(1, keepdims=True), 1e-12)
    else:
        features = node_codes(edges, num_nodes)
        notes.append(f"no features: each node has a one-hot code ({features.shape[1] - 1} columns) and its degree")
    if num_features not in (None, features.shape[1]):
        raise UserError(f"{where}: {features.shape[1]} features a node, the model was trained on {num_features}")
    labels = None
    if "labels" in arrays:
        labels, class_names = _checked_labels(arrays["labels"], num_nodes, class_names, where)
    if "names" in arrays and np.ndim(arrays["names"]) != 1:
        raise UserError(f"{where}: names: an array of shape {np.shape(arrays['names'])}. Expected one name for each node")
    names = [str(each) for each in arrays["names"]] if "names" in arrays else [str(i) for i in range(num_nodes)]
    if len(names) != num_nodes:
        raise UserError(f"{where}: names: {len(names):,} for {num_nodes:,} nodes. Each node needs its own")
    notes.insert(0, f"{num_nodes:,} nodes, {edges.shape[1]:,} directed edges, {features.shape[1]:,} features")
    return Graph(features, edges, labels, class_names or [], names, _checked_masks(arrays, num_nodes, where), notes)


def split_nodes(graph, train_share, seed):
    """`{split: mask}` as the data name them; else by the seed, stratified: `train_share`, the rest halved.

    Raises:
        UserError: The masks overlap, or one is empty or covers a node without a label.
    """
    known, masks = graph.labels >= 0, dict(graph.masks)
    nodes = np.flatnonzero(known)

    def mask_of(indices):
        mask = np.zeros(len(known), bool)
        mask[indices] = True
        return mask

    if not masks:
        held = (1 - train_share) / 2
        parts = split_indices(graph.labels[known], (held, held), seed)
        masks = dict(zip(("train", "validation", "test"), (mask_of(nodes[part]) for part in parts), strict=True))
    elif "train" not in masks or "test" not in masks:
        raise UserError(f"the data have a mask of {', '.join(masks)} only: train_mask and test_mask are both needed, or none")
    elif "validation" not in masks:
        inside = np.flatnonzero(masks["train"])
        rest, held = split_indices(graph.labels[inside], (0.2,), seed)
        masks |= {"train": mask_of(inside[rest]), "validation": mask_of(inside[held])}
        graph.notes.append("the data name no validation split: a fifth of train is taken for it")
    for name, mask in masks.items():
        if not mask.any():
            raise UserError(f"{name}_mask: no node is in it; more labelled nodes are needed")
        if not known[mask].all():
            raise UserError(f"{name}_mask: {int((mask & ~known).sum()):,} of its nodes have no label. Leave them out of it")
        for other in masks:
            if other < name and (both := int((mask & masks[other]).sum())):
                raise UserError(f"{name}_mask and {other}_mask share {both:,} nodes. A node may be in one split only")
    counts = {name: int(mask.sum()) for name, mask in masks.items()}
    graph.notes.append("{train:,} nodes to train on, {validation:,} for validation, {test:,} for the test".format(**counts))
    return masks


def node_positions(edges, num_nodes):
    """Places `(nodes, 2)` in which the nodes of a small graph are drawn: springs along the edges."""
    import networkx

    graph = networkx.empty_graph(num_nodes)
    graph.add_edges_from(edges.T.tolist())
    places = networkx.spring_layout(graph, seed=0)
    return np.array([places[node] for node in range(num_nodes)])


def principal_plane(x):
    """Rows of `x` in the two directions of largest variance, `(rows, 2)`."""
    centred = np.asarray(x, "float64") - np.mean(x, axis=0)
    directions = np.linalg.svd(centred.T @ centred)[0][:, :2]
    plane = centred @ directions
    return plane if plane.shape[1] == 2 else np.column_stack([plane, np.zeros(len(plane))])


def spread_labels(edges, labels, known, num_classes, *, steps=30, share=0.9):
    """Class shares of each node by label propagation: Y <- a D^-1 A Y + (1 - a) Y0, the known nodes' labels in Y0.

    Args:
        edges: `(2, edges)`, source above target.
        labels: `(nodes,)` class indices.
        known: bool `(nodes,)`, the nodes whose labels may be used.
        num_classes: Number of classes.
        steps, share: How often, and a of the formula.
    Returns: `(nodes, classes)`, rows that sum to one.
    Reference: Zhou et al., 2004, Learning with local and global consistency.
    """
    from scipy.sparse import csr_array

    count = len(labels)
    ones = np.ones(edges.shape[1], "float32")
    neighbours = csr_array((ones, (edges[1], edges[0])), shape=(count, count))
    degree = np.maximum(neighbours.sum(1), 1)[:, None]
    start = np.zeros((count, num_classes))
    start[np.flatnonzero(known), labels[known]] = 1
    found = start
    for _ in range(steps):
        found = share * (neighbours @ found) / degree + (1 - share) * start
    # What nothing reaches has the shares of the known labels.
    found = found + 1e-9 * start.mean(0)
    return found / found.sum(1, keepdims=True)


def feature_rows(inputs, num_features):
    """Features `(nodes, features)` of what `Graph.inputs` gives, as a sparse array."""
    from scipy.sparse import csr_array

    if "features" in inputs:
        return csr_array(inputs["features"][0])
    values, columns = inputs["values"][0], inputs["columns"][0]
    rows = np.repeat(np.arange(len(values)), values.shape[1])
    return csr_array((values.ravel(), (rows, columns.ravel())), shape=(len(values), num_features))


def node_codes(edges, num_nodes):
    """Features `(nodes, columns)` where the data have none: a one-hot code and the logarithm of the degree."""
    columns = min(num_nodes, MAX_CODES)
    features = np.zeros((num_nodes, columns + 1), "float32")
    features[np.arange(num_nodes), np.random.default_rng(0).permutation(num_nodes) % columns] = 1.0
    degree = np.log1p(np.bincount(edges[1], minlength=num_nodes))
    features[:, -1] = degree / max(degree.max(), 1.0)
    return features


def chosen_nodes(graph, words):
    """`(nodes, reasons)`: node numbers that the words mean, by number or by name, and for each word why it means none.

    All nodes when there are no words.
    """
    named = {name: index for index, name in enumerate(graph.node_names)}
    nodes, reasons = [], []
    for word in map(str, words):
        reasons.append("")
        if word in named:
            nodes.append(named[word])
        elif word.isdecimal() and int(word) < len(named):
            nodes.append(int(word))
        else:
            hint = "" if word.lstrip("-").isdecimal() else " " + nearest(word, named)
            reasons[-1] = f"expected a number from 0 to {len(named) - 1}, or a node's name.{hint}"
    return (nodes if words else list(range(len(named)))), reasons


def _path(name):
    path = Path(find_data(name))
    if is_lists(path):
        return path
    if path.is_dir():
        found = [entry for entry in list_folder(path) if entry.suffix == ".npz"]
        if len(found) != 1:
            names = ", ".join(entry.name for entry in found) or "none"
            raise UserError(
                f"--data {name}: expected one .npz in this folder, or tables edges.csv and nodes.csv. Received: {names}. "
                "Name the file itself"
            )
        path = found[0]
    if path.suffix != ".npz":
        raise UserError(
            f"--data {name}: expected a table of edges (.csv, .tsv, .txt, .edgelist) with one of nodes and their classes beside "
            "it, or an .npz with the arrays edges (pairs of node numbers) and labels, and features where there are any"
        )
    return path


def _npz_arrays(path):
    headers = npz_headers(path)
    wanted = {name: header for name, header in headers.items() if name in ("features", "labels", "edges", "names")}
    wanted |= {name: header for name, header in headers.items() if _mask_split(name)}
    if "edges" not in wanted:
        raise UserError(f"{path}: no array called edges. Received: {', '.join(headers) or 'nothing'}")
    shape = headers.get("features", ((), None))[0]
    require_memory(8 * math.prod(shape), path, ADVICE)  # in single precision, and once more while they are scaled
    return read_npz_arrays(path, wanted, ADVICE)


def _mask_split(name):
    return split_of(name.removesuffix("_mask")) if name.endswith("_mask") else None


def _named_arrays(name):
    """A graph of networkx: karate with its two clubs, Les Misérables with the communities of modularity as classes."""
    import networkx

    graph = getattr(networkx, NAMED[name])()
    nodes = list(graph)
    index = {node: position for position, node in enumerate(nodes)}
    edges = np.array([(index[a], index[b]) for a, b in graph.edges]).T
    if name == "karate":
        labels = [graph.nodes[node]["club"] for node in nodes]
    else:
        communities = networkx.community.greedy_modularity_communities(graph, weight="weight")
        community = {node: max(sorted(each), key=graph.degree) for each in communities for node in each}
        labels = [f"around {community[node]}" for node in nodes]
    return {"edges": edges, "labels": np.array(labels), "names": np.array([str(node) for node in nodes])}


def _checked_edges(edges, num_nodes, where):
    if edges.dtype.kind not in "iu" or edges.ndim != 2 or 2 not in edges.shape:
        raise UserError(f"{where}: edges: expected whole numbers (2, edges). Received: {edges.dtype} {edges.shape}")
    edges = edges if edges.shape[0] == 2 else edges.T
    outside = np.flatnonzero(((edges < 0) | (edges >= num_nodes)).any(0))
    if len(outside):
        source, target = edges[:, outside[0]]
        raise UserError(
            f"{where}: edges: {len(outside):,} name a node that is not there, the first one {source} - {target}. "
            f"Expected numbers from 0 to {num_nodes - 1}"
        )
    return edges.astype(np.int64)


def _plain_edges(edges, num_nodes, directed, notes):
    """Both directions of every edge unless `directed`, each once, sorted by target, without loops."""
    loops = edges[0] == edges[1]
    if loops.any():
        notes.append(f"left out {int(loops.sum()):,} edges from a node to itself")
        edges = edges[:, ~loops]
    if not directed:
        edges = np.concatenate([edges, edges[::-1]], axis=1)
    # One number an edge, in the order (target, source).
    codes = np.unique(edges[1] * num_nodes + edges[0])
    return np.stack([codes % num_nodes, codes // num_nodes]).astype("int32")


def _checked_features(features, where):
    if features.ndim != 2 or features.dtype.kind not in "buif" or not features.size:
        shape = f"{features.dtype} {features.shape}"
        raise UserError(f"{where}: features: expected numbers (nodes, features). Received: {shape}")
    features = features.astype("float32")
    bad = np.flatnonzero(~np.isfinite(features).all(1))
    if len(bad):
        raise UserError(f"{where}: features: {len(bad):,} nodes have NaN or infinite ones, the first is node {bad[0]}")
    return features


def _checked_labels(labels, num_nodes, class_names, where):
    """`(class indices, class names)`; an index of -1 is a node without a label."""
    if labels.shape != (num_nodes,) or labels.dtype.kind not in "iuUS":
        raise UserError(
            f"{where}: labels: expected one whole number or word a node, ({num_nodes},). "
            f"Received: {labels.dtype} {labels.shape}"
        )
    known = labels >= 0 if labels.dtype.kind in "iu" else labels.astype(str) != ""
    words = np.unique(labels[known])
    found = [str(word) for word in (words.astype(str) if words.dtype.kind == "S" else words)]
    if class_names is None and len(found) < 2:
        raise UserError(f"{where}: labels: a single class ({', '.join(found) or 'none'}); at least two are needed")
    class_names = class_names or found
    unknown = [name for name in found if name not in class_names]
    if unknown:
        raise UserError(f"{where}: labels: class {unknown[0]} is not among those of the model: {', '.join(class_names)}")
    position = np.array([class_names.index(name) for name in found], dtype="int32")
    indices = np.full(num_nodes, -1, "int32")
    indices[known] = position[np.searchsorted(words, labels[known])]
    return indices, class_names


def _checked_masks(arrays, num_nodes, where):
    masks = {}
    for name, mask in arrays.items():
        split = _mask_split(name)
        if not split:
            continue
        if mask.shape != (num_nodes,) or mask.dtype.kind not in "bui" or not np.isin(mask, (0, 1)).all():
            raise UserError(
                f"{where}: {name}: expected true or false for each of {num_nodes:,} nodes. Received: {mask.dtype} {mask.shape}"
            )
        masks[split] = mask.astype(bool)
    return masks
