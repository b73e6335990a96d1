"""Find objects in pictures and draw boxes around them, from VOC, COCO, YOLO or LabelMe annotations.

    triptych train object-detection --data bccd --image-size 256 --epochs 25 --batch-size 8

takes five minutes on two cores and finds blood cells with a map50 of 0.72. Without `--data` it learns coloured shapes on
noise, in a minute or two, to a map50 of 0.92.
"""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, complete_splits, evenly_spaced, find_data
from apps.common.data.images.boxes import read_boxed_images
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED
from apps.common.data.images.labelled import read_images
from apps.common.data.images.moving import Moves, Moving
from apps.common.data.images.shapes import NAMES, drawn_shapes
from apps.common.errors import UserError, nearest
from apps.common.options.declare import option, refused
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe, Splitting, Transfer

RATES = {"ssd": 2e-3, "yolo": 2e-3, "detr": 1e-3}
# How far each move of `--augment` goes.
AUGMENTATIONS = {
    "flip": {"flip": True}, "crop": {"crop": 0.3}, "scale": {"scale": 0.3}, "shift": {"shift": 0.1},
    "brightness": {"brightness": 0.2},
}  # fmt: skip
# Of pictures of validation. By the map50 of two, an epoch a third of the way was chosen, .50 on test; the last had .80.
FEW = 10
CHECKED = 200  # pictures of validation that are looked at after each epoch

METRIC = Metric("map50")
INPUTS = Inputs("files", ENDINGS, NOT_DECODED)


@dataclass(frozen=True)
class Config(Transfer, Splitting):
    libraries = ("keras:", "hf:")

    pretrained: str | None = option(
        None, "weights to begin with: a bundle (that of a classifier or of contrastive gives the trunk), keras:NAME[=FILE] or "
        "hf:FOLDER of a ViT",
    )  # fmt: skip
    model: Literal["ssd", "yolo", "detr"] = option("ssd", "detector", search=("ssd", "yolo", "detr"))
    epochs: int | None = option(None, "passes over the training pictures; none: by their number, 15 to 80", low=1, high=100_000)
    batch_size: int | None = option(
        None, "pictures a step; none: by their number, 4 to 16", low=1, high=65_536, search=(8, 16, 32)
    )
    keep: Literal["best", "last"] | None = option(
        None, f"the epoch whose weights are kept; none: the best on validation, or the last with fewer than {FEW} pictures in it"
    )
    learning_rate: float | None = option(
        None, "step size (its peak, with a schedule): SSD and YOLO 0.002, DETR 0.001", above=0, high=100,
        search=(1e-4, 1e-2), log=True,
    )  # fmt: skip
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "one-cycle", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    width: int | None = option(
        None, "channels of the first maps: SSD and YOLO 16; of a token: DETR 64", low=4, high=1024, search=(16, 32, 64)
    )
    levels: int | None = option(
        None, "maps of the pyramid, the finest at stride 8: SSD 4, YOLO 3", low=1, high=6, needs={"model": ("ssd", "yolo")}
    )
    image_size: int | None = option(
        None, "longer side that pictures are resized to, a square where their shapes differ (256)", low=32, high=2048
    )
    augment: str = option(
        "flip,scale,shift", f"none, or comma-separated: {', '.join(AUGMENTATIONS)}; boxes move with their pictures",
        search=("none", "flip", "flip,scale,shift"),
    )  # fmt: skip
    class_weights: str = refused("none", "boxes of all classes count the same")

    def check(self):
        super().check()
        if self.model == "detr" and self.width is not None and self.width % 16:
            raise UserError(f"--width: expected a multiple of 16 with --model detr. Received: {self.width}")
        for name in self.moves():
            if name not in AUGMENTATIONS:
                raise UserError(f"--augment: unknown augmentation {name!r}. {nearest(name, AUGMENTATIONS)}")

    def moves(self):
        """The names in `--augment`."""
        return [name.strip() for name in self.augment.split(",") if name.strip() not in ("", "none")]


