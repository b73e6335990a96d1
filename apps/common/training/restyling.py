"""Style transfer besides its network: units of the losses, the optimisation of pixels, pictures of any size."""

import keras
import numpy as np

from apps.common.data.images.pictures import resized
from layers import backend
from layers.style import content_loss, gram_matrix, style_loss, total_variation

ops = keras.ops


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
    pictures, style = (ops.cast(ops.convert_to_tensor(each), "float32") for each in (pictures, style))
    found, wanted = (keras.tree.flatten(features(each, training=False)) for each in (pictures, style))
    grams = [ops.mean(gram_matrix(each), axis=0) for each in wanted]
    typical = [ops.mean(wanted[index], axis=0, keepdims=True) for index in content_maps]
    parts = content_loss([found[index] for index in content_maps], typical), style_loss(found, grams), total_variation(pictures)
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


def optimised_pixels(model, pictures, steps, learning_rate=4.0):
    """Pictures whose own pixels were moved down the gradient of the model's objective, from the pictures as they are.

    `x <- x - rate m / (sqrt(v) + 1e-8)`, Adam with its usual means m and v of the gradient, x kept in 0..255.

    Args:
        model: A `StyleTransfer` that has its style.
        pictures: `(batch, height, width, channels)` of pixels.
        steps: Number of steps.
        learning_rate: In pixels' units.
    Returns: float32 of the same shape.
    Reference: Gatys et al., 2015, arXiv 1508.06576.
    """
    given = ops.convert_to_tensor(np.asarray(pictures, "float32"))

    def objective(x):
        return sum(weight * part for weight, part in zip(model.part_weights, model.losses_of(given, x), strict=True))

    x = np.array(pictures, "float32")
    mean, square = np.zeros_like(x), np.zeros_like(x)
    for step in range(1, steps + 1):
        slope = backend.gradient(objective, ops.convert_to_tensor(x))
        slope = ops.convert_to_numpy(ops.stop_gradient(slope))
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope**2
        away = (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
        x = np.clip(x - learning_rate * away, 0, 255).astype("float32")
    return x


def as_pixels(values):
    """Numbers as uint8."""
    return np.rint(np.clip(values, 0, 255)).astype("uint8")


class Restyler:
    """A trained network for pictures of any size, one at a time: in its instance norms it must see the whole picture.

    Args:
        network: `transformer_net`, built for sides that are multiples of 4.
    """

    def __init__(self, network):
        self.network, self.sizes = keras.Model(network.inputs[0], network.outputs[0]), {}

    def __call__(self, pixels, largest):
        """A uint8 picture `(height, width, 3)` restyled, its longer side made smaller to `largest` where it is longer."""
        height, width = pixels.shape[:2]
        share = min(1.0, largest / max(height, width))
        height, width = (max(1, round(share * size)) for size in (height, width))
        pixels = resized(pixels, height, width) if share < 1 else pixels
        more = [(0, max(8, size + -size % 4) - size) for size in (height, width)]
        padded = np.pad(pixels, (*more, (0, 0)), mode="edge")
        if padded.shape not in self.sizes:
            made = keras.models.clone_model(self.network, input_tensors=keras.Input(padded.shape, name="image"))
            made.set_weights(self.network.get_weights())
            self.sizes = {padded.shape: made}  # the last size alone
        restyled = self.sizes[padded.shape](padded[None], training=False)
        return as_pixels(ops.convert_to_numpy(ops.stop_gradient(restyled))[0, :height, :width])
