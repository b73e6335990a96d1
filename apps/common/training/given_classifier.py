"""`--pretrained` of image-classification with a network of another library: the classifier that is built on it."""

from dataclasses import dataclass

import keras
import numpy as np

from apps.common.bundles.saved_model import FILE, features_by
from apps.common.training.batches import predict_all
from apps.common.training.saved_model_trunk import HEAD, head, saved_model_classifier
from apps.common.training.trunks import keras_classifier
from apps.common.training.vit_folder import vit_classifier
from layers.backend import keras_private


@dataclass(frozen=True)
class Given:
    """A classifier.

    Args:
        model: From standardised pictures, or from features, to logits.
        trunk: Its layers that were trained before; `None` where they are no part of it.
        digest: Of what they come from.
    """

    model: keras.Model
    trunk: list | None
    digest: str


def given_classifier(config, data):
    """What `--pretrained` gives; `None` where `--model` is built, on a bundle's weights or on none."""
    names, shape = data.about["class_names"], tuple(data.about["image_shape"])
    mean, deviation = np.array(data.about["mean"]), np.array(data.about["deviation"])
    pixels = ((255 * deviation).tolist(), (255 * mean).tolist())  # back from standardised ones
    content = getattr(data.about, "files", {}).get(FILE)
    if config.library == "keras:":
        return Given(*keras_classifier(config.pretrained, shape, len(names), pixels, config.dropout))
    if config.library == "hf:":
        return Given(*vit_classifier(config.pretrained, shape, names, pixels, config.dropout))
    if content is None:
        return None
    digest, features = data.about["saved_model"], getattr(data.train, "features", None)
    if features is not None:
        return Given(head(features.shape[-1], len(names), config.dropout), None, digest)
    options = (config.pretrained, shape, len(names), pixels, config.dropout)
    return Given(*saved_model_classifier(content, *options), digest)


def scores(model, images, about):
    """Logits of uint8 images by any model of image-classification."""
    content = getattr(about, "files", {}).get(FILE)
    if content is None:
        return predict_all(model, images)
    found = next(each for each in keras_private.all_layers(model) if each.name == HEAD)
    return predict_all(found, features_by(model, images, content))
