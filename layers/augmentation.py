"""Random changes to images, drawn anew for every example and in training only, which leave the model compiled.

Keras's own rotation, translation, zoom and crop switch compilation off for the whole model; these do not. Outside an
image its pixels count as zero, the mean of a standardised image.
"""

import math

import keras

from ._arguments import between
from .backend import keras_private
from .drawing import beta, uniform

__all__ = [
    "Cutout",
    "Mixup",
    "MixupModel",
    "RandomColor",
    "RandomCrop",
    "RandomFlip",
    "RandomResizedCrop",
    "RandomRotation",
    "RandomShift",
]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class RandomFlip(keras.layers.Layer):
    """Mirror each image left to right with probability one half.

    Args:
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    """

    def __init__(self, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        chosen = uniform((ops.shape(x)[0], 1, 1, 1), self.generator) < 0.5
        return ops.where(chosen, ops.flip(x, axis=2), x)


@keras.saving.register_keras_serializable(package="triptych")
class RandomShift(keras.layers.Layer):
    """Move each image by whole pixels, up to a fraction of its height and of its width.

    Args:
        fraction: Largest shift, between 0 and 1.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    """

    def __init__(self, fraction=0.1, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.fraction = between("fraction", fraction, 0.0, 1.0)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        _, height, width, _ = x.shape
        down = random_integers(x, round(self.fraction * height), self.generator)
        return shift(x, down, random_integers(x, round(self.fraction * width), self.generator))


@keras.saving.register_keras_serializable(package="triptych")
class RandomCrop(keras.layers.Layer):
    """Pad each image with zeros on all sides and cut a window of its old size from it, anywhere.

    Args:
        padding: Pixels added on each side; 4 in the paper, for 32 x 32 images.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    Reference: He et al., 2015, arXiv 1512.03385, section 4.2.
    """

    def __init__(self, padding=4, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.padding = between("padding", padding, 0, math.inf)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        down = random_integers(x, self.padding, self.generator)
        return shift(x, down, random_integers(x, self.padding, self.generator))


@keras.saving.register_keras_serializable(package="triptych")
class RandomResizedCrop(keras.layers.Layer):
    """Cut a window from each image, anywhere inside and of any size, and stretch it to the image's size.

    Args:
        smallest: Share of the image's area that a window has at least; the largest is the whole image. Above 0, up to 1.
        stretch: The window's sides, as shares of the image's, differ by a factor of at most this.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    Reference: Szegedy et al., 2014, arXiv 1409.4842, section 6; Chen et al., 2020, arXiv 2002.05709.
    """

    def __init__(self, smallest=0.2, stretch=4 / 3, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.smallest = between("smallest", smallest, 1e-3, 1.0)
        self.stretch = between("stretch", stretch, 1.0, math.inf)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        count, (_, height, width, _) = (ops.shape(x)[0],), x.shape
        side = ops.sqrt(uniform(count, self.generator, self.smallest, 1.0))
        ratio = ops.exp(0.5 * uniform(count, self.generator, -math.log(self.stretch), math.log(self.stretch)))
        tall, wide = (ops.minimum(part, 1.0) for part in (side * ratio, side / ratio))
        top, left = ((1.0 - part) * uniform(count, self.generator) for part in (tall, wide))
        rows = window_places(top, tall, height)[:, :, None]
        return bilinear(x, rows, window_places(left, wide, width)[:, None, :])


@keras.saving.register_keras_serializable(package="triptych")
class RandomRotation(keras.layers.Layer):
    """Turn each image about its centre by a random angle, with bilinear interpolation.

    Args:
        degrees: Largest angle, either way, between 0 and 180.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    """

    def __init__(self, degrees=15.0, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.degrees = between("degrees", degrees, 0.0, 180.0)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        largest = math.radians(self.degrees)
        return rotate(x, uniform((ops.shape(x)[0],), self.generator, -largest, largest))


@keras.saving.register_keras_serializable(package="triptych")
class Cutout(keras.layers.Layer):
    """Set one square of each image to zero; the square lies wholly inside.

    Args:
        fraction: Side of the square as a fraction of the image's shorter side, between 0 and 1.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    Reference: DeVries and Taylor, 2017, arXiv 1708.04552.
    """

    def __init__(self, fraction=0.25, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.fraction = between("fraction", fraction, 0.0, 1.0)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        side = round(self.fraction * min(x.shape[1:3]))
        return ops.where(self.inside(x, 1, side) & self.inside(x, 2, side), ops.zeros_like(x), x)

    def inside(self, x, axis, side):
        """For each example, where along `axis` its square lies."""
        size = x.shape[axis]
        start = ops.floor(uniform((ops.shape(x)[0], 1, 1, 1), self.generator) * (size - side + 1))
        place = ops.reshape(ops.arange(size, dtype="float32"), [size if i == axis else 1 for i in range(4)])
        return (place >= start) & (place < start + side)


@keras.saving.register_keras_serializable(package="triptych")
class RandomColor(keras.layers.Layer):
    """Brighten or darken each image, and stretch or squeeze its contrast about its mean: `mean + c (x - mean) + b`.

    Args:
        brightness: b is drawn from `[-brightness, brightness]`, in the units of the input.
        contrast: c is drawn from `[1 - contrast, 1 + contrast]`; between 0 and 1.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, height, width, channels)`.
    """

    def __init__(self, brightness=0.2, contrast=0.2, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.brightness = between("brightness", brightness, 0.0, math.inf)
        self.contrast = between("contrast", contrast, 0.0, 1.0)
        self.generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=None):
        if not training:
            return x
        shape = (ops.shape(x)[0], 1, 1, 1)
        brightness = uniform(shape, self.generator, -self.brightness, self.brightness)
        contrast = uniform(shape, self.generator, 1.0 - self.contrast, 1.0 + self.contrast)
        mean = ops.mean(x, axis=(1, 2, 3), keepdims=True)
        return mean + (x - mean) * ops.cast(contrast, x.dtype) + ops.cast(brightness, x.dtype)


@keras.saving.register_keras_serializable(package="triptych")
class Mixup(keras.layers.Layer):
    """Mix each image with the one at the mirrored place in the batch: `r x_i + (1 - r) x_(n-1-i)`, one r a batch.

    The labels must be mixed alike: put the layer into a `MixupModel`, which reads `ratio`.

    Args:
        alpha: r is the larger of a draw from `Beta(alpha, alpha)` and its complement.
        seed: Integer; `None` draws one.
    Input and output shape: `(batch, ...)`.
    Raises:
        ValueError: `alpha` is not positive.
    Reference: Zhang et al., 2017, arXiv 1710.09412.
    """

    def __init__(self, alpha=0.2, seed=None, **kwargs):
        super().__init__(**kwargs)
        if alpha <= 0:
            raise ValueError(f"`alpha` must be positive. Received: alpha={alpha}")
        self.alpha = alpha
        self.generator = keras.random.SeedGenerator(seed)

    def build(self, input_shape):
        self.ratio = self.add_weight(name="ratio", shape=(), initializer="ones", trainable=False, autocast=False)

    def call(self, x, training=None):
        if not training:
            return x
        ratio = beta((), self.generator, self.alpha)
        ratio = ops.maximum(ratio, 1.0 - ratio)
        self.ratio.assign(ratio)
        ratio = ops.cast(ratio, x.dtype)
        return ratio * x + (1.0 - ratio) * ops.flip(x, axis=0)


@keras.saving.register_keras_serializable(package="triptych")
class MixupModel(keras.Model):
    """A functional model with one `Mixup` layer, trained on `r L(y, p) + (1 - r) L(y reversed, p)`.

    Args: those of `keras.Model`: inputs and outputs.
    Input and output shape: those of the model.
    Raises:
        ValueError: There is not exactly one `Mixup` layer, seen at the first training step.
    Reference: Zhang et al., 2017, arXiv 1710.09412.
    """

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if not training:
            return loss
        mixups = [layer for layer in keras_private.all_layers(self) if isinstance(layer, Mixup)]
        if len(mixups) != 1:
            raise ValueError(f"`MixupModel` must have one `Mixup` layer. Received: {len(mixups)} of them")
        y, sample_weight = keras.tree.map_structure(reversed_batch, (y, sample_weight))
        ratio = ops.convert_to_tensor(mixups[0].ratio)
        return ratio * loss + (1.0 - ratio) * super().compute_loss(x, y, y_pred, sample_weight, training)


def reversed_batch(array):
    """The targets or weights that `Mixup` lays over those of a batch; `None` where there are none."""
    return None if array is None else ops.flip(array, axis=0)


def random_integers(x, largest, generator):
    """One whole number for each example of `x`, from `-largest` to `largest`: `(batch,)`."""
    draws = uniform((ops.shape(x)[0],), generator)
    return ops.cast(ops.floor(draws * (2 * largest + 1)), "int32") - largest


def shift(x, down, right):
    """Move each image by its own whole number of pixels.

    Args:
        x: `(batch, height, width, channels)`.
        down, right: `(batch,)`, integers; negative numbers move up and left.
    """
    _, height, width, _ = x.shape
    rows = ops.arange(height, dtype="int32")[None, :, None] - down[:, None, None]
    columns = ops.arange(width, dtype="int32")[None, None, :] - right[:, None, None]
    return pixels(x, rows, columns)


def rotate(x, angles):
    """Turn each image about its centre, against the clock.

    Args:
        x: `(batch, height, width, channels)`.
        angles: `(batch,)`, in radians.
    """
    _, height, width, _ = x.shape
    cosine, sine = ops.cos(angles)[:, None, None], ops.sin(angles)[:, None, None]
    y = ops.arange(height, dtype="float32")[None, :, None] - (height - 1) / 2
    z = ops.arange(width, dtype="float32")[None, None, :] - (width - 1) / 2
    # Where each pixel of the result comes from: its place turned back.
    rows = cosine * y + sine * z + (height - 1) / 2
    columns = cosine * z - sine * y + (width - 1) / 2
    return bilinear(x, rows, columns)


def window_places(start, share, size):
    """The places along one axis, in pixels, of a window that begins at `start` and has a `share` of the axis: `(batch, size)`.

    Pixel i reaches from i to i + 1 and its middle counts, so that a window of the whole axis gives 0, 1, ... size - 1.
    """
    middles = (ops.arange(size, dtype="float32")[None, :] + 0.5) / size
    places = (start[:, None] + share[:, None] * middles) * size - 0.5
    return ops.clip(places, 0.0, size - 1.0)


def bilinear(x, rows, columns):
    """The images read at places between pixels, zero outside.

    Args:
        x: `(batch, height, width, channels)`.
        rows, columns: Places in pixels that broadcast to `(batch, new_height, new_width)`.
    """
    top, left = ops.floor(rows), ops.floor(columns)
    below, beside = ops.cast(rows - top, x.dtype)[..., None], ops.cast(columns - left, x.dtype)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    upper = (1 - beside) * pixels(x, top, left) + beside * pixels(x, top, left + 1)
    lower = (1 - beside) * pixels(x, top + 1, left) + beside * pixels(x, top + 1, left + 1)
    return (1 - below) * upper + below * lower


def pixels(x, rows, columns):
    """The pixels of each image at its own places, zero outside: `x[i, rows[i, j, k], columns[i, j, k]]`.

    Args:
        x: `(batch, height, width, channels)`.
        rows, columns: Integers that broadcast to `(batch, new_height, new_width)`.
    """
    _, height, width, channels = x.shape
    valid = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    first = ops.arange(ops.shape(x)[0], dtype="int32")[:, None, None] * (height * width)
    place = first + ops.clip(rows, 0, height - 1) * width + ops.clip(columns, 0, width - 1)
    values = ops.take(ops.reshape(x, (-1, channels)), place, axis=0)
    return values * ops.cast(valid, x.dtype)[..., None]
