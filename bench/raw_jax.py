"""Hand-written JAX: a jitted step with donated buffers and optax over a Keras model's `stateless_call`."""

import time

import jax
import numpy as np
import optax


class Loop:
    """A training loop over images in memory; `run(steps)` returns the seconds they took."""

    def __init__(self, model, images, labels, batch_size):
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.generator = np.random.default_rng(0)
        rule = optax.adam(1e-3)

        def loss_of(trainable, fixed, x, y):
            logits, fixed = model.stateless_call(trainable, fixed, x, training=True)
            return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), fixed

        def step(state, x, y):
            trainable, fixed, moments = state
            (loss, fixed), slope = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, x, y)
            change, moments = rule.update(slope, moments, trainable)
            return (optax.apply_updates(trainable, change), fixed, moments), loss

        self.step = jax.jit(step, donate_argnums=0)
        # Copies: the step donates its buffers, and the model keeps its own.
        trainable = [jax.numpy.array(np.asarray(each)) for each in model.trainable_variables]
        fixed = [jax.numpy.array(np.asarray(each)) for each in model.non_trainable_variables]
        self.state = (trainable, fixed, rule.init(trainable))

    def run(self, steps):
        order = self.generator.permutation(len(self.images))
        start = time.perf_counter()
        for step in range(steps):
            at = (step * self.batch_size) % (len(order) - self.batch_size + 1)
            chosen = order[at : at + self.batch_size]
            self.state, loss = self.step(self.state, self.images[chosen], self.labels[chosen])
        loss.block_until_ready()
        return time.perf_counter() - start
