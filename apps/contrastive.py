"""Learn what pictures look like without labels, by SimCLR or BYOL: features for few labels, and a trunk for other tasks.

    triptych train contrastive --data PICTURES
    triptych train image-classification --data FEW_LABELLED --pretrained BUNDLE

Its bundle is taken by --pretrained of image-classification, object-detection and segmentation, and of driving where it is of
--architecture pilotnet; and by --vision of image-text --model flamingo.

Labels, where there are any, are used only to say what the features are good for. The default, 8 x 8 digits, takes one to three
minutes on two cores: with a tenth of the labels a linear probe on the features is right for .95 of the test, on pixels for .88,
and the same encoder trained from scratch on these labels for .93.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, complete_splits, evenly, evenly_spaced, split_indices
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED
from apps.common.data.images.labelled import read_images
from apps.common.data.images.unlabelled import as_examples, example_of, read_pictures
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Splitting
from apps.common.reports.cached import cached_by_data

# As image-classification and, pilotnet, driving build them, so that they can go on from their weights.
ARCHITECTURES = {
    "cnn": {}, "small-cnn": {}, "mlp": {}, "vgg": {"depth": 11}, "resnet": {"depth": 20}, "mobilenet": {},
    "efficientnet": {}, "vit": {"width": 96, "depth": 6}, "pilotnet": {"hidden_dims": ()},
}  # fmt: skip
METRIC = (
    Metric("probe_accuracy", where={"labelled": True}),
    Metric("loss", higher_is_better=False, where={"labelled": False}),
)
INPUTS = Inputs("files", ENDINGS, NOT_DECODED)
MOST = 1000  # pictures that an epoch is judged on, or that a map shows
STEPS = 600  # of the encoder from scratch, on pictures of 28 pixels


@dataclass(frozen=True)
class Config(Splitting):
    model: Literal["simclr", "byol"] = option(
        "simclr", "SimCLR tells views of a picture from those of others, BYOL needs no others", search=("simclr", "byol")
    )
    architecture: Literal[tuple(ARCHITECTURES)] = option("cnn", "the encoder, without its logits; pilotnet is driving's")
    epochs: int = option(100, "passes over the training data", low=1, high=100_000)
    batch_size: int = option(256, "pictures a step, among which SimCLR tells them apart", low=2, high=65_536,
                             search=(64, 128, 256, 512))  # fmt: skip
    learning_rate: float = option(3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 3e-2), log=True)
    projection_dim: int = option(64, "features that the loss compares", low=2, high=4096)
    temperature: float = option(
        0.2, "the lower, the more the nearest wrong views count", above=0, high=10, search=(0.1, 1.0), log=True,
        needs={"model": "simclr"},
    )  # fmt: skip
    target_decay: float = option(
        0.99, "share of the slower network that stays in a step", low=0, high=1, search=(0.95, 0.999), needs={"model": "byol"}
    )
    smallest_crop: float = option(0.4, "least share of a picture that a view shows", above=0, high=1, search=(0.1, 0.8))
    color: float = option(0.2, "how much brightness and contrast change in a view", low=0, high=1)
    flip: bool = option(False, "whether a view may be mirrored: for photographs, not for digits")
    probe_share: float = option(0.1, "share of the training labels that classifiers on the features are given", above=0, high=1)
    image_size: int | None = option(None, "side every picture is resized to; else the side they share", low=4, high=512)
    class_weights: str = refused("none", "classes are not trained on")


FASHION = {"keep": "last", "epochs": 6, "learning_rate": 2e-3, "schedule": "cosine", "flip": True, "smallest_crop": 0.7,
           "probe_share": 0.01}  # fmt: skip
SOURCE = "control: the best of the same encoder trained from scratch or untrained, and of the pixels, on the same 1 % of labels"
RECIPES = {
    "fashion-simclr": Recipe(
        "SimCLR on Fashion-MNIST, linear probe on 1 % of the labels",
        data="fashion_mnist", options={**FASHION, "model": "simclr"},
        metric="probe_gain", floor=0.0, source=SOURCE, minutes=25,
    ),
    "fashion-byol": Recipe(
        "BYOL on Fashion-MNIST, linear probe on 1 % of the labels",
        data="fashion_mnist", options={**FASHION, "model": "byol"},
        metric="probe_gain", floor=0.0, source=SOURCE, minutes=25,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Pictures as uint8 `(n, height, width, channels)` and, where there are labels, class indices, in three splits."""
    name, options = config.data or "digits", {"image_size": config.image_size}
    if about:
        *size, channels = about["image_shape"]
        options = {"image_size": tuple(size), "channels": channels}
    found = read_pictures(name, **options)
    splits, names, notes = as_examples(found), found.class_names, list(found.notes)
    if about:
        return of_trained(config, splits, {**about, "class_names": names, "labelled": bool(names)}, notes, name)
    train, validation, test = complete_splits(splits, config, notes)
    if not names:
        notes.append("without labels nothing is classified: probe_accuracy and knn_accuracy are NaN, the loss is what counts")
    pixels = train.x[:: max(1, len(train) // 5000)] / 255.0
    mean, deviation = pixels.mean((0, 1, 2)), np.maximum(pixels.std((0, 1, 2)), 1e-3)
    if config.architecture == "pilotnet":  # which takes pixels in 0..255
        mean, deviation = np.zeros_like(mean), np.full_like(deviation, 1 / 255)
    about = {
        "class_names": names,
        "labelled": bool(names),
        "image_shape": list(train.x.shape[1:]),
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
    }
    return Data(train, validation, test, about, notes, name, example=example_of(config.data, found))


def of_trained(config, splits, about, notes, name):
    """Other data, of whatever classes: as classifiers are fitted on the features, they need a part to be fitted on."""
    if "test" in splits and "train" in splits:
        return Data(splits["train"], None, splits["test"], about, notes, name)
    every = next(iter(splits.values()))
    fitted, test = split_indices(every.y, (0.5,), config.seed)
    notes.append(f"classifiers on the features are given labels of {len(fitted)} pictures, {len(test)} others are the test")
    return Data(every.subset(fitted), None, every.subset(test), about, notes, name)


def build_model(config, data):
    """Two views of each picture -> the encoder -> a projection that the loss compares."""
    from apps.common.training.optimizers import compile_model

    return compile_model(network(config, data.about), config, Examples(data.train.x))


def network(config, about):
    """The model that `--model` names, its encoder as image-classification builds it, standardised images its input."""
    from layers import models
    from layers.models.vision.small_cnn import filters_of

    encoder = {"name": config.architecture.replace("-", "_"), "mean": about["mean"], "deviation": about["deviation"]}
    encoder |= ARCHITECTURES[config.architecture]
    if config.architecture == "cnn":  # as deep as the pictures are large; its dense layer would forget what views do not share
        encoder |= {"name": "small_cnn", "filters": filters_of(about["image_shape"]), "dense_dim": None, "dropout": 0.0}
    options = {name: getattr(config, name) for name in ("projection_dim", "smallest_crop", "color", "flip")}
    if config.model == "simclr":
        return models.SimCLR(tuple(about["image_shape"]), encoder, temperature=config.temperature, **options)
    # The target moves with each batch, the network with each step of the optimizer, which may take several.
    decay = config.target_decay ** (1 / (config.accumulate * config.parts))
    return models.BYOL(tuple(about["image_shape"]), encoder, decay=decay, **options)


def on_epoch(model, epoch, tracker, data, config):
    """Accuracy on validation of classifiers on the features of a few labelled pictures."""
    from apps.common.reports.probe import labelled_sample, probe_metrics
    from apps.common.training.batches import predict_all

    if not data.about["labelled"]:
        return None
    chosen = labelled_sample(data.train.y, min(config.probe_share, MOST / len(data.train)), config.seed)
    validation = evenly(data.validation.x, MOST)
    features = predict_all(model, np.concatenate([data.train.x[chosen], validation]))
    few, others = np.split(features, [len(chosen)])
    found = probe_metrics(few, data.train.y[chosen], others, evenly(data.validation.y, MOST))
    return {f"val_{name}": value for name, value in found.items()}


def baselines(data, config):
    """The same classifiers on pixels and on the features of the encoder before training; the encoder from scratch."""
    return controls(data, config) if data.about["labelled"] else {}


@cached_by_data
def controls(data, config):
    """What the baselines reach, from which `evaluate` counts the gain."""
    from apps.common.reports.maps import pixels
    from apps.common.reports.probe import labelled_sample, probe_metrics
    from apps.common.training.batches import predict_all
    from layers import initialize

    chosen = labelled_sample(data.train.y, config.probe_share, config.seed)
    few, labels, test = data.train.x[chosen], data.train.y[chosen], data.test
    untrained = network(config, data.about)
    initialize(untrained, config.seed)
    features, others = predict_all(untrained, few), predict_all(untrained, test.x)
    found = {
        "majority": {"probe_accuracy": float(np.mean(test.y == np.bincount(labels).argmax()))},
        "pixels": probe_metrics(pixels(few), labels, pixels(test.x), test.y),
        "encoder untrained": probe_metrics(features, labels, others, test.y),
    }
    steps = int(STEPS * min(1, 28 * 28 / np.prod(few.shape[1:3])))
    if steps >= STEPS / 6:  # of larger pictures it would take minutes
        accuracy = from_scratch(untrained.encoder, (few, labels), data, config, steps)
        found["encoder from scratch"] = {"probe_accuracy": accuracy}
    return found


def from_scratch(encoder, labelled, data, config, steps):
    """Accuracy of the encoder trained with logits on the labelled pictures alone."""
    import keras

    from apps.common.reports.generated_images import scaled
    from apps.common.training.batches import Batches, predict_all
    from apps.common.training.fit import train_epochs
    from layers import Dense, initialize

    logits = Dense(len(data.about["class_names"]), dtype=keras.config.floatx(), name="logits")(encoder.output)
    model = keras.Model(encoder.inputs, logits)
    initialize(model, config.seed)
    model.compile(keras.optimizers.Adam(2e-3), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = Batches(Examples(scaled(labelled[0]), labelled[1]), 32, config.seed)
    epochs = min(60, max(1, steps // len(batches)))
    train_epochs(model, batches, seed=config.seed, epochs=epochs, accelerate=False)
    return float(np.mean(predict_all(model, scaled(data.test.x)).argmax(-1) == data.test.y))


def evaluate(model, data, config):
    """Classifiers on the features of the labelled share, and what the loss is; a map of the features."""
    from sklearn.metrics import confusion_matrix

    from apps.common import figures
    from apps.common.reports.maps import maps, neighbour_map, pixels
    from apps.common.reports.probe import labelled_sample, linear_probe, probe_metrics
    from apps.common.training.batches import predict_all

    names, test = data.about["class_names"], data.test
    others = predict_all(model, test.x)
    metrics = {"probe_accuracy": float("nan"), "knn_accuracy": float("nan"), "loss": loss_of(model, test.x, config)}
    sample = evenly_spaced(len(test), MOST)
    points = {"features (t-SNE)": neighbour_map(others[sample]), "pixels (t-SNE)": neighbour_map(pixels(test.x[sample]))}
    drawn = {"map": maps(points, test.y[sample], names), "views": views_of(model, evenly(test.x, 8), config)}
    if names:
        chosen = labelled_sample(data.train.y, config.probe_share, config.seed)
        labels, features = data.train.y[chosen], predict_all(model, data.train.x[chosen])
        metrics |= {"labels": len(chosen), **probe_metrics(features, labels, others, test.y)}
        matrix = confusion_matrix(test.y, linear_probe(features, labels, others), labels=range(len(names)))
        drawn["confusion"] = figures.confusion(matrix, names)
        best = max(each["probe_accuracy"] for each in controls(data, config).values())
        metrics["probe_gain"] = metrics["probe_accuracy"] - best
    return Report(metrics, drawn)


def loss_of(model, images, config):
    """The loss of up to a thousand pictures in whole batches, from views that are the same for a seed."""
    import keras

    from apps.common.training.callbacks import seed_states, set_seeds

    set_seeds(seed_states(model), config.seed, 0)
    images = evenly(images, MOST)
    size = min(config.batch_size, len(images))  # a whole batch at least, also where batches are larger than `MOST`
    count = len(images) // size
    batches = [images[first::count][:size] for first in range(count)]  # each of all classes, as in training
    losses = [model.compute_loss(x=keras.ops.convert_to_tensor(batch), training=False) for batch in batches]
    return float(np.mean([keras.ops.convert_to_numpy(loss) for loss in losses]))


def views_of(model, images, config):
    """Pictures over two views of each."""
    import keras

    from apps.common import figures
    from apps.common.training.callbacks import seed_states, set_seeds
    from layers.models.representation.simclr import two_views

    set_seeds(seed_states(model), config.seed, 0)
    views = keras.ops.convert_to_numpy(two_views(keras.ops.convert_to_tensor(images), model.views))
    views = np.rint(np.clip(views * 127.5 + 127.5, 0, 255)).astype("uint8")
    return figures.mosaic(np.concatenate([images, views]), len(images), names=["picture", "one view", "another"])


def predict(model, inputs, about):
    """The features of each picture."""
    from apps.common.training.batches import predict_all

    images, reasons = read_images(inputs, about["image_shape"])
    found = iter(predict_all(model, images) if len(images) else ())
    return [{"reason": reason} if reason else {"features": next(found)} for reason in reasons]


def compare_inputs(inputs, rows):
    """Which of the other pictures is the most like each, before its features as plain numbers."""
    from apps.common.reports.probe import most_alike

    good = [index for index, row in enumerate(rows) if "features" in row]
    nearest = most_alike(np.stack([rows[index]["features"] for index in good])) if len(good) > 1 else ()
    beside = {
        index: {"nearest": str(inputs[good[other]]), "similarity": round(float(cosine), 6)}
        for index, (other, cosine) in zip(good, nearest, strict=False)
    }
    for index, row in enumerate(rows):
        features = {"features": [float(f"{value:.6g}") for value in row["features"]]} if "features" in row else row
        yield {**beside.get(index, {}), **features}


if __name__ == "__main__":
    start(__spec__)
