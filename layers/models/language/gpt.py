"""GPT: a causal transformer that predicts each token from those before it."""

import keras

from ... import Dropout, LayerNormalization, PositionEmbedding, TokenEmbedding, TransformerBlock
from .._inputs import choose, differing, token_input

__all__ = ["gpt", "gpt2"]


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
    return causal((vocabulary_size, block_size, width), depth, num_heads, dropout, {"rotary": rotary, "epsilon": 1e-6}, "gpt")


def gpt2(vocabulary_size, block_size, *, width=768, depth=12, num_heads=12, dropout=0.1, variant=None):
    """GPT-2 as it was published: `gpt` with learned positions, norms of epsilon 1e-5 and gelu by tanh.

    Args: those of `gpt`, and
        variant: What is otherwise, by name: `epsilon` of the norms (1e-5), `hidden_dim` of the blocks (4 width) and their
            `activation` ("gelu_tanh").
    Input shape: `(batch, block_size)`, token ids in `[0, vocabulary_size)`.
    Output shape: `(batch, block_size, vocabulary_size)`, logits of the next token.
    Raises:
        ValueError: The heads do not divide the width.
    Reference: Radford et al., 2019, "Language Models are Unsupervised Multitask Learners".
    """
    known = {"epsilon": 1e-5, "hidden_dim": 4 * width, "activation": "gelu_tanh"}
    blocks = differing("variant", variant, known)
    return causal((vocabulary_size, block_size, width), depth, num_heads, dropout, blocks, "gpt2")


def causal(sizes, depth, num_heads, dropout, blocks, name):
    """The model of both: `sizes` are (entries, tokens, width), `blocks` the further arguments of `TransformerBlock`."""
    vocabulary_size, block_size, width = sizes
    if width % num_heads:
        raise ValueError(
            f"`width` must be a multiple of `num_heads`. Received: width={width}, num_heads={num_heads}. "
            f"The nearest is width={max(1, round(width / num_heads)) * num_heads}."
        )
    tokens = token_input(block_size)
    embedding = TokenEmbedding(vocabulary_size, width, name="embedding")
    x = embedding(tokens)
    if not blocks.get("rotary"):
        x = PositionEmbedding(name="positions")(x)
    x = Dropout(dropout, name="dropout")(x)
    options = {"hidden_dim": 4 * width, "dropout": dropout, "causal": True, "init_depth": depth, **blocks}
    for index in range(depth):
        x = TransformerBlock(num_heads, **options, name=f"block_{index}")(x)
    x = LayerNormalization(epsilon=options["epsilon"], name="norm")(x)
    return keras.Model(tokens, embedding(x, reverse=True), name=name)
