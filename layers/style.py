"""Pieces of style transfer: normalisation of each picture by itself, and what a picture's style is measured by."""

import keras

__all__ = ["InstanceNormalization"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class InstanceNormalization(keras.layers.Layer):
    """Each channel of each picture to zero mean and unit variance: `gamma (x - mean) / sqrt(variance + epsilon) + beta`.

    Args:
        epsilon: Added to the variance.
    Input and output shape: `(batch, height, width, channels)`.
    Reference: Ulyanov et al., 2016, arXiv 1607.08022.
    """

    def __init__(self, epsilon=1e-5, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")
        self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")

    def call(self, x):
        single = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))  # a half-precision square overflows
        mean = ops.mean(single, axis=(1, 2), keepdims=True)
        centred = single - mean
        variance = ops.mean(ops.square(centred), axis=(1, 2), keepdims=True)
        normal = ops.cast(centred * ops.rsqrt(variance + self.epsilon), x.dtype)
        return normal * ops.convert_to_tensor(self.gamma) + ops.convert_to_tensor(self.beta)

    def compute_output_shape(self, input_shape):
        return input_shape


def gram_matrix(features):
    """Which channels go together: `G_cd = sum_ij F_ijc F_ijd / (height width channels)`.

    Shapes: `(batch, height, width, channels)` to `(batch, channels, channels)`.
    Reference: Gatys et al., 2015, arXiv 1508.06576; the divisor as in Johnson et al., 2016, arXiv 1603.08155.
    """
    _, height, width, channels = features.shape
    rows = ops.reshape(features, (-1, height * width, channels))
    return ops.matmul(ops.transpose(rows, (0, 2, 1)), rows) / (height * width * channels)


def parts_of(features, parts):
    """Maps cut into `parts x parts` of the same size: `(batch, h, w, channels)` to `(batch * parts^2, h / parts, ...)`.

    Rows and columns that are left over at the end are left out.
    """
    _, height, width, channels = features.shape
    height, width = height // parts, width // parts
    x = ops.reshape(features[:, : parts * height, : parts * width], (-1, parts, height, parts, width, channels))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, height, width, channels))


def style_loss(features, grams, parts=1):
    """How far the style of each picture is from the given one: the mean over maps of `|G - G'|^2`.

    Args:
        features: Maps `(batch, height, width, channels)`, a list.
        grams: A Gram matrix each, `(channels, channels)`, a list.
        parts: Each map is cut into `parts x parts`, the loss is the mean over them: no part makes up for another.
    Returns: `(batch,)`.
    """
    if parts > 1:
        features = [parts_of(each, parts) for each in features]
    apart = [ops.square(gram_matrix(each) - gram) for each, gram in zip(features, grams, strict=True)]
    found = sum(ops.sum(each, axis=(1, 2)) for each in apart) / len(apart)
    return ops.mean(ops.reshape(found, (-1, parts * parts)), axis=1)


def content_loss(features, targets):
    """The mean over maps of the mean square between features, lists of `(batch, ...)` each, to `(batch,)`."""
    apart = [ops.square(each - target) for each, target in zip(features, targets, strict=True)]
    return sum(ops.mean(each, axis=(1, 2, 3)) for each in apart) / len(apart)


def total_variation(images):
    """The mean square between a pixel and the next to its right and below, `(batch, height, width, channels)` to `(batch,)`."""
    down, right = images[:, 1:] - images[:, :-1], images[:, :, 1:] - images[:, :, :-1]
    return ops.mean(ops.square(down), axis=(1, 2, 3)) + ops.mean(ops.square(right), axis=(1, 2, 3))
