"""Transformer encoder that classifies texts by the mean of its tokens."""

import keras

from ... import (
    Dense,
    Dropout,
    Embedding,
    EncoderBlock,
    LayerNormalization,
    PaddingMask,
    SequencePooling,
    SinusoidalPositions,
)
from .._inputs import sequence_input

__all__ = ["text_transformer"]


def text_transformer(vocabulary_size, num_outputs, *, width=128, depth=2, num_heads=4, dropout=0.1, activation="gelu"):
    """Classifier of texts: pre-norm blocks over tokens with sinusoidal positions, the mean over the tokens that count.

    Args:
        vocabulary_size: Number of different tokens, padding (0) among them.
        num_outputs: Number of logits.
        width: Features of a token; even, and a multiple of `num_heads`.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        dropout: Fraction dropped from the embedded tokens, inside the blocks and before the logits in training.
        activation: Of the blocks' hidden layers, as for `FeedForward`; `"swiglu"` is gated.
    Input shape: `(batch, tokens)`, ids; 0 is padding at the end.
    Output shape: `(batch, num_outputs)`, logits.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; norm before: Xiong et al., 2020, arXiv 2002.04745.
    """
    tokens = sequence_input()
    mask = PaddingMask(name="mask")(tokens)
    x = Embedding(vocabulary_size, width, name="embedding")(tokens)
    x = SinusoidalPositions(name="positions")(x)
    x = Dropout(dropout, name="embedding_dropout")(x)
    for index in range(depth):
        x = EncoderBlock(num_heads, 4 * width, dropout, "pre", activation, name=f"block_{index}")(x, mask=mask)
    x = LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = SequencePooling("mean", name="pooling")(x, mask=mask)
    x = Dropout(dropout, name="dropout")(x)
    return keras.Model(tokens, Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x), name="text_transformer")
