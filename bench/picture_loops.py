"""Training loops by hand over a network of Keras, for tasks whose loss is more than one line: JAX and TensorFlow.

A model's own loss is called within a stateless scope, so that no metric is updated: a loop by hand has none.
"""

import time

import numpy as np


def jax_loop(model, loss_of, batches, rate):
    """A jitted step with donated buffers and optax over the model's `stateless_call`; the function of a number of steps.

    Args:
        model: A built Keras model.
        loss_of: `loss_of(x, outputs, *targets)`, a number.
        batches: `batches(steps)` gives so many `(x, *targets)` as NumPy arrays, nested or not.
        rate: Adam's.
    """
    import jax
    import keras
    import optax

    optimizer = optax.adam(rate)

    def whole(trainable, fixed, x, targets):
        outputs, fixed = model.stateless_call(trainable, fixed, x, training=True)
        with keras.StatelessScope():
            return loss_of(x, outputs, *targets), fixed

    def step(state, x, targets):
        trainable, fixed, moments = state
        (loss, fixed), gradients = jax.value_and_grad(whole, has_aux=True)(trainable, fixed, x, targets)
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


def tensorflow_loop(model, loss_of, batches, rate):
    """A `tf.function` step with a gradient tape; arguments as `jax_loop`."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.Adam(rate)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(x, targets):
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            with keras.StatelessScope():
                loss = loss_of(x, outputs, *targets)
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
        return loss

    def run(steps):
        start = time.perf_counter()
        for batch in batches(steps):
            x, *targets = keras.tree.map_structure(tf.convert_to_tensor, batch)
            loss = step(x, targets)
        loss.numpy()
        return time.perf_counter() - start

    return run


def torch_loop(network, loss_of, batches, rate):
    """The plainest training loop of torch, eager: `loss_of(network, *batch)` of a batch of tensors; arguments as `jax_loop`."""
    import keras
    import torch

    optimizer = torch.optim.Adam(network.parameters(), rate)

    def run(steps):
        start = time.perf_counter()
        for batch in batches(steps):
            batch = keras.tree.map_structure(torch.from_numpy, batch)
            optimizer.zero_grad()
            loss = loss_of(network, *batch)
            loss.backward()
            optimizer.step()
        loss.item()
        return time.perf_counter() - start

    return run


def shuffled_batches(examples, batch_size):
    """`batches(steps)` of `loops`: batches of the examples in seeded orders, epoch after epoch."""
    generator, place, order = np.random.default_rng(0), 0, np.arange(0)

    def batches(steps):
        nonlocal place, order
        for _ in range(steps):
            if place + batch_size > len(order):
                place, order = 0, generator.permutation(len(examples))
            yield tuple(part for part in examples.take(order[place : place + batch_size]) if part is not None)
            place += batch_size

    return batches
