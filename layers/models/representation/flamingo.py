"""Flamingo: a language model that is shown pictures, itself and the vision model left as they are."""

import keras

from ... import Dense, GatedCrossAttention, LastPicture, PerceiverResampler, PositionEmbedding, TransformerBlock
from ...decoding import run_with

__all__ = ["flamingo"]

ops = keras.ops


def flamingo(vision, language, *, image_token=None, num_images=1, num_latents=8, depth=1, num_heads=4):
    """A frozen language model into whose blocks gated attention lets the features of pictures, from a frozen vision model.

    Before each of its blocks stands a `GatedCrossAttention`, the identity at the start: the new model's logits are then those of
    the language model. What is trained is that, and the resampler that makes a few tokens of each picture's features. Both models
    are frozen by this and their layers shared, so take copies where they are to be trained on.

    Args:
        vision: A model from pictures to features: `(batch, height, width, features)`, `(batch, tokens, features)` or
            `(batch, features)`. It is fed pixels in -1..1.
        language: A causal language model of `TransformerBlock`s, such as `models.gpt`.
        image_token: Id of the token that stands for the next picture: a token sees the last picture before it, and none where
            there was none. `None` lets all tokens see all pictures.
        num_images: Pictures beside a text.
        num_latents: Tokens made of each picture.
        depth: Rounds of the resampler.
        num_heads: Heads of each new attention; they must divide the language model's width.
    Input shape: a dict of `"image"` `(batch, num_images, height, width, channels)`, pixels in 0..255, and `"tokens"`
        `(batch, block_size)`.
    Output shape: that of the language model, `(batch, block_size, vocabulary_size)`, logits.
    Raises:
        ValueError: The language model has no transformer block.
    Reference: Alayrac et al., 2022, arXiv 2204.14198.
    """
    blocks = [layer for layer in language.layers if isinstance(layer, TransformerBlock)]
    if not blocks:
        raise ValueError("`language` must be a model of transformer blocks, such as models.gpt. Received: none in it")
    width = blocks[0].input.shape[-1]
    vision.trainable = language.trainable = False
    images = keras.Input((num_images, *vision.inputs[0].shape[1:]), dtype="uint8", name="image")
    tokens = keras.Input(language.inputs[0].shape[1:], dtype="int32", name="tokens")

    x = ops.reshape(images, (-1, *vision.inputs[0].shape[1:]))
    x = vision(keras.layers.Rescaling(1 / 127.5, -1.0, name="pixels")(x), training=False)
    x = keras.layers.Reshape((-1, x.shape[-1]), name="features")(x)
    x = Dense(width, name="feature_projection")(x)
    if x.shape[1] > 1:  # the resampler's attention knows no places; a small convolutional trunk's features hardly tell theirs
        x = PositionEmbedding(name="feature_positions")(x)
    x = PerceiverResampler(num_latents, depth, num_heads, name="resampler")(x)
    context = ops.reshape(x, (-1, num_images * num_latents, width))
    mask = None if image_token is None else LastPicture(image_token, num_images, num_latents, name="last_picture")(tokens)

    def with_pictures(layer):
        if not isinstance(layer, TransformerBlock):
            return layer
        gated = GatedCrossAttention(num_heads, 4 * width, name=f"{layer.name}_pictures")
        return lambda x, *args, **kwargs: layer(gated(x, context, context_mask=mask), *args, **kwargs)

    logits = run_with(language, tokens, with_pictures)
    return keras.Model({"image": images, "tokens": tokens}, logits, name="flamingo")
