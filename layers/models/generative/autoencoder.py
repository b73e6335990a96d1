"""The autoencoder: dense, convolutional, or with a picture for a code; with noise it learns to take noise away."""

import math

import keras

from ... import Conv2D, Dense, PixelShuffle, drawing
from ...diffusion import group_norm
from ...generative import weighted_mean
from .._inputs import choose, image_input
from .._parts import from_pixels
from .._policy import recorded
from .image_generator import image_encoder, image_generator

__all__ = ["Autoencoder"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class Autoencoder(keras.Model):
    """An encoder of images into short codes and a decoder back, trained to lose little on the way.

    The loss of an image is the squared error of its brightness in 0..1, summed over the pixels. With `noise` the encoder
    sees in training `x + noise * e`, e standard normal and x in -1..1, cut off at -1 and 1 as a stored picture is, and the
    decoder is to give x: a denoising autoencoder.

    Args:
        image_shape: `(height, width, channels)`, at least 4 pixels a side.
        latent_dim: Length of the code; of a code that is a picture, its channels.
        kind: `"convolutional"`, `"dense"`, or `"spatial"`, whose code is a picture `depth` times halved.
        width: Channels of the largest hidden picture; a dense layer has 8 times as many units.
        depth: Times the picture is halved; by default to 4 pixels or more, and with a picture for a code twice at most.
            Of the dense kind the number of hidden layers either way, 1 by default.
        noise: Deviation of the noise the encoder sees in training.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. The target is the input; one that is given is not read.
    Output shape: that of the input, brightness in 0..1. `encoder` takes pixels in -1..1, `generator` gives logits of brightness.
    Reference: Hinton and Salakhutdinov, 2006; denoising: Vincent et al., 2008.
    """

    def __init__(self, image_shape, latent_dim=16, *, kind="convolutional", width=32, depth=None, noise=0.0, **kwargs):
        super().__init__(**kwargs)
        kinds = {"convolutional": convolutional_pair, "dense": dense_pair, "spatial": spatial_pair}
        self.encoder, self.generator = choose("kind", kind, kinds)(image_shape, latent_dim, width, depth)
        self.latent_shape = tuple(self.encoder.output.shape[1:])
        self.latent_dim, self.num_classes = math.prod(self.latent_shape), 0
        self.noise_deviation = noise
        self.seeds = keras.random.SeedGenerator()
        self.built = True

    def call(self, x, training=None):
        x = ops.cast(x, keras.config.floatx()) / 127.5 - 1.0
        if training and self.noise_deviation:
            x = ops.clip(x + self.noise_deviation * drawing.normal(ops.shape(x), self.seeds), -1.0, 1.0)
        return ops.sigmoid(self.generator(self.encoder(x, training=training), training=training))

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        errors = ops.square(y_pred - ops.cast(x, keras.config.floatx()) / 255.0)
        return weighted_mean(ops.sum(errors, axis=(1, 2, 3)), sample_weight) + sum(self.losses)

    def deployed(self):
        """A model for other formats: pixels in 0..255 to the brightness in 0..1 that comes back."""
        return from_pixels(self.encoder, self.generator, ops.sigmoid, name="autoencoder")

    def parts(self):
        """Either half for other formats: pixels in 0..255 to the code, and the code to brightness in 0..1."""
        code = keras.Input(self.latent_shape, name="code")
        decoder = keras.Model(code, ops.sigmoid(self.generator(code)), name="decoder")
        return {"encoder": from_pixels(self.encoder, name="encoder"), "decoder": decoder}


def convolutional_pair(image_shape, latent_dim, width, depth):
    """A convolutional encoder to a vector and its decoder."""
    sizes = {"width": width, "depth": depth}
    return image_encoder(image_shape, latent_dim, **sizes), image_generator(image_shape, latent_dim, **sizes)


def dense_pair(image_shape, latent_dim, width, depth):
    """A perceptron to a vector, its layers of half as many units each, and its mirror image."""
    units = [8 * width // 2**index for index in range(depth or 1)]
    image = image_input(image_shape)
    x = keras.layers.Flatten()(image)
    for size in units:
        x = Dense(size, activation="relu")(x)
    code = Dense(latent_dim, dtype=keras.config.floatx())(x)
    latent = x = keras.Input((latent_dim,), name="latent")
    for size in reversed(units):
        x = Dense(size, activation="relu")(x)
    x = Dense(math.prod(image_shape), dtype=keras.config.floatx())(x)
    x = keras.layers.Reshape(tuple(image_shape), dtype=keras.config.floatx())(x)
    return keras.Model(image, code, name="encoder"), keras.Model(latent, x, name="generator")


def spatial_pair(image_shape, latent_channels, width, depth):
    """An encoder to a small picture and its decoder; an odd side is padded, and cut again at the end."""
    depth = depth or max(1, min(2, int(math.log2(min(image_shape[:2]) / 4))))
    single = keras.config.floatx()
    image = x = image_input(image_shape, minimum=2**depth)
    for index in range(depth):
        x = normed(Conv2D(width * 2**index, 4, strides=2, padding="same")(x))
    x = normed(Conv2D(width * 2**depth, 3, padding="same")(x))
    code = Conv2D(latent_channels, 1, dtype=single)(x)
    latent = keras.Input(code.shape[1:], name="latent")
    x = normed(Conv2D(width * 2**depth, 3, padding="same")(latent))
    for index in reversed(range(depth)):
        x = normed(PixelShuffle()(Conv2D(4 * width * 2**index, 3, padding="same")(x)))
    x = Conv2D(image_shape[-1], 3, padding="same", dtype=single)(x)
    x = x[:, : image_shape[0], : image_shape[1]]
    return keras.Model(image, code, name="encoder"), keras.Model(latent, x, name="generator")


def normed(x):
    """Normalised and bent; without the norm, pictures that are nearly all background teach it nothing but the background."""
    return ops.silu(group_norm(x.shape[-1])(x))
