"""Tagger of attention: a Transformer encoder over words and their characters, the tags judged together by a CRF."""

import keras

from ... import Dense, Dropout, EncoderBlock, LayerNormalization, SinusoidalPositions
from .tagger import Tagger, words_and_letters

__all__ = ["transformer_tagger"]


def transformer_tagger(vocabulary_size, num_tags, *, characters=0, width=100, depth=2, dropout=0.1, word_dropout=0.0):
    """Pre-norm encoder blocks with four heads over words and letters, and a CRF.

    Args:
        vocabulary_size: Number of different words, padding (0) and the unknown word (1) among them.
        num_tags: Number of tags.
        characters: Number of different characters, padding (0) among them; 0 for words alone.
        width: Features of a word; a multiple of four. Its letters give it 30 more before the two are mixed.
        depth: Number of blocks.
        dropout: Fraction dropped from the letters, the embedded words and inside the blocks in training.
        word_dropout: Share of the words that become the unknown word in training; their letters stay.
    Input shape: a dict of `"tokens"`, ids `(batch, tokens)` where 0 is padding at the end, and, with `characters`, of
        `"characters"`, ids `(batch, tokens, letters)`.
    Output shape: `(batch, tokens, num_tags)`, the CRF's emissions; `model.decode(emissions, mask)` gives tags.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; letters: Ma and Hovy, 2016, arXiv 1603.01354.
    """
    inputs, mask, x = words_and_letters(vocabulary_size, characters, (width, 30), dropout, word_dropout)
    x = SinusoidalPositions(name="positions")(Dense(width, name="mixed")(x))
    x = Dropout(dropout, name="embedding_dropout")(x)
    for index in range(depth):
        x = EncoderBlock(4, 4 * width, dropout, "pre", name=f"block_{index}")(x, mask=mask)
    x = LayerNormalization(epsilon=1e-6, name="norm")(x)
    return Tagger(inputs, Dense(num_tags, dtype=keras.config.floatx(), name="emissions")(x), name="transformer_tagger")
