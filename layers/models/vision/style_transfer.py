"""The model that trains a network to restyle pictures: it keeps what is seen and takes on how it is painted."""

import keras

from ...generative import weighted_mean
from ...style import content_loss, gram_matrix, style_loss, total_variation
from ._detection import trunk_config
from .transformer_net import transformer_net

__all__ = ["StyleTransfer"]

ops = keras.ops
PARTS = 2  # by which each direction of a map is cut where style is measured: else a blotch in a corner makes up for the rest


@keras.saving.register_keras_serializable(package="triptych")
class StyleTransfer(keras.Model):
    """`transformer_net` and its objective, which owns the features and the style: `content + style + smooth`, each weighed.

    With F the features of a given network, f the restyled picture and x the given one: content is the mean square of
    `F(f) - F(x)` on the maps `content_maps`, style that of the Gram matrices of all maps, each cut into quarters, and those of
    the style picture, smooth the total variation of f.

    Args:
        image_shape: `(height, width, channels)`.
        features: A built `keras.Model` that takes pixels in 0..255 and gives a list of maps; it is frozen. Call `set_style`
            once its weights are there.
        content_maps: Indices of the maps that tell the content.
        weights: What content, style and smooth count.
        width, depth, skip: As `transformer_net`.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255; no target.
    Output shape: `(batch, height, width, channels)`, pixels in 0..255.
    Reference: Johnson et al., 2016, arXiv 1603.08155; the losses: Gatys et al., 2015, arXiv 1508.06576.
    """

    def __init__(
        self, image_shape, features, *, content_maps=(1,), weights=(1.0, 10.0, 1e-4), width=32, depth=5, skip=False, **kwargs
    ):
        super().__init__(**kwargs)
        sizes = {"width": width, "depth": depth, "skip": skip}
        about = {"content_maps": list(content_maps), "weights": list(weights)}
        self._arguments = {"image_shape": list(image_shape), **about, **sizes}
        features.trainable = False
        self.features, self.content_maps, self.part_weights = features, tuple(content_maps), tuple(weights)
        self.generator = transformer_net(image_shape, **sizes)
        shapes = [(each.shape[-1], each.shape[-1]) for each in keras.tree.flatten(features.outputs)]
        options = {"initializer": "zeros", "trainable": False}
        self.grams = [self.add_weight(name=f"gram{i}", shape=shape, **options) for i, shape in enumerate(shapes)]
        self.parts = [keras.metrics.Mean(name=f"{name}_loss") for name in ("content", "style", "smooth")]
        self.built = True

    def get_config(self):
        return {**self._arguments, "features": trunk_config(self.features), "name": self.name}

    @classmethod
    def from_config(cls, config):
        features = config["features"]
        made = keras.saving.deserialize_keras_object(features) if isinstance(features, dict) else features
        return cls(**{**config, "features": made})

    def set_style(self, images):
        """Take on the style of these pictures, `(batch, height, width, channels)` in 0..255: the mean of their Gram matrices."""
        for gram, found in zip(self.grams, self.maps(ops.convert_to_tensor(images)), strict=True):
            gram.assign(ops.mean(gram_matrix(found), axis=0))

    def maps(self, images, features=None):
        """The features of pictures, a list of maps; `features` for pictures of another size."""
        features = features or self.features
        return keras.tree.flatten(features(ops.cast(images, keras.config.floatx()), training=False))

    def call(self, x, training=None):
        return self.generator(x, training=training)

    def losses_of(self, x, restyled, features=None):
        """The content, style and smooth loss of each picture, `(batch,)` each; `features` for pictures of another size."""
        found, given = self.maps(restyled, features), self.maps(x, features)
        chosen = [[maps[index] for index in self.content_maps] for maps in (found, given)]
        grams = [ops.convert_to_tensor(gram) for gram in self.grams]
        return content_loss(*chosen), style_loss(found, grams, PARTS), total_variation(restyled)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        means = [weighted_mean(each, sample_weight) for each in self.losses_of(x, y_pred)]
        for metric, mean in zip(self.parts, means, strict=True):
            metric.update_state(mean)
        return sum(weight * mean for weight, mean in zip(self.part_weights, means, strict=True)) + sum(self.losses)
