"""Recurrent language model: an LSTM that predicts each token from those before it."""

import keras

from ... import LSTM, Dense, Dropout, TokenEmbedding
from .._inputs import token_input

__all__ = ["lstm_language_model"]


def lstm_language_model(vocabulary_size, block_size, *, width=128, depth=2, dropout=0.0):
    """Stacked LSTMs over embedded tokens, a dense layer of logits at every position.

    Args:
        vocabulary_size: Number of different tokens.
        block_size: Tokens of a training window; the state starts at zero in each.
        width: Features of a token and units of each LSTM.
        depth: Number of LSTMs.
        dropout: Fraction dropped before each LSTM and before the logits in training.
    Input shape: `(batch, block_size)`, token ids in `[0, vocabulary_size)`.
    Output shape: `(batch, block_size, vocabulary_size)`, logits of the next token.
    Reference: Graves, 2013, arXiv 1308.0850; dropout between the layers: Zaremba et al., 2014, arXiv 1409.2329.
    """
    tokens = token_input(block_size)
    x = TokenEmbedding(vocabulary_size, width, name="embedding")(tokens)
    for index in range(depth):
        x = Dropout(dropout, name=f"dropout_{index}")(x)
        x = LSTM(width, return_sequences=True, name=f"lstm_{index}")(x)
    x = Dropout(dropout, name="dropout")(x)
    return keras.Model(tokens, Dense(vocabulary_size, dtype=keras.config.floatx(), name="logits")(x), name="lstm_language_model")
