"""The deep convolutional generative adversarial network, and its conditional form."""

import keras

from ... import drawing
from ...generative import latent_inputs, looked_through, weighted_mean
from .._policy import recorded
from .image_generator import image_encoder, image_generator

__all__ = ["DCGAN"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class DCGAN(keras.Model):
    """Generative adversarial network: a generator that learns to pass its images off as real, a discriminator that tells.

    With D the discriminator's logit, G the generator and s the softplus, the players' losses are
    `s(-D(x)) + s(D(G(z)))` and `s(-D(G(z)))`. The loss of the model is their sum, each without the other's gradient: the
    first sees G(z) as constant, the second the weights of D. With classes the generator is conditioned on one, and D has a
    logit for each, of which the label picks (the projection of Miyato and Koyama, 2018, arXiv 1802.05637).

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        latent_dim: Length of the latent vector.
        num_classes: Number of classes both players are conditioned on; 0 for none.
        width: Channels of the largest hidden picture.
        depth: Times a picture is halved and doubled; by default to 4 pixels or more.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255; the target is the label, where there are classes.
    Output shape: `(batch, max(1, num_classes))`, logits of being real.
    Reference: Goodfellow et al., 2014, arXiv 1406.2661; Radford et al., 2016, arXiv 1511.06434.
    """

    def __init__(self, image_shape, latent_dim=64, *, num_classes=0, width=32, depth=None, **kwargs):
        super().__init__(**kwargs)
        sizes = {"width": width, "depth": depth}
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.discriminator = image_encoder(image_shape, max(1, num_classes), name="discriminator", **sizes)
        self.generator = image_generator(image_shape, latent_dim, num_classes=num_classes, **sizes)
        self.seeds = keras.random.SeedGenerator()
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")
        self.generator_loss = keras.metrics.Mean(name="generator_loss")
        self.built = True

    def call(self, x, training=None):
        return self.discriminator(ops.cast(x, keras.config.floatx()) / 127.5 - 1.0, training=training)

    def noise(self, count):
        """Standard normal numbers, `(count, latent_dim)`."""
        return drawing.normal((count, self.latent_dim), self.seeds)

    def players_losses(self, x, y, real_logits, training):
        """The loss of the discriminator and of the generator at each image, `(batch,)` each."""

        inputs = latent_inputs(self.noise(ops.shape(x)[0]), y, self.num_classes)
        chosen = ops.one_hot(inputs["label"], self.num_classes) if self.num_classes else 1.0

        def picked(logits):
            return ops.sum(logits * chosen, axis=-1)

        fake = self.generator(inputs, training=training)
        fake = ops.tanh(0.5 * fake)  # twice the sigmoid of the logits less one: the range of the real images
        seen = picked(self.discriminator(ops.stop_gradient(fake), training=training))
        fooled = looked_through(self.discriminator, fake, training)
        return ops.softplus(-picked(real_logits)) + ops.softplus(seen), ops.softplus(-picked(fooled))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        losses = self.players_losses(x, y, y_pred, training)
        means = [weighted_mean(each, sample_weight) for each in losses]
        self.discriminator_loss.update_state(means[0])
        self.generator_loss.update_state(means[1])
        return sum(means) + sum(self.losses)
