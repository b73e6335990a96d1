"""Which words of a text a classifier went by."""

import keras
import numpy as np

from apps.common import figures
from apps.common.data import nested
from layers import backend

STEPS, TOGETHER = 24, 8
CHARACTERS, MOST = 140, 120  # of a line, and words of a text


def important_words(model, examples, classes, steps=STEPS):
    """What each token adds to the score of a class, by integrated gradients from "no word at all".

    With e the embedded text and s(e) the logit of its class less the mean of all logits, token t has
    sum_d e_td * mean over a in (0, 1) of ds(a e) / de_td; together they are s(e) - s(0).

    What a layer adds by its method `contributions` counts besides.

    Args:
        model: A functional model from token ids to logits, whose layer `embedding` embeds them.
        examples: `Sequences` of a few texts.
        classes: Class index of each.
        steps: Points of the mean, each the middle of its part.
    Returns: An array `(tokens,)` for each text.
    Reference: Sundararajan et al., 2017, arXiv 1703.01365.
    """
    # Keras can no longer save a model whose layers have also been put into others: these are of a copy.
    copy = type(model).from_config(model.get_config())
    copy.set_weights(model.get_weights())
    embedded = copy.get_layer("embedding").output
    body = keras.Model(copy.input, embedded)
    head = keras.Model([embedded, copy.input], copy.output)
    inputs, classes = examples.take(np.arange(len(examples)))[0], np.asarray(classes)

    def repeated(times):
        return nested.map_leaves(lambda leaf: keras.ops.convert_to_tensor(np.concatenate([leaf] * times)), inputs)

    def as_array(tensor):
        return keras.ops.convert_to_numpy(keras.ops.cast(tensor, "float32"))

    vectors = as_array(body(repeated(1), training=False))
    wanted = np.eye(model.output_shape[-1], dtype="float32")[classes] - np.float32(1 / model.output_shape[-1])
    # Several points of the mean at once: a call costs more than what it computes.
    points, total = np.array_split((np.arange(steps) + 0.5) / steps, -(-steps // TOGETHER)), 0.0
    for shares in points:
        x, chosen = repeated(len(shares)), keras.ops.convert_to_tensor(np.concatenate([wanted] * len(shares)))

        def score(tensor, x=x, chosen=chosen):
            return keras.ops.sum(keras.ops.cast(head([tensor, x], training=False), "float32") * chosen)

        on_the_way = (np.float32(shares)[:, None, None, None] * vectors).reshape(-1, *vectors.shape[1:])
        slope = as_array(backend.gradient(score, keras.ops.convert_to_tensor(on_the_way)))
        total = total + slope.reshape(-1, *vectors.shape).sum(0)
    scores = (vectors * total / steps).sum(-1)
    for layer in (each for each in copy.layers if hasattr(each, "contributions")):  # linear in its words, by itself
        scores = scores + (as_array(layer.contributions(repeated(1))) * wanted[:, None]).sum(-1)
    lengths = np.minimum(examples.lengths()[:, 0], scores.shape[1])
    return [row[:length] for row, length in zip(scores, lengths, strict=True)]


def words_figure(texts, scores, titles):
    """Texts whose words are shaded by what they added: green for the class, red against it.

    Args:
        texts: Words of each.
        scores: One number a word, for each text.
        titles: One string a text.
    """
    lines, row = [], 0
    for words, values, title in zip(texts, scores, titles, strict=True):
        lines.append((row, 0, title, None))
        row, column = row + 1, 0
        most = float(np.abs(values).max(initial=1e-12))
        for word, value in zip(words[:MOST], values[:MOST], strict=False):
            shown = printable(word)
            if column and column + len(shown) > CHARACTERS:
                row, column = row + 1, 0
            lines.append((row, column, shown, float(value) / most))
            column += len(shown) + 1
        row += 2
    figure, axis = figures.new(10.0, 0.24 * row + 0.5)
    axis.set(xlim=(0, CHARACTERS), ylim=(row, -1))
    axis.set_title("words that mattered: green for the class, red against it", fontsize=9)
    axis.axis("off")
    for row, column, text, value in lines:
        style = {"weight": "bold"} if value is None else {"bbox": shade(value)}
        axis.text(column, row, text, fontsize=8, family="monospace", va="center", **style)
    return figure


def shade(value):
    """The box behind a word of this share, from -1 to 1."""
    color = (0.2, 0.7, 0.3) if value > 0 else (0.85, 0.2, 0.2)
    return {"facecolor": (*color, 0.75 * min(1.0, abs(value))), "edgecolor": "none", "pad": 1.0}


def printable(word):
    """A word without the signs that the font of the figures lacks."""
    return "".join(sign if sign.isprintable() and ord(sign) < 0x2E80 else "\u25a1" for sign in word)
