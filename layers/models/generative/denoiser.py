"""The U-Net that tells noise from picture, conditioned on the time, a class and a text."""

import math

import keras

from ... import (
    Conv2D,
    CrossAttention,
    DenoisingBlock,
    Dense,
    Embedding,
    LayerNormalization,
    PixelShuffle,
    SelfAttention,
    TimeEmbedding,
)
from ...diffusion import group_norm
from .._inputs import image_input

__all__ = ["denoiser"]

ops = keras.ops


def denoiser(image_shape, *, num_classes=0, text_shape=None, width=32, depth=None, num_heads=4):
    """U-Net with a time: residual blocks at ever smaller sizes and back, attention at the smallest, short cuts across.

    Args:
        image_shape: `(height, width, channels)`, any size from 2 pixels a side: an odd side is padded and cut again.
        num_classes: Number of classes it can be conditioned on, beside `num_classes` itself, which stands for none; 0 leaves
            them out.
        text_shape: `(tokens, features)` of an encoded text it attends to; `None` leaves it out.
        width: Channels at full size; twice as many at half, four times from there on.
        depth: Times the picture is halved; by default to 4 pixels or more a side, and three times at most.
        num_heads: Heads of each attention.
    Input shape: a dict of `"image"` `(batch, height, width, channels)`, `"time"` `(batch,)` in 0..1, with classes `"label"`
        `(batch,)`, with a text `"text"` `(batch, tokens, features)` and `"text_mask"` `(batch, tokens)`, true where one counts.
    Output shape: `(batch, height, width, channels)`.
    Reference: Ho et al., 2020, arXiv 2006.11239; with a text: Rombach et al., 2021, arXiv 2112.10752.
    """
    image = image_input(image_shape, minimum=2)
    time = keras.Input((), name="time")
    inputs = {"image": image, "time": time}
    condition = TimeEmbedding(4 * width, name="time_embedding")(time)
    if num_classes:
        inputs["label"] = keras.Input((), dtype="int32", name="label")
        label = Embedding(num_classes + 1, 4 * width, name="label_embedding")(inputs["label"])
        condition = keras.layers.Add()([condition, label])
    text = []
    if text_shape:
        inputs["text"] = keras.Input(text_shape, name="text")
        inputs["text_mask"] = keras.Input(text_shape[:1], dtype="bool", name="text_mask")
        text = [inputs["text"], inputs["text_mask"]]
    condition = Dense(4 * width, activation="silu", name="condition")(condition)
    depth = min(3, max(1, int(math.log2(min(image_shape[:2]) / 4)))) if depth is None else depth
    filters = [width * min(4, 2**index) for index in range(depth + 1)]

    x = Conv2D(width, 3, padding="same", name="stem")(image)
    across = [x]
    for index in range(depth):
        x = DenoisingBlock(filters[index], name=f"down_{index}")(x, condition)
        across.append(x)
        x = Conv2D(filters[index + 1], 3, strides=2, padding="same", name=f"halve_{index}")(x)
        across.append(x)
    x = DenoisingBlock(filters[-1], name="middle_0")(x, condition)
    x = attending(x, text, num_heads)
    x = DenoisingBlock(filters[-1], name="middle_1")(x, condition)
    for index in reversed(range(depth)):
        x = keras.layers.Concatenate()([x, across.pop()])
        x = DenoisingBlock(filters[index + 1], name=f"up_{index}")(x, condition)
        x = PixelShuffle()(Conv2D(4 * filters[index], 3, padding="same", name=f"double_{index}")(x))
        side = across.pop()
        x = keras.layers.Concatenate()([x[:, : side.shape[1], : side.shape[2]], side])
        x = DenoisingBlock(filters[index], name=f"join_{index}")(x, condition)
    x = keras.layers.Concatenate()([x, across.pop()])
    x = ops.silu(group_norm(x.shape[-1], name="norm")(x))
    x = Conv2D(image_shape[-1], 3, padding="same", name="prediction", dtype=keras.config.floatx())(x)
    return keras.Model(inputs, x, name="denoiser")


def attending(x, text, num_heads):
    """Each pixel gathers from all others, then from the tokens of the text."""
    height, width, channels = x.shape[1:]
    x = keras.layers.Reshape((height * width, channels))(x)
    attended = SelfAttention(num_heads, name="attention")(LayerNormalization(epsilon=1e-6, name="attention_norm")(x))
    x = keras.layers.Add()([x, attended])
    if text:
        normed = LayerNormalization(epsilon=1e-6, name="text_norm")(x)
        x = keras.layers.Add()([x, CrossAttention(num_heads, name="text_attention")(normed, *text)])
    return keras.layers.Reshape((height, width, channels))(x)
