"""Loops by hand around a model of ours, for tasks whose network nobody would write anew: what is left is what `fit` adds."""

import time

import numpy as np


def jax_loop(model, optimizer, feed):
    """One jitted step with donated buffers over the model's own loss.

    Args:
        model: A compiled model.
        optimizer: One of optax.
        feed: `feed(steps)` yields so many batches `(x, y)` of arrays.
    Returns: `run(steps)`, which gives the seconds they took.
    """
    import jax
    import keras

    weights, others = model.trainable_variables, model.non_trainable_variables

    def loss_of(trainable, fixed, x, y):
        values = [*zip(weights, trainable, strict=True), *zip(others, fixed, strict=True)]
        with keras.StatelessScope(state_mapping=values) as scope:
            loss = model.compute_loss(x, y, model(x, training=True))
        return loss, [scope.get_current_value(each) for each in others]

    def step(state, x, y):
        trainable, fixed, moments = state
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, x, y)
        updates, moments = optimizer.update(gradients, moments, trainable)
        return ([a + b for a, b in zip(trainable, updates, strict=True)], fixed, moments), loss

    step = jax.jit(step, donate_argnums=0)
    # Copies: the step donates its buffers, and the model keeps its own.
    trainable, fixed = ([jax.numpy.array(np.asarray(each)) for each in group] for group in (weights, others))
    state = (trainable, fixed, optimizer.init(trainable))

    def run(steps):
        nonlocal state
        start = time.perf_counter()
        for x, y in feed(steps):
            state, loss = step(state, x, y)
        loss.block_until_ready()
        return time.perf_counter() - start

    return run


def tensorflow_loop(model, optimizer, feed):
    """A `tf.function` step with a gradient tape over the model's own loss; arguments as of `jax_loop`, a Keras optimizer."""
    import tensorflow as tf

    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(x, y, model(x, training=True))
        optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    def run(steps):
        start = time.perf_counter()
        for x, y in feed(steps):
            loss = step(x, y)
        loss.numpy()
        return time.perf_counter() - start

    return run


def torch_loop(network, loss_of, clip, rate, feed):
    """Eager torch with Adam.

    Args:
        network: A `torch.nn.Module`.
        loss_of: `loss_of(network, x, y)` of tensors.
        clip: Largest norm of the gradient.
        rate: Learning rate.
        feed: As of `jax_loop`.
    """
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = network.to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), rate)

    def run(steps):
        start = time.perf_counter()
        for x, y in feed(steps):
            x = {name: torch.from_numpy(each.astype("int64")).to(device) for name, each in x.items()}
            loss = loss_of(network, x, torch.from_numpy(y.astype("int64")).to(device))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
        loss.item()
        return time.perf_counter() - start

    return run


def whole_batches(examples, batch_size):
    """`feed(steps)` of `(x, y)` batches of examples in memory, in a seeded order, over and over."""

    def feed(steps):
        generator = np.random.default_rng(0)
        for _ in range(steps):
            yield examples.take(generator.integers(0, len(examples), batch_size))[:2]

    return feed
