"""The variational autoencoder, and its conditional form."""

import math

import keras

from ... import drawing
from ...generative import Reparametrization, gaussian_kl, latent_inputs, weighted_mean
from .._inputs import choose
from .._policy import recorded
from .image_generator import image_encoder, image_generator

__all__ = ["VAE"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class VAE(keras.Model):
    """Variational autoencoder: images from a latent normal variable, learned by a bound on their likelihood.

    The loss of an image is the negative ELBO in nats, `-log p(x | z) + kl_weight KL(q(z | x) || N(0, 1))`, z one draw from
    q. A pixel is a coin whose probability is its brightness, so that -log p(x | z) is the cross-entropy of the two; or it is
    normal, the brightness in 0..1 its mean, with one learned deviation for all pixels (Rybkin et al., 2020, arXiv 2006.13202).
    With classes the decoder is conditioned on the label: the bound is then one on `log p(x | label)`.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        latent_dim: Length of the latent vector.
        num_classes: Number of classes the decoder is conditioned on; 0 for none.
        width: Channels of the largest hidden picture.
        depth: Times a picture is halved and doubled; by default to 4 pixels or more.
        kl_weight: Factor of the KL divergence (beta of the beta-VAE: Higgins et al., 2017).
        likelihood: `"bernoulli"` or `"gaussian"`, what a pixel is given its brightness.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255; the target is the label, where there are classes.
    Output shape: mean and log variance of q, `(batch, latent_dim)` each. `generator` is the decoder.
    Reference: Kingma and Welling, 2014, arXiv 1312.6114; with classes: Sohn et al., 2015.
    """

    def __init__(
        self,
        image_shape,
        latent_dim=16,
        *,
        num_classes=0,
        width=32,
        depth=None,
        kl_weight=1.0,
        likelihood="bernoulli",
        **kwargs,
    ):
        super().__init__(**kwargs)
        losses = {"bernoulli": self.bernoulli_loss, "gaussian": self.gaussian_loss}
        self.reconstruction_loss = choose("likelihood", likelihood, losses)
        if likelihood == "gaussian":
            options = {"shape": (), "initializer": keras.initializers.Constant(-1.0), "autocast": False}
            self.log_deviation = self.add_weight(name="log_deviation", **options)
        sizes = {"width": width, "depth": depth}
        self.latent_dim, self.num_classes, self.kl_weight = latent_dim, num_classes, kl_weight
        self.encoder = image_encoder(image_shape, 2 * latent_dim, **sizes)
        self.generator = image_generator(image_shape, latent_dim, num_classes=num_classes, **sizes)
        self.draw = Reparametrization()
        self.seeds = keras.random.SeedGenerator()
        self.reconstruction, self.kl = keras.metrics.Mean(name="reconstruction"), keras.metrics.Mean(name="kl")
        self.built = True

    def call(self, x, training=None):
        x = ops.cast(x, keras.config.floatx()) / 127.5 - 1.0
        return ops.split(self.encoder(x, training=training), 2, axis=-1)

    def noise(self, count):
        """Standard normal numbers, `(count, latent_dim)`."""
        return drawing.normal((count, self.latent_dim), self.seeds)

    def bernoulli_loss(self, logits, target):
        return ops.softplus(logits) - target * logits

    def gaussian_loss(self, logits, target):
        log_deviation = ops.convert_to_tensor(self.log_deviation)
        distance = (target - ops.sigmoid(logits)) * ops.exp(-log_deviation)
        return 0.5 * ops.square(distance) + log_deviation + 0.5 * math.log(2 * math.pi)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        mean, log_variance = y_pred
        z = self.draw([mean, log_variance, self.noise(ops.shape(x)[0])])
        logits = self.generator(latent_inputs(z, y, self.num_classes), training=training)
        target = ops.cast(x, keras.config.floatx()) / 255.0
        reconstruction = ops.sum(self.reconstruction_loss(logits, target), axis=(1, 2, 3))
        kl = gaussian_kl(mean, log_variance)
        self.reconstruction.update_state(weighted_mean(reconstruction, sample_weight))
        self.kl.update_state(weighted_mean(kl, sample_weight))
        return weighted_mean(reconstruction + self.kl_weight * kl, sample_weight) + sum(self.losses)
