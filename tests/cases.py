"""Everything public, one entry each: how to build it at its smallest, and what to feed it.

Whatever has an entry here is compared between the backends (`triptych matrix`), saved and loaded, run in half
precision and checked for gradients, without a test of its own. Add one line to `CASES`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np

import layers
from layers import models

BATCH = 4


@dataclass(frozen=True)
class Case:
    """One public layer or architecture.

    Args:
        build: Returns a new `keras.Model`.
        inputs: One batch of arrays, as the model takes them.
        targets: One batch of targets; `None` draws an array of the shape of each output.
        loss: What `compile` takes; `None` for a model that owns its objective.
        weights: What each example, token or pixel counts in the loss; zeros are padding.
        random: Whether training draws random numbers, which differ between backends; only inference is compared.
        family: How far the backends may lie apart, a key of `bench.parity.TOLERANCES`; the strictest by default.
    """

    build: Callable[[], Any]
    inputs: Any
    targets: Any = None
    loss: Any = "mean_squared_error"
    weights: Any = None
    random: bool = False
    family: str = "arithmetic"


def floats(*shape):
    """A batch of normal numbers, `(BATCH, *shape)`."""
    return np.random.default_rng([1, *shape]).normal(size=(BATCH, *shape)).astype("float32")


def integers(high, *shape):
    """A batch of ids below `high`, `(BATCH, *shape)`."""
    return np.random.default_rng([2, *shape]).integers(0, high, (BATCH, *shape)).astype("int32")


def table(num_numeric, cardinalities):
    """A batch of rows, as the models for tables take them."""
    categorical = np.concatenate([integers(cardinality, 1) for cardinality in cardinalities], axis=1)
    return {"numeric": floats(num_numeric), "categorical": categorical}


def edges(num_nodes, count):
    """A batch of edge lists, `(BATCH, 2, count)`, source above target."""
    return integers(num_nodes, 2, count)


def graph_layer(build, **options):
    """A layer on a batch of small graphs."""
    return layer(build, floats(6, 5), edges(6, 9), **options)


def graph_model(build, **options):
    """An architecture for the nodes of a graph: three classes, a label a node."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(build, {"features": floats(6, 5), "edges": edges(6, 9)}, integers(3, 6), loss, **options)


def sparse_graph_model(build, **options):
    """The same with features given sparse: two values a node and their columns."""
    inputs = {"values": floats(6, 2), "columns": integers(5, 6, 2), "edges": edges(6, 9)}
    return replace(graph_model(build, **options), inputs=inputs)


def layer(build, *inputs, **options):
    """A layer in a model of its own. `build` makes the layer; `inputs` are the arrays it is called on."""

    def model():
        symbols = [keras.Input(array.shape[1:], dtype=array.dtype.name) for array in inputs]
        symbols = symbols[0] if len(symbols) == 1 else symbols
        return keras.Model(symbols, build()(symbols))

    return Case(model, inputs[0] if len(inputs) == 1 else list(inputs), **options)


def classifier(build, inputs, num_classes=3, **options):
    """A model whose output are the logits of `num_classes` classes."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(build, inputs, integers(num_classes), loss, **options)


def language_model(build, block_size=6, **options):
    """A model whose output are the logits of one of seven tokens at every position."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(build, integers(7, block_size), integers(7, block_size), loss, **options)


def padding(length):
    """A batch of masks, true where a token counts: sequences of all lengths from `length` down, `(BATCH, length)`."""
    return np.arange(length) < length - np.arange(BATCH)[:, None]


def masked(build, *shape, **options):
    """A layer that takes a mask, in a model of its own whose second input it is."""

    def model():
        x, mask = keras.Input(shape), keras.Input(shape[:1], dtype="bool")
        return keras.Model([x, mask], build()(x, mask=mask))

    return Case(model, [floats(*shape), padding(shape[0])], **options)


def generative(build, targets=None, **options):
    """A model of images that owns its objective and draws its own latent vectors."""
    return Case(build, integers(256, 9, 10, 1), targets, loss=None, **options)


def mixup_model():
    inputs = keras.Input((4, 4, 3))
    x = keras.layers.Flatten()(layers.Mixup()(inputs))
    return layers.MixupModel(inputs, layers.Dense(1)(x))


