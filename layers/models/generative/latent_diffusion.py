"""Latent diffusion: the steps from noise to picture are taken in the codes of an autoencoder, a fraction of the pixels."""

import keras
import numpy as np

from .._policy import recorded
from .autoencoder import Autoencoder
from .diffusion import Diffusion

__all__ = ["LatentDiffusion"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class LatentDiffusion(Diffusion):
    """`Diffusion` of the codes that a frozen autoencoder, trained before, gives pictures.

    Give it the autoencoder's weights and the scale of its codes by `adapt`, before it is trained.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        latent_channels: Channels of a code, a picture halved twice, or once below 16 pixels a side.
        autoencoder_width: Channels of the autoencoder's largest hidden picture.
        autoencoder_depth: Times it halves a picture; by default as said above.
        prediction: As of `Diffusion`, whose other arguments it takes as well.
    Input and target shape: those of `Diffusion`.
    Output shape: `(batch, *latent_shape)`, the codes, standardised.
    Reference: Rombach et al., 2021, arXiv 2112.10752.
    """

    def __init__(
        self, image_shape, *, latent_channels=4, autoencoder_width=16, autoencoder_depth=None, prediction="v", **kwargs
    ):
        self._codec = latent_channels, autoencoder_width, autoencoder_depth  # read while the rest is made
        super().__init__(image_shape, prediction=prediction, **kwargs)

    def adapt(self, autoencoder, images):
        """Take over a trained autoencoder of the same sizes, and the mean and deviation of its codes of some images, uint8."""
        self.autoencoder.set_weights(autoencoder.get_weights())
        encode = self.in_inference("encode", lambda x: self.autoencoder.encoder(ops.cast(x, "float32") / 127.5 - 1.0))
        codes = np.concatenate([ops.convert_to_numpy(encode(images[i : i + 256])) for i in range(0, len(images), 256)])
        self.codes_mean.assign(codes.mean((0, 1, 2)))
        self.codes_deviation.assign(np.maximum(codes.std((0, 1, 2)), 1e-3))

    def build_codec(self, width):
        channels, autoencoder_width, depth = self._codec
        self.autoencoder = Autoencoder(self.image_shape, channels, kind="spatial", width=autoencoder_width, depth=depth)
        self.autoencoder.trainable = False
        options = {"shape": (channels,), "trainable": False, "autocast": False}
        self.codes_mean = self.add_weight(name="codes_mean", initializer="zeros", **options)
        self.codes_deviation = self.add_weight(name="codes_deviation", initializer="ones", **options)
        return self.autoencoder.latent_shape

    def call(self, x, training=None):
        codes = self.autoencoder.encoder(super().call(x), training=False)
        return (codes - self.codes_mean) / self.codes_deviation

    def pictures(self, x):
        decode = self.in_inference("decode", self.decoded)
        return ops.convert_to_numpy(decode(x))

    def decoded(self, x):
        return ops.sigmoid(self.autoencoder.generator(x * self.codes_deviation + self.codes_mean, training=False))

    def bounded(self, clean):
        """A predicted code within five deviations."""
        return ops.clip(clean, -5.0, 5.0)
