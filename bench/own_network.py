"""Steps written by hand over our own network and its own objective: what `fit` adds to a model that overrides `compute_loss`.

The backend's own gradient and its own Adam (torch's, optax's, Keras's on TensorFlow), nothing of `fit`, of callbacks or of a
recorded step.
"""

import time

import numpy as np

from bench.family import Family


def family(setting):
    """The `Family` of a model that owns its objective.

    Args:
        setting: As of a `Family`: the app, the options under which it builds the model, and its data.
    """
    loops = {
        "torch": lambda data: {"torch eager, our network": TorchLoop(setting, data).run},
        "jax": lambda data: {"jax.jit, donated, our network": JaxLoop(setting, data).run},
        "tensorflow": lambda data: {"tf.function, our network": TensorFlowLoop(setting, data).run},
    }
    return Family(setting, loops, measured_by=("speed",))


class Loop:
    """What the loops share: the model as its app builds it, and shuffled batches of its examples."""

    def __init__(self, setting, data):
        from apps.common.options.declare import make_config
        from apps.common.training import run

        app, options, _ = setting()
        config, _ = run.settled(app, make_config(app.Config, options), data)
        self.model = run.make_model(app, config, data)
        self.examples, self.batch_size, self.rate = data.train, config.batch_size, config.learning_rate
        self.order = np.random.default_rng(0).permutation(len(data.train))

    def batches(self, steps):
        for step in range(steps):
            at = (step * self.batch_size) % (len(self.order) - self.batch_size + 1)
            yield (*self.examples.take(self.order[at : at + self.batch_size]), None)[:2]

    def run(self, steps):
        """Seconds of so many steps."""
        start = time.perf_counter()
        for x, y in self.batches(steps):
            loss = self.step(x, y)
        float(loss)
        return time.perf_counter() - start


class TorchLoop(Loop):
    """Eager torch."""

    def __init__(self, setting, data):
        import keras
        import torch

        super().__init__(setting, data)
        self.tensor = keras.ops.convert_to_tensor
        self.optimizer = torch.optim.Adam([variable.value for variable in self.model.trainable_variables], self.rate)

    def step(self, x, y):
        import keras

        x, y = keras.tree.map_structure(lambda each: None if each is None else self.tensor(each), (x, y))
        loss = self.model.compute_loss(x, y, self.model(x, training=True))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class JaxLoop(Loop):
    """One jitted step with donated buffers."""

    def __init__(self, setting, data):
        import jax
        import optax

        super().__init__(setting, data)
        model, optimizer = self.model, optax.adam(self.rate)

        def loss_of(weights, others, metrics, x, y):
            outputs, others = model.stateless_call(weights, others, x, training=True)
            loss, (_, *kept) = model.stateless_compute_loss(weights, others, metrics, x=x, y=y, y_pred=outputs, training=True)
            return loss, kept

        def step(weights, others, metrics, state, x, y):
            (loss, (others, metrics)), gradients = jax.value_and_grad(loss_of, has_aux=True)(weights, others, metrics, x, y)
            updates, state = optimizer.update(gradients, state)
            return optax.apply_updates(weights, updates), others, metrics, state, loss

        kinds = (model.trainable_variables, model.non_trainable_variables, model.metrics_variables)
        values = [[jax.numpy.array(variable.value) for variable in kind] for kind in kinds]
        self.carried = [*values, optimizer.init(values[0])]
        self.compiled = jax.jit(step, donate_argnums=(0, 1, 2, 3))

    def step(self, x, y):
        *self.carried, loss = self.compiled(*self.carried, x, y)
        return loss


class TensorFlowLoop(Loop):
    """A `tf.function` step with a gradient tape."""

    def __init__(self, setting, data):
        import keras
        import tensorflow as tf

        super().__init__(setting, data)
        model, optimizer = self.model, keras.optimizers.Adam(self.rate)
        optimizer.build(model.trainable_variables)

        @tf.function(reduce_retracing=True)
        def step(x, y):
            with tf.GradientTape() as tape:
                loss = model.compute_loss(x, y, model(x, training=True))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        self.step = step
