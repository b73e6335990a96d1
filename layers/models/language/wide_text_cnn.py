"""A wide and deep classifier of texts: Kim's CNN, and beside it a linear classifier over words and pairs of words."""

import keras

from ... import NGramLogits
from .text_cnn import text_cnn

__all__ = ["wide_text_cnn"]


def wide_text_cnn(
    vocabulary_size, num_outputs, *, width=128, windows=(3, 4, 5), filters=100, dropout=0.5, num_rows=65_521
):
    """`text_cnn` and `NGramLogits` trained together, their logits added: what is said in few words is learnt by heart from
    few texts, what is said in phrases by filters.

    Args:
        vocabulary_size: Number of different tokens, padding (0) among them.
        num_outputs: Number of logits.
        width: Features of a token.
        windows: How many tokens the filters of each kind see.
        filters: Filters of each kind.
        dropout: Fraction of the filters' answers dropped in training.
        num_rows: Rows of the linear classifier for words, and as many for pairs.
    Input shape: `(batch, tokens)`, ids; 0 is padding at the end.
    Output shape: `(batch, num_outputs)`, logits.
    Raises:
        ValueError: A size is less than 1.
    Reference: Cheng et al., 2016, arXiv 1606.07792; Kim, 2014, arXiv 1408.5882.
    """
    deep = text_cnn(vocabulary_size, num_outputs, width=width, windows=windows, filters=filters, dropout=dropout)
    single = keras.config.floatx()
    wide = NGramLogits(num_outputs, num_rows, dtype=single, name="wide")(deep.input)
    logits = keras.layers.Add(dtype=single, name="sum")([deep.output, wide])
    return keras.Model(deep.input, logits, name="wide_text_cnn")
