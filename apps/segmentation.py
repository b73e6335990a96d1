"""Say of every pixel of a picture which class it is: road, car, cell.

    triptych train segmentation --recipe camvid-unet

Without --data: drawings of discs, squares and triangles, whose colours say nothing; two minutes on two cores, mean IoU above .55
(the most frequent class everywhere: .2).
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, complete_splits, evenly_spaced, find_data
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED, Unreadable, decode, read_header
from apps.common.data.images.drawn_masks import NAMES, draw_shapes
from apps.common.data.images.mask_classes import IGNORED, Classes, palette
from apps.common.data.images.masks import read_masked_pictures
from apps.common.data.images.moving import Moves, Moving
from apps.common.data.images.pixels import Pixels, count_pixels, median_frequency_weights
from apps.common.data.stored import Stored
from apps.common.errors import UserError
from apps.common.options.declare import option
from apps.common.options.files import NamedFiles
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe, Splitting, Transfer

MODELS = {"unet": {}, "residual-unet": {"block": "residual"}, "attention-unet": {"attention": True}}
METRIC = Metric("mean_iou")
INPUTS = Inputs("files", ENDINGS, NOT_DECODED)
DRAWINGS, SIZE = 800, 40


@dataclass(frozen=True)
class Config(Transfer, Splitting):
    libraries = ("keras:", "hf:")

    pretrained: str | None = option(
        None, "weights to begin with: a bundle (that of a classifier or of contrastive gives the way down), keras:NAME[=FILE] or "
        "hf:FOLDER of a ViT",
    )  # fmt: skip
    model: Literal[tuple(MODELS)] = option("unet", "architecture", search=tuple(MODELS))
    width: int = option(12, "channels at full size; they double with each step down", low=1, high=256, search=(8, 16, 32))
    depth: int = option(3, "steps down, each of which halves the picture", low=1, high=6, search=(2, 3, 4))
    loss: Literal["cross-entropy", "focal", "dice", "dice-cross-entropy"] = option(
        "dice-cross-entropy", "what is minimised", search=("cross-entropy", "focal", "dice-cross-entropy")
    )
    gamma: float = option(2.0, "how fast the focal loss leaves what is right", low=0, high=10, needs={"loss": "focal"})
    epochs: int | None = option(None, "passes over the training pictures; none: by their number, 12 to 100", low=1, high=100_000)
    learning_rate: float = option(3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(1e-4, 1e-1), log=True)
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "cosine", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    batch_size: int | None = option(None, "pictures a step; none: by their number, 4 or 8", low=1, high=65_536, search=(4, 8, 16))
    image_size: tuple[int, ...] | None = option(
        None, "height,width (or one side of a square) all pictures are resized to; else the size they share", low=1, high=4096
    )
    class_names: str = option("", "comma-separated names of the labels 0, 1, ...; else a list of classes in the folder")
    ignore: str | None = option(
        "auto", "label, colour (#rrggbb) or class whose pixels count nothing; auto: label 255, unless it is the white of greys"
    )
    flip: bool = option(False, "mirror half of the pictures")
    crop: float = option(0.0, "largest share of the sides cut away in training", low=0, high=0.9, search=(0.0, 0.5))
    scale: float = option(0.0, "largest factor, less one, by which pictures grow or shrink in training", low=0, high=3)
    shift: float = option(0.0, "largest share of the sides pictures are moved by in training", low=0, high=0.5)
    brightness: float = option(0.0, "largest share by which pictures get lighter or darker in training", low=0, high=0.9)

    def check(self):
        super().check()
        if self.image_size is not None and len(self.image_size) > 2:
            raise UserError(f"--image-size: expected height,width or one number. Received: {len(self.image_size)} numbers")
        if self.class_weights == "balanced" and self.loss == "dice":
            raise UserError("--class-weights balanced does nothing with --loss dice, which weighs classes alike: leave it out")


@dataclass(frozen=True)
class PredictOptions(NamedFiles):
    folder: str = option("masks", "where the masks and the pictures with masks over them go")
    tiles: Literal["auto", "yes", "no"] = option(
        "auto", "see a picture in overlapping tiles of the model's size; auto: unless training resized its pictures"
    )


CAMVID = "Sky,Building,Pole,Road,Pavement,Tree,SignSymbol,Fence,Car,Pedestrian,Bicyclist"
RECIPES = {
    "camvid-unet": Recipe(
        "U-Net on CamVid's road scenes, 11 classes, at half the size",
        data="camvid",
        options={"class_names": CAMVID, "ignore": "11", "image_size": (180, 240), "width": 16, "depth": 4, "flip": True,
                 "crop": 0.3, "brightness": 0.2, "loss": "dice-cross-entropy", "epochs": 40,
                 "learning_rate": 2e-3},
        metric="mean_iou", published=0.4716, tolerance=0.02, minutes=90,
        source="SegNet-Basic at 360 x 480, github.com/chainer/chainercv pull request 161",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Pictures uint8 `(n, height, width, 3)` and masks of class positions, in three splits; large ones lie on disk."""
    if config.data is None:
        pictures, masks = draw_shapes(DRAWINGS, SIZE, 0)
        classes = Classes(NAMES, tuple(range(len(NAMES))), False, None, tuple(palette(len(NAMES))))
        whole, splits, notes, resized, example = Examples(pictures, masks), [None] * len(masks), [], False, ""
    else:
        names = tuple(filter(None, map(str.strip, config.class_names.split(","))))
        size, known = (config.image_size * 2)[:2] if config.image_size else None, None
        if about:
            size, known = tuple(about["image_shape"][:2]), Classes.of_json(about)
        options = {"image_size": size, "class_names": names, "ignore": config.ignore, "classes": known}
        found = read_masked_pictures(find_data(config.data), **options)
        whole = (Stored if isinstance(found.images, np.memmap) else Examples)(found.images, found.masks)
        classes, splits, notes, resized = found.classes, found.splits, list(found.notes), found.resized
        example = shlex.quote(str(found.paths[splits.index("test") if "test" in splits else 0]))
    ones, source = np.ones(len(classes.names)), config.data or "shapes"
    splits = np.array([split or "train" for split in splits])
    if about:
        chosen = np.flatnonzero(splits == "test") if "test" in splits else np.arange(len(splits))
        return Data(None, None, Pixels(whole.subset(chosen), ones), about, notes, source)
    names = [name for name in ("train", "validation", "test") if name in splits]
    parts = {name: whole.subset(np.flatnonzero(splits == name)) for name in names}
    train, validation, test = complete_splits(parts, config, notes, stratify=False)
    weights = ones
    if config.class_weights == "balanced":
        weights = median_frequency_weights(train, len(ones))
    moves = Moves(config.flip, config.crop, config.scale, config.shift, config.brightness, empty=IGNORED)
    if moves != Moves(empty=IGNORED):
        train = Moving(train, moves, ("image", "mask"), config.seed)
    about = {**classes.to_json(), "image_shape": list(whole.x.shape[1:]), "resized": resized}
    return Data(Pixels(train, weights), Pixels(validation, ones), Pixels(test, ones), about, notes, source, example=example)


