"""Loops by hand, for tasks whose loss is more than one line: over `torch.nn`, and in JAX and TensorFlow over a model of ours.

There what is left is what `fit` adds. A model's own loss is called within a stateless scope, so that no metric is updated: a
loop by hand has none.
"""

import functools
import time

import numpy as np

BACKENDS = ("torch", "jax", "tensorflow")


def on_each_backend(loops):
    """What `Family` takes as its loops, of one function `loops(backend, data)`."""
    return {backend: functools.partial(loops, backend) for backend in BACKENDS}


def keras_loop(backend, model, batches, rate, clip=None):
    """The loop of JAX or TensorFlow over the model's own network and loss, by what a table calls it.

    Args:
        backend: Which of the two.
        model: A compiled model.
        batches: `batches(steps)` yields so many `(x, y[, weight])` of arrays, nested or not.
        rate: Adam's.
        clip: Largest norm of the gradient; none by default.
    Returns: `{name: run}`; `run(steps)` gives the seconds they took.
    """
    if backend == "jax":
        return {"jax.jit, donated": _jax_loop(model, batches, rate, clip)}
    return {"tf.function": _tensorflow_loop(model, batches, rate, clip)}


def _jax_loop(model, batches, rate, clip):
    import jax
    import keras
    import optax

    optimizer = optax.chain(*([optax.clip_by_global_norm(clip)] if clip else []), optax.adam(rate))

    def loss_of(trainable, fixed, x, targets):
        outputs, fixed = model.stateless_call(trainable, fixed, x, training=True)
        with keras.StatelessScope():
            return _own_loss(model, x, outputs, *targets), fixed

    def step(state, x, targets):
        trainable, fixed, moments = state
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, x, targets)
        updates, moments = optimizer.update(gradients, moments, trainable)
        return (optax.apply_updates(trainable, updates), fixed, moments), loss

    step = jax.jit(step, donate_argnums=0)
    # Copies: the step donates its buffers, and the model keeps its own.
    trainable = [jax.numpy.array(np.asarray(each)) for each in model.trainable_variables]
    fixed = [jax.numpy.array(np.asarray(each)) for each in model.non_trainable_variables]
    state = (trainable, fixed, optimizer.init(trainable))

    def run(steps):
        nonlocal state
        start = time.perf_counter()
        for x, *targets in batches(steps):
            state, loss = step(state, x, targets)
        loss.block_until_ready()
        return time.perf_counter() - start

    return run


def _tensorflow_loop(model, batches, rate, clip):
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(rate, global_clipnorm=clip)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, targets):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            with keras.StatelessScope():
                loss = _own_loss(model, x, outputs, *targets)
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def run(steps):
        start = time.perf_counter()
        for batch in batches(steps):
            x, *targets = keras.tree.map_structure(tf.convert_to_tensor, batch)
            loss = step(x, targets)
        loss.numpy()
        return time.perf_counter() - start

    return run


def _own_loss(model, x, outputs, y, weight=None):
    return model.compute_loss(x, y, outputs, weight)


def torch_loop(network, loss_of, batches, rate, clip=None):
    """The plainest training loop of torch, eager; arguments as of `keras_loop`.

    Args:
        network: A `torch.nn.Module`.
        loss_of: `loss_of(network, x, y[, weight])` of tensors, whose whole numbers have 64 bits but for pixels.
    """
    import keras
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), rate)

    def tensor(array):
        return torch.from_numpy(array.astype("int64") if array.dtype.kind == "i" else array).to(device)

    def run(steps):
        start = time.perf_counter()
        for batch in batches(steps):
            batch = keras.tree.map_structure(tensor, batch)
            optimizer.zero_grad(set_to_none=True)
            loss = loss_of(network, *batch)
            loss.backward()
            if clip:
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
        loss.item()
        return time.perf_counter() - start

    return {"torch eager": run}


def shuffled_batches(examples, batch_size):
    """`batches(steps)` of these loops: batches of the examples in seeded orders, epoch after epoch."""
    generator, place, order = np.random.default_rng(0), 0, np.arange(0)

    def batches(steps):
        nonlocal place, order
        for _ in range(steps):
            if place + batch_size > len(order):
                place, order = 0, generator.permutation(len(examples))
            yield tuple(part for part in examples.take(order[place : place + batch_size]) if part is not None)
            place += batch_size

    return batches
