"""Readers: a text and a question about it, answered by one of a list of answers or by a span of the text."""

import keras

from ... import (
    GRU,
    BidirectionalRNN,
    Dense,
    Dropout,
    Embedding,
    MultiplicativeAttention,
    PaddingMask,
    SequencePooling,
    SpanLogits,
    WordMatch,
)
from .._inputs import sequence_input

__all__ = ["attention_reader", "gru_reader"]


def attention_reader(vocabulary_size, num_answers=None, *, width=64, hops=2, dropout=0.1):
    """Reader that looks at the text with its question in mind, as often as there are hops.

    Text and question are read both ways by a GRU; each word of the text knows whether it stands in the question. The question's
    state q looks at the text, `c = attention(q)`, and goes on as `tanh(W [q, c])`.

    Args:
        vocabulary_size: Number of different words, padding (0) and the unknown word (1) among them.
        num_answers: Number of answers to choose from; `None` for spans of the text.
        width: Features of a word; each direction of a GRU has half as many units.
        hops: How often the question looks at the text.
        dropout: Fraction dropped before the GRUs and before the answer in training.
    Input shape: a dict of `"context"` and `"question"`, ids `(batch, tokens)` each, where 0 is padding at the end.
    Output shape: `(batch, num_answers)`, logits; or `(batch, 2, tokens)`, logits of the span's first and last word, -1e9 where
        there is padding.
    Reference: Chen et al., 2016, arXiv 1606.02858; hops: Sukhbaatar et al., 2015, arXiv 1503.08895; matching words: Chen et
        al., 2017, arXiv 1704.00051.
    """
    context, question = sequence_input("context"), sequence_input("question")
    mask = PaddingMask(name="context_mask")(context)
    embedding = Embedding(vocabulary_size, width, name="embedding")
    x = Dropout(dropout, name="context_dropout")(embedding(context))
    x = keras.layers.Concatenate(name="word")([x, WordMatch(name="match")(context, question)])
    x = BidirectionalRNN(width // 2, "gru", name="context_gru")(x, mask=mask)
    q = Dropout(dropout, name="question_dropout")(embedding(question))
    q = BidirectionalRNN(width // 2, "gru", return_sequences=False, name="question_gru")(
        q, mask=PaddingMask(name="question_mask")(question)
    )
    for hop in range(hops):
        query = keras.layers.Reshape((1, q.shape[-1]), name=f"query_{hop}")(q)
        found, _ = MultiplicativeAttention(name=f"attention_{hop}")(query, x, mask=mask)
        found = keras.layers.Reshape((x.shape[-1],), name=f"found_{hop}")(found)
        q = keras.layers.Concatenate(name=f"both_{hop}")([q, found])
        q = Dense(width, activation="tanh", name=f"hop_{hop}")(q)
    return answered(context, question, x, Dropout(dropout, name="dropout")(q), num_answers, "attention_reader")


def gru_reader(vocabulary_size, num_answers=None, *, width=64, dropout=0.1):
    """Reader without attention: a GRU reads the text, another the question, and their last states answer.

    Args: those of `attention_reader` that it has.
    Input and output shape: as of `attention_reader`; spans are pointed at by the states of all words.
    Reference: Weston et al., 2015, arXiv 1502.05698 (the recurrent baseline); Cho et al., 2014, arXiv 1406.1078.
    """
    context, question = sequence_input("context"), sequence_input("question")
    mask = PaddingMask(name="context_mask")(context)
    embedding = Embedding(vocabulary_size, width, name="embedding")
    x = Dropout(dropout, name="context_dropout")(embedding(context))
    x = GRU(width, return_sequences=True, name="context_gru")(x, mask=mask)
    q = Dropout(dropout, name="question_dropout")(embedding(question))
    q = GRU(width, name="question_gru")(q, mask=PaddingMask(name="question_mask")(question))
    last = SequencePooling("last", name="last")(x, mask=mask)
    both = Dropout(dropout, name="dropout")(keras.layers.Concatenate(name="both")([last, q]))
    return answered(context, question, x, both, num_answers, "gru_reader")


def answered(context, question, x, q, num_answers, name):
    """The model whose answer follows from the question's state, and the words of the text where it is a span."""
    if num_answers is None:
        outputs = SpanLogits(name="span")(x, q, mask=PaddingMask(name="span_mask")(context))
    else:
        outputs = Dense(num_answers, dtype=keras.config.floatx(), name="logits")(q)
    return keras.Model({"context": context, "question": question}, outputs, name=name)
