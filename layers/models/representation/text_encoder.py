"""A small transformer that reads a whole text at once."""

import keras

from ... import LayerNormalization, PositionEmbedding, TokenEmbedding, TransformerBlock
from .._inputs import token_input

__all__ = ["text_encoder"]

ops = keras.ops

PADDING = 0


def text_encoder(vocabulary_size, text_length, *, width=64, depth=2, num_heads=4):
    """Token embedding, learned positions and transformer blocks in which every token sees every other.

    Id 0 is padding, which no token sees; but the first token always counts, so that a text of padding alone is the empty text.

    Args:
        vocabulary_size: Number of different tokens, padding among them.
        text_length: Tokens of a text, the rest of a shorter one padding.
        width: Features of a token; a multiple of `num_heads`.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads.
    Input shape: `(batch, text_length)`, token ids in `[0, vocabulary_size)`.
    Output shape: a dict of `"text"`, `(batch, text_length, width)`, and `"text_mask"`, `(batch, text_length)`, true where a
        token counts. The first token's features stand for the whole text.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; its place in a model that draws: Rombach et al., 2021, arXiv 2112.10752.
    """
    tokens = token_input(text_length)
    counts = ops.not_equal(tokens, PADDING)
    mask = ops.concatenate([ops.ones_like(counts[:, :1]), counts[:, 1:]], axis=1)
    x = TokenEmbedding(vocabulary_size, width, name="embedding")(tokens)
    x = PositionEmbedding(name="positions")(x)
    for index in range(depth):
        x = TransformerBlock(num_heads, 4 * width, name=f"block_{index}")(x, mask=mask)
    x = LayerNormalization(epsilon=1e-6, name="norm")(x)
    x = ops.add(x, 0.0)  # a new tensor: Keras hands its own mask on with this one, into models that have no use for it
    return keras.Model(tokens, {"text": x, "text_mask": mask}, name="text_encoder")
