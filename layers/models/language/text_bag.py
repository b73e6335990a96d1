"""Bag of embeddings: the mean of a text's word vectors, and a linear classifier or a small perceptron on it."""

import keras

from ... import Dense, Dropout, Embedding, PaddingMask, SequencePooling
from .._inputs import sequence_input

__all__ = ["text_bag"]


def text_bag(vocabulary_size, num_outputs, *, width=128, hidden_dims=(), dropout=0.0):
    """Classifier of texts that sees which words there are and not their order.

    Args:
        vocabulary_size: Number of different tokens, padding (0) among them.
        num_outputs: Number of logits.
        width: Features of a token.
        hidden_dims: Width of each hidden layer between the mean and the logits.
        dropout: Fraction dropped before each dense layer in training.
    Input shape: `(batch, tokens)`, ids; 0 is padding at the end.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Joulin et al., 2016, arXiv 1607.01759; with hidden layers: Iyyer et al., 2015, "Deep Unordered Composition".
    """
    tokens = sequence_input()
    mask = PaddingMask(name="mask")(tokens)
    x = Embedding(vocabulary_size, width, name="embedding")(tokens)
    x = SequencePooling("mean", name="pooling")(x, mask=mask)
    for index, hidden_dim in enumerate(hidden_dims):
        x = Dropout(dropout, name=f"dropout_{index}")(x)
        x = Dense(hidden_dim, activation="relu", name=f"hidden_{index}")(x)
    x = Dropout(dropout, name="dropout")(x)
    return keras.Model(tokens, Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x), name="text_bag")