@dataclass(frozen=True)
class PredictOptions:
    folder: str = option("detections", "where the pictures with their boxes and detections.json (COCO) go")
    threshold: float = option(0.3, "least score of a box that is shown", low=0.02, high=1)


YOLOV8 = "IET Computer Vision 2025: a pretrained YOLOv8n reaches .924, split not stated; from scratch .75 is aimed at"
BCCD = {"image_size": 320, "epochs": 60, "batch_size": 8, "augment": "flip,crop,scale,shift,brightness"}
RECIPES = {
    f"bccd-detect-{model}": Recipe(
        f"{title} on BCCD (blood cells), from scratch",
        data="bccd", options={"model": model, **BCCD, **more},
        metric="map50", published=0.75, source=YOLOV8, minutes=minutes,
    )
    for model, title, minutes, more in (
        ("ssd", "SSD", 15, {}),
        ("yolo", "anchor-free YOLO-style detector", 15, {}),
        # By the map50 of 87 pictures the best epoch may be one half-way, whose boxes are coarse: map75 .38 of .57 at the end.
        ("detr", "DETR", 30, {"keep": "last"}),
    )
}  # fmt: skip


def load_data(config, about=None):
    """Pictures as uint8 `(n, height, width, 3)`; `{"boxes", "classes"}` of each, filled up to one length."""
    name, example = config.data or "shapes", ""
    if config.data is None or (config.data == "shapes" and not Path("shapes").exists()):
        found, names, notes = drawn_splits(config, about), list(NAMES), []
        if about and about["class_names"] != names:
            raise UserError(f"--data shapes: its classes are {', '.join(names)}, which this model was not trained on")
    else:
        size, known = (tuple(about["image_shape"][:2]), about["class_names"]) if about else (config.image_size, None)
        found, names, notes = read_boxed_images(find_data(name), image_size=size, class_names=known)
        shown = found.get("test") or next(iter(found.values()))
        example = shlex.quote(str(shown.paths[0]))
    splits = {key: Examples(part.images, {"boxes": part.boxes, "classes": part.classes}) for key, part in found.items()}
    if about:
        return Data(None, None, splits.get("test") or joined(splits.values()), about, notes, name, example=example)
    train, validation, test = complete_splits(splits, config, notes, stratify=False)
    about = {"class_names": names, "image_shape": list(train.x.shape[1:]), "most_boxes": int(train.y["boxes"].shape[1])}
    if config.moves():
        moves = Moves(**{key: value for move in config.moves() for key, value in AUGMENTATIONS[move].items()})
        train = Moving(train, moves, ("image", {"boxes": "boxes", "classes": None}), config.seed)
    return Data(train, validation, test, about, notes, name, example=example)


def drawn_splits(config, about):
    """The default data: coloured shapes on noise."""
    size = about["image_shape"][0] if about else config.image_size or 64
    return {
        split: drawn_shapes(count, size, seed)
        for split, count, seed in (("train", 600, 0), ("validation", 100, 1), ("test", 100, 2))
    }


def joined(splits):
    """All examples of several splits."""
    splits = list(splits)
    targets = {key: np.concatenate([each.y[key] for each in splits]) for key in ("boxes", "classes")}
    return Examples(np.concatenate([each.x for each in splits]), targets)


def settle(config, data):
    """Many passes over few pictures in small batches, some 570 steps, as of 15 epochs of the drawn shapes; which to keep."""
    batches = ((50, 4), (100, 8), (None, 16))
    config, why = settled_steps(config, len(data.train), batches=batches, steps=570, epochs=(15, 80))
    if config.keep is None:
        few = len(data.validation) < FEW and not config.early_stopping
        config = replace(config, keep="last" if few else "best")
        if few and not config.ema:
            last = f"the last epoch's weights, for {len(data.validation)} pictures of validation are too few to choose by"
            why = f"{why}; {last}" if why else last
    return config, why


