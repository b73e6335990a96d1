"""ViT: a transformer that reads an image as a sequence of patches."""

import keras

from ... import ClassToken, Dense, Dropout, LayerNormalization, PatchEmbedding, PositionEmbedding, TransformerBlock
from .._inputs import image_input

__all__ = ["vit"]


def vit(image_shape, num_outputs, *, patch_size=None, width=192, depth=12, num_heads=3, dropout=0.0):
    """Vision transformer; ViT-Ti/16, the default, has 5,717,416 parameters for 224 x 224 and 1000 classes.

    The image is cut into patches, each projected to a token. A class token is put before them, learned positions are
    added, pre-norm transformer blocks follow, and the logits are read from the class token.

    Args:
        image_shape: `(height, width, channels)`; both sides multiples of `patch_size`.
        num_outputs: Number of logits.
        patch_size: Pixels a side of a patch. `None` takes the largest, up to 16, that divides both sides and leaves at
            least seven patches a side: 16 for 224 x 224, 4 for 28 x 28 and 32 x 32.
        width: Features of a token; a multiple of `num_heads`. ViT-Ti, -S and -B have 192, 384 and 768.
        depth: Number of transformer blocks.
        num_heads: Number of attention heads. ViT-Ti, -S and -B have 3, 6 and 12.
        dropout: Fraction dropped from the tokens and inside the blocks in training.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Raises:
        ValueError: if the patches do not divide the image, or the heads the width.
    Reference: Dosovitskiy et al., 2020, arXiv 2010.11929; ViT-Ti: Touvron et al., 2020, arXiv 2012.12877.
    """
    sides = image_input(image_shape).shape[1:3]
    if patch_size is None:
        patch_size = _largest_patch_size(sides)
    if any(side % patch_size for side in sides):
        raise ValueError(
            f"`patch_size` must divide the height and the width of the image. Received: patch_size={patch_size}, "
            f"image_shape={tuple(image_shape)}. Sizes that do: {_divisors(sides)}."
        )
    if width % num_heads:
        raise ValueError(
            f"`width` must be a multiple of `num_heads`. Received: width={width}, num_heads={num_heads}. "
            f"The nearest is width={max(1, round(width / num_heads)) * num_heads}."
        )
    sizes = {"patch_size": patch_size, "width": width, "depth": depth, "num_heads": num_heads, "hidden_dim": 4 * width}
    return patch_transformer(image_shape, num_outputs, {**sizes, "activation": "gelu", "epsilon": 1e-6}, dropout)


def patch_transformer(image_shape, num_outputs, sizes, dropout):
    """`vit` of these `sizes`: `patch_size`, `width`, `depth`, `num_heads`, `hidden_dim`, `activation`, `epsilon` of the norms."""
    inputs = image_input(image_shape)
    x = PatchEmbedding(sizes["patch_size"], sizes["width"], name="patches")(inputs)
    x = ClassToken(name="class_token")(x)
    x = PositionEmbedding(name="positions")(x)
    x = Dropout(dropout)(x)
    options = {"activation": sizes["activation"], "epsilon": sizes["epsilon"]}
    for index in range(sizes["depth"]):
        x = TransformerBlock(sizes["num_heads"], sizes["hidden_dim"], dropout, name=f"block_{index}", **options)(x)
    x = LayerNormalization(epsilon=sizes["epsilon"], name="norm")(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x[:, 0])
    return keras.Model(inputs, logits, name="vit")


def _largest_patch_size(sides):
    fitting = [size for size in _divisors(sides) if size <= 16 and min(sides) // size >= 7]
    patch_size = max(fitting, default=1)
    num_patches = (sides[0] // patch_size) * (sides[1] // patch_size)
    if num_patches > 1024:  # attention's cost is the square of this
        raise ValueError(
            "`image_shape` must be divisible into at most 1024 patches of up to 16 x 16 pixels. Received: "
            f"{sides[0]} x {sides[1]} pixels, {num_patches} patches. Resize to multiples of 16 or give `patch_size`."
        )
    return patch_size


def _divisors(sides):
    return [size for size in range(1, min(sides) + 1) if not any(side % size for side in sides)]
