"""Pointer-generator: a network that writes a summary with words of its own or copied from the text."""

import keras

from ... import (
    AttentionRNN,
    BidirectionalRNN,
    CopyMixture,
    Dense,
    Dropout,
    Embedding,
    PaddingMask,
    SequencePooling,
    ShortList,
)
from .._inputs import sequence_input

__all__ = ["pointer_generator"]


def pointer_generator(vocabulary_size, *, num_copied=0, unknown=1, width=128, units=256, cell="lstm", dropout=0.0):
    """Recurrent encoder and decoder with attention, whose weights are at the same time a distribution over words to copy.

    A word of the text that is not in the vocabulary is given an id above it, from `vocabulary_size` on, one for each such
    word of a text: it is read as `unknown` and can be copied. Encoder and decoder share their embedding.

    Args:
        vocabulary_size: Number of tokens that can be read and generated, padding (0) among them.
        num_copied: Ids above the vocabulary; none where tokens are parts of words.
        unknown: The id as which they are read.
        width: Features of a token.
        units: Units of the decoder, and of both directions of the encoder together.
        cell: `"lstm"` or `"gru"`.
        dropout: Fraction dropped before each network and before the logits in training.
    Input shape: a dict of `"source"` and `"target"`, ids `(batch, tokens)` where 0 is padding at the end; the target begins
        with a token for the start.
    Output shape: `(batch, target tokens, vocabulary_size + num_copied)`, logarithms of probabilities.
    Raises:
        ValueError: There is no such cell.
    Reference: See et al., 2017, arXiv 1704.04368, without coverage.
    """
    source, target = sequence_input("source"), sequence_input("target")
    mask = PaddingMask(name="mask")(source)
    embedding = Embedding(vocabulary_size, width, name="embedding")
    known = ShortList(vocabulary_size, unknown, name="known")
    memory = Dropout(dropout, name="source_dropout")(embedding(known(source)))
    memory = BidirectionalRNN(-(-units // 2), cell, name="encoder")(memory, mask=mask)
    state = SequencePooling("mean", name="summary")(memory, mask=mask)
    state = Dense(units, activation="tanh", name="first_state")(state)
    embedded = Dropout(dropout, name="target_dropout")(embedding(known(target)))
    x, weights = AttentionRNN(units, cell, "additive", name="decoder")(embedded, memory, initial_state=state, mask=mask)
    generating = Dense(1, dtype=keras.config.floatx(), name="generating")(keras.layers.Concatenate(name="seen")([x, embedded]))
    x = Dropout(dropout, name="dropout")(Dense(units, name="hidden")(x))
    logits = Dense(vocabulary_size, dtype=keras.config.floatx(), name="logits")(x)
    mixture = CopyMixture(vocabulary_size + num_copied, name="mixture", dtype=keras.config.floatx())
    x = mixture(logits, generating, weights, source)
    return keras.Model({"source": source, "target": target}, x, name="pointer_generator")
