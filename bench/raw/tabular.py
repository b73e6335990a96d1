"""Training of the table's MLP beside loops with nothing of ours in them, for `triptych bench tabular`.

A table of the size of Adult: 32,561 rows, 6 numbers, 8 categories, the recipe adult-mlp's network and batches of 256. The app's
default model on its default data is there for single-row prediction alone.
"""

import time

import numpy as np

from bench import loops
from bench.family import Family

ROWS, NUMBERS, CARDINALITIES, CLASSES, BATCH = 32_561, 6, (9, 16, 7, 15, 6, 5, 2, 42), 2, 256
HIDDEN, DROPOUT, RATE = (256, 128), 0.3, 2e-3
OPTIONS = {"hidden_dims": HIDDEN, "dropout": DROPOUT, "batch_size": BATCH, "learning_rate": RATE}


def default_setting():
    """`(app, options, data)` of the app's own defaults."""
    from apps import tabular
    from apps.common.options.declare import make_config

    return tabular, {}, tabular.load_data(make_config(tabular.Config, {}))


def setting():
    """`(app, options, data)`: rows of random numbers and categories."""
    from apps import tabular
    from apps.common.data.examples import Data, Examples
    from apps.common.data.tables.encoding import FIRST_INDEX

    generator = np.random.default_rng(0)
    numbers = generator.normal(size=(ROWS, NUMBERS)).astype("float32")
    ids = np.stack([generator.integers(0, each, ROWS) for each in sizes()], axis=1).astype("int32")
    train = Examples({"numeric": numbers, "categorical": ids}, generator.integers(0, CLASSES, ROWS))
    categories = [{"name": f"c{i}", "values": list(range(each - FIRST_INDEX))} for i, each in enumerate(sizes())]
    about = {
        "numeric": [{"name": f"n{i}"} for i in range(NUMBERS)],
        "categorical": categories,
        "classes": list(map(str, range(CLASSES))),
    }
    return tabular, OPTIONS, Data(train, None, None, about)


def sizes():
    """How many ids each column of categories has, two beside its values: for a missing and for another one."""
    return [2 + each for each in CARDINALITIES]


def tables():
    """Ids of each column of categories and the features of one."""
    return [(each, min(50, (each + 1) // 2)) for each in sizes()]


def widths():
    """Inputs of each dense layer and its outputs."""
    joined = NUMBERS + sum(width for _, width in tables())
    return list(zip((joined, *HIDDEN), (*HIDDEN, CLASSES), strict=True))


def by_hand(backend, data):
    batches = loops.shuffled_batches(data.train, BATCH)
    return {"torch": torch_loop, "jax": jax_loop, "tensorflow": tensorflow_loop}[backend](batches)


def torch_loop(batches):
    import torch
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.embeddings = nn.ModuleList([nn.Embedding(*each) for each in tables()])
            *hidden, last = [nn.Linear(*each) for each in widths()]
            self.dense = nn.Sequential(*(part for each in hidden for part in (each, nn.ReLU(), nn.Dropout(DROPOUT))), last)

        def forward(self, numbers, ids):
            columns = [embedding(ids[:, index]) for index, embedding in enumerate(self.embeddings)]
            return self.dense(torch.cat([numbers, *columns], 1))

    def loss_of(network, x, y):
        return nn.functional.cross_entropy(network(x["numeric"], x["categorical"]), y)

    return loops.torch_loop(Network(), loss_of, batches, RATE)


def drawn_weights():
    """`(embeddings, [(kernel, bias)])` as arrays."""
    generator = np.random.default_rng(1)
    embeddings = [generator.uniform(-0.05, 0.05, each).astype("float32") for each in tables()]
    kernels = [generator.normal(0, (2 / sum(each)) ** 0.5, each).astype("float32") for each in widths()]
    return embeddings, [(kernel, np.zeros(kernel.shape[1], "float32")) for kernel in kernels]


def jax_loop(batches):
    import jax
    import optax

    optimizer = optax.adam(RATE)

    def loss_of(weights, key, numbers, ids, y):
        embeddings, dense = weights
        x = jax.numpy.concatenate([numbers, *(table[ids[:, index]] for index, table in enumerate(embeddings))], axis=1)
        for each, (kernel, bias) in zip(jax.random.split(key, len(HIDDEN)), dense, strict=False):
            x = jax.nn.relu(x @ kernel + bias)
            x = jax.numpy.where(jax.random.bernoulli(each, 1 - DROPOUT, x.shape), x / (1 - DROPOUT), 0.0)
        kernel, bias = dense[-1]
        return optax.softmax_cross_entropy_with_integer_labels(x @ kernel + bias, y).mean()

    def step(state, numbers, ids, y):
        weights, moments, key = state
        key, own = jax.random.split(key)
        loss, gradients = jax.value_and_grad(loss_of)(weights, own, numbers, ids, y)
        updates, moments = optimizer.update(gradients, moments, weights)
        return (optax.apply_updates(weights, updates), moments, key), loss

    step = jax.jit(step, donate_argnums=0)
    weights = jax.tree.map(jax.numpy.array, drawn_weights())
    state = (weights, optimizer.init(weights), jax.random.key(0))

    def run(steps):
        nonlocal state
        start = time.perf_counter()
        for x, y in batches(steps):
            state, loss = step(state, x["numeric"], x["categorical"], y.astype("int32"))
        loss.block_until_ready()
        return time.perf_counter() - start

    return {"jax.jit, donated": run}


def tensorflow_loop(batches):
    import keras
    import tensorflow as tf

    trained = [keras.Variable(each) for each in keras.tree.flatten(drawn_weights())]  # what Keras's optimizer takes
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(trained)
    variables = [each.value for each in trained]
    embeddings, rest = variables[: len(sizes())], variables[len(sizes()) :]
    dense = list(zip(rest[::2], rest[1::2], strict=True))

    @tf.function
    def step(numbers, ids, y):
        with tf.GradientTape() as tape:
            x = tf.concat([numbers, *(tf.gather(table, ids[:, index]) for index, table in enumerate(embeddings))], 1)
            for kernel, bias in dense[:-1]:
                x = tf.nn.dropout(tf.nn.relu(x @ kernel + bias), DROPOUT)
            logits = x @ dense[-1][0] + dense[-1][1]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        optimizer.apply(tape.gradient(loss, variables), trained)
        return loss

    def run(steps):
        start = time.perf_counter()
        for x, y in batches(steps):
            loss = step(*map(tf.convert_to_tensor, (x["numeric"], x["categorical"], y)))
        loss.numpy()
        return time.perf_counter() - start

    return {"tf.function": run}


FAMILIES = {
    "tabular": Family(default_setting, loops={}, measured_by=("prediction",)),
    "table": Family(setting, loops=loops.on_each_backend(by_hand), usual_steps=115, measured_by=("speed", "run")),
}
