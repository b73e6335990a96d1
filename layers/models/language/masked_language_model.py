"""BERT in pretraining: logits of the vocabulary where a token is hidden, and nowhere else."""

import keras

from ... import TakePositions
from .._inputs import sequence_input
from .bert import bert

__all__ = ["masked_language_model"]


def masked_language_model(vocabulary_size, *, max_tokens=512, width=128, depth=2, num_heads=2, dropout=0.1, variant=None):
    """`bert` with the same layers, weights and names, whose head looks at chosen places of each text alone.

    Of a text a seventh is hidden; logits of a large vocabulary for the rest would take most of the time.

    Args: those of `bert`.
    Input shape: that of `bert`, and `"places"`, positions `(batch, places)` in the text.
    Output shape: `(batch, places, vocabulary_size)`, logits.
    Reference: Devlin et al., 2018, arXiv 1810.04805.
    """
    encoder = bert(
        vocabulary_size, max_tokens=max_tokens, width=width, depth=depth, num_heads=num_heads, dropout=dropout,
        variant=variant,
    )  # fmt: skip
    places = sequence_input("places")
    x = TakePositions(name="take_places")(encoder.get_layer("encoded").output, places)
    for name in ("head", "head_norm"):
        x = encoder.get_layer(name)(x)
    logits = encoder.get_layer("bias")(encoder.get_layer("embedding")(x, reverse=True))
    return keras.Model({**encoder.input, "places": places}, logits, name="masked_language_model")
