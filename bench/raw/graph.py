"""The graph convolutional network on graphs of Cora's size, as one would write it by hand, for `triptych bench graph`.

Two layers, dropout on the input and between, Adam, a full batch; the adjacency is normalised once beforehand, which our
layers do anew in each step, since the edges are an input of theirs. The features are sparse in all of them.
"""

import numpy as np

from bench.family import Family, Fit, Growth
from bench.turns import timed

NODES, FEATURES, ENTRIES, EDGES, CLASSES, HIDDEN = 2708, 1433, 30, 5278, 7, 16
RATE, DROPOUT = 0.01, 0.5
# Of the graphs that grow.
GROWING, GROWING_FEATURES, GROWING_CLASSES, DEGREE = ("gcn", "graphsage", "gat", "gin"), 16, 4, 8


def made_graph():
    """A seeded graph of Cora's shapes, as `apps.common.data.graphs.nodes.Graph`."""
    from apps.common.data.graphs.nodes import Graph

    generator = np.random.default_rng(0)
    features = np.zeros((NODES, FEATURES), "float32")
    features[np.arange(NODES)[:, None], generator.integers(0, FEATURES, (NODES, ENTRIES))] = 1 / ENTRIES
    pairs = generator.integers(0, NODES, (2, EDGES))
    edges = np.concatenate([pairs, pairs[::-1]], axis=1).astype("int32")
    labels = generator.integers(0, CLASSES, NODES).astype("int32")
    return Graph(features, edges, labels, [str(i) for i in range(CLASSES)], [], {})


def arrays():
    """`(values, columns, source, target, weight of each edge, labels, training nodes)`, loops among the edges."""
    graph = made_graph()
    inputs = graph.inputs(ENTRIES)
    loops = np.tile(np.arange(NODES, dtype="int32"), (2, 1))
    source, target = np.concatenate([graph.edges, loops], axis=1)
    degree = np.bincount(target, minlength=NODES)
    weight = ((degree[source] * degree[target]) ** -0.5).astype("float32")
    return inputs["values"][0], inputs["columns"][0], source, target, weight, graph.labels, np.arange(140)


def glorot(rows, columns):
    bound = (6 / (rows + columns)) ** 0.5
    return np.random.default_rng([rows, columns]).uniform(-bound, bound, (rows, columns)).astype("float32")


def torch_loop():
    """An eager torch loop."""
    import torch
    from torch.nn import functional

    device = "cuda" if torch.cuda.is_available() else "cpu"
    values, columns, source, target, weight, labels, nodes = (torch.as_tensor(each, device=device) for each in arrays())
    labels = labels.long()
    made = {"device": device, "requires_grad": True}
    w1, w2 = (torch.tensor(glorot(*shape), **made) for shape in ((FEATURES, HIDDEN), (HIDDEN, CLASSES)))
    b1, b2 = (torch.zeros(size, **made) for size in (HIDDEN, CLASSES))
    optimizer = torch.optim.Adam([w1, b1, w2, b2], RATE)

    def spread(x):
        return torch.zeros_like(x).index_add(0, target, x.index_select(0, source) * weight[:, None])

    def step():
        optimizer.zero_grad()
        bag = functional.dropout(values, DROPOUT)[..., None] * w1.index_select(0, columns.reshape(-1)).view(*columns.shape, -1)
        x = torch.relu(spread(bag.sum(1)) + b1)
        x = spread(functional.dropout(x, DROPOUT) @ w2) + b2
        functional.cross_entropy(x[nodes], labels[nodes]).backward()
        optimizer.step()

    return timed(step, torch.cuda.synchronize if device == "cuda" else lambda: None)


