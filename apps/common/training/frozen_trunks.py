"""The two frozen halves of a model that is shown pictures: taken from bundles, or trained first where none is given."""

import math
import time

import keras
import numpy as np

from apps.common.bundles.pretrained import trunk_model
from apps.common.data.examples import Examples
from apps.common.data.text.prompts import lower_words
from apps.common.errors import UserError
from apps.common.output import say
from apps.common.training.batches import Batches
from apps.common.training.fit import train_epochs
from apps.common.training.losses import TokenCrossEntropy
from layers import TransformerBlock, initialize, models
from layers.decoding import run_with

SEEING = ("image-classification", "contrastive", "image-text")
COMMON = 0.02, 0.98  # share of the pictures that a word is said of, for it to be learnt from


def bundled_vision(source):
    """`(model, digest)`: the network of a bundle from pixels in -1..1 to a map of features, or to features where it has no map.

    Raises:
        UserError: A bundle of another kind.
    """
    bundle, model, digest = trunk_model("--vision", source, SEEING)
    shape = tuple(bundle.about["image_shape"])
    if bundle.task == "image-classification":
        return seen(model, shape, (127.5, 127.5)), digest  # it takes pixels in 0..255
    if not isinstance(getattr(model, "encoder", None), keras.Model):
        raise UserError(f"--vision {source}: has no encoder of pictures by itself; expected one trained with --model clip")
    return seen(model.encoder, shape, (1.0, 0.0)), digest


def bundled_language(source):
    """`(model, digest)` of a bundle of text-generation.

    Raises:
        UserError: A bundle of another kind, or a model without transformer blocks.
    """
    bundle, model, digest = trunk_model("--language", source, ("text-generation",))
    if not any(isinstance(layer, TransformerBlock) for layer in model.layers):
        kind = bundle.options.get("model")
        raise UserError(f"--language {source}: its model is {kind}, which has no blocks to stand between; expected --model gpt")
    return model, digest


def seen(network, shape, scale):
    """The part of a network that sees, behind a factor and offset of the pixels in -1..1."""
    pixels = keras.Input(shape, name="pixels")
    x, last = keras.layers.Rescaling(*scale, name="scale")(pixels), network.layers[-1]
    if isinstance(last, keras.Model):  # behind a scaling of its own
        inner = features_of(last)
        x = run_with(network, x, lambda layer: inner if layer is last else layer)
    else:
        x = features_of(network)(x)
    return keras.Model(pixels, x, name="vision")


def features_of(network):
    """A network up to its last map, or tokens of patches; or to what its last layer is given."""
    for layer in reversed(network.layers):
        shape = layer.output.shape
        if len(shape) in (3, 4) and math.prod(shape[1:-1]) > 1:
            return keras.Model(network.inputs, layer.output, name="features")
    return keras.Model(network.inputs, network.layers[-1].input, name="features")


def trained_vision(questions, tower, epochs, seed):
    """A network that is trained to tell from each picture the words of the answers about it.

    Args:
        questions: The training `Questions`.
        tower: Name of the architecture.
        epochs: Passes over the pictures.
        seed: Of the weights and of the order.
    """
    started = time.monotonic()
    images, targets = words_of_pictures(questions)
    shape, outputs = images.shape[1:], targets.shape[1]
    if tower == "small-cnn":
        stages = max(2, round(math.log2(min(shape[:2]) / 4)))  # about 4 x 4 places are left
        filters = (16, 32, *[64] * (stages - 2))
        network = models.small_cnn(shape, outputs, filters=filters, dense_dim=64, dropout=0.1)
    else:
        network = models.resnet(shape, outputs, depth=20)
    pixels = keras.Input(shape, name="image", dtype="uint8")
    model = keras.Model(pixels, network(keras.layers.Rescaling(1 / 127.5, -1.0)(pixels)))
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    last = trained(model, Examples(images, targets), loss, 3 * epochs, seed)
    said = f"a {tower} learns first to tell {outputs} words of the answers from {len(images)} pictures"
    say(f"no --vision: {said} ({epochs} epochs, {time.monotonic() - started:.0f} s, loss {last:.3g}), and stays as it is")
    return seen(network, shape, (1.0, 0.0))


def words_of_pictures(questions):
    """`(pictures, which words are said of each)` of those that are asked about.

    Words said of nearly all or hardly any of them are left out; where no answer has others, the questions' words count as well.
    """
    chosen = sorted({each.picture for each in questions.asked})
    place = {picture: row for row, picture in enumerate(chosen)}
    for text_of in (lambda each: each.answer, lambda each: f"{each.question} {each.answer}"):
        words = sorted({word for each in questions.asked for word in lower_words(text_of(each))})
        column = {word: index for index, word in enumerate(words)}
        targets = np.zeros((len(chosen), len(words)), "float32")
        for each in questions.asked:
            targets[place[each.picture], [column[word] for word in lower_words(text_of(each))]] = 1
        share = targets.mean(0)
        useful = (share > COMMON[0]) & (share < COMMON[1])
        if useful.sum() > 1:
            targets = targets[:, useful]
            break
    return questions.images[chosen], targets


def trained_language(questions, size, epochs, seed):
    """A GPT that is trained on the lines of questions and answers, without the pictures.

    Lines about one picture stand together, so that it learns to answer by what was said before of the same things; alone it would
    learn which answers are common, and not to look at what is asked.

    Args:
        questions: The training `Questions`.
        size: `(width, depth, num_heads)`.
        epochs: Passes over the lines.
        seed: Of the weights and of the order.
    """
    started, (width, depth, num_heads) = time.monotonic(), size
    model = models.gpt(len(questions.prompts), questions.length, width=width, depth=depth, num_heads=num_heads)
    ids, following, _ = questions.texts(lines_together(questions, seed))
    last = trained(model, Examples(ids, following, np.float32(following > 0)), TokenCrossEntropy(), epochs, seed)
    said = f"a GPT learns first the {len(questions.asked)} lines of text without the pictures"
    say(f"no --language: {said} ({epochs} epochs, {time.monotonic() - started:.0f} s, loss {last:.3g}), and stays as it is")
    return model


def lines_together(questions, seed, copies=1):
    """Rows of lines about one picture, in several orders, filled up with lines of others: `(rows, lines)`."""
    generator, size, rows = np.random.default_rng([seed, 65]), 2 * questions.num_images, []
    pictures = np.array([each.picture for each in questions.asked])
    for _ in range(copies):
        shuffled = generator.permutation(len(pictures))
        order = shuffled[np.argsort(pictures[shuffled], kind="stable")]
        rows += np.split(order, np.flatnonzero(np.diff(pictures[order])) + 1)
    return np.stack([np.concatenate([row, generator.integers(0, len(pictures), size)])[:size] for row in rows])


def trained(model, examples, loss, epochs, seed):
    """Train a model by itself, quickly; the loss of its last epoch."""
    initialize(model, seed)
    batches = Batches(examples, 32, seed)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, epochs * len(batches))
    model.compile(keras.optimizers.Adam(rate, global_clipnorm=1.0), loss)
    train_epochs(model, batches, seed=seed, epochs=epochs)
    return float(model.history.history["loss"][-1])