def settle(config, data):
    """Many passes in small batches over few pictures: of eight, 12 steps learn the background alone, 200 all classes."""
    return settled_steps(config, len(data.train), batches=((100, 4), (None, 8)), steps=800, epochs=(12, 100))


def build_model(config, data):
    """Pixels in 0..255 -> U-Net -> logits of every pixel."""
    import keras

    from apps.common.bundles.pretrained import note_layers
    from apps.common.training.optimizers import compile_model
    from apps.common.training.pixels import MeanIoU, PixelLoss
    from apps.common.training.trunk_maps import given_trunk
    from layers import models

    count, (*sides, channels) = len(data.about["class_names"]), data.about["image_shape"]
    strides = [2**level for level in range(config.depth + 1)]
    padded = (*(-(-side // strides[-1]) * strides[-1] for side in sides), channels)
    trunk = given_trunk(config.pretrained, "segmentation", padded, strides)
    options = {"width": config.width, "depth": config.depth, **MODELS[config.model]}
    model = models.unet(data.about["image_shape"], count, trunk=trunk and trunk.model, **options)
    metrics = [MeanIoU(count), keras.metrics.SparseCategoricalAccuracy(name="pixel_accuracy")]
    if trunk:
        note_layers(model, trunk.layers, config.pretrained, trunk.digest)
    loss, layers = PixelLoss(config.loss, config.gamma), trunk and trunk.layers
    return compile_model(model, config, data.train, loss=loss, metrics=metrics, trunk=layers)


def baselines(data, config):
    """The most frequent class everywhere, and a random forest on colour and place of single pixels, on sampled pixels."""
    from sklearn.ensemble import RandomForestClassifier

    from apps.common.reports.segmentation import scores

    count = len(data.about["class_names"])
    pixels, _ = count_pixels(data.train.examples, count)
    features, labels = _sampled_pixels(data.train, 30_000, config.seed)
    seen, truth = _sampled_pixels(data.test, 100_000, config.seed)
    forest = RandomForestClassifier(20, min_samples_leaf=5, random_state=config.seed).fit(features, labels)
    found = {"majority": np.full(len(truth), pixels.argmax()), "forest on colour and place": forest.predict(seen)}
    matrices = {name: np.bincount(count * truth + each, minlength=count**2).reshape(count, count) for name, each in found.items()}
    return {name: scores(matrix) for name, matrix in matrices.items()}


def _sampled_pixels(examples, count, seed):
    """`(red, green, blue, row, column, classes)` of pixels drawn from at most 300 pictures: features and int64 labels."""
    generator = np.random.default_rng([seed, 51])
    chosen = generator.permutation(len(examples))[:300]
    features, labels = [], []
    for index in chosen:
        pictures, masks, weights = examples.take(np.array([index]))
        rows, columns = np.nonzero(weights[0] > 0)
        some = generator.permutation(len(rows))[: -(-count // len(chosen))]
        rows, columns = rows[some], columns[some]
        features.append(np.column_stack([pictures[0, rows, columns], rows, columns]))
        labels.append(masks[0, rows, columns])
    return np.concatenate(features).astype("float32"), np.concatenate(labels).astype("int64")


def evaluate(model, data, config):
    """Intersection over union and accuracies from the confusion matrix of all pixels; truth and prediction side by side."""
    from apps.common.reports.segmentation import classes_of, confusion_of, segmentation_report, sheet

    names = data.about["class_names"]
    matrix = confusion_of(model, data.test, len(names), min(8, config.batch_size))
    metrics, tables, drawn = segmentation_report(matrix, names)
    sample = evenly_spaced(len(data.test), 6)
    pictures, truth, weights = data.test.take(sample)
    drawn["predictions"] = sheet(pictures, truth, classes_of(model, pictures), data.about, weights > 0)
    return Report(metrics, drawn, tables)


def predict(model, inputs, about, options=PredictOptions()):
    """For each picture a mask in the labels of training, the picture with it on top, and the share of each class."""
    from apps.common.reports.segmentation import mask_of, write_mask

    rows = []
    for path in map(Path, inputs):
        try:
            picture = decode(path, (*read_header(path)[0], 3))
        except Unreadable as reason:
            rows.append({"reason": f"not a readable image: {reason}"})
            continue
        mask = mask_of(model, picture, about, options.tiles)
        written = write_mask(options.folder, options.names.of(path), picture, mask, about)
        shares = np.bincount(mask.reshape(-1), minlength=len(about["class_names"])) / mask.size
        order = [place for place in np.argsort(-shares, kind="stable") if shares[place]]
        named = {about["class_names"][place]: float(shares[place]) for place in order}
        rows.append({"largest": next(iter(named)), "shares": named, "mask": str(written[0]), "overlay": str(written[1])})
    return rows


if __name__ == "__main__":
    start(__spec__)
