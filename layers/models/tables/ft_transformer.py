"""FT-Transformer: a transformer whose tokens are the columns of a table."""

import keras

from ... import Dense, FeatureTokenizer, LayerNormalization, TransformerBlock
from .._inputs import tabular_inputs

__all__ = ["ft_transformer"]


def ft_transformer(num_numeric, cardinalities, num_outputs, *, width=192, depth=3, num_heads=8, dropout=0.1):
    """Feature tokenizer and transformer for tables: every column becomes a token, and columns attend to each other.

    A numeric column is `x_j W_j + b_j`, a categorical one a row of its table plus `b_j`; a class token goes first, and
    after the pre-norm blocks the logits are `Linear(ReLU(LayerNorm(class token)))`. The blocks' hidden layers are GELU
    units, twice as many as `width`: as many weights as the paper's gated ones at their default size.

    Args:
        num_numeric: Number of numeric columns.
        cardinalities: Number of values of each categorical column.
        num_outputs: Number of logits; 1 for regression.
        width: Features of a token; a multiple of `num_heads`.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads.
        dropout: Fraction dropped inside the blocks in training.
    Input shape: a dict of `"numeric"`, `(batch, num_numeric)`, and `"categorical"`, `(batch, len(cardinalities))`,
        whole numbers in `[0, cardinality)`; a part without columns is left out.
    Output shape: `(batch, num_outputs)`, logits.
    Raises:
        ValueError: if there is no column, or the heads do not divide the width.
    Reference: Gorishniy et al., 2021, arXiv 2106.11959.
    """
    inputs = tabular_inputs(num_numeric, cardinalities)
    if width % num_heads:
        raise ValueError(
            f"`width` must be a multiple of `num_heads`. Received: width={width}, num_heads={num_heads}. "
            f"The nearest is width={max(1, round(width / num_heads)) * num_heads}."
        )
    x = FeatureTokenizer(width, cardinalities=tuple(cardinalities))(list(inputs.values()))
    for _ in range(depth):
        x = TransformerBlock(num_heads, 2 * width, dropout)(x)
    x = LayerNormalization()(x[:, 0])
    x = keras.layers.ReLU()(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="ft_transformer")
