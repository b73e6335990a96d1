"""CLIP: pictures and texts in one space, learned from pairs of them."""

import math

import keras
import numpy as np

from ... import Dense
from ...contrastive import symmetric_loss, unit
from ...generative import weighted_mean
from .._parts import from_pixels
from .._policy import recorded
from ._encoder import image_encoder, scaled
from .text_encoder import text_encoder

__all__ = ["CLIP"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class CLIP(keras.Model):
    """Two towers, one for pictures and one for texts, whose vectors are alike for a pair and unlike for all others of the batch.

    The loss of a pair is the mean of two cross-entropies, of its text among all texts and of its picture among all pictures;
    logits are cosines times a learned factor, at the start 1 / 0.07 and at most 100.

    Args:
        image_shape: `(height, width, channels)`.
        vocabulary_size: Number of different tokens, 0 the padding.
        text_length: Tokens of a text.
        architecture: Name of the picture tower's architecture, an image classifier, whose logits are left out; or a dict of
            it (`"name"`), its arguments, and the `"mean"` and `"deviation"` of brightness in 0..1 to standardise images by.
        embedding_dim: Length of the vectors.
        width: Features of a token in the text tower.
        depth: Transformer blocks of the text tower.
    Input shape: a dict of `"image"` `(batch, height, width, channels)`, pixels in 0..255, and `"text"` `(batch, text_length)`,
        token ids, 0 the padding; no target.
    Output shape: unit vectors of the pictures and of the texts, `(batch, embedding_dim)` each.
    Reference: Radford et al., 2021, arXiv 2103.00020.
    """

    def __init__(
        self,
        image_shape,
        vocabulary_size,
        text_length,
        *,
        architecture="small_cnn",
        embedding_dim=64,
        width=64,
        depth=2,
        **kwargs,
    ):
        super().__init__(**kwargs)
        single = keras.config.floatx()
        self.encoder = image_encoder(architecture, image_shape)
        self.text_encoder = text_encoder(vocabulary_size, text_length, width=width, depth=depth)
        self.image_projection = Dense(embedding_dim, use_bias=False, name="image_projection", dtype=single)
        self.image_projection.build(self.encoder.output.shape)
        self.text_projection = Dense(embedding_dim, use_bias=False, name="text_projection", dtype=single)
        self.text_projection.build((None, width))
        start = keras.initializers.Constant(math.log(1 / 0.07))
        self.log_scale = self.add_weight(name="log_scale", shape=(), initializer=start, autocast=False)
        self.log_scale_initializer = start
        self.built = True

    def call(self, inputs, training=None):
        return self.embed_images(inputs["image"], training), self.embed_texts(inputs["text"], training)

    def embed_images(self, images, training=False):
        """Unit vectors of pictures, pixels in 0..255."""
        return unit(self.image_projection(self.encoder(scaled(images), training=training)))

    def embed_texts(self, tokens, training=False):
        """Unit vectors of texts, token ids."""
        return unit(self.text_projection(self.text_encoder(tokens, training=training)["text"][:, 0]))

    def scale(self):
        """What cosines are multiplied with."""
        log_scale = ops.convert_to_tensor(self.log_scale)
        # What is beyond the bound is taken off as a constant: a minimum would leave the weight no gradient to come back by.
        beyond = ops.stop_gradient(ops.maximum(log_scale - np.float32(math.log(100.0)), np.float32(0.0)))
        return ops.exp(log_scale - beyond)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return weighted_mean(symmetric_loss(*y_pred, self.scale()), sample_weight) + sum(self.losses)

    def parts(self):
        """Either tower for other formats: pixels in 0..255, or token ids, to unit vectors."""
        tokens = keras.Input(self.text_encoder.inputs[0].shape[1:], dtype="int32", name="text")
        vectors = unit(self.text_projection(self.text_encoder(tokens)["text"][:, 0]))
        image = from_pixels(self.encoder, self.image_projection, unit, name="image")
        return {"image": image, "text": keras.Model(tokens, vectors, name="text")}
