"""Classify images into the classes their folders name.

    triptych train image-classification --data PICTURES --pretrained keras:MobileNetV2 --freeze

begins with a network trained before, also `hf:FOLDER` (a vision transformer of Hugging Face's), `tfhub:FOLDER` (a SavedModel of
TensorFlow's, on TensorFlow or, frozen, on any backend) or a bundle trained here.
"""

import hashlib
import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import (
    About,
    Data,
    Examples,
    Report,
    balanced,
    class_weights,
    complete_splits,
    evenly_spaced,
    find_data,
)
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED
from apps.common.data.images.labelled import named_images, only_classes, read_images, read_labelled_images
from apps.common.data.images.unlabelled import example_of
from apps.common.errors import UserError, nearest
from apps.common.options.declare import is_active, option, options_of
from apps.common.options.settle import settled_steps
from apps.common.options.training import Activation, Recipe, Splitting, Transfer

# Where an architecture's own default is the large published form, the small one that suits images of 28 pixels.
MODELS = {
    "cnn": {"dense_dim": 128}, "small-cnn": {}, "perceptron": {"unit": "sigmoid"}, "mlp": {}, "lenet": {}, "alexnet": {},
    "vgg": {"depth": 11}, "resnet": {"depth": 20}, "mobilenet": {}, "efficientnet": {}, "vit": {"width": 96, "depth": 6},
    "cell-network": {},
}  # fmt: skip
SHAPING = ("hidden_dims", "activation", "dropout", "batch_norm", "skip", "depth", "width", "patch_size", "cell")
AUGMENTATIONS = {
    "flip": "RandomFlip", "shift": "RandomShift", "crop": "RandomCrop", "rotation": "RandomRotation", "cutout": "Cutout",
    "color": "RandomColor", "mixup": "Mixup",
}  # fmt: skip
OPERATIONS = ("conv3", "separable3", "conv1", "max3", "average3", "identity")
# Operation and source of each of the two edges of a cell's nodes; a source is an earlier node, 0 the cell's input.
CELLS = [choices for node in range(1, 5) for _ in range(2) for choices in (OPERATIONS, tuple(map(str, range(node))))]
CELL = "conv3,0,identity,0,separable3,1,identity,0,conv3,2,max3,0,separable3,3,identity,1"

METRIC = Metric("accuracy")
INPUTS = Inputs("files", ENDINGS, NOT_DECODED)


@dataclass(frozen=True)
class Config(Transfer, Splitting):
    libraries = ("keras:", "hf:", "tfhub:")

    pretrained: str | None = option(
        None, "weights to begin with: a bundle folder, a run id, name@alias, keras:NAME[=FILE], hf:FOLDER or tfhub:PATH_OR_URL"
    )
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "cosine", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    epochs: int | None = option(None, "passes over the training pictures; none: by their number, 10 to 40", low=1, high=100_000)
    batch_size: int | None = option(
        None, "pictures a step; none: by their number, 16 to 64", low=1, high=65_536, search=(16, 32, 64, 128, 256)
    )
    model: Literal[("auto", *MODELS)] = option(
        "auto", "architecture; auto: cnn, as deep as the pictures are large", search=("cnn", "lenet", "resnet")
    )
    loss: Literal["cross-entropy", "hinge", "mse", "mae", "huber"] = option("cross-entropy", "what is minimised")
    label_smoothing: float = option(
        0.0, "share of the target spread over all classes", low=0, high=0.9, search=(0.0, 0.2), needs={"loss": "cross-entropy"}
    )
    dropout: float = option(
        0.2, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.5),
        needs={"model": ("auto", "cnn", "small-cnn", "mlp", "lenet", "alexnet", "vgg", "mobilenet", "efficientnet", "vit",
                         "cell-network")},
    )  # fmt: skip
    activation: Activation = option("relu", "of the hidden units", needs={"model": ("mlp", "lenet")})
    hidden_dims: tuple[int, ...] = option((256, 128, 100), "widths of the hidden layers", low=1, needs={"model": "mlp"})
    batch_norm: bool = option(
        True, "batch normalization after each hidden layer", needs={"model": ("auto", "cnn", "small-cnn", "mlp", "vgg")}
    )
    skip: bool = option(False, "skip connections between hidden layers of one width", needs={"model": "mlp"})
    depth: int | None = option(
        None, "layers: ResNet 18, 34, 50, 20, 32, 56 (default 20); VGG 11, 13, 16, 19 (11); ViT any (6); cells a stage (1)",
        low=1, needs={"model": ("resnet", "vgg", "vit", "cell-network")},
    )  # fmt: skip
    width: int | None = option(
        None, "channels of the first stage: ResNet (its own), VGG (64), AlexNet (96), ViT (96), cells (16)", low=4,
        needs={"model": ("resnet", "vgg", "alexnet", "vit", "cell-network")},
    )  # fmt: skip
    patch_size: int = option(4, "side of a patch in pixels", low=1, needs={"model": "vit"})
    cell: str = option(
        CELL, "operation,source,operation,source of each node of the repeated cell", search=CELLS,
        needs={"model": "cell-network"},
    )  # fmt: skip
    augment_with: str | None = option(None, "bundle of image-generation whose pictures of each class are added to the training")
    augment_times: float = option(
        1.0, "generated pictures to each of your own", above=0, high=1000, needs={"augment_with": lambda value: value is not None}
    )
    augment: str = option("none", f"comma-separated, of: {', '.join(AUGMENTATIONS)}", search=("none", "shift", "flip,shift"))
    classes: str = option("", "comma-separated names of the classes to tell apart; the pictures of all others are left out")
    renewed: int = option(
        0, "layers of the bundle, counted back from its logits, that begin anew as well", low=0, needs={"pretrained": bool}
    )
    image_size: int | None = option(None, "side every image is resized to; else the side they share", low=4, high=2048)

    def check(self):
        super().check()
        for name in filter(None, self.augment.replace("none", "").split(",")):
            if name.strip() not in AUGMENTATIONS:
                raise UserError(f"--augment: unknown augmentation {name!r}. {nearest(name, AUGMENTATIONS)}")
        if self.library == "tfhub:" and self.freeze and self.augment != "none":
            raise UserError("--augment: the features of a SavedModel that is not trained are computed once; leave it out")
        if self.library == "tfhub:" and self.freeze and self.augment_with:
            raise UserError("--augment-with: the features of a SavedModel that is not trained are of your pictures; leave it out")
        if self.library and self.renewed:
            raise UserError("--renewed: all that is new of a --pretrained network of another library is its logits; leave it out")
        if self.library and self.model != "auto":
            raise UserError(f"--model {self.model}: the network is that of --pretrained {self.pretrained}; leave --model out")


