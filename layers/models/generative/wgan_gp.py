"""The Wasserstein generative adversarial network whose critic is held to slopes of one by a penalty."""

import keras

from ... import backend, drawing
from ...generative import latent_inputs, looked_through, weighted_mean
from .._policy import recorded
from .image_generator import image_encoder, image_generator

__all__ = ["WGANGP"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class WGANGP(keras.Model):
    """Generative adversarial network with a critic whose mean difference on real and drawn images bounds their distance.

    With D the critic and G the generator the players' losses are `D(G(z)) - D(x) + penalty (|dD/dx'| - 1)^2` and
    `-D(G(z))`, x' a random point between x and G(z). The loss of the model is their sum, each without the other's gradient, as
    in `DCGAN`, whose networks it has. The paper has the critic take five steps for one of the generator.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        latent_dim: Length of the latent vector.
        num_classes: Number of classes both players are conditioned on; 0 for none.
        width: Channels of the largest hidden picture.
        depth: Times a picture is halved and doubled; by default to 4 pixels or more.
        penalty: Factor of the penalty on the critic's slope (lambda of the paper).
    Input shape: `(batch, height, width, channels)`, pixels in 0..255; the target is the label, where there are classes.
    Output shape: `(batch, max(1, num_classes))`, what the critic says. The critic is `discriminator`, as in a `DCGAN`.
    Reference: Gulrajani et al., 2017, arXiv 1704.00028.
    """

    def __init__(self, image_shape, latent_dim=64, *, num_classes=0, width=32, depth=None, penalty=10.0, **kwargs):
        super().__init__(**kwargs)
        sizes = {"width": width, "depth": depth}
        self.latent_dim, self.num_classes, self.penalty = latent_dim, num_classes, penalty
        # A bias at the end would count as much on drawn images as on real ones, that is nothing.
        self.discriminator = image_encoder(
            image_shape, max(1, num_classes), output_bias=False, name="discriminator", **sizes
        )
        self.generator = image_generator(image_shape, latent_dim, num_classes=num_classes, **sizes)
        self.seeds = keras.random.SeedGenerator()
        self.discriminator_loss = keras.metrics.Mean(name="discriminator_loss")
        self.generator_loss = keras.metrics.Mean(name="generator_loss")
        self.slope = keras.metrics.Mean(name="slope")
        self.built = True

    def call(self, x, training=None):
        return self.discriminator(scaled(x), training=training)

    def noise(self, count):
        """Standard normal numbers, `(count, latent_dim)`."""
        return drawing.normal((count, self.latent_dim), self.seeds)

    def slopes(self, images, chosen):
        """The length of the critic's gradient by each image, `(batch,)`.

        Args:
            images: `(batch, height, width, channels)`, in -1..1.
            chosen: What each of the critic's outputs counts, one-hot classes or 1.
        """
        gradient = backend.gradient(lambda x: self.discriminator(x) * chosen, images)
        return ops.sqrt(ops.sum(ops.square(gradient), axis=(1, 2, 3)) + 1e-12)

    def players_losses(self, x, y, real, training):
        """The loss of the critic and of the generator at each image, and the critic's slope there, `(batch,)` each."""
        inputs = latent_inputs(self.noise(ops.shape(x)[0]), y, self.num_classes)
        chosen = ops.one_hot(inputs["label"], self.num_classes) if self.num_classes else 1.0

        def picked(outputs):
            return ops.sum(outputs * chosen, axis=-1)

        fake = ops.tanh(0.5 * self.generator(inputs, training=training))
        drawn = ops.stop_gradient(fake)
        share = drawing.uniform((ops.shape(x)[0], 1, 1, 1), self.seeds)
        slopes = self.slopes(share * scaled(x) + (1.0 - share) * drawn, chosen)
        critic = picked(self.discriminator(drawn, training=training)) - picked(real)
        judged = looked_through(self.discriminator, fake, training)
        return critic + self.penalty * ops.square(slopes - 1.0), -picked(judged), slopes

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        *losses, slopes = self.players_losses(x, y, y_pred, training)
        means = [weighted_mean(each, sample_weight) for each in losses]
        self.discriminator_loss.update_state(means[0])
        self.generator_loss.update_state(means[1])
        self.slope.update_state(ops.mean(slopes))
        return sum(means) + sum(self.losses)


def scaled(x):
    """Pixels of 0..255 in -1..1."""
    return ops.cast(x, keras.config.floatx()) / 127.5 - 1.0
