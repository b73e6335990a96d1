"""How well a language model tells the next token of a text, at every position, without the matrix of all its logits."""

import keras
import numpy as np

from apps.common.training.batches import planned, predict_all, taken
from layers import LinearCrossEntropy
from layers.decoding import run_with

CHUNK = 1024  # tokens whose logits are in memory at once
TOKENS = 16_384  # of a batch at most
LENGTH = 256  # tokens of a text, where a model takes any number


def token_losses(model, chunk_size=CHUNK):
    """`(ids, ids after them) -> -log p` of each token, `(batch, tokens)`: a model with the weights that `model` has now.

    GPT-2's logits of 128 windows would be 26 GB; those of a chunk are 200 MB.

    Args:
        model: A language model whose logits are the last layer's, called `logits`, or of the table of its `embedding`.
        chunk_size: Tokens whose logits are in memory at once.
    """
    shape = model.inputs[0].shape[1:]
    tokens, targets = keras.Input(shape, dtype="int32", name="ids"), keras.Input(shape, dtype="int32", name="targets")

    def without_head(layer):
        if layer.name == "embedding":
            return lambda x, reverse=False: x if reverse else layer(x)
        return (lambda x: x) if layer.name == "logits" else layer

    features = run_with(model, tokens, without_head)
    if any(layer.name == "logits" for layer in model.layers):
        kernel, bias = map(keras.ops.convert_to_numpy, model.get_layer("logits").weights)
        table = np.concatenate([kernel, bias[None]]).T
        features = keras.ops.pad(features, [[0, 0], [0, 0], [0, 1]], constant_values=1)
    else:
        table = keras.ops.convert_to_numpy(model.get_layer("embedding").embeddings)
    loss = LinearCrossEntropy(len(table), chunk_size, dtype=keras.config.floatx(), name="losses")
    scoring = keras.Model([tokens, targets], loss(features, targets))
    loss.table.assign(table)
    return scoring


def next_token_losses(model, examples):
    """-log p(next token) at every position of every text, and how much each counts, `(texts, longest)` both."""
    batch_size = max(1, min(128, TOKENS // (model.inputs[0].shape[1] or LENGTH), len(examples)))
    scoring, batches = token_losses(model), []
    for indices in planned(examples, batch_size):
        x, y, weight = taken(examples, indices)
        losses = predict_all(scoring, [x, y], batch_size).astype("float64")
        weight, there = np.ones(y.shape) if weight is None else weight, indices >= 0
        batches.append((indices[there], losses[there], weight[there]))
    found = np.zeros((2, len(examples), max(losses.shape[1] for _, losses, _ in batches)))
    for indices, *both in batches:
        found[:, indices, : both[0].shape[1]] = both
    return found[0], found[1]
