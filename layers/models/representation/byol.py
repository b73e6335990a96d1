"""BYOL: a network learns to foretell what a slower copy of it makes of another view."""

import keras

from ..._arguments import between
from ...contrastive import regression_loss
from ...generative import looked_through, weighted_mean
from .._parts import from_pixels
from .._policy import recorded
from ._encoder import image_encoder, scaled
from .simclr import projector, two_views, view_layers

__all__ = ["BYOL"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class BYOL(keras.Model):
    """From one view of a picture a network predicts what its target network makes of the other; no other picture is needed.

    The loss is `2 - 2 cos(prediction, target)`, for both directions. The target's weights xi follow the network's theta:
    each training step sets `xi = decay xi + (1 - decay) theta`, theta before the step, and no gradient reaches them.

    Args:
        image_shape: `(height, width, channels)`.
        architecture: Name of the encoder's architecture, an image classifier, whose logits are left out; or a dict of it
            (`"name"`), its arguments, and the `"mean"` and `"deviation"` of brightness in 0..1 to standardise images by.
        projection_dim: Features that are predicted.
        decay: How much of the target's weights stays in one step.
        smallest_crop: Least share of a picture that a view shows.
        color: How much brightness and contrast change in a view, 0 to 1.
        flip: Whether a view may be mirrored: not for digits.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255; no target.
    Output shape: `(batch, features)`, those of the encoder. In training a pair: predictions, and what they should be, of both
        views, `(2 batch, projection_dim)` each.
    Raises:
        ValueError: `decay` is no share, or `architecture` no classifier of `layers.models`.
    Reference: Grill et al., 2020, arXiv 2006.07733.
    """

    def __init__(
        self,
        image_shape,
        architecture="resnet",
        *,
        projection_dim=64,
        decay=0.99,
        smallest_crop=0.2,
        color=0.4,
        flip=True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.decay = between("decay", decay, 0, 1)
        self.encoder = image_encoder(architecture, image_shape)
        self.online = projected(self.encoder, projection_dim, "online")
        self.target = projected(image_encoder(architecture, image_shape), projection_dim, "target")
        self.target.trainable = False
        self.predictor = projector(projection_dim, projection_dim, name="predictor")
        self.views = view_layers(smallest_crop, color, flip)
        self.built = True

    def call(self, x, training=None):
        return self.compared(x, training) if training else self.encoder(scaled(x), training=False)

    def pairs(self):
        """Each weight of the network that is trained, and the target's that follows it."""
        both = zip(self.online.variables, self.target.variables, strict=True)
        return [(followed, follower) for followed, follower in both if followed.trainable]

    def compared(self, x, training):
        """The predictions of both views, and what the target network makes of the other view."""
        views = two_views(x, self.views)
        predictions = self.predictor(self.online(views, training=training), training=training)
        # The target's weights in the network's places: a frozen batch norm would not take the batch's own statistics.
        targets = looked_through(self.online, views, training, [follower.value for _, follower in self.pairs()])
        first, second = ops.split(targets, 2)
        return predictions, ops.concatenate([second, first])

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        predictions, targets = y_pred if training else self.compared(x, False)
        losses = sum(ops.split(regression_loss(predictions, ops.stop_gradient(targets)), 2))
        if training:
            for followed, follower in self.pairs():
                value = ops.stop_gradient(followed.value)
                follower.assign(self.decay * follower.value + (1.0 - self.decay) * value)
        return weighted_mean(losses, sample_weight) + sum(self.losses)

    def deployed(self):
        """A model for other formats: pixels in 0..255 to the features."""
        return from_pixels(self.encoder, name="encoder")


def projected(encoder, projection_dim, name):
    """The encoder and a projector as one model."""
    head = projector(encoder.output.shape[-1], projection_dim, name="projector")
    return keras.Model(encoder.inputs, head(encoder.output), name=name)
