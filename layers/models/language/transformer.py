"""The Transformer: an encoder reads, a decoder writes and looks at what was read."""

import keras

from ... import (
    DecoderBlock,
    Dropout,
    EncoderBlock,
    LayerNormalization,
    PaddingMask,
    SinusoidalPositions,
    TokenEmbedding,
)
from .._inputs import sequence_input

__all__ = ["transformer"]


def transformer(source_size, target_size, *, width=256, depth=3, num_heads=4, dropout=0.1, form="pre"):
    """Transformer encoder and decoder, the logits tied to the embedding of the target.

    Args:
        source_size: Number of different tokens of the source, padding (0) among them.
        target_size: Number of different tokens of the target.
        width: Features of a token; even, and a multiple of `num_heads`.
        depth: Number of blocks of each.
        num_heads: Number of attention heads.
        dropout: Fraction dropped from the embedded tokens and inside the blocks in training.
        form: `"post"`, norms after each part as published, or `"pre"`, before it, which needs no warming up.
    Input shape: a dict of `"source"` and `"target"`, ids `(batch, tokens)` where 0 is padding at the end; the target begins
        with a token for the start.
    Output shape: `(batch, target tokens, target_size)`, logits of the next token.
    Raises:
        ValueError: There is no such form.
    Reference: Vaswani et al., 2017, arXiv 1706.03762.
    """
    source, target = sequence_input("source"), sequence_input("target")
    mask = PaddingMask(name="mask")(source)

    def embedded(tokens, size, name):
        embedding = TokenEmbedding(size, width, embeddings_initializer=unit(width), name=f"{name}_embedding")
        x = keras.layers.Rescaling(width**0.5, name=f"{name}_scale")(embedding(tokens))
        x = SinusoidalPositions(name=f"{name}_positions")(x)
        return embedding, Dropout(dropout, name=f"{name}_dropout")(x)

    _, memory = embedded(source, source_size, "source")
    for index in range(depth):
        memory = EncoderBlock(num_heads, 4 * width, dropout, form, "relu", name=f"encoder_{index}")(memory, mask=mask)
    if form == "pre":
        memory = LayerNormalization(epsilon=1e-6, name="encoder_norm")(memory)
    embedding, x = embedded(target, target_size, "target")
    for index in range(depth):
        x = DecoderBlock(num_heads, 4 * width, dropout, form, "relu", name=f"decoder_{index}")(x, memory, mask=mask)
    if form == "pre":
        x = LayerNormalization(epsilon=1e-6, name="decoder_norm")(x)
    return keras.Model({"source": source, "target": target}, embedding(x, reverse=True), name="transformer")


def unit(width):
    """So drawn, a token times `sqrt(width)` is as large as its position, and the logits begin near one."""
    return keras.initializers.RandomNormal(stddev=width**-0.5)
