"""SimCLR: pictures are told apart by their views, without labels."""

import keras

from ... import BatchNormalization, Cutout, Dense, RandomColor, RandomFlip, RandomResizedCrop
from ...contrastive import nt_xent
from ...generative import weighted_mean
from .._parts import from_pixels
from .._policy import recorded
from ._encoder import image_encoder, scaled

__all__ = ["SimCLR"]

ops = keras.ops
WIDEST = 512


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class SimCLR(keras.Model):
    """Two views of each picture, cut and coloured at random, must find each other among those of all others in the batch.

    The loss is NT-Xent (`layers.contrastive`) of what a small perceptron makes of the encoder's features.

    Args:
        image_shape: `(height, width, channels)`.
        architecture: Name of the encoder's architecture, an image classifier, whose logits are left out; or a dict of it
            (`"name"`), its arguments, and the `"mean"` and `"deviation"` of brightness in 0..1 to standardise images by.
        projection_dim: Features of the perceptron's output, which are compared.
        temperature: Of the loss; the lower, the more the nearest wrong views count.
        smallest_crop: Least share of a picture that a view shows.
        color: How much brightness and contrast change in a view, 0 to 1.
        flip: Whether a view may be mirrored: not for digits.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255; no target.
    Output shape: `(batch, features)`, those of the encoder. In training `(2 batch, projection_dim)`, both views' projections.
    Reference: Chen et al., 2020, arXiv 2002.05709.
    """

    def __init__(
        self,
        image_shape,
        architecture="resnet",
        *,
        projection_dim=64,
        temperature=0.5,
        smallest_crop=0.2,
        color=0.4,
        flip=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.temperature = temperature
        self.encoder = image_encoder(architecture, image_shape)
        self.projector = projector(self.encoder.output.shape[-1], projection_dim, name="projector")
        self.views = view_layers(smallest_crop, color, flip)
        self.built = True

    def call(self, x, training=None):
        return self.projections(x, training) if training else self.encoder(scaled(x), training=False)

    def projections(self, x, training):
        return self.projector(self.encoder(two_views(x, self.views), training=training), training=training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        projections = y_pred if training else self.projections(x, False)
        losses = nt_xent(*ops.split(projections, 2), self.temperature)
        return weighted_mean(losses, sample_weight) + sum(self.losses)

    def deployed(self):
        """A model for other formats: pixels in 0..255 to the features."""
        return from_pixels(self.encoder, name="encoder")


def projector(features, units, *, name):
    """A perceptron with one hidden layer as wide as its input, or of `WIDEST` units."""
    inputs = keras.Input((features,), name="features")
    x = keras.layers.ReLU()(BatchNormalization(momentum=0.9)(Dense(min(features, WIDEST), use_bias=False)(inputs)))
    return keras.Model(inputs, Dense(units, dtype=keras.config.floatx())(x), name=name)


def view_layers(smallest_crop, color, flip):
    """The random changes that make a view of a picture in -1..1."""
    single = keras.config.floatx()
    layers = [RandomResizedCrop(smallest_crop, dtype=single)]
    if flip:
        layers.append(RandomFlip(dtype=single))
    if color:
        layers.append(RandomColor(color, color, dtype=single))
    return [*layers, Cutout(0.25, dtype=single)]


def two_views(x, layers):
    """Pictures of 0..255 as two views each in -1..1, `(2 batch, height, width, channels)`: all first ones, then all second."""
    x = ops.tile(scaled(x), (2, 1, 1, 1))
    for layer in layers:
        x = layer(x, training=True)
    return x
