"""BERT: a transformer encoder that learns from text by guessing words left out, and what is built on it."""

import keras

from ... import (
    Dense,
    Dropout,
    Embedding,
    EncoderBlock,
    LayerNormalization,
    PaddingMask,
    PositionEmbedding,
    SequencePooling,
    TokenEmbedding,
)
from .._inputs import choose, differing, sequence_input

__all__ = ["bert", "bert_head"]


def bert(vocabulary_size, *, max_tokens=512, width=128, depth=2, num_heads=2, dropout=0.1, variant=None):
    """Masked-language model: post-norm blocks both ways, the head tied to the token embedding.

    BERT base is `bert(30522, width=768, depth=12, num_heads=12)`; the defaults are BERT-Tiny. The encoder's output is that
    of the layer before the head, `encoded`; `bert_head` puts another head on it.

    Args:
        vocabulary_size: Number of different tokens, padding (0) among them.
        max_tokens: Tokens of a text at most.
        width: Features of a token; a multiple of `num_heads`.
        depth: Number of blocks.
        num_heads: Number of attention heads.
        dropout: Fraction dropped from the embedded tokens and inside the blocks in training.
        variant: What its relatives do otherwise, by name: `epsilon` of the norms (1e-12), `hidden_dim` of the blocks
            (4 width), their `activation` ("gelu") and `segments`, whether a token knows which of two texts it is of (True).
    Input shape: a dict of `"tokens"`, ids `(batch, tokens)` where 0 is padding at the end, and, with `segments`, of
        `"segments"`, 0 or 1 of each token: first or second of two texts.
    Output shape: `(batch, tokens, vocabulary_size)`, logits of the token that belongs there.
    Reference: Devlin et al., 2018, arXiv 1810.04805; the defaults: Turc et al., 2019, arXiv 1908.08962; without segments:
        RoBERTa, Liu et al., 2019, arXiv 1907.11692; DistilBERT, Sanh et al., 2019, arXiv 1910.01108.
    """
    known = {"epsilon": 1e-12, "hidden_dim": 4 * width, "activation": "gelu", "segments": True}
    epsilon, hidden_dim, activation, segments = differing("variant", variant, known).values()
    inputs = {name: sequence_input(name) for name in ("tokens", *(["segments"] if segments else []))}
    tokens = inputs["tokens"]
    mask = PaddingMask(name="mask")(tokens)
    embedding = TokenEmbedding(vocabulary_size, width, name="embedding")
    normal = keras.initializers.TruncatedNormal(stddev=0.02)
    x = PositionEmbedding(max_tokens, name="positions")(embedding(tokens))
    if segments:
        kinds = Embedding(2, width, normal, name="segment_embedding")(inputs["segments"])
        x = keras.layers.Add(name="with_segments")([x, kinds])
    x = LayerNormalization(epsilon=epsilon, name="embedding_norm")(x)
    x = Dropout(dropout, name="dropout")(x)
    for index in range(depth):
        block = EncoderBlock(num_heads, hidden_dim, dropout, "post", activation, epsilon, name=f"block_{index}")
        x = block(x, mask=mask)
    x = keras.layers.Identity(name="encoded")(x)
    x = Dense(width, activation=activation, name="head")(x)
    x = LayerNormalization(epsilon=epsilon, name="head_norm")(x)
    logits = Bias(name="bias", dtype=keras.config.floatx())(embedding(x, reverse=True))
    return keras.Model(inputs, logits, name="bert")


def bert_head(encoder, num_outputs, *, per_token=False, pooling="first", dropout=0.1):
    """A BERT, pretrained or not, with logits for classes in place of its vocabulary; the two share their weights.

    Args:
        encoder: A model from `bert`.
        num_outputs: Number of logits.
        per_token: Whether each token has logits (tags; beginnings and ends of answers) or the text.
        pooling: How a text is seen: by its `"first"` token through a dense layer with tanh, the pooler, or by the `"mean"` of
            its tokens, which an encoder that never learnt to gather a text in its first token tells more by.
        dropout: Fraction dropped before the logits in training.
    Input shape: that of `bert`.
    Output shape: `(batch, num_outputs)`, or `(batch, tokens, num_outputs)`.
    Reference: Devlin et al., 2018, arXiv 1810.04805, section 3.2; the mean: Reimers and Gurevych, 2019, arXiv 1908.10084.
    """
    x = encoder.get_layer("encoded").output
    mean = choose("pooling", pooling, {"first": False, "mean": True})
    if not per_token and mean:
        x = SequencePooling("mean", name="pooling")(x, mask=encoder.get_layer("mask").output)
    elif not per_token:
        x = SequencePooling("first", name="pooling")(x)
        x = Dense(x.shape[-1], activation="tanh", name="pooler")(x)
    x = Dropout(dropout, name="logits_dropout")(x)
    return keras.Model(encoder.input, Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x), name="bert_head")


@keras.saving.register_keras_serializable(package="triptych")
class Bias(keras.layers.Layer):
    """Adds a number of its own to each feature, at first zero."""

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(input_shape[-1],), initializer="zeros")

    def call(self, x):
        return x + keras.ops.convert_to_tensor(self.bias)

    def compute_output_shape(self, input_shape):
        return input_shape