CASES = {
    # layers
    "AveragePooling2D": layer(lambda: layers.AveragePooling2D(3, 2, "same"), floats(7, 8, 3)),
    "BatchNormalization": layer(lambda: layers.BatchNormalization(), floats(5, 5, 3), family="normalised"),
    "ClassToken": layer(lambda: layers.ClassToken(), floats(5, 4)),
    "Conv2D": layer(
        lambda: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), floats(8, 7, 3), family="convolution"
    ),
    "Decoder": language_model(lambda: models.gpt(7, 6, width=8, depth=1, num_heads=2, positions="rotary"), family="attention"),
    "Dense": layer(lambda: layers.Dense(4, activation="gelu"), floats(5, 6)),
    "Cutout": layer(lambda: layers.Cutout(0.5), floats(8, 8, 3)),
    "DepthwiseConv2D": layer(lambda: layers.DepthwiseConv2D(3, padding="same"), floats(7, 8, 3), family="convolution"),
    "Dropout": layer(lambda: layers.Dropout(0.5, seed=1), floats(40)),
    "Embedding": layer(lambda: layers.Embedding(3, 4), integers(3, 5)),
    "FeatureTokenizer": layer(lambda: layers.FeatureTokenizer(8, cardinalities=(3, 3)), floats(4), integers(3, 2)),
    "GRU-masked": masked(lambda: layers.GRU(4), 6, 3, family="recurrent"),
    "GRU": layer(lambda: layers.GRU(4), floats(6, 3), family="recurrent"),
    "GraphAttention": graph_layer(lambda: layers.GraphAttention(3, 2), family="graph"),
    "GraphConvolution": graph_layer(lambda: layers.GraphConvolution(4, "tanh"), family="graph"),
    "GraphIsomorphism": graph_layer(lambda: layers.GraphIsomorphism(4), family="graph"),
    "GraphSAGE": graph_layer(lambda: layers.GraphSAGE(4, "tanh"), family="graph"),
    "LSTM-masked": masked(lambda: layers.LSTM(4, return_sequences=True), 6, 3, family="recurrent"),
    "LSTM": layer(lambda: layers.LSTM(4, return_sequences=True), floats(6, 3), family="recurrent"),
    "LayerNormalization": layer(lambda: layers.LayerNormalization(), floats(5, 8)),
    "MaxPooling2D": layer(lambda: layers.MaxPooling2D(3, 2, "same"), floats(7, 8, 3)),
    "Mixup": layer(lambda: layers.Mixup(), floats(4, 4, 3)),
    "MixupModel": Case(mixup_model, floats(4, 4, 3), floats(1)),
    "PatchEmbedding": layer(lambda: layers.PatchEmbedding(4, 6), floats(8, 8, 3), family="convolution"),
    "Perceptron": layer(lambda: layers.Perceptron(2), floats(5)),
    "PerceptronLoss": layer(lambda: layers.Dense(3), floats(5), targets=integers(3), loss=layers.PerceptronLoss()),
    "PixelNormal": layer(lambda: layers.PixelNormal((4, 4, 1)), floats(16)),
    "PixelShuffle": layer(lambda: layers.PixelShuffle(2), floats(3, 4, 8)),
    "PositionEmbedding": layer(lambda: layers.PositionEmbedding(), floats(5, 4)),
    "RandomColor": layer(lambda: layers.RandomColor(), floats(4, 4, 3)),
    "RandomCrop": layer(lambda: layers.RandomCrop(2), floats(6, 5, 3)),
    "RandomFlip": layer(lambda: layers.RandomFlip(), floats(4, 4, 3)),
    "RandomRotation": layer(lambda: layers.RandomRotation(45), floats(6, 5, 3)),
    "RandomShift": layer(lambda: layers.RandomShift(0.3), floats(6, 5, 3)),
    "Reparametrization": layer(lambda: layers.Reparametrization(), floats(3), 0.1 * floats(3), floats(3)),
    "RotaryEmbedding": layer(lambda: layers.RotaryEmbedding(), floats(5, 2, 4)),
    "SelfAttention-masked": masked(lambda: layers.SelfAttention(2), 5, 8, family="attention"),
    "SelfAttention": layer(lambda: layers.SelfAttention(2, causal=True), floats(5, 8), family="attention"),
    "TokenEmbedding": layer(lambda: layers.TokenEmbedding(7, 4), integers(7, 5)),
    "TransformerBlock-masked": masked(lambda: layers.TransformerBlock(2, 16, 0.2), 5, 8, family="attention"),
    "TransformerBlock": layer(lambda: layers.TransformerBlock(2, 16), floats(5, 8), family="attention"),
    # architectures
    "DCGAN": generative(lambda: models.DCGAN((9, 10, 1), 5, width=4, depth=2), family="normalised"),
    "DCGAN-class": generative(lambda: models.DCGAN((9, 10, 1), 5, num_classes=3, width=4), integers(3), family="normalised"),
    "PixelGaussian": Case(lambda: models.PixelGaussian((4, 4, 1)), integers(256, 4, 4, 1), loss=None),
    "VAE": generative(lambda: models.VAE((9, 10, 1), 5, width=4, depth=2)),
    "VAE-class": generative(lambda: models.VAE((9, 10, 1), 5, num_classes=3, width=4), integers(3)),
    "alexnet": classifier(
        lambda: models.alexnet((8, 8, 1), 3, width=6, dense_dim=8, dropout=0.0), floats(8, 8, 1), family="convolution"
    ),
    # At 24 pixels the last maps are 2 x 2; batch norm of four single pixels would magnify every rounding.
    "efficientnet": classifier(
        lambda: models.efficientnet((24, 24, 1), 3, width=0.1, depth=0.1, dropout=0.0), floats(24, 24, 1),
        family="normalised",
    ),
    "ft_transformer": classifier(
        lambda: models.ft_transformer(4, (3, 3), 3, width=8, depth=1, num_heads=2, dropout=0.0), table(4, (3, 3)),
        family="attention",
    ),
    "gpt-padded": language_model(
        lambda: models.gpt(7, 6, width=8, depth=1, num_heads=2), weights=padding(6).astype("float32"),
        family="attention",
    ),
    "gpt": language_model(lambda: models.gpt(7, 6, width=8, depth=2, num_heads=2, dropout=0.2), family="attention"),
    "gat": graph_model(lambda: models.gat(5, 3, hidden_dim=4, num_heads=2, dropout=0.2), family="graph"),
    "gcn": graph_model(lambda: models.gcn(5, 3, hidden_dim=8, dropout=0.0), family="graph"),
    "gcn-sparse": sparse_graph_model(lambda: models.gcn(5, 3, hidden_dim=8, dropout=0.0, entries=2), family="graph"),
    "gin": graph_model(lambda: models.gin(5, 3, hidden_dim=8, dropout=0.0), family="normalised"),
    "graphsage": graph_model(lambda: models.graphsage(5, 3, hidden_dim=8, dropout=0.0), family="graph"),
    "image_encoder": Case(lambda: models.image_encoder((9, 10, 2), 3, width=4, depth=2), floats(9, 10, 2)),
    "image_generator": Case(
        lambda: models.image_generator((9, 10, 2), 5, num_classes=3, width=4), {"latent": floats(5), "label": integers(3)}
    ),
    "lenet5": classifier(lambda: models.lenet5((8, 8, 1), 3), floats(8, 8, 1), family="convolution"),
    "lstm_language_model": language_model(lambda: models.lstm_language_model(7, 6, width=8, depth=1), family="recurrent"),
    "mlp": classifier(lambda: models.mlp((8, 8, 1), 3), floats(8, 8, 1), family="normalised"),
    "mobilenet": classifier(
        lambda: models.mobilenet((24, 24, 1), 3, version="v3-small", width=0.1, dropout=0.0), floats(24, 24, 1),
        family="normalised",
    ),
    "perceptron": classifier(lambda: models.perceptron((5,), 3, unit="relu"), floats(5)),
    "cell_network": classifier(
        lambda: models.cell_network(
            (8, 8, 1), 3, cell="conv3,0,max3,0,separable3,1,average3,0,conv1,0,identity,1", width=6, stages=2
        ),
        floats(8, 8, 1),
        family="normalised",
    ),
    "resnet": classifier(lambda: models.resnet((8, 8, 1), 3, depth=20, width=4), floats(8, 8, 1), family="normalised"),
    "small_cnn": classifier(
        lambda: models.small_cnn((8, 8, 1), 3, filters=(4, 8), dense_dim=8, dropout=0.0), floats(8, 8, 1),
        family="normalised",
    ),
    "tabular_mlp": classifier(
        lambda: models.tabular_mlp(4, (3, 3), 3, hidden_dims=(8,), dropout=0.2), table(4, (3, 3)),
        family="normalised",
    ),
    "tabular_perceptron": classifier(lambda: models.tabular_perceptron(4, (3, 3), 3), table(4, (3, 3))),
    "vgg": classifier(lambda: models.vgg((8, 8, 1), 3, depth=11, width=4, dropout=0.0), floats(8, 8, 1), family="normalised"),
    "vit": classifier(
        lambda: models.vit((8, 8, 1), 3, patch_size=4, width=8, depth=1, num_heads=2), floats(8, 8, 1), family="attention"
    ),
}
