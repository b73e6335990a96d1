"""Style transfer besides its network: units of the losses, the optimisation of pixels, pictures of any size."""

import keras
import numpy as np

from apps.common.data.images.pictures import resized
from apps.common.data.reading import Progress
from layers import backend
from layers.decoding import run_with
from layers.models.vision.style_transfer import PARTS
from layers.style import content_loss, gram_matrix, style_loss, total_variation

ops = keras.ops


def levelled(features, pictures, style):
    """The features with the pixels before them, so scaled that every channel and every map counts alike.

    Of a few filters some are a hundred times as strong as others, and a Gram matrix counts a channel by its fourth power: a
    network then meets it by a few glaring blotches and leaves the rest of the picture alone. So each channel is divided by
    its root mean square over both kinds of pictures. A channel of ones puts the means into the Gram matrix, which alone
    cannot tell a strong feature in few places from a weak one everywhere. Last, each map is scaled to a style loss of 1
    between the pictures and the style.

    Args:
        features: From pixels to a list of maps.
        pictures, style: `(batch, height, width, channels)` of pixels.
    Returns: A frozen model from pixels to a list of maps: the pixels, then those of `features`.
    """
    inputs = keras.Input(features.input_shape[1:], name="pixels")
    maps = [keras.layers.Rescaling(1 / 64, -2.0, dtype="float32")(inputs), *keras.tree.flatten(features(inputs, training=False))]
    plain = keras.Model(inputs, [keras.layers.Concatenate(dtype="float32")([x, ops.ones_like(x[..., :1])]) for x in maps])
    outputs = []
    given, wanted = (keras.tree.flatten(plain(as_floats(each), training=False)) for each in (pictures, style))
    for x, found, target in zip(plain.outputs, given, wanted, strict=True):
        strengths = [ops.mean(ops.square(each), axis=(0, 1, 2)) for each in (found, target)]
        strength = np.array(ops.convert_to_numpy(ops.sqrt(sum(strengths) / 2)))
        strength[:-1] = np.maximum(strength[:-1], max(0.01 * strength[:-1].mean(), 1e-6))  # a dead channel stays quiet
        scale = 1 / strength
        found, target = (gram_matrix(each * ops.convert_to_tensor(scale)) for each in (found, target))
        apart = ops.sum(ops.square(found - ops.mean(target, axis=0)), axis=(1, 2))
        scale = scale * max(float(ops.convert_to_numpy(ops.mean(apart))), 1e-6) ** -0.25
        outputs.append(keras.layers.Rescaling(scale.tolist(), dtype="float32")(x))
    model = keras.Model(inputs, outputs, name="features")
    model.trainable = False
    return model


def as_floats(pixels):
    return ops.cast(ops.convert_to_tensor(pixels), "float32")


def loss_units(features, pictures, style, content_maps):
    """What the content, style and smooth loss are worth, so that weights mean the same whatever network measures.

    Content: that of the mean map of the style in the place of the picture's; style: that of the picture left as it is;
    smooth: the total variation of the picture.

    Args:
        features: From pixels to a list of maps.
        pictures, style: `(batch, height, width, channels)` of pixels.
        content_maps: Indices of the maps that tell the content.
    Returns: Three positive numbers.
    """
    pictures, style = as_floats(pictures), as_floats(style)
    found, wanted = (keras.tree.flatten(features(each, training=False)) for each in (pictures, style))
    grams = [ops.mean(gram_matrix(each), axis=0) for each in wanted]
    typical = [ops.mean(wanted[index], axis=0, keepdims=True) for index in content_maps]
    content = content_loss([found[index] for index in content_maps], typical)
    parts = content, style_loss(found, grams, PARTS), total_variation(pictures)
    return [max(float(ops.convert_to_numpy(ops.mean(part))), 1e-12) for part in parts]


