"""Tagger: a bidirectional LSTM over words and their characters, the tags of a sentence judged together by a CRF."""

import keras

from ... import CRF, BidirectionalRNN, Dense, Dropout, Embedding, MaxConvolution, PaddingMask, WordDropout
from .._inputs import sequence_input

__all__ = ["tagger"]

ops = keras.ops


def tagger(vocabulary_size, num_tags, *, characters=0, width=100, character_filters=30, dropout=0.5, word_dropout=0.0):
    """BiLSTM-CNN-CRF: each word's vector and what a small CNN sees in its letters, both ways through the sentence.

    Args:
        vocabulary_size: Number of different words, padding (0) and the unknown word (1) among them.
        num_tags: Number of tags.
        characters: Number of different characters, padding (0) among them; 0 for words alone.
        width: Features of a word, and units of each direction.
        character_filters: Filters over three letters; a letter has as many features.
        dropout: Fraction dropped before and after the LSTM, and from the letters, in training.
        word_dropout: Share of the words that become the unknown word in training; their letters stay.
    Input shape: a dict of `"tokens"`, ids `(batch, tokens)` where 0 is padding at the end, and, with `characters`, of
        `"characters"`, ids `(batch, tokens, letters)`.
    Output shape: `(batch, tokens, num_tags)`, the CRF's emissions; `model.decode(emissions, mask)` gives tags.
    Reference: Ma and Hovy, 2016, arXiv 1603.01354; Lample et al., 2016, arXiv 1603.01360.
    """
    inputs, mask, x = words_and_letters(vocabulary_size, characters, (width, character_filters), dropout, word_dropout)
    x = Dropout(dropout, name="dropout_before")(x)
    x = BidirectionalRNN(width, "lstm", name="lstm")(x, mask=mask)
    x = Dropout(dropout, name="dropout_after")(x)
    return Tagger(inputs, Dense(num_tags, dtype=keras.config.floatx(), name="emissions")(x), name="tagger")


def words_and_letters(vocabulary_size, characters, widths, dropout, word_dropout):
    """Of a tagger: its inputs by name, which words count, and the features of each word, its letters' among them."""
    tokens = sequence_input("tokens")
    inputs, mask = {"tokens": tokens}, PaddingMask(name="mask")(tokens)
    known = WordDropout(word_dropout, name="word_dropout")(tokens)
    x = Embedding(vocabulary_size, widths[0], name="embedding")(known)
    if characters:
        inputs["characters"] = letters = keras.Input((None, None), dtype="int32", name="characters")
        seen = Embedding(characters, widths[1], name="character_embedding")(letters)
        seen = Dropout(dropout, name="character_dropout")(seen)
        seen = MaxConvolution(widths[1], 3, activation="linear", name="character_cnn")(
            seen, mask=PaddingMask(name="character_mask")(letters)
        )
        x = keras.layers.Concatenate(name="word")([x, seen])
    return inputs, mask, x


@keras.saving.register_keras_serializable(package="triptych")
class Tagger(keras.Model):
    """A functional model of emissions trained on `-log p(tags)` of a CRF of its own, the mean over the sentences that count.

    Args: those of `keras.Model`: inputs, among them `"tokens"`, or `"places"` where words are not tokens, 0 where there is no
        word; and outputs `(batch, words, tags)`.
    """

    def __init__(self, inputs, outputs, name=None, **options):
        super().__init__(inputs, outputs, name=name, **options)
        self.crf = CRF(self.outputs[0].shape[-1], name="crf")
        self.crf.build()

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        mask = ops.not_equal(x.get("places", x["tokens"]), 0)
        if sample_weight is not None:
            counted = ops.not_equal(sample_weight, 0)
            mask = ops.logical_and(mask, counted if len(counted.shape) > 1 else ops.expand_dims(counted, -1))
        found = self.crf(y_pred, ops.cast(y, "int32"), mask=mask)
        sentences = ops.sum(ops.cast(mask[:, 0], found.dtype))
        return -ops.sum(found) / ops.maximum(sentences, 1.0)

    def decode(self, emissions, mask=None):
        """Tags `(batch, tokens)` of emissions; see `CRF.decode`."""
        return self.crf.decode(emissions, mask)
