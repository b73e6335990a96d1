"""The graph convolutional network on graphs of Cora's size, as one would write it by hand, against `fit`.

    KERAS_BACKEND=jax python -m bench.raw_gcn

Two layers, dropout on the input and between, Adam, a full batch; the adjacency is normalised once beforehand, which our
layers do anew in each step, since the edges are an input of theirs. The features are sparse in all of them.
"""

import statistics
import time

import numpy as np

NODES, FEATURES, ENTRIES, EDGES, CLASSES, HIDDEN = 2708, 1433, 30, 5278, 7, 16
RATE, DROPOUT = 0.01, 0.5


def made_graph():
    """A seeded graph of Cora's shapes, as `apps.common.graphs.Graph`."""
    from apps.common.graphs import Graph

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


def raw_torch(steps):
    """Seconds a step of an eager torch loop."""
    import torch
    from torch.nn import functional

    values, columns, source, target, weight, labels, nodes = map(torch.as_tensor, arrays())
    labels = labels.long()
    w1, w2 = (torch.tensor(glorot(*shape), requires_grad=True) for shape in ((FEATURES, HIDDEN), (HIDDEN, CLASSES)))
    b1, b2 = (torch.zeros(size, requires_grad=True) for size in (HIDDEN, CLASSES))
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

    return timed(step, steps, lambda: None)


def raw_jax(steps):
    """Seconds a step of a jitted JAX loop with donated state."""
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

    return timed(step, steps, lambda: jax.block_until_ready(carried[0]))


def ours(steps):
    """Seconds a step of the app's own model under `fit`, `steps` of them an epoch."""
    from apps import graph as app
    from apps.common.batches import Batches
    from apps.common.callbacks import Seeds
    from apps.common.data import Data
    from apps.common.graphs import GraphNodes
    from apps.common.options import make_config
    from apps.common.run import make_model
    from layers import backend

    graph = made_graph()
    train = GraphNodes(graph, np.arange(NODES) < 140, ENTRIES)
    about = {"class_names": graph.class_names, "num_features": FEATURES, "entries": ENTRIES}
    config = make_config(app.Config, {"hidden_dim": HIDDEN, "dropout": DROPOUT, "learning_rate": RATE})
    model, batches = make_model(app, config, Data(train, None, None, about)), Batches(train, 1, 0)
    batches.steps = steps

    def epoch():
        model.fit(backend.feed(batches), shuffle=False, verbose=0, callbacks=[Seeds(batches, 0)])

    return timed(epoch, 1, backend.synchronize) / steps


def timed(step, steps, synchronize):
    """Seconds a call, after three that compile and warm up; a function to be called again for another turn."""
    for _ in range(min(3, steps)):
        step()
    synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    synchronize()
    return (time.perf_counter() - start) / steps


def measure(backend, steps=100, turns=5):
    """`{"ours_ms", "raw_ms", "ratio", "spread"}` on the running backend, in turns, medians."""
    raw = {"torch": raw_torch, "jax": raw_jax}[backend]
    times = [(ours(steps), raw(steps)) for _ in range(turns)]
    own, other = (1000 * statistics.median(column) for column in zip(*times, strict=True))
    ratios = [first / second for first, second in times]
    spread = f"{min(ratios):.2f}-{max(ratios):.2f}"
    return {"ours_ms": round(own, 2), "raw_ms": round(other, 2), "ratio": round(statistics.median(ratios), 2), "spread": spread}


if __name__ == "__main__":
    import keras

    print(measure(keras.backend.backend()))
