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
        family: How far the backends may lie apart, a key of `bench.parity.TOLERANCES`; the strictest by default.
    """

    build: Callable[[], Any]
    inputs: Any
    targets: Any = None
    loss: Any = "mean_squared_error"
    weights: Any = None
    family: str = "arithmetic"


def floats(*shape):
    """A batch of normal numbers, `(BATCH, *shape)`."""
    return np.random.default_rng([1, *shape]).normal(size=(BATCH, *shape)).astype("float32")


def integers(high, *shape):
    """A batch of ids below `high`, `(BATCH, *shape)`."""
    return np.random.default_rng([2, *shape]).integers(0, high, (BATCH, *shape)).astype("int32")


# Of targets in 0..255: their errors are squared, and Adam's epsilon would be nothing beside the rounding of such gradients.
FAINT = np.full((BATCH, 1, 1), 1e-4, "float32")


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


def texts(high, length, seed=0):
    """A batch of texts of different lengths, ids from one up, zeros behind them, `(BATCH, length)`."""
    ids = np.random.default_rng([4, seed, length]).integers(1, high, (BATCH, length)).astype("int32")
    return ids * padding(length)


def pair(high, source=6, target=5):
    """A batch of source texts and of what is to be written, as the encoder-decoder models take them."""
    return {"source": texts(high, source), "target": texts(high, target, seed=1)}


def reader(build, answers):
    """A model of a text and a question; an answer is a class, or the places of a span's ends."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(build, {"context": texts(9, 7), "question": texts(9, 4, seed=1)}, answers, loss, family="recurrent")


def text_classifier(build, **options):
    """A classifier of texts of different lengths: seven tokens, three classes."""
    return classifier(build, texts(7, 6), **options)


def writer(build, entries=7, length=5, **options):
    """An encoder-decoder model: logits of one of `entries` tokens at each place of the target, padding counting nothing."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    weights = padding(length).astype("float32")
    return Case(build, pair(7, target=length), integers(entries, length), loss, weights, **options)


def crf_layer(build):
    """A CRF in a model of its own: emissions, tags and which of them count."""

    def model():
        emissions, tags, mask = keras.Input((5, 3)), keras.Input((5,), dtype="int32"), keras.Input((5,), dtype="bool")
        return keras.Model([emissions, tags, mask], build()(emissions, tags, mask=mask))

    return Case(model, [floats(5, 3), integers(3, 5), padding(5)])


def over_memory(build, **options):
    """A layer called on tokens, the memory it looks at and the memory's mask; its first output."""

    def model():
        x, memory, mask = keras.Input((5, 8)), keras.Input((6, 4)), keras.Input((6,), dtype="bool")
        output = build()(x, memory, mask=mask)
        return keras.Model([x, memory, mask], output[0] if isinstance(output, tuple) else output)

    return Case(model, [floats(5, 8), floats(6, 4), padding(6)], **options)


def layer_of(build, *inputs, **options):
    """A layer that takes its inputs as so many arguments."""

    def model():
        symbols = [keras.Input(array.shape[1:], dtype=array.dtype.name) for array in inputs]
        return keras.Model(symbols, build()(*symbols))

    return Case(model, list(inputs), **options)


def copy_mixture():
    """A mixture of four generated entries with six that stand in a text."""

    def model():
        symbols = [keras.Input((5, 4)), keras.Input((5, 1)), keras.Input((5, 3)), keras.Input((3,), dtype="int32")]
        return keras.Model(symbols, layers.CopyMixture(6)(*symbols))

    return Case(model, [floats(5, 4), floats(5, 1), np.full((BATCH, 5, 3), 1 / 3, "float32"), integers(6, 3)])


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


def detector(build, **options):
    """A model that finds boxes in pictures: two of three places for a box are taken, in one picture none."""
    generator = np.random.default_rng(4)
    corner, side = generator.uniform(0.0, 0.5, (BATCH, 3, 2)), generator.uniform(0.2, 0.5, (BATCH, 3, 2))
    boxes = np.concatenate([corner, corner + side], axis=-1).astype("float32")
    classes = np.array([[0, 1, -1], [1, 2, -1], [2, -1, 0], [-1, -1, -1]], "int32")
    return Case(build, integers(256, 32, 32, 3), {"boxes": boxes, "classes": classes}, loss=None, **options)


