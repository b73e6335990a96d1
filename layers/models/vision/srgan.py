"""SRGAN: a network that enlarges pictures, and one that tells enlarged pictures from large ones."""

import keras

from ...generative import looked_through, weighted_mean
from ..generative.image_generator import image_encoder
from ._detection import trunk_config
from .edsr import edsr

__all__ = ["SRGAN"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
class SRGAN(keras.Model):
    """Enlarges pictures so that they look sharp: pixels and features near the true ones, and a second player convinced.

    With G the generator, D the discriminator's logit, F the features and s the softplus, for a small picture x and its large
    one y: the generator's loss is `|G(x) - y|_1 + perceptual * mean (F(G(x)) - F(y))^2 + adversarial * s(-D(G(x)))`, the
    discriminator's `s(-D(y)) + s(D(G(x)))`. The loss of the model is their sum, each without the other's gradient.

    Args:
        image_shape: `(height, width, channels)` of the small picture.
        factor: How many times higher and wider the picture becomes.
        width: Filters of the generator (`edsr`) and of the first convolution of the discriminator.
        depth: Blocks of the generator.
        adversarial, perceptual: What the parts count; with 0 and 0 the pixels are all.
        features: A built `keras.Model` that takes large pictures of pixels in 0..255 and gives features, one tensor or
            several; it is frozen. Without one there is no perceptual part.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. Target: the large picture, pixels in 0..255.
    Output shape: `(batch, factor * height, factor * width, channels)`, brightness, 0..1 but not clipped.
    Reference: Ledig et al., 2016, arXiv 1609.04802; the generator without batch norm: Wang et al., 2018, arXiv 1809.00219.
    """

    def __init__(
        self, image_shape, factor=4, *, width=32, depth=4, adversarial=1e-3, perceptual=1.0, features=None, **kwargs
    ):
        super().__init__(**kwargs)
        height, breadth, channels = image_shape
        sizes = {"factor": factor, "width": width, "depth": depth}
        weights = {"adversarial": adversarial, "perceptual": perceptual}
        self._arguments = {"image_shape": list(image_shape), **sizes, **weights}
        self.adversarial, self.perceptual, self.features = adversarial, perceptual, features
        if features is not None:
            features.trainable = False
        self.generator = edsr(image_shape, **sizes)
        large = (factor * height, factor * breadth, channels)
        self.discriminator = image_encoder(large, 1, width=width, depth=min(3, _halvings(large)), name="discriminator")
        names = ["pixel_loss", "perceptual_loss", "adversarial_loss", "discriminator_loss"]
        self.parts = [keras.metrics.Mean(name=name) for name in names]
        self.built = True

    def get_config(self):
        return {**self._arguments, "features": trunk_config(self.features), "name": self.name}

    @classmethod
    def from_config(cls, config):
        features = config.get("features")
        made = keras.saving.deserialize_keras_object(features) if isinstance(features, dict) else features
        return cls(**{**config, "features": made})

    def call(self, x, training=None):
        return self.generator(x, training=training)

    def players_losses(self, y, y_pred, training):
        """Of each picture the pixel, perceptual and adversarial loss of the generator and that of the discriminator."""
        real = ops.cast(y, y_pred.dtype) / 255.0
        pixel = ops.mean(ops.abs(y_pred - real), axis=(1, 2, 3))
        judged = self.discriminator(2.0 * real - 1.0, training=training)
        seen = self.discriminator(2.0 * ops.stop_gradient(y_pred) - 1.0, training=training)
        fooled = looked_through(self.discriminator, 2.0 * y_pred - 1.0, training)
        perceptual = ops.zeros_like(pixel)
        if self.features is not None and self.perceptual:
            pairs = zip(*(keras.tree.flatten(self.features(255.0 * x, training=False)) for x in (y_pred, real)), strict=True)
            for enlarged, true in pairs:
                away = ops.square(enlarged - ops.stop_gradient(true))
                perceptual = perceptual + ops.mean(away, axis=tuple(range(1, len(away.shape))))
        return pixel, perceptual, ops.softplus(-fooled[:, 0]), ops.softplus(-judged[:, 0]) + ops.softplus(seen[:, 0])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        means = [weighted_mean(each, sample_weight) for each in self.players_losses(y, y_pred, training)]
        for metric, mean in zip(self.parts, means, strict=True):
            metric.update_state(mean)
        pixel, perceptual, adversarial, discriminator = means
        generator = pixel + self.perceptual * perceptual + self.adversarial * adversarial
        return generator + discriminator + sum(self.losses)


def _halvings(image_shape):
    """How often the smaller side can be halved and keep two pixels; at least once."""
    return max(1, min(image_shape[:2]).bit_length() - 2)
