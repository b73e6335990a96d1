"""How likely a language model finds the text that is there, without the matrix of all its logits."""

import keras
import numpy as np

from apps.common.training.batches import predict_all
from layers import LinearCrossEntropy

CHUNK = 1024  # tokens whose logits are in memory at once
TOKENS = 16_384  # of a batch, about


def token_losses(model, chunk_size=CHUNK):
    """`(ids, ids after them) -> -log p` of each token, `(batch, tokens)`: a model with the weights that `model` has now.

    GPT-2's logits of 128 windows would be 26 GB; those of a chunk are 200 MB.

    Args:
        model: A language model whose logits are the last layer's, called `logits`, or of the table of its `embedding`.
        chunk_size: Tokens whose logits are in memory at once.
    """
    tokens = model.inputs[0]
    targets = keras.Input(tokens.shape[1:], dtype="int32", name="targets")
    if any(layer.name == "logits" for layer in model.layers):
        kernel, bias = map(keras.ops.convert_to_numpy, model.get_layer("logits").weights)
        features, table = model.get_layer("logits").input, np.concatenate([kernel, bias[None]]).T
        features = keras.ops.pad(features, [[0, 0], [0, 0], [0, 1]], constant_values=1)
    else:
        features, table = model.get_layer("norm").output, keras.ops.convert_to_numpy(model.get_layer("embedding").embeddings)
    loss = LinearCrossEntropy(len(table), chunk_size, dtype=keras.config.floatx(), name="losses")
    scoring = keras.Model([tokens, targets], loss(features, targets))
    loss.table.assign(table)
    return scoring


def next_token_losses(model, windows):
    """-log p(next token) at every position of every window, and how much each counts, `(windows, block_size)` both."""
    batch_size = max(1, min(128, TOKENS // model.inputs[0].shape[1], len(windows)))
    scoring, losses, weights = token_losses(model), [], []
    for first in range(0, len(windows), batch_size):
        indices = np.minimum(np.arange(first, first + batch_size), len(windows) - 1)
        x, y, weight = (*windows.take(indices), None)[:3]
        losses.append(predict_all(scoring, [x, y], batch_size)[: len(windows) - first].astype("float64"))
        weights.append(np.ones(y.shape) if weight is None else weight)
    return np.concatenate(losses), np.concatenate(weights)[: len(windows)]