def mean_losses(model, pictures, restyled, batch_size=16):
    """The mean content and style loss of a `StyleTransfer` model over pictures, in its features' own units."""
    found = []
    for first in range(0, len(pictures), batch_size):
        rows = slice(first, first + batch_size)
        parts = model.losses_of(*(ops.convert_to_tensor(each[rows].astype("float32")) for each in (pictures, restyled)))
        found.append([ops.convert_to_numpy(part) for part in parts[:2]])
    content, style = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return {"style_loss": float(style.mean()), "content_loss": float(content.mean())}


def optimised_pixels(model, pictures, steps, learning_rate=4.0, features=None):
    """Pictures whose own pixels were moved down the gradient of the model's objective, from the pictures as they are.

    `x <- x - rate m / (sqrt(v) + 1e-8)`, Adam with its usual means m and v of the gradient, x kept in 0..255.

    Args:
        model: A `StyleTransfer` that has its style.
        pictures: `(batch, height, width, channels)` of pixels.
        steps: Number of steps.
        learning_rate: In pixels' units.
        features: The model's for pictures of this size, where it is not that of the training.
    Returns: float32 of the same shape.
    Reference: Gatys et al., 2015, arXiv 1508.06576.
    """
    given = ops.convert_to_tensor(np.asarray(pictures, "float32"))

    def objective(x):
        return sum(weight * part for weight, part in zip(model.part_weights, model.losses_of(given, x, features), strict=True))

    x = np.array(pictures, "float32")
    mean, square = np.zeros_like(x), np.zeros_like(x)
    progress = Progress(steps, "steps of optimising pixels")
    for step in range(1, steps + 1):
        slope = backend.gradient(objective, ops.convert_to_tensor(x))
        slope = ops.convert_to_numpy(ops.stop_gradient(slope))
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        away = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        x = np.clip(x - learning_rate * away, 0, 255).astype("float32")
        progress.show(step)
    return x


def optimised_picture(model, pixels, steps):
    """`optimised_pixels` of one picture `(height, width, 3)` of any size."""
    image = keras.Input(pixels.shape, name="image")
    features = keras.Model(image, run_anew(model.features, image))
    return optimised_pixels(model, pixels[None], steps, features=features)[0]


def run_anew(network, x):
    """What a network, its own weights and those of the networks in it make of pictures of another size."""

    def replaced(layer):
        return (lambda inner, **options: run_anew(layer, inner)) if isinstance(layer, keras.Model) else layer

    return run_with(network, x, replaced)


def as_pixels(values):
    """Numbers as uint8."""
    return np.rint(np.clip(values, 0, 255)).astype("uint8")


class AnySize:
    """A trained `transformer_net` for one picture of any size at a time, with sides that are multiples of 4."""

    def __init__(self, network):
        self.network, self.sizes = keras.Model(network.inputs[0], network.outputs[0]), {}

    def __call__(self, pixels):
        if pixels.shape not in self.sizes:
            made = keras.models.clone_model(self.network, input_tensors=keras.Input(pixels.shape, name="image"))
            made.set_weights(self.network.get_weights())
            self.sizes = {pixels.shape: made}  # the last size alone
        restyled = self.sizes[pixels.shape](pixels[None], training=False)
        return ops.convert_to_numpy(ops.stop_gradient(restyled))[0]


class Restyler:
    """Pictures of any size restyled, one at a time: what paints them must see the whole picture, for its norms or its style.

    Args:
        paint: Takes and returns pixels `(height, width, 3)`, of sides that are multiples of 4.
        margin: Pixels by which a picture is continued, mirrored, for its edges to look like the rest of it.
    """

    def __init__(self, paint, margin=16):
        self.paint, self.margin = paint, margin

    def __call__(self, pixels, largest):
        """A uint8 picture `(height, width, 3)` restyled, its longer side made smaller to `largest` where it is longer."""
        height, width = pixels.shape[:2]
        share = min(1.0, largest / max(height, width))
        height, width = (max(1, round(share * size)) for size in (height, width))
        pixels = resized(pixels, height, width) if share < 1 else pixels
        first = self.margin
        more = [(first, first + max(8, size + -size % 4) - size) for size in (height, width)]
        restyled = self.paint(np.pad(pixels, (*more, (0, 0)), mode="symmetric"))
        return as_pixels(restyled[first : first + height, first : first + width])
