"""Sequence to sequence: a recurrent network reads, another writes and looks back at what was read."""

import keras

from ... import AttentionRNN, BidirectionalRNN, Dense, Dropout, Embedding, PaddingMask, SequencePooling
from .._inputs import sequence_input

__all__ = ["seq2seq"]


def seq2seq(source_size, target_size, *, cell="gru", attention="additive", width=256, depth=1, dropout=0.0):
    """Recurrent encoder and decoder with attention.

    The layer `decoder` returns where it has looked, too: `keras.Model(model.input, model.get_layer("decoder").output[1])`.

    Args:
        source_size: Number of different tokens of the source, padding (0) among them.
        target_size: Number of different tokens of the target.
        cell: `"gru"` or `"lstm"`.
        attention: `"additive"` (Bahdanau) or `"multiplicative"` (Luong).
        width: Features of a token and units of each network; of each direction half as many.
        depth: Number of layers that read.
        dropout: Fraction dropped before each network and before the logits in training.
    Input shape: a dict of `"source"` and `"target"`, ids `(batch, tokens)` where 0 is padding at the end; the target begins
        with a token for the start.
    Output shape: `(batch, target tokens, target_size)`, logits of the next token.
    Raises:
        ValueError: There is no such cell or attention.
    Reference: Bahdanau et al., 2014, arXiv 1409.0473; Luong et al., 2015, arXiv 1508.04025.
    """
    source, target = sequence_input("source"), sequence_input("target")
    mask = PaddingMask(name="mask")(source)
    memory = Embedding(source_size, width, name="source_embedding")(source)
    for index in range(depth):
        memory = Dropout(dropout, name=f"source_dropout_{index}")(memory)
        memory = BidirectionalRNN(-(-width // 2), cell, name=f"encoder_{index}")(memory, mask=mask)
    # The decoder begins where the reading ended: the mean of both directions over the text, as in Nematus.
    state = SequencePooling("mean", name="summary")(memory, mask=mask)
    state = Dense(width, activation="tanh", name="first_state")(state)
    x = Embedding(target_size, width, name="target_embedding")(target)
    x = Dropout(dropout, name="target_dropout")(x)
    x, _ = AttentionRNN(width, cell, attention, name="decoder")(x, memory, initial_state=state, mask=mask)
    x = Dropout(dropout, name="dropout")(x)
    logits = Dense(target_size, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model({"source": source, "target": target}, logits, name="seq2seq")
