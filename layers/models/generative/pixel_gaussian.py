"""A normal distribution for each pixel: the plainest model of images, and the control of the others."""

import math

import keras
import numpy as np

from ...generative import PixelNormal, weighted_mean
from .._policy import recorded

__all__ = ["PixelGaussian"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class PixelGaussian(keras.Model):
    """A mean and a deviation for each pixel, all pixels independent: fitted in closed form, nothing is trained.

    Args:
        image_shape: `(height, width, channels)`.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255.
    Output shape: `(batch,)`, negative log density of the brightness in 0..1, in nats, which is also the loss.
    """

    def __init__(self, image_shape, **kwargs):
        super().__init__(**kwargs)
        self.latent_dim, self.num_classes = math.prod(image_shape), 0
        self.pixels = PixelNormal(image_shape)
        latent = keras.Input((self.latent_dim,), name="latent")
        self.generator = keras.Model(latent, self.pixels(latent), name="generator")
        self.built = True

    def adapt(self, images):
        """Fit to images `(n, height, width, channels)` of 0..255; a constant pixel keeps half a grey level's spread."""
        images = images.astype("float32") / 255.0
        self.pixels.mean.assign(images.mean(0))
        self.pixels.deviation.assign(np.maximum(images.std(0), 0.5 / 255.0))

    def call(self, x, training=None):
        deviation = ops.convert_to_tensor(self.pixels.deviation)
        distance = (ops.cast(x, keras.config.floatx()) / 255.0 - self.pixels.mean) / deviation
        density = 0.5 * ops.square(distance) + ops.log(deviation) + 0.5 * math.log(2 * math.pi)
        return ops.sum(density, axis=(1, 2, 3))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return weighted_mean(y_pred, sample_weight)