def build_model(config, data):
    """uint8 pictures -> the detector, which owns its loss."""
    from apps.common.bundles.pretrained import note_layers
    from apps.common.training.optimizers import compile_model
    from apps.common.training.trunk_maps import given_trunk
    from layers import models

    shape, num_classes = tuple(data.about["image_shape"]), len(data.about["class_names"])
    options = {} if config.width is None else {"width": config.width}
    levels = config.levels or {"ssd": 4, "yolo": 3, "detr": 2}[config.model]
    trunk = given_trunk(config.pretrained, "object-detection", shape, (8, 16, 32)[:levels])
    options |= {"trunk": trunk.model} if trunk else {}
    if config.model == "detr":
        # Each true box is matched with a query of its own.
        most = data.about["most_boxes"]
        model = models.DETR(shape, num_classes, sizes={"num_queries": max(40, most + 10)}, **options)
        if model.num_queries < most:
            few = f"DETR has one query a cell, {model.num_queries} in pictures of {shape[1]} x {shape[0]}, but up to {most} boxes"
            raise UserError(f"--image-size: {few} must be matched; give larger pictures, or another --model")
    else:
        options |= {} if config.levels is None else {"num_levels": config.levels}
        model = {"ssd": models.SSD, "yolo": models.YOLO}[config.model](shape, num_classes, **options)
    config = replace(config, learning_rate=config.learning_rate or RATES[config.model])
    if trunk:
        note_layers(model, trunk.layers, config.pretrained, trunk.digest)
    return compile_model(model, config, data.train, trunk=trunk and trunk.layers)


def on_epoch(model, epoch, tracker, data, config):
    """Average precision on a sample of validation."""
    from apps.common.reports.boxes import coco_evaluation, detect_all

    chosen = evenly_spaced(len(data.validation), CHECKED)
    held = data.validation.subset(chosen)
    metrics, _, _ = coco_evaluation(detect_all(model, held.x), held.y, data.about["class_names"], held.x.shape[1:3])
    return {f"val_{name}": value for name, value in metrics.items()}


def baselines(data, config):
    """The mean box of each class in every picture, as likely as the class is."""
    from apps.common.reports.boxes import coco_evaluation

    names, boxes, classes = data.about["class_names"], data.train.y["boxes"], data.train.y["classes"]
    share = [float(np.any(classes == index, axis=1).mean()) for index in range(len(names))]
    mean = np.stack([boxes[classes == index].mean(0) if share[index] else np.zeros(4) for index in range(len(names))])
    count = len(data.test)
    found = {
        "boxes": np.tile(mean, (count, 1, 1)),
        "scores": np.tile(share, (count, 1)),
        "classes": np.tile(np.arange(len(names)), (count, 1)),
    }
    return {"mean boxes": coco_evaluation(found, data.test.y, names, data.test.x.shape[1:3])[0]}


def evaluate(model, data, config):
    """COCO's average precision on test, per class too; pictures with boxes true and found, precision over recall."""
    from apps.common.reports.boxes import detect_all, detection_report

    return Report(*detection_report(detect_all(model, data.test.x), data.test, data.about["class_names"]))


def predict(model, inputs, about, options=PredictOptions()):
    """The boxes in each picture; pictures with the boxes drawn and a COCO file go to `--folder`."""
    from apps.common.reports.boxes import Folder, detect_all, draw_found, found_rows, upright_picture

    names = about["class_names"]
    images, reasons = read_images(inputs, about["image_shape"])
    folder = Folder(options.folder, names)
    found = detect_all(model, images) if len(images) else {}
    rows, read = [], 0
    for path, reason in zip(inputs, reasons, strict=True):
        if reason:
            rows.append({"reason": reason})
            continue
        own = {key: value[read] for key, value in found.items()}
        read += 1
        picture, size = upright_picture(Path(path))
        shown, annotations = found_rows(own, names, size, options.threshold)
        drawn = folder.add(path, draw_found(picture, own, names, options.threshold), size, annotations)
        rows.append({"boxes": shown, "picture": str(drawn)})
    folder.write()
    return rows


if __name__ == "__main__":
    start(__spec__)