FASHION = "github.com/zalandoresearch/fashion-mnist, benchmark table"
RECIPES = {
    "fashion-mlp": Recipe(
        "MLP 256-128-100 on Fashion-MNIST",
        data="fashion_mnist",
        options={"keep": "last",
                 "model": "mlp", "batch_norm": False, "dropout": 0.2, "epochs": 20, "batch_size": 256, "schedule": "cosine"},
        metric="accuracy", published=0.8833, tolerance=0.005, source=FASHION, minutes=1, seeds=3,
    ),
    "fashion-small-cnn": Recipe(
        "two convolutions, under 100K parameters, on Fashion-MNIST",
        data="fashion_mnist",
        options={"keep": "last",
                 "model": "small-cnn", "epochs": 15, "batch_size": 128, "schedule": "one-cycle", "learning_rate": 0.005,
                 "augment": "flip", "dropout": 0.1},
        metric="accuracy", published=0.925, tolerance=0.006, source=FASHION, minutes=6, seeds=1,
    ),
    "mnist-lenet": Recipe(
        "LeNet-5 on MNIST",
        data="mnist",
        options={"keep": "last",
                 "model": "lenet", "activation": "tanh", "dropout": 0.0, "epochs": 20, "batch_size": 128,
                 "schedule": "cosine", "learning_rate": 0.002, "augment": "shift"},
        metric="error", published=0.0095, tolerance=0.0015, lower_is_better=True, seeds=1,
        source="LeCun et al., 1998 (quoted from memory)", minutes=4,
    ),
    "cifar-resnet20": Recipe(
        "ResNet-20 on CIFAR-10, mirrored and moved, for an accelerator",
        data="cifar10_jpg",
        options={"keep": "last", "model": "resnet", "depth": 20, "epochs": 100, "batch_size": 128, "optimizer": "nesterov",
                 "learning_rate": 0.1, "schedule": "cosine", "warmup": 0.05, "l2": 1e-4, "augment": "flip,shift"},
        metric="accuracy", published=0.9125, tolerance=0.01, minutes=10, seeds=1,
        source="He et al., 2016, arXiv 1512.03385, table 6",
    ),
    "mnist-transfer": Recipe(
        "two convolutions trained on the digits 0-4 of MNIST and frozen, a new head for 5-9",
        data="mnist",
        first={"keep": "last", "classes": "0,1,2,3,4", "epochs": 5},
        options={"keep": "last", "classes": "5,6,7,8,9", "epochs": 5, "freeze": True, "renewed": 1},
        metric="accuracy", published=0.992, tolerance=0.003,
        source="keras-team/keras, examples/mnist_transfer_cnn.py (.998 for 0-4)", minutes=5, seeds=1,
    ),
    "pneumonia-resnet": Recipe(
        "ResNet-18, a quarter wide, on PneumoniaMNIST at 28 pixels, against logistic regression",
        data="pneumoniamnist",
        options={"keep": "last",
                 "model": "resnet", "depth": 18, "width": 16, "epochs": 8, "batch_size": 64, "schedule": "one-cycle",
                 "augment": "shift"},
        metric="auc", control={"model": "perceptron", "epochs": 20, "batch_size": 64},
        source="control: logistic regression on the pixels",
        minutes=4, seeds=1,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Images as uint8 `(n, height, width, channels)` and class indices, in three splits."""
    from apps.common.bundles.saved_model import FILE, content_of, with_features

    name = config.data or "digits"
    options, white = {"image_size": config.image_size}, None
    if about:
        *size, channels = about["image_shape"]
        options = {"image_size": tuple(size), "channels": channels, "class_names": about["class_names"]}
        white = about.get("white")
    found = named_images(name, **options) or read_labelled_images(find_data(name), **options, white=white)
    chosen = [name.strip() for name in config.classes.split(",") if name.strip()]
    if chosen and not about:
        found = only_classes(found, chosen)
    splits = {key: Examples(part.images, part.labels) for key, part in found.splits.items()}
    notes, names = list(found.notes), found.class_names
    if about:
        chosen = [splits["test"]] if "test" in splits else list(splits.values())
        test = Examples(np.concatenate([part.x for part in chosen]), np.concatenate([part.y for part in chosen]))
        return Data(None, None, test, about, notes, name)
    train, validation, test = complete_splits(splits, config, notes)
    pixels = train.x[:: max(1, len(train) // 5000)] / 255.0
    about = {
        "class_names": names,
        "image_shape": list(train.x.shape[1:]),
        "mean": pixels.mean((0, 1, 2)).tolist(),
        "deviation": np.maximum(pixels.std((0, 1, 2)), 1e-3).tolist(),
    }
    if found.white:
        about["white"] = found.white
    if config.class_weights == "balanced":
        train = balanced(train, names)
    content = content_of(config.pretrained)
    if content:
        about = About({**about, "saved_model": hashlib.sha256(content).hexdigest()[:24]}, {FILE: content})
    if content and config.freeze:
        what = f"--pretrained {config.pretrained}"
        train, validation, test = (with_features(content, part, what) for part in (train, validation, test))
    return Data(train, validation, test, about, notes, name, example_of(config.data, found))


def more_examples(data, config):
    """The training examples and, with `--augment-with`, pictures that a generator draws of their classes."""
    if not config.augment_with:
        return data
    from apps.common.reports.added_pictures import seen_by_generator, with_generated

    train, note = with_generated(data, config.augment_with, config.augment_times, config.seed)
    if config.class_weights == "balanced":
        train = replace(train, weight=class_weights(train.y, len(data.about["class_names"])))
    remarks = [*data.remarks, *seen_by_generator(data, config.augment_with)]
    return replace(data, train=train, notes=[*data.notes, note], remarks=remarks)


def settle(config, data):
    """The network by the pictures' size, the steps by their number; many passes over few pictures."""
    config, steps = settled_steps(
        config, len(data.train), batches=((1_000, 16), (5_000, 32), (None, 64)), steps=1_000, epochs=(10, 40)
    )
    if config.model != "auto":
        return config, steps
    if config.library:
        return config, steps
    if config.pretrained:  # its weights fit its own architecture
        from apps.common.bundles.bundle import open_bundle

        given = open_bundle(config.pretrained).options
        named = next((given[key] for key in ("model", "architecture") if given.get(key) in MODELS), "cnn")
        why = f"{named}, the architecture of --pretrained"
        return replace(config, model=named), f"{why}; {steps}" if steps else why
    from layers.models.vision.small_cnn import filters_of

    height, width, _ = data.about["image_shape"]
    why = f"cnn with {len(filters_of((height, width)))} convolutions, by the pictures' size ({height} by {width} pixels)"
    return replace(config, model="cnn"), f"{why}; {steps}" if steps else why


def build_model(config, data):
    """uint8 images -> standardised -> augmented (in training only) -> the network -> logits; or features -> logits."""
    import keras

    import layers
    from apps.common.bundles.pretrained import note_trunk
    from apps.common.bundles.saved_model import Featured
    from apps.common.training.given_classifier import given_classifier
    from apps.common.training.losses import OneHotLoss, accuracy
    from apps.common.training.optimizers import compile_model

    names, shape = data.about["class_names"], tuple(data.about["image_shape"])
    given = given_classifier(config, data)
    chosen = [name.strip() for name in config.augment.split(",")]
    if isinstance(data.train, Featured):
        inputs = x = keras.Input(data.train.features.shape[1:], name="features")
    else:
        mean, deviation = np.array(data.about["mean"]), np.array(data.about["deviation"])
        inputs = keras.Input(shape, name="pixels", dtype="uint8")
        scale = (1 / (255 * deviation)).tolist()
        x = keras.layers.Rescaling(scale, (-mean / deviation).tolist(), name="standardise")(inputs)
    for name, layer in AUGMENTATIONS.items():
        if name in chosen:
            x = getattr(layers, layer)(seed=config.seed)(x)
    classifier = given.model if given else network(config, shape, len(names))
    model = (layers.MixupModel if "mixup" in chosen else keras.Model)(inputs, classifier(x))
    loss = OneHotLoss(config.loss, len(names), config.label_smoothing)
    if given:
        note_trunk(model, config.pretrained, given.digest)
    return compile_model(model, config, data.train, loss=loss, metrics=[accuracy()], trunk=given and given.trunk)


def network(config, shape, num_classes):
    """The architecture that `--model` names, from standardised images to logits."""
    from layers import models
    from layers.models.vision.small_cnn import filters_of

    known, options = options_of(Config), {name: getattr(config, name) for name in SHAPING}
    given = {name: value for name, value in options.items() if value is not None and is_active(config, known[name])}
    model = "cnn" if config.model == "auto" else config.model
    if model == "cnn":  # its pools halve a picture until about four pixels a side are left
        given |= {"filters": filters_of(shape)}
    if model == "small-cnn" and (stages := halvings(shape)) > 2:
        # Two pools leave a large picture large: its dense layer would be nearly all of the network, and learn nothing.
        given |= {"filters": (32, *[64] * (stages - 1)), "dense_dim": 64}
    build = getattr(models, {"lenet": "lenet5", "cnn": "small_cnn"}.get(model, model.replace("-", "_")))
    return build(shape, num_classes, **{**MODELS[model], **given})


def baselines(data, config):
    """The commonest class; a random forest on pixels shrunk to 16 by 16, at most 5,000 pictures."""
    from sklearn.ensemble import RandomForestClassifier

    from apps.common.reports.baselines import class_shares, fitted_classes, some_rows

    train, test, count = data.train, data.test, len(data.about["class_names"])
    chosen = train.subset(some_rows(len(train), 5000, config.seed))
    forest = RandomForestClassifier(100, random_state=config.seed, n_jobs=-1)
    shrunk = (shrunk_pixels(chosen.x), chosen.y), (shrunk_pixels(test.x), test.y)
    return {
        "majority": class_shares(train.y, test.y, count),
        "random forest on 16 by 16 pixels": fitted_classes(forest, *shrunk, count),
    }


def shrunk_pixels(images, side=16):
    """Means of blocks of pixels, at most `side` by `side` of them, as rows; smaller images stay as they are."""
    height, width = (-(-length // side) for length in images.shape[1:3])
    images = images[:, : images.shape[1] // height * height, : images.shape[2] // width * width]
    rows, columns = images.shape[1] // height, images.shape[2] // width
    blocks = images.reshape(len(images), rows, height, columns, width, images.shape[3])
    return blocks.mean((2, 4), dtype="float32").reshape(len(images), -1)


def halvings(shape):
    """How often a picture is halved until about eight pixels a side are left."""
    return max(2, round(math.log2(min(shape[:2]) / 8)))


def evaluate(model, data, config):
    """Accuracy, F1, AUC and calibration on test; confusion, worst mistakes and where the network looked."""
    import keras

    from apps.common import figures
    from apps.common.reports.classification import classification_report, softmax
    from apps.common.reports.explain import grad_cam, worst_mistakes
    from apps.common.training.given_classifier import scores

    names, labels = data.about["class_names"], data.test.y
    images = getattr(data.test, "images", data.test.x)
    probabilities = softmax(scores(model, images, data.about))
    metrics, tables, drawn = classification_report(probabilities, labels, names)
    predicted = probabilities.argmax(1)
    if (predicted != labels).any():
        drawn["worst-mistakes"] = worst_mistakes(images, probabilities, labels, names)
    if getattr(data.about, "files", {}):
        return Report(metrics, drawn, tables)
    sample = evenly_spaced(len(images), 12)
    standardise = model.get_layer("standardise")
    heat = grad_cam(model.layers[-1], keras.ops.convert_to_numpy(standardise(images[sample])), predicted[sample])
    if heat is not None:
        drawn["grad-cam"] = figures.image_grid(images[sample], [names[i] for i in predicted[sample]], overlays=heat)
    return Report(metrics, drawn, tables)


def predict(model, inputs, about):
    """The class and the probabilities of each image file, or why it cannot be read."""
    from apps.common.reports.classification import class_prediction, softmax
    from apps.common.training.given_classifier import scores

    images, reasons = read_images(inputs, about["image_shape"], about.get("white"))
    found = iter(class_prediction(softmax(scores(model, images, about)), about["class_names"]) if len(images) else ())
    return [{"reason": reason} if reason else next(found) for reason in reasons]


if __name__ == "__main__":
    start(__spec__)
