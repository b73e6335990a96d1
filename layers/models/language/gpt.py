"""GPT: a causal transformer that predicts each token from those before it."""

import keras

from ... import Dropout, LayerNormalization, PositionEmbedding, TokenEmbedding, TransformerBlock
from .._inputs import choose, token_input

__all__ = ["gpt"]


def gpt(vocabulary_size, block_size, *, width=128, depth=4, num_heads=4, dropout=0.0, positions="learned"):
    """Generative pre-trained transformer: pre-norm causal blocks, the head tied to the token embedding.

    Weights are drawn as in GPT-2: deviation 0.02, and 0.02 / sqrt(2 depth) for what is added to the residual stream.
    GPT-2 small, `gpt(50257, 1024, width=768, depth=12, num_heads=12)`, has 124,439,808 parameters.

    Args:
        vocabulary_size: Number of different tokens.
        block_size: Tokens the model sees at most.
        width: Features of a token; a multiple of `num_heads`.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads.
        dropout: Fraction dropped from the embedded tokens and inside the blocks in training.
        positions: `"learned"`, a vector for each position, or `"rotary"`, queries and keys turned by their distance.
    Input shape: `(batch, block_size)`, token ids in `[0, vocabulary_size)`.
    Output shape: `(batch, block_size, vocabulary_size)`, logits of the next token.
    Raises:
        ValueError: The heads do not divide the width, or there are no such `positions`.
    Reference: Radford et al., 2019, "Language Models are Unsupervised Multitask Learners"; rotary: Su et al., 2021,
        arXiv 2104.09864.
    """
    rotary = choose("positions", positions, {"learned": False, "rotary": True})
    if width % num_heads:
        raise ValueError(
            f"`width` must be a multiple of `num_heads`. Received: width={width}, num_heads={num_heads}. "
            f"The nearest is width={max(1, round(width / num_heads)) * num_heads}."
        )
    tokens = token_input(block_size)
    embedding = TokenEmbedding(vocabulary_size, width, name="embedding")
    x = embedding(tokens)
    if not rotary:
        x = PositionEmbedding(name="positions")(x)
    x = Dropout(dropout, name="dropout")(x)
    for index in range(depth):
        block = TransformerBlock(
            num_heads, 4 * width, dropout, causal=True, rotary=rotary, init_depth=depth, epsilon=1e-6, name=f"block_{index}"
        )
        x = block(x)
    x = LayerNormalization(epsilon=1e-6, name="norm")(x)
    return keras.Model(tokens, embedding(x, reverse=True), name="gpt")
