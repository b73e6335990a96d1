"""Image classifiers written by hand beside our `fit`: MLP, LeNet-5, ResNet-20 and a small vision transformer.

Images of Fashion-MNIST's shape in batches of 64, Adam. In torch the networks stand in `torch.nn`, channels first; the loops of
JAX and TensorFlow train the network of Keras.
"""

import functools
import time
from itertools import pairwise

import numpy as np

from bench.family import EVERYWHERE, Family, Fit, Growth
from bench.images import BATCH_SIZE, images

RATE = 1e-3
OPTIONS = {
    "mlp": {"model": "mlp", "hidden_dims": (256, 128, 100), "batch_norm": False, "dropout": 0.0},
    "lenet": {"model": "lenet", "activation": "tanh", "dropout": 0.0},
    "resnet20": {"model": "resnet", "depth": 20},
    "vit": {"model": "vit", "patch_size": 7, "width": 192, "depth": 6, "dropout": 0.0},
}


def setting(name, data=None):
    """`(app, options, data)` under which the app trains this network."""
    from apps import image_classification as app

    return app, {"batch_size": BATCH_SIZE, "learning_rate": RATE, **OPTIONS[name]}, data or images()


def batches(x, y, order, steps):
    """`steps` batches of images and labels in this order."""
    for step in range(steps):
        at = (step * BATCH_SIZE) % (len(order) - BATCH_SIZE + 1)
        chosen = order[at : at + BATCH_SIZE]
        yield x[chosen], y[chosen]


def torch_networks():
    """`{name: function that returns the network}` in `torch.nn`."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        """ResNet's basic block with the parameter-free shortcut (He et al., 2015, option A)."""

        def __init__(self, before, after, stride):
            super().__init__()
            self.stride = stride
            self.grown = after - before
            self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
            self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
            self.norms = nn.ModuleList([nn.BatchNorm2d(after) for _ in range(2)])

        def forward(self, x):
            residual = self.norms[1](self.second(functional.relu(self.norms[0](self.first(x)))))
            if self.stride > 1:
                x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grown))
            return functional.relu(x + residual)

    class Transformer(nn.Module):
        """A small vision transformer, pre-norm."""

        def __init__(self, patch, width, depth, heads, side=28):
            super().__init__()
            self.patches = nn.Conv2d(1, width, patch, patch)
            self.token = nn.Parameter(torch.zeros(1, 1, width))
            self.positions = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, width))
            layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
            self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
            self.head = nn.Linear(width, 10)

        def forward(self, x):
            x = self.patches(x).flatten(2).transpose(1, 2)
            x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
            return self.head(self.blocks(x)[:, 0])

    def mlp():
        sizes = (784, 256, 128, 100)
        hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))

    def lenet():
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
        )  # fmt: skip

    def resnet20():
        stem = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
        blocks = [Block(16, 16, 1) for _ in range(3)]
        blocks += [Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1), Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1)]
        return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))

    return {"mlp": mlp, "lenet": lenet, "resnet20": resnet20, "vit": lambda: Transformer(7, 192, 6, 3)}


def torch_loop(name, data, compiled=False):
    """The plainest training loop of torch, eager or compiled."""
    import torch
    from torch.nn import functional

    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network = torch_networks()[name]().to(device).train()
    optimizer = torch.optim.Adam(network.parameters(), RATE)
    model = torch.compile(network) if compiled else network
    generator = np.random.default_rng(0)
    images, labels = data.train.x, data.train.y

    def run(steps):
        order = generator.permutation(len(images))
        start = time.perf_counter()
        for x, y in batches(images, labels, order, steps):
            x = torch.from_numpy(x).to(device).permute(0, 3, 1, 2).float() / 255
            y = torch.from_numpy(y).to(device)
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(x), y)
            loss.backward()
            optimizer.step()
        loss.item()
        return time.perf_counter() - start

    return run


