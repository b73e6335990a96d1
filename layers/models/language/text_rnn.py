"""Recurrent classifier: a text read token by token, one way or both, and judged by the last states."""

import keras

from ... import GRU, LSTM, BidirectionalRNN, Dense, Dropout, Embedding, PaddingMask, SimpleRNN
from .._inputs import choose, sequence_input

__all__ = ["text_rnn"]


def text_rnn(vocabulary_size, num_outputs, *, cell="lstm", bidirectional=False, width=128, depth=1, dropout=0.0):
    """Classifier of texts by a recurrent network.

    Args:
        vocabulary_size: Number of different tokens, padding (0) among them.
        num_outputs: Number of logits.
        cell: `"simple"`, `"lstm"` or `"gru"`.
        bidirectional: Whether a second network reads each text from its end.
        width: Features of a token and units of each network.
        depth: Number of recurrent layers.
        dropout: Fraction dropped before each layer in training.
    Input shape: `(batch, tokens)`, ids; 0 is padding at the end.
    Output shape: `(batch, num_outputs)`, logits.
    Raises:
        ValueError: There is no such cell.
    Reference: Elman, 1990; Hochreiter and Schmidhuber, 1997; Cho et al., 2014, arXiv 1406.1078; Graves and Schmidhuber, 2005.
    """
    recurrent = choose("cell", cell, {"simple": SimpleRNN, "lstm": LSTM, "gru": GRU})
    tokens = sequence_input()
    mask = PaddingMask(name="mask")(tokens)
    x = Embedding(vocabulary_size, width, name="embedding")(tokens)
    for index in range(depth):
        x = Dropout(dropout, name=f"dropout_{index}")(x)
        options = {"return_sequences": index < depth - 1, "name": f"{cell}_{index}"}
        layer = BidirectionalRNN(width, cell, **options) if bidirectional else recurrent(width, **options)
        x = layer(x, mask=mask)
    x = Dropout(dropout, name="dropout")(x)
    return keras.Model(tokens, Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x), name="text_rnn")
