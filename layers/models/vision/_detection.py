"""What the detectors share: their life as models, the heads of a pyramid, and targets padded to a fixed number."""

import keras

from ... import Conv2D, backend
from ... import boxes as geometry
from .feature_pyramid import PRIOR

ops = keras.ops


class Detector(keras.Model):
    """A model with its arguments in `_arguments` and its `trunk` beside them, two means of its loss, and `boxes_and_scores`."""

    def watch_losses(self):
        """Means over an epoch of the loss of the classes and that of the boxes."""
        self.class_loss = keras.metrics.Mean(name="class_loss")
        self.box_loss = keras.metrics.Mean(name="box_loss")

    def sum_of(self, class_loss, box_loss):
        """The loss, its two parts noted."""
        self.class_loss.update_state(class_loss)
        self.box_loss.update_state(box_loss)
        return class_loss + box_loss + sum(self.losses)

    def get_config(self):
        return {**self._arguments, "trunk": trunk_config(self.trunk), "name": self.name}

    @classmethod
    def from_config(cls, config):
        return cls(**trunk_from_config(config))

    def detect(self, predictions, **options):
        """Boxes, scores and classes of a batch of outputs; `options` and result as `layers.boxes.detections`."""
        boxes, scores = self.boxes_and_scores(keras.tree.map_structure(ops.convert_to_tensor, predictions))
        return geometry.detections(boxes, scores, **options)

    def deployed(self):
        """A model for other formats: of each box its corners and then the score of each class, `(batch, boxes, 4 + classes)`.

        Nothing is suppressed: boxes of the same object are all there.
        """
        inputs = keras.Input(self._arguments["image_shape"], name="image")
        return keras.Model(inputs, BoxesAndScores(self, name="boxes")(inputs), name="detector")


class BoxesAndScores(keras.layers.Layer):
    """The boxes of a detector with their scores behind, as one tensor."""

    def __init__(self, detector, **kwargs):
        super().__init__(**kwargs)
        self.detector = detector
        self.built = True

    def call(self, x):
        boxes, scores = self.detector.boxes_and_scores(self.detector(x, training=False))
        return ops.concatenate([boxes, ops.cast(scores, boxes.dtype)], axis=-1)


def pyramid_heads(maps, num_classes, boxes_per_cell=1, *, depth=1):
    """Class logits and box numbers of every cell of every map, by two branches of convolutions that all maps share.

    Returns: `{"logits": (batch, boxes, num_classes), "codes": (batch, boxes, 4)}`, those of one cell one after the other.
    """
    channels, parts = maps[0].shape[-1], {}
    single = keras.config.floatx()
    sizes = {"logits": (num_classes, keras.initializers.Constant(PRIOR)), "codes": (4, "zeros")}
    for part, (size, bias) in sizes.items():
        hidden = [
            Conv2D(channels, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=f"{part}_hidden{i}")
            for i in range(depth)
        ]
        normal = keras.initializers.RandomNormal(stddev=0.01)
        options = {"padding": "same", "kernel_initializer": normal, "bias_initializer": bias, "dtype": single}
        last = Conv2D(boxes_per_cell * size, 3, name=part, **options)
        shape = keras.layers.Reshape((-1, size), dtype=single)
        found = []
        for x in maps:
            for layer in hidden:
                x = layer(x)
            found.append(shape(last(x)))
        parts[part] = keras.layers.Concatenate(axis=1, dtype=single)(found) if len(found) > 1 else found[0]
    return parts


def box_targets(y):
    """Boxes, classes and which of them count, of targets `{"boxes": (batch, n, 4), "classes": (batch, n)}`.

    A class below 0 is padding; so is a box without area.
    """
    boxes = ops.cast(y["boxes"], keras.config.floatx())
    classes = ops.cast(y["classes"], "int32")
    return boxes, ops.maximum(classes, 0), ops.logical_and(classes >= 0, geometry.area(boxes) > 0.0)


def picture_weights(sample_weight, boxes):
    """What each picture counts, `(batch,)`."""
    ones = ops.ones_like(boxes[:, 0, 0])
    return ones if sample_weight is None else ops.reshape(ops.cast(sample_weight, ones.dtype), (-1,))


def take_targets(boxes, classes, matched):
    """The box and the class at each place of `matched`, `(batch, places)`."""
    matched = ops.cast(matched, "int32")
    found = backend.take_places(boxes, matched)
    return found, ops.take_along_axis(classes, matched, axis=1)


def trunk_config(trunk):
    """A trunk as plain values, for `get_config`; its weights are saved with the model's."""
    return None if trunk is None else keras.saving.serialize_keras_object(trunk)


def trunk_from_config(config):
    """The arguments of a model with `trunk` a model again."""
    trunk = config.get("trunk")
    made = keras.saving.deserialize_keras_object(trunk) if isinstance(trunk, dict) else trunk
    return {**config, "trunk": made}