def torch_loops(name, data):
    return {"torch eager": torch_loop(name, data), "torch.compile": torch_loop(name, data, compiled=True)}


def jax_loops(name, data):
    """A jitted step with donated buffers and optax over a Keras model's `stateless_call`."""
    import jax
    import optax

    model = Fit(*setting(name, data)).model
    images, labels = data.train.x, data.train.y.astype("int32")
    generator, optimizer = np.random.default_rng(0), optax.adam(RATE)

    def loss_of(trainable, fixed, x, y):
        logits, fixed = model.stateless_call(trainable, fixed, x, training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean(), fixed

    def step(state, x, y):
        trainable, fixed, moments = state
        (loss, fixed), gradients = jax.value_and_grad(loss_of, has_aux=True)(trainable, fixed, x, y)
        updates, moments = optimizer.update(gradients, moments, trainable)
        return (optax.apply_updates(trainable, updates), fixed, moments), loss

    step = jax.jit(step, donate_argnums=0)
    # Copies: the step donates its buffers, and the model keeps its own.
    trainable = [jax.numpy.array(np.asarray(each)) for each in model.trainable_variables]
    fixed = [jax.numpy.array(np.asarray(each)) for each in model.non_trainable_variables]
    state = (trainable, fixed, optimizer.init(trainable))

    def run(steps):
        nonlocal state
        order = generator.permutation(len(images))
        start = time.perf_counter()
        for x, y in batches(images, labels, order, steps):
            state, loss = step(state, x, y)
        loss.block_until_ready()
        return time.perf_counter() - start

    return {"jax.jit, donated": run}


def tensorflow_loops(name, data):
    """A `tf.function` step with a gradient tape over a Keras model, fed by `tf.data`."""
    import keras
    import tensorflow as tf

    model = Fit(*setting(name, data)).model
    optimizer = keras.optimizers.Adam(RATE)
    optimizer.build(model.trainable_variables)
    images, labels = data.train.x, data.train.y.astype("int32")
    shuffled = tf.data.Dataset.from_tensor_slices((images, labels)).shuffle(len(images), seed=0)
    endless = iter(shuffled.batch(BATCH_SIZE, drop_remainder=True).repeat().prefetch(2))

    @tf.function
    def step(x, y):
        with tf.GradientTape() as tape:
            logits = model(x, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True))
        return loss

    def run(steps):
        start = time.perf_counter()
        for _ in range(steps):
            loss = step(*next(endless))
        loss.numpy()
        return time.perf_counter() - start

    return {"tf.function": run}


def stock(name, data):
    """The same network from Keras's layers under Keras's own `fit`."""
    import keras

    from bench.stock import StockFit, in_layers_of_keras

    model = in_layers_of_keras(Fit(*setting(name, data)).model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(RATE), loss, metrics=["accuracy"])
    return StockFit(model, BATCH_SIZE, lambda steps: (data.train.x[: steps * BATCH_SIZE], data.train.y[: steps * BATCH_SIZE])).run


def an_epoch(size):
    """An epoch of the MLP over so many images."""
    fit = Fit(*setting("mlp", images(size)))
    return lambda: fit.run(max(1, size // BATCH_SIZE))


def family(name, measured_by):
    loops = {"torch": torch_loops, "jax": jax_loops, "tensorflow": tensorflow_loops}
    return Family(
        functools.partial(setting, name),
        loops={backend: functools.partial(made, name) for backend, made in loops.items()},
        stock=functools.partial(stock, name),
        torch_network=lambda: torch_networks()[name](),
        measured_by=measured_by,
    )


FAMILIES = {
    "mlp": family("mlp", EVERYWHERE),
    "lenet": family("lenet", ("speed",)),
    "resnet20": family("resnet20", EVERYWHERE),
    "vit": family("vit", ("speed",)),
}
GROWTH = {"examples": Growth(an_epoch, "examples", 131_072)}
