"""Hand-written training of a GPT and of an LSTM beside our `fit`, for `triptych bench text-generation`.

The setting is the recipe shakespeare-char-cpu: 4 blocks, 4 heads, 128 features, 64 tokens, batches of 12, AdamW, clipped;
the LSTM has two layers of 128 units.
"""

import functools
import itertools
import math
import tempfile
import time

import numpy as np

from bench.family import Family, Fit, Growth

TOKENS, BLOCK, WIDTH, DEPTH, HEADS, BATCH = 65, 64, 128, 4, 4, 12
RATE, DECAY, CLIP = 1e-3, 0.1, 1.0


def text():
    """Ids of a text of a million characters."""
    return np.random.default_rng(0).integers(0, TOKENS, 1_000_000).astype("uint8")


def batches(ids, steps):
    """Random windows and what follows each of their tokens."""
    generator = np.random.default_rng(0)
    for _ in range(steps):
        starts = generator.integers(0, len(ids) - BLOCK - 1, BATCH)
        window = ids[starts[:, None] + np.arange(BLOCK + 1)].astype("int32")
        yield window[:, :-1], window[:, 1:]


def torch_networks():
    """`{family: network}` in `torch.nn`."""
    import torch
    from torch import nn
    from torch.nn import functional

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.attention_norm = nn.LayerNorm(WIDTH)
            self.hidden_norm = nn.LayerNorm(WIDTH)
            self.query_key_value = nn.Linear(WIDTH, 3 * WIDTH)
            self.gathered = nn.Linear(WIDTH, WIDTH)
            self.hidden = nn.Linear(WIDTH, 4 * WIDTH)
            self.output = nn.Linear(4 * WIDTH, WIDTH)

        def forward(self, x):
            heads = self.query_key_value(self.attention_norm(x)).view(len(x), -1, 3, HEADS, WIDTH // HEADS)
            query, key, value = heads.permute(2, 0, 3, 1, 4)
            found = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
            x = x + self.gathered(found.transpose(1, 2).reshape(x.shape))
            return x + self.output(functional.gelu(self.hidden(self.hidden_norm(x))))

    class Gpt(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(TOKENS, WIDTH)
            self.positions = nn.Parameter(0.02 * torch.randn(BLOCK, WIDTH))
            self.blocks = nn.Sequential(*(Block() for _ in range(DEPTH)))
            self.norm = nn.LayerNorm(WIDTH)

        def forward(self, x):
            x = self.norm(self.blocks(self.embedding(x) + self.positions))
            return functional.linear(x, self.embedding.weight)

    class Lstm(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(TOKENS, WIDTH)
            self.lstm = nn.LSTM(WIDTH, WIDTH, 2, batch_first=True)
            self.logits = nn.Linear(WIDTH, TOKENS)

        def forward(self, x):
            return self.logits(self.lstm(self.embedding(x))[0])

    return {"gpt": Gpt, "lstm": Lstm}


class TorchLoop:
    """Eager torch; `run(steps)` returns the seconds they took."""

    def __init__(self, ids, network):
        import torch
        from torch.nn import functional

        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.ids = ids
        self.model = network().to(self.device)
        self.functional = functional
        self.torch = torch
        self.optimizer = torch.optim.AdamW(self.model.parameters(), RATE, weight_decay=DECAY)

    def run(self, steps):
        torch, start = self.torch, time.perf_counter()
        for x, y in batches(self.ids, steps):
            logits = self.model(torch.from_numpy(x.astype("int64")).to(self.device))
            targets = torch.from_numpy(y.astype("int64")).to(self.device).reshape(-1)
            loss = self.functional.cross_entropy(logits.view(-1, TOKENS), targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), CLIP)
            self.optimizer.step()
        loss.item()
        return time.perf_counter() - start


def jax_networks():
    """`{family: (weights, function from weights and tokens to logits)}` in `jax.numpy`."""
    import jax
    import jax.numpy as jnp

    generator = np.random.default_rng(0)

    def kernel(*shape):
        return jnp.asarray(generator.normal(0, 0.02, shape), "float32")

    def block():
        shapes = {"qkv": (WIDTH, 3 * WIDTH), "out": (WIDTH, WIDTH), "up": (WIDTH, 4 * WIDTH), "down": (4 * WIDTH, WIDTH)}
        dense = {name: (kernel(*shape), jnp.zeros(shape[1])) for name, shape in shapes.items()}
        return dense | {"norm1": (jnp.ones(WIDTH), jnp.zeros(WIDTH)), "norm2": (jnp.ones(WIDTH), jnp.zeros(WIDTH))}

    weights = {
        "embedding": kernel(TOKENS, WIDTH),
        "positions": kernel(BLOCK, WIDTH),
        "blocks": [block() for _ in range(DEPTH)],
        "norm": (jnp.ones(WIDTH), jnp.zeros(WIDTH)),
    }
    causal = np.tril(np.ones((BLOCK, BLOCK), bool))

    def norm(x, scale_and_shift):
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + 1e-6) * scale_and_shift[0] + scale_and_shift[1]

    def gpt(weights, tokens):
        x = (weights["embedding"][tokens] + weights["positions"]).reshape(-1, WIDTH)
        for part in weights["blocks"]:
            heads = norm(x, part["norm1"]) @ part["qkv"][0] + part["qkv"][1]
            query, key, value = jnp.moveaxis(heads.reshape(BATCH, BLOCK, 3, HEADS, WIDTH // HEADS), 2, 0)
            scores = jnp.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(WIDTH // HEADS)
            shares = jax.nn.softmax(jnp.where(causal, scores, -1e30), -1)
            found = jnp.einsum("bhqk,bkhd->bqhd", shares, value).reshape(-1, WIDTH)
            x = x + found @ part["out"][0] + part["out"][1]
            hidden = jax.nn.gelu(norm(x, part["norm2"]) @ part["up"][0] + part["up"][1], approximate=False)
            x = x + hidden @ part["down"][0] + part["down"][1]
        return norm(x, weights["norm"]) @ weights["embedding"].T

    def cell():
        return {"input": kernel(WIDTH, 4 * WIDTH), "state": kernel(WIDTH, 4 * WIDTH), "bias": jnp.zeros(4 * WIDTH)}

    recurrent = {"embedding": kernel(TOKENS, WIDTH), "cells": [cell(), cell()], "logits": kernel(WIDTH, TOKENS)}

    def lstm(weights, tokens):
        x = jnp.moveaxis(weights["embedding"][tokens], 1, 0)
        for part in weights["cells"]:

            def step(state, gates, part=part):
                hidden, memory = state
                i, f, g, o = jnp.split(gates + hidden @ part["state"], 4, axis=-1)
                memory = jax.nn.sigmoid(f) * memory + jax.nn.sigmoid(i) * jnp.tanh(g)
                hidden = jax.nn.sigmoid(o) * jnp.tanh(memory)
                return (hidden, memory), hidden

            zeros = jnp.zeros((x.shape[1], WIDTH))
            x = jax.lax.scan(step, (zeros, zeros), x @ part["input"] + part["bias"])[1]
        return (jnp.moveaxis(x, 0, 1) @ weights["logits"]).reshape(-1, TOKENS)

    return {"gpt": (weights, gpt), "lstm": (recurrent, lstm)}


class JaxLoop:
    """One jitted step with donated buffers; `run(steps)` returns the seconds they took."""

    def __init__(self, ids, weights, network):
        import jax
        import optax

        def loss(weights, x, y):
            return optax.softmax_cross_entropy_with_integer_labels(network(weights, x), y.reshape(-1)).mean()

        optimizer = optax.chain(optax.clip_by_global_norm(CLIP), optax.adamw(RATE, weight_decay=DECAY))

        def step(weights, state, x, y):
            value, gradients = jax.value_and_grad(loss)(weights, x, y)
            updates, state = optimizer.update(gradients, state, weights)
            return optax.apply_updates(weights, updates), state, value

        self.ids = ids
        self.weights = weights
        self.state = optimizer.init(weights)
        self.step = jax.jit(step, donate_argnums=(0, 1))

    def run(self, steps):
        start = time.perf_counter()
        for x, y in batches(self.ids, steps):
            self.weights, self.state, value = self.step(self.weights, self.state, x, y)
        value.block_until_ready()
        return time.perf_counter() - start


class TensorFlowLoop:
    """A `tf.function` step with a gradient tape over our network; `run(steps)` returns the seconds they took."""

    def __init__(self, ids, model):
        import keras
        import tensorflow as tf

        optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY, global_clipnorm=CLIP)
        optimizer.build(model.trainable_variables)

        @tf.function
        def step(x, y):
            with tf.GradientTape() as tape:
                logits = model(x, training=True)
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
            optimizer.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
            return loss

        self.ids = ids
        self.step = step

    def run(self, steps):
        start = time.perf_counter()
        for x, y in batches(self.ids, steps):
            loss = self.step(x, y)
        loss.numpy()
        return time.perf_counter() - start


def setting(family, block_size=BLOCK):
    """`(app, options, data)` under which the app trains these networks."""
    from apps import text_generation as app

    changed = {"model": family, "schedule": "constant", "warmup": 0.0, "clip_norm": CLIP, "block_size": block_size}
    idle = {"final_rate"} if family == "gpt" else {"final_rate", "positions"}
    options = {name: value for name, value in app.RECIPES["shakespeare-char-cpu"].options.items() if name not in idle}
    options |= changed
    return app, options, windows(options, text(), TOKENS, 256 * BATCH)


def windows(options, ids, tokens, per_epoch):
    """The app's `Data` of these ids, of which there are `tokens` different ones, for a network as the options say."""
    from apps import text_generation as app
    from apps.common.data.examples import Data
    from apps.common.data.text.plain import StoredIds, Windows
    from apps.common.options.declare import make_config

    file = tempfile.TemporaryFile()  # noqa: SIM115  read in every step
    file.write(ids)
    file.flush()
    config = make_config(app.Config, options)
    train = Windows(StoredIds(file, ids.dtype, 0, len(ids), ""), config.block_size, per_epoch=per_epoch)
    about = {"characters": "".join(map(chr, range(tokens))), "architecture": app.asked_for(config, tokens)}
    return Data(train, None, None, about)


def stock_network(name):
    """The network from Keras's layers; the GPT has an output matrix of its own."""
    import keras

    from bench.stock import Positions

    tokens = keras.Input((BLOCK,), dtype="int32")
    if name == "lstm":
        x = keras.layers.Embedding(TOKENS, WIDTH)(tokens)
        for _ in range(2):
            x = keras.layers.LSTM(WIDTH, return_sequences=True)(x)
        return keras.Model(tokens, keras.layers.Dense(TOKENS)(x))
    x = Positions()(keras.layers.Embedding(TOKENS, WIDTH)(tokens))
    for _ in range(DEPTH):
        normed = keras.layers.LayerNormalization()(x)
        x = x + keras.layers.MultiHeadAttention(HEADS, WIDTH // HEADS)(normed, normed, use_causal_mask=True)
        hidden = keras.layers.Dense(4 * WIDTH, activation="gelu")(keras.layers.LayerNormalization()(x))
        x = x + keras.layers.Dense(WIDTH)(hidden)
    return keras.Model(tokens, keras.layers.Dense(TOKENS, use_bias=False)(keras.layers.LayerNormalization()(x)))


def stock(name):
    """The same network from Keras's layers under Keras's own `fit`."""
    import keras

    from bench.stock import StockFit

    model, ids = stock_network(name), text()
    optimizer = keras.optimizers.AdamW(RATE, weight_decay=DECAY, global_clipnorm=CLIP)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def arrays(steps):
        return tuple(np.concatenate(part) for part in zip(*batches(ids, steps), strict=True))

    return StockFit(model, BATCH, arrays).run


def step_of(name):
    """A step on windows of so many tokens."""

    def prepare(size):
        fit = Fit(*setting(name, block_size=size))
        return lambda: fit.run(4) / 4

    return prepare


def generation(size):
    """So many tokens written by a GPT that sees 32 and keeps what it has computed; every size lies beyond what it sees."""
    from apps.common.options.declare import make_config
    from apps.common.reports.sampling import Sampler, continuation
    from apps.common.training import run
    from layers import Decoder

    app, options, data = setting("gpt", block_size=32)
    decoder = Decoder(run.make_model(app, make_config(app.Config, options), data))

    def generate():
        start = time.perf_counter()
        for _ in itertools.islice(continuation(decoder, [0], Sampler(), np.random.default_rng(0)), size):
            pass
        return time.perf_counter() - start

    return generate


def text_file(size):
    """Reading a text file of so many characters and a few steps on it."""
    from apps import text_generation as app
    from apps.common.options.declare import make_config

    file = tempfile.NamedTemporaryFile(suffix=".txt")  # noqa: SIM115  goes with the function that reads it
    piece = np.random.default_rng(0).integers(97, 123, 1 << 20, "uint8").tobytes()
    for start in range(0, size, len(piece)):
        file.write(piece[: size - start])
    file.flush()
    options = {"data": file.name, "width": 16, "depth": 1, "block_size": 16, "steps": 4}

    def read():
        start = time.perf_counter()
        data = app.load_data(make_config(app.Config, options))
        Fit(app, options, data).run(4)
        file.tell()
        return time.perf_counter() - start

    return read


def family(name):
    loops = {
        "torch": lambda data: {"torch eager": TorchLoop(text(), torch_networks()[name]).run},
        "jax": lambda data: {"jax.jit, donated": JaxLoop(text(), *jax_networks()[name]).run},
        "tensorflow": lambda data: {"tf.function": TensorFlowLoop(text(), Fit(*setting(name)).model).run},
    }
    return Family(
        functools.partial(setting, name),
        loops,
        stock=lambda data: stock(name),
        torch_network=lambda: torch_networks()[name](),
        usual_steps=500,  # nanoGPT's
    )


FAMILIES = {name: family(name) for name in ("gpt", "lstm")}
GROWTH = {
    "gpt-tokens": Growth(step_of("gpt"), "tokens", 512),
    "lstm-tokens": Growth(step_of("lstm"), "tokens", 512),
    "generation": Growth(generation, "tokens", 1024),
    "text-file": Growth(text_file, "characters", 1 << 30, readings=1),
}