def jax_loop():
    """A jitted JAX loop with donated state."""
    import jax
    import jax.numpy as jnp
    import optax

    values, columns, source, target, weight, labels, nodes = map(jnp.asarray, arrays())
    optimizer = optax.adam(RATE)
    weights = {"w1": glorot(FEATURES, HIDDEN), "w2": glorot(HIDDEN, CLASSES), "b1": np.zeros(HIDDEN, "float32"),
               "b2": np.zeros(CLASSES, "float32")}  # fmt: skip
    weights = jax.tree.map(jnp.asarray, weights)

    def spread(x):
        return jax.ops.segment_sum(x[source] * weight[:, None], target, NODES)

    def dropout(key, x):
        return jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0)

    def loss(weights, key):
        first, second = jax.random.split(key)
        x = (dropout(first, values)[..., None] * weights["w1"][columns]).sum(1)
        x = jax.nn.relu(spread(x) + weights["b1"])
        x = spread(dropout(second, x) @ weights["w2"]) + weights["b2"]
        return optax.softmax_cross_entropy_with_integer_labels(x[nodes], labels[nodes]).mean()

    def update(weights, state, key):
        key, use = jax.random.split(key)
        updates, state = optimizer.update(jax.grad(loss)(weights, use), state, weights)
        return optax.apply_updates(weights, updates), state, key

    update = jax.jit(update, donate_argnums=(0, 1, 2))
    carried = [weights, optimizer.init(weights), jax.random.key(0)]

    def step():
        carried[:] = update(*carried)

    return timed(step, lambda: jax.block_until_ready(carried[0]))


def setting():
    """`(app, options, data)` under which the app trains this network."""
    from apps import graph as app
    from apps.common.data.examples import Data
    from apps.common.data.graphs.nodes import GraphNodes

    graph = made_graph()
    train = GraphNodes(graph, np.arange(NODES) < 140, ENTRIES)
    about = {"class_names": graph.class_names, "num_features": FEATURES, "entries": ENTRIES}
    options = {"hidden_dim": HIDDEN, "dropout": DROPOUT, "learning_rate": RATE}
    return app, options, Data(train, None, None, about)


def tensorflow_loop():
    """A `tf.function` step over the app's own model."""
    import tensorflow as tf

    fit = Fit(*setting())
    (x, y, weight), model, optimizer = fit.batches[0], fit.model, fit.model.optimizer
    x, y, weight = tf.nest.map_structure(tf.constant, (x, y, weight))

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(y, model(x, training=True))
            loss = tf.reduce_sum(losses * weight)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))

    return timed(step)


def step_of(model, along):
    """A step on a graph of so many nodes with `DEGREE` edges each, or of so many edges among 16,384 nodes."""

    def prepare(size):
        from apps import graph as app
        from apps.common.data.examples import Data
        from apps.common.data.graphs.nodes import Graph, GraphNodes

        nodes, edges = (size, DEGREE * size) if along == "nodes" else (16_384, size)
        generator = np.random.default_rng(0)
        features = generator.normal(size=(nodes, GROWING_FEATURES)).astype("float32")
        ends = generator.integers(0, nodes, (2, edges)).astype("int32")
        ends[1].sort()
        labels, names = generator.integers(0, GROWING_CLASSES, nodes), [str(index) for index in range(GROWING_CLASSES)]
        train = GraphNodes(Graph(features, ends, labels, names, [], {}), np.arange(nodes) % 2 == 0, None)
        options = {"model": model, "hidden_dim": 16} if model != "gat" else {"model": model, "hidden_dim": 8, "num_heads": 2}
        about = {"class_names": names, "num_features": GROWING_FEATURES, "entries": None}
        fit = Fit(app, options, Data(train, None, None, about))
        return lambda: fit.run(2) / 2

    return prepare


FAMILIES = {
    "gcn": Family(
        setting,
        loops={
            "torch": lambda data: {"torch eager": torch_loop()},
            "jax": lambda data: {"jax.jit, donated": jax_loop()},
            "tensorflow": lambda data: {"tf.function": tensorflow_loop()},
        },
        usual_steps=1,
    )
}
GROWTH = {
    **{f"{model}-nodes": Growth(step_of(model, "nodes"), "nodes", 131_072) for model in GROWING},
    **{f"{model}-edges": Growth(step_of(model, "edges"), "edges", 1_048_576) for model in GROWING},
}
