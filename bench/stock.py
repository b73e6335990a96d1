"""Keras as it comes: its own layers in the place of ours, arrays given to `fit`, no callback of ours."""

import time

import keras
import numpy as np

from bench import raw_text
from bench.families import BATCH_SIZE, Fit


class ImageFit:
    """An image classifier whose layers are the ones of Keras that ours are made from; `run(steps)` gives seconds."""

    def __init__(self, app, options, data):
        ours = Fit(app, options, data).model
        ours.compiled = False  # the clone is compiled anew
        self.data = data.train

        def stock(layer):
            parents = [each for each in type(layer).__mro__ if each.__module__.startswith("keras.")]
            own = type(layer).__module__.startswith("layers.")
            return (parents[0] if own and parents[0] is not keras.layers.Layer else type(layer)).from_config(layer.get_config())

        def clone(model):
            return keras.models.clone_model(
                model, clone_function=lambda layer: clone(layer) if isinstance(layer, keras.Model) else stock(layer)
            )

        self.model = clone(ours)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.Adam(1e-3), loss, metrics=["accuracy"])

    def run(self, steps):
        x, y = self.data.x[: steps * BATCH_SIZE], self.data.y[: steps * BATCH_SIZE]
        start = time.perf_counter()
        self.model.fit(x, y, batch_size=BATCH_SIZE, verbose=0)
        return time.perf_counter() - start


@keras.saving.register_keras_serializable(package="bench")
class Positions(keras.layers.Layer):
    """Adds a learned vector at each place, which Keras has no layer for."""

    def build(self, input_shape):
        self.table = self.add_weight(shape=input_shape[1:], initializer="random_normal")

    def call(self, x):
        return x + self.table


def gpt():
    """The GPT of the bench from Keras's layers, with an output matrix of its own."""
    width, heads, layers = raw_text.WIDTH, raw_text.HEADS, keras.layers
    tokens = keras.Input((raw_text.BLOCK,), dtype="int32")
    x = Positions()(layers.Embedding(raw_text.TOKENS, width)(tokens))
    for _ in range(raw_text.DEPTH):
        normed = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(heads, width // heads)(normed, normed, use_causal_mask=True)
        hidden = layers.Dense(4 * width, activation="gelu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(width)(hidden)
    return keras.Model(tokens, layers.Dense(raw_text.TOKENS, use_bias=False)(layers.LayerNormalization()(x)))


def lstm():
    """The LSTM of the bench from Keras's layers."""
    width, layers = raw_text.WIDTH, keras.layers
    tokens = keras.Input((raw_text.BLOCK,), dtype="int32")
    x = layers.Embedding(raw_text.TOKENS, width)(tokens)
    for _ in range(2):
        x = layers.LSTM(width, return_sequences=True)(x)
    return keras.Model(tokens, layers.Dense(raw_text.TOKENS)(x))


class TextFit:
    """A language model of Keras's layers; `run(steps)` gives seconds."""

    def __init__(self, family):
        self.model, self.ids = {"gpt": gpt, "lstm": lstm}[family](), raw_text.text()
        rule = keras.optimizers.AdamW(raw_text.RATE, weight_decay=raw_text.DECAY, global_clipnorm=raw_text.CLIP)
        self.model.compile(rule, keras.losses.SparseCategoricalCrossentropy(from_logits=True))

    def run(self, steps):
        x, y = (np.concatenate(part) for part in zip(*raw_text.batches(self.ids, steps), strict=True))
        start = time.perf_counter()
        self.model.fit(x, y, batch_size=raw_text.BATCH, verbose=0)
        return time.perf_counter() - start