def pixel_classifier(build, *shape, **options):
    """A model whose output are the logits of three classes at every pixel."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    return Case(build, integers(256, *shape), integers(3, *shape[:2]), loss, **options)


def features(*shape):
    """A small network of two maps, as a perceptual loss takes one."""
    inputs = keras.Input(shape)
    first = layers.Conv2D(4, 3, padding="same", activation="relu")(keras.layers.Rescaling(1 / 255)(inputs))
    second = layers.Conv2D(6, 3, strides=2, padding="same", activation="relu")(first)
    return keras.Model(inputs, [first, second])


def unpacked(of_two):
    """A layer of two arguments as a function of a pair."""
    return lambda pair: of_two(*pair)


def diffusion(build, targets=None):
    """A model that draws its own noise, which is the same on every backend."""
    return Case(build, integers(256, 8, 8, 1), targets, loss=None, family="normalised")


def views(build):
    """A model that draws its own views of pictures."""
    return Case(build, integers(256, 8, 8, 1), loss=None, family="normalised")


def open_gates(model):
    """The model with its gates half open: while they are shut nothing behind them has a gradient."""
    for variable in model.variables:
        if variable.name.endswith("_gate"):
            variable.assign(0.5)
    return model


def time_embedding():
    time = keras.Input(())
    return keras.Model(time, layers.TimeEmbedding(8)(time))


def encoded_texts():
    encoder = models.text_encoder(7, 5, width=8, depth=1, num_heads=2)
    return keras.Model(encoder.input, encoder.output["text"])


def gated():
    x, context = keras.Input((5, 8)), keras.Input((3, 6))
    return open_gates(keras.Model([x, context], layers.GatedCrossAttention(2, 16)(x, context)))


def selective():
    x, context, mask = keras.Input((5, 8)), keras.Input((3, 6)), keras.Input((5, 3), dtype="bool")
    return open_gates(keras.Model([x, context, mask], layers.GatedCrossAttention(2, 16)(x, context, mask)))


def last_picture():
    tokens = keras.Input((6,), dtype="int32")
    seen = keras.ops.cast(layers.LastPicture(2, 2, 3)(tokens), "float32")
    return keras.Model(tokens, layers.Dense(2)(seen))


def span_logits():
    x, question, mask = keras.Input((6, 4)), keras.Input((5,)), keras.Input((6,), dtype="bool")
    logits = layers.SpanLogits()(x, question, mask=mask)
    return keras.Model([x, question, mask], keras.ops.maximum(logits, -10.0))  # the masked ones would be all of the loss


def word_match():
    tokens, question = keras.Input((5,), dtype="int32"), keras.Input((4,), dtype="int32")
    return keras.Model([tokens, question], layers.Dense(2)(layers.WordMatch()(tokens, question)))


def small_flamingo():
    vision = models.small_cnn((8, 8, 1), 5, filters=(4,), dense_dim=4)
    language = models.gpt(7, 6, width=8, depth=1, num_heads=2)
    return open_gates(models.flamingo(vision, language, image_token=2, num_images=2, num_latents=2, num_heads=2))


def small_trunk(image_shape):
    """A network of one convolution, whose map has half the picture's size."""
    pixels = keras.Input(image_shape)
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(keras.layers.Rescaling(1 / 127.5, -1.0)(pixels))
    return keras.Model(pixels, [x], name="trunk")


