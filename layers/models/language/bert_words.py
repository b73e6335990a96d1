"""A BERT that reads words: tags for each, or where among them an answer begins and ends.

A word is several tokens; the first of them speaks for it.
"""

import keras

from ... import Dense, Dropout, PaddingMask, TakePositions
from .._inputs import sequence_input
from .tagger import Tagger

__all__ = ["bert_reader", "bert_tagger"]

ops = keras.ops


def bert_tagger(encoder, num_tags, *, dropout=0.1):
    """A BERT, pretrained or not, whose tags of a sentence are judged together by a CRF.

    Args:
        encoder: A model from `bert`; the two share their weights.
        num_tags: Number of tags.
        dropout: Fraction dropped before the emissions in training.
    Input shape: that of `bert`, and `"places"`, `(batch, words)`: where the first token of each word stands, 0 for none.
    Output shape: `(batch, words, num_tags)`, the CRF's emissions; `model.decode(emissions, mask)` gives tags.
    Reference: Devlin et al., 2018, arXiv 1810.04805, section 5.3; Souza et al., 2019, arXiv 1909.10649 (with a CRF).
    """
    places, x = words_of(encoder)
    x = Dropout(dropout, name="emissions_dropout")(x)
    emissions = Dense(num_tags, dtype=keras.config.floatx(), name="emissions")(x)
    return Tagger({**encoder.input, "places": places}, emissions, name="bert_tagger")


def bert_reader(encoder, *, dropout=0.1):
    """A BERT, pretrained or not, that reads a question and a text and points at the answer's first and last word.

    Args:
        encoder: A model from `bert`; the two share their weights.
        dropout: Fraction dropped before the logits in training.
    Input shape: that of `bert`, question and text one after the other, and `"places"`, `(batch, words)`: where the first
        token of each word of the text stands, 0 for none.
    Output shape: `(batch, 2, words)`, logits of the span's first and last word, -1e9 where there is none.
    Reference: Devlin et al., 2018, arXiv 1810.04805, section 4.2.
    """
    places, x = words_of(encoder)
    x = Dropout(dropout, name="logits_dropout")(x)
    x = keras.layers.Permute((2, 1), name="span")(Dense(2, dtype=keras.config.floatx(), name="logits")(x))
    there = ops.expand_dims(PaddingMask(name="places_mask")(places), 1)
    return keras.Model({**encoder.input, "places": places}, ops.where(there, x, -1e9), name="bert_reader")


def words_of(encoder):
    """The input of the places, and the features of the tokens that stand there."""
    places = sequence_input("places")
    return places, TakePositions(name="take_places")(encoder.get_layer("encoded").output, places)
