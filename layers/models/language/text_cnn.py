"""Kim's CNN: convolutions over word vectors, the largest answer of each filter in a text."""

import keras

from ... import Dense, Dropout, Embedding, MaxConvolution, PaddingMask
from .._inputs import sequence_input

__all__ = ["text_cnn"]


def text_cnn(vocabulary_size, num_outputs, *, width=300, windows=(3, 4, 5), filters=100, dropout=0.5):
    """Classifier of texts by which phrases of a few words there are, wherever they stand.

    Args:
        vocabulary_size: Number of different tokens, padding (0) among them.
        num_outputs: Number of logits.
        width: Features of a token.
        windows: How many tokens the filters of each kind see.
        filters: Filters of each kind.
        dropout: Fraction dropped before the logits in training.
    Input shape: `(batch, tokens)`, ids; 0 is padding at the end.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Kim, 2014, arXiv 1408.5882, "CNN-rand".
    """
    tokens = sequence_input()
    mask = PaddingMask(name="mask")(tokens)
    x = Embedding(vocabulary_size, width, name="embedding")(tokens)
    found = [MaxConvolution(filters, window, name=f"window_{window}")(x, mask=mask) for window in windows]
    x = keras.layers.Concatenate(name="filters")(found) if len(found) > 1 else found[0]
    x = Dropout(dropout, name="dropout")(x)
    return keras.Model(tokens, Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x), name="text_cnn")