CASES = {
    # layers
    "AdditiveAttention": over_memory(lambda: layers.AdditiveAttention(3), family="attention"),
    "AttentionRNN": over_memory(lambda: layers.AttentionRNN(4), family="recurrent"),
    "AttentionRNN-multiplicative": over_memory(
        lambda: layers.AttentionRNN(4, "lstm", "multiplicative"), family="recurrent"
    ),
    "AveragePooling2D": layer(lambda: layers.AveragePooling2D(3, 2, "same"), floats(7, 8, 3)),
    "BatchNormalization": layer(lambda: layers.BatchNormalization(), floats(5, 5, 3), family="normalised"),
    "BidirectionalRNN": masked(lambda: layers.BidirectionalRNN(3, "gru"), 6, 3, family="recurrent"),
    "CRF": crf_layer(lambda: layers.CRF(3)),
    "ClassToken": layer(lambda: layers.ClassToken(), floats(5, 4)),
    "Conv2D": layer(
        lambda: layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"), floats(8, 7, 3), family="convolution"
    ),
    "CopyMixture": copy_mixture(),
    "CrossAttention": over_memory(lambda: layers.CrossAttention(4, num_kv_heads=2), family="attention"),
    "Decoder": language_model(lambda: models.gpt(7, 6, width=8, depth=1, num_heads=2, positions="rotary"), family="attention"),
    "DecoderBlock": over_memory(lambda: layers.DecoderBlock(2, 16), family="attention"),
    "DecoderBlock-pre": over_memory(lambda: layers.DecoderBlock(2, 16, 0.2, "pre", "swiglu"), family="attention"),
    "Dense": layer(lambda: layers.Dense(4, activation="gelu"), floats(5, 6)),
    "Cutout": layer(lambda: layers.Cutout(0.5), floats(8, 8, 3)),
    "DenoisingBlock": layer(lambda: unpacked(layers.DenoisingBlock(8)), floats(6, 5, 4), floats(6), family="normalised"),
    "DepthwiseConv2D": layer(lambda: layers.DepthwiseConv2D(3, padding="same"), floats(7, 8, 3), family="convolution"),
    "Dropout": layer(lambda: layers.Dropout(0.5, seed=1), floats(40)),
    "Embedding": layer(lambda: layers.Embedding(3, 4), integers(3, 5)),
    "EncoderBlock": masked(lambda: layers.EncoderBlock(2, 16), 5, 8, family="attention"),
    "EncoderBlock-parallel": masked(
        lambda: layers.EncoderBlock(4, 16, 0.2, "parallel", "swiglu", attention={"rotary": True, "num_kv_heads": 2}), 5, 16,
        family="attention",
    ),
    "FeedForward": layer(lambda: layers.FeedForward(6, "swiglu"), floats(5, 4)),
    "FeatureTokenizer": layer(lambda: layers.FeatureTokenizer(8, cardinalities=(3, 3)), floats(4), integers(3, 2)),
    "GRU-masked": masked(lambda: layers.GRU(4), 6, 3, family="recurrent"),
    "GRU": layer(lambda: layers.GRU(4), floats(6, 3), family="recurrent"),
    "GatedCrossAttention": Case(gated, [floats(5, 8), floats(3, 6)], family="attention"),
    "GatedCrossAttention-selective": Case(
        selective, [floats(5, 8), floats(3, 6), integers(2, 5, 3).astype("bool")], family="attention"
    ),
    "GraphAttention": graph_layer(lambda: layers.GraphAttention(3, 2), family="graph"),
    "GraphConvolution": graph_layer(lambda: layers.GraphConvolution(4, "tanh"), family="graph"),
    "GraphIsomorphism": graph_layer(lambda: layers.GraphIsomorphism(4), family="graph"),
    "GraphSAGE": graph_layer(lambda: layers.GraphSAGE(4, "tanh"), family="graph"),
    "InstanceNormalization": layer(lambda: layers.InstanceNormalization(), floats(5, 4, 3), family="normalised"),
    "LSTM-masked": masked(lambda: layers.LSTM(4, return_sequences=True), 6, 3, family="recurrent"),
    "LSTM": layer(lambda: layers.LSTM(4, return_sequences=True), floats(6, 3), family="recurrent"),
    "LayerNormalization": layer(lambda: layers.LayerNormalization(), floats(5, 8)),
    "LinearCrossEntropy": layer_of(lambda: layers.LinearCrossEntropy(7, chunk_size=6), floats(5, 4), integers(7, 5)),
    "MaxConvolution": masked(lambda: layers.MaxConvolution(4, 3), 6, 3, family="convolution"),
    "MaxPooling2D": layer(lambda: layers.MaxPooling2D(3, 2, "same"), floats(7, 8, 3)),
    "Mixup": layer(lambda: layers.Mixup(), floats(4, 4, 3)),
    "MixupModel": Case(mixup_model, floats(4, 4, 3), floats(1)),
    "MultiplicativeAttention": over_memory(lambda: layers.MultiplicativeAttention(), family="attention"),
    "NGramLogits": layer(lambda: layers.NGramLogits(3, num_rows=7), texts(7, 5)),
    "PaddingMask": text_classifier(lambda: models.text_bag(7, 3, width=4)),
    "LastPicture": Case(last_picture, integers(4, 6)),
    "PerceiverResampler": layer(lambda: layers.PerceiverResampler(3, 2, 2), floats(5, 8), family="normalised"),
    "PatchEmbedding": layer(lambda: layers.PatchEmbedding(4, 6), floats(8, 8, 3), family="convolution"),
    "Perceptron": layer(lambda: layers.Perceptron(2), floats(5)),
    "PerceptronLoss": layer(lambda: layers.Dense(3), floats(5), targets=integers(3), loss=layers.PerceptronLoss()),
    "PixelNormal": layer(lambda: layers.PixelNormal((4, 4, 1)), floats(16)),
    "PixelShuffle": layer(lambda: layers.PixelShuffle(2), floats(3, 4, 8)),
    "PositionEmbedding": layer(lambda: layers.PositionEmbedding(), floats(5, 4)),
    "RandomColor": layer(lambda: layers.RandomColor(), floats(4, 4, 3)),
    "RandomCrop": layer(lambda: layers.RandomCrop(2), floats(6, 5, 3)),
    "RandomFlip": layer(lambda: layers.RandomFlip(), floats(4, 4, 3)),
    "RandomResizedCrop": layer(lambda: layers.RandomResizedCrop(), floats(6, 5, 3)),
    "RandomRotation": layer(lambda: layers.RandomRotation(45), floats(6, 5, 3)),
    "RandomShift": layer(lambda: layers.RandomShift(0.3), floats(6, 5, 3)),
    "Reparametrization": layer(lambda: layers.Reparametrization(), floats(3), 0.1 * floats(3), floats(3)),
    "ReverseSequences": masked(lambda: layers.ReverseSequences(), 5, 3),
    "RotaryEmbedding": layer(lambda: layers.RotaryEmbedding(), floats(5, 2, 4)),
    "SelfAttention-masked": masked(lambda: layers.SelfAttention(2), 5, 8, family="attention"),
    "SelfAttention": layer(lambda: layers.SelfAttention(2, causal=True), floats(5, 8), family="attention"),
    "SequencePooling": masked(lambda: layers.SequencePooling("max"), 5, 3),
    "ShortList": layer(lambda: layers.ShortList(4), integers(7, 5)),
    "SimpleRNN": masked(lambda: layers.SimpleRNN(4), 6, 3, family="recurrent"),
    "SpanLogits": Case(span_logits, [floats(6, 4), floats(5), padding(6)]),
    "SinusoidalPositions": layer(lambda: layers.SinusoidalPositions(8), floats(5, 4)),
    "TimeEmbedding": Case(time_embedding, np.linspace(0.0, 1.0, BATCH, dtype="float32")),
    "TakePositions": layer_of(lambda: layers.TakePositions(), floats(5, 4), integers(5, 3)),
    "TokenEmbedding": layer(lambda: layers.TokenEmbedding(7, 4), integers(7, 5)),
    "TransformerBlock-masked": masked(lambda: layers.TransformerBlock(2, 16, 0.2), 5, 8, family="attention"),
    "TransformerBlock": layer(lambda: layers.TransformerBlock(2, 16), floats(5, 8), family="attention"),
    "WordDropout": layer(lambda: layers.WordDropout(0.5, seed=1), integers(7, 5)),
    "WordMatch": Case(word_match, [texts(7, 5), texts(7, 4)]),
    # architectures
    "DETR": detector(
        lambda: models.DETR(
            (32, 32, 3), 3, width=16, denoising=2,
            sizes={"depth": (1, 2), "num_heads": 2, "num_queries": 4, "trunk_width": 4},
        ),
        family="normalised",
    ),
    "Autoencoder": diffusion(lambda: models.Autoencoder((8, 8, 1), 5, width=4, noise=0.2)),
    "Autoencoder-dense": diffusion(lambda: models.Autoencoder((8, 8, 1), 5, kind="dense", width=2)),
    "Autoencoder-spatial": diffusion(lambda: models.Autoencoder((8, 8, 1), 2, kind="spatial", width=4)),
    "BYOL": views(
        lambda: models.BYOL((8, 8, 1), {"name": "small_cnn", "filters": (4, 8), "dense_dim": 16}, projection_dim=16)
    ),
    "CLIP": Case(
        lambda: models.CLIP((8, 8, 1), 7, 5, width=8, depth=1, embedding_dim=4),
        {"image": integers(256, 8, 8, 1), "text": integers(7, 5)},
        loss=None,
        family="normalised",
    ),
    "Diffusion": diffusion(lambda: models.Diffusion((8, 8, 1), width=4)),
    "Diffusion-class": diffusion(lambda: models.Diffusion((8, 8, 1), num_classes=3, width=4, prediction="v"), integers(3)),
    "Diffusion-text": diffusion(
        lambda: models.Diffusion((8, 8, 1), text=(7, 5), width=4, prediction="flow"), integers(7, 5)
    ),
    "LatentDiffusion": diffusion(
        lambda: models.LatentDiffusion((8, 8, 1), text=(7, 5), width=4, autoencoder_width=4), integers(7, 5)
    ),
    # Without a batch norm, which over eight views magnifies the rounding of ten steps to the tolerance; BYOL has one.
    "SimCLR": views(lambda: models.SimCLR((8, 8, 1), "lenet5", projection_dim=4)),
    "WGANGP": diffusion(lambda: models.WGANGP((8, 8, 1), 5, width=4)),
    "WGANGP-class": diffusion(lambda: models.WGANGP((8, 8, 1), 5, num_classes=3, width=4), integers(3)),
    "denoiser": Case(
        lambda: models.denoiser((7, 9, 1), num_classes=3, text_shape=(5, 6), width=4, num_heads=2),
        {
            "image": floats(7, 9, 1),
            "time": np.linspace(0.0, 1.0, BATCH, dtype="float32"),
            "label": integers(4),
            "text": floats(5, 6),
            "text_mask": padding(5),
        },
        family="normalised",
    ),
    "flamingo": Case(
        small_flamingo,
        {"image": integers(256, 2, 8, 8, 1).astype("uint8"), "tokens": integers(7, 6)},
        integers(7, 6),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        family="normalised",
    ),
    "DCGAN": generative(lambda: models.DCGAN((9, 10, 1), 5, width=4, depth=2), family="normalised"),
    "DCGAN-class": generative(lambda: models.DCGAN((9, 10, 1), 5, num_classes=3, width=4), integers(3), family="normalised"),
    "PixelGaussian": Case(lambda: models.PixelGaussian((4, 4, 1)), integers(256, 4, 4, 1), loss=None),
    "SRGAN": Case(
        lambda: models.SRGAN((5, 6, 1), 2, width=4, depth=1, features=features(10, 12, 1)), integers(256, 5, 6, 1),
        integers(256, 10, 12, 1), loss=None, family="convolution",
    ),
    "SSD": detector(lambda: models.SSD((32, 32, 3), 3, width=4, num_levels=2, octaves=1), family="normalised"),
    "StyleTransfer": Case(
        lambda: models.StyleTransfer((18, 17, 3), features(18, 17, 3), width=4, depth=1), integers(256, 18, 17, 3), loss=None,
        family="normalised",
    ),
    "VAE": generative(lambda: models.VAE((9, 10, 1), 5, width=4, depth=2)),
    "VAE-gaussian": generative(lambda: models.VAE((9, 10, 1), 5, width=4, depth=2, likelihood="gaussian")),
    "VAE-class": generative(lambda: models.VAE((9, 10, 1), 5, num_classes=3, width=4), integers(3)),
    "YOLO": detector(lambda: models.YOLO((32, 32, 3), 3, width=4, num_levels=2, depth=1), family="normalised"),
    "alexnet": classifier(
        lambda: models.alexnet((8, 8, 1), 3, width=6, dense_dim=8, dropout=0.0), floats(8, 8, 1), family="convolution"
    ),
    "edsr": Case(lambda: models.edsr((5, 6, 1), factor=2, width=4, depth=1), integers(256, 5, 6, 1), family="convolution"),
    # At 24 pixels the last maps are 2 x 2; batch norm of four single pixels would magnify every rounding.
    "efficientnet": classifier(
        lambda: models.efficientnet((24, 24, 1), 3, width=0.1, depth=0.1, dropout=0.0), floats(24, 24, 1),
        family="normalised",
    ),
    "bert": Case(
        lambda: models.bert(7, max_tokens=8, width=8), {"tokens": texts(7, 6), "segments": integers(2, 6)}, integers(7, 6),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), padding(6).astype("float32"), family="attention",
    ),
    "masked_language_model": Case(
        lambda: models.masked_language_model(7, max_tokens=8, width=8),
        {"tokens": texts(7, 6), "segments": integers(2, 6), "places": integers(6, 3)}, integers(7, 3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), family="attention",
    ),
    "bert_head": classifier(
        lambda: models.bert_head(models.bert(7, max_tokens=8, width=8), 3),
        {"tokens": texts(7, 6), "segments": integers(2, 6)}, family="attention",
    ),
    "bert_head-mean": classifier(
        lambda: models.bert_head(models.bert(7, max_tokens=8, width=8, variant={"activation": "gelu_tanh"}), 3, pooling="mean"),
        {"tokens": texts(7, 6), "segments": integers(2, 6)}, family="attention",
    ),
    "bert_reader": Case(
        lambda: models.bert_reader(models.bert(7, max_tokens=8, width=8)),
        {"tokens": texts(7, 6), "segments": integers(2, 6), "places": integers(6, 3)}, integers(3, 2),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True), family="attention",
    ),
    "bert_tagger": Case(
        lambda: models.bert_tagger(models.bert(7, max_tokens=8, width=8, variant={"segments": False}), 3),
        {"tokens": texts(7, 6), "places": 1 + integers(5, 4)}, integers(3, 4), loss="mean_squared_error", family="attention",
    ),
    "espcn": Case(lambda: models.espcn((5, 6, 1), factor=2, width=4), integers(256, 5, 6, 1), family="convolution"),
    "feature_pyramid": Case(
        lambda: models.feature_pyramid((33, 40, 3), width=4, channels=4, num_levels=3), integers(256, 33, 40, 3),
        family="normalised",
    ),
    "fsrcnn": Case(
        lambda: models.fsrcnn((5, 6, 1), factor=3, width=6, shrunk=4, depth=1), integers(256, 5, 6, 1), family="convolution"
    ),
    "ft_transformer": classifier(
        lambda: models.ft_transformer(4, (3, 3), 3, width=8, depth=1, num_heads=2, dropout=0.0), table(4, (3, 3)),
        family="attention",
    ),
    "gpt2": language_model(lambda: models.gpt2(7, 6, width=8, depth=1, num_heads=2), family="attention"),
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
    "pilotnet": Case(lambda: models.pilotnet((24, 40, 3), width=6), integers(256, 24, 40, 3), family="convolution"),
    "perceptron": classifier(lambda: models.perceptron((5,), 3, unit="relu"), floats(5)),
    "cell_network": classifier(
        lambda: models.cell_network(
            (8, 8, 1), 3, cell="conv3,0,max3,0,separable3,1,average3,0,conv1,0,identity,1", width=6, stages=2
        ),
        floats(8, 8, 1),
        family="normalised",
    ),
    "pointer_generator": writer(
        lambda: models.pointer_generator(5, num_copied=2, width=4, units=6), entries=5, family="attention"
    ),
    "attention_reader": reader(lambda: models.attention_reader(9, 3, width=6), integers(3)),
    "attention_reader-span": reader(lambda: models.attention_reader(9, width=6, hops=1), integers(4, 2)),
    "gru_reader": reader(lambda: models.gru_reader(9, 3, width=6), integers(3)),
    "residual_trunk": Case(
        lambda: models.residual_trunk((32, 40, 3), width=4, num_levels=2), integers(256, 32, 40, 3), family="normalised"
    ),
    "resnet": classifier(lambda: models.resnet((8, 8, 1), 3, depth=20, width=4), floats(8, 8, 1), family="normalised"),
    "seq2seq": writer(lambda: models.seq2seq(7, 7, width=6), family="recurrent"),
    "seq2seq-luong": writer(
        lambda: models.seq2seq(7, 7, cell="lstm", attention="multiplicative", width=6), family="recurrent"
    ),
    "text_encoder": Case(encoded_texts, integers(7, 5), family="attention"),
    "small_cnn": classifier(
        lambda: models.small_cnn((8, 8, 1), 3, filters=(4, 8), dense_dim=8, dropout=0.0), floats(8, 8, 1),
        family="normalised",
    ),
    "tabular_mlp": classifier(
        lambda: models.tabular_mlp(4, (3, 3), 3, hidden_dims=(8,), dropout=0.2), table(4, (3, 3)),
        family="normalised",
    ),
    "tabular_perceptron": classifier(lambda: models.tabular_perceptron(4, (3, 3), 3), table(4, (3, 3))),
    "tagger": Case(
        lambda: models.tagger(7, 3, characters=5, width=4, character_filters=3, dropout=0.2),
        {"tokens": texts(7, 6), "characters": integers(5, 6, 4)}, integers(3, 6), loss="mean_squared_error",
        family="recurrent",
    ),
    "transformer_tagger": Case(
        lambda: models.transformer_tagger(7, 3, characters=5, width=8, depth=1, dropout=0.2),
        {"tokens": texts(7, 6), "characters": integers(5, 6, 4)}, integers(3, 6), loss="mean_squared_error",
        family="attention",
    ),
    "text_bag": text_classifier(lambda: models.text_bag(7, 3, width=4, hidden_dims=(5,), dropout=0.2)),
    "text_cnn": text_classifier(lambda: models.text_cnn(7, 3, width=4, filters=3), family="convolution"),
    "wide_text_cnn": text_classifier(
        lambda: models.wide_text_cnn(7, 3, width=4, filters=3, num_rows=5), family="convolution"
    ),
    "text_rnn": text_classifier(
        lambda: models.text_rnn(7, 3, bidirectional=True, width=4, depth=2, dropout=0.2), family="recurrent"
    ),
    "text_rnn-gru": text_classifier(lambda: models.text_rnn(7, 3, cell="gru", width=4), family="recurrent"),
    "text_transformer": text_classifier(
        lambda: models.text_transformer(7, 3, width=8, depth=1, num_heads=2), family="attention"
    ),
    "transformer": writer(lambda: models.transformer(7, 7, width=8, depth=1, num_heads=2), family="attention"),
    "transformer_net": Case(
        lambda: models.transformer_net((14, 13, 3), width=4, depth=1), integers(256, 14, 13, 3),
        integers(256, 14, 13, 3).astype("float32"), weights=FAINT, family="normalised",
    ),
    "transformer_net-skip": Case(
        lambda: models.transformer_net((10, 9, 3), width=4, depth=1, skip=True), integers(256, 10, 9, 3),
        integers(256, 10, 9, 3).astype("float32"), weights=FAINT, family="normalised",
    ),
    "unet": pixel_classifier(lambda: models.unet((11, 10, 3), 3, width=4, depth=2), 11, 10, 3, family="normalised"),
    "unet-gated": pixel_classifier(
        lambda: models.unet((8, 8, 3), 3, width=4, depth=2, block="residual", attention=True), 8, 8, 3, family="normalised"
    ),
    "unet-trunk": pixel_classifier(
        lambda: models.unet((8, 8, 3), 3, width=4, depth=2, trunk=small_trunk((8, 8, 3))), 8, 8, 3, family="normalised"
    ),
    "vgg": classifier(lambda: models.vgg((8, 8, 1), 3, depth=11, width=4, dropout=0.0), floats(8, 8, 1), family="normalised"),
    "vit": classifier(
        lambda: models.vit((8, 8, 1), 3, patch_size=4, width=8, depth=1, num_heads=2), floats(8, 8, 1), family="attention"
    ),
}
