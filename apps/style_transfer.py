"""Repaint pictures in the style of another by a network that was trained for this style.

    triptych train style-transfer --style painting.jpg
    triptych predict MODEL holiday.jpg --folder restyled
    triptych predict MODEL holiday.jpg --optimise 200           by its pixels, as Gatys et al.: slower, nearer to the picture

What style and content are is measured by the features of a network that is given (`--features`): by default a small one of three
convolutions that is trained at once to tell regions of scikit-learn's two photographs (scikit-image's too would be one more
dependency); or an image classifier trained here, or VGG with its weights in a file (`keras:VGG19=FILE`), as in the paper.
Without options it paints waves into these photographs, two minutes on one core, and their outlines stay: style loss .083 and
content loss .63; of 100 steps of optimising the pixels, which the report remarks, .079 and .20; of the untouched picture .35, 0.
"""

import functools
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import About, Data, Examples, Report, evenly_spaced, find_data
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.files import NamedFiles
from apps.common.options.training import Training

# The epoch is chosen by the whole objective: style alone is best where nothing of the picture is left.
CONTROLLED = 8  # squares, at most, whose pixels are optimised one by one beside the network
METRIC = Metric("style_loss", higher_is_better=False, monitor="val_loss")
INPUTS = Inputs("files", ENDINGS, NOT_DECODED)


@dataclass(frozen=True)
class Config(Training):
    style: str | None = option(None, "the picture whose style is taken on; without it a drawn pattern of waves")
    features: str = option(
        "textures", "whose features measure: textures (a small network trained at once), random (the same, untrained), "
        "a bundle of image-classification, or keras:VGG19=FILE"
    )  # fmt: skip
    epochs: int = option(20, "passes over the training data", low=1, high=100_000)
    batch_size: int = option(2, "examples a step", low=1, high=65_536, search=(1, 2, 4))
    learning_rate: float = option(
        3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(5e-4, 5e-3), log=True
    )  # fmt: skip
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "cosine", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    picture_size: int = option(427, "pixels that the shorter side of a picture is made smaller to", low=8, high=4096)
    image_size: int = option(96, "side of the squares that are trained on, a multiple of 4", low=8, high=1024)
    patches: int = option(200, "squares cut out of the training pictures each epoch", low=1, high=10_000_000)
    width: int = option(8, "filters of the network at full size (32 in the paper)", low=2, high=256, search=(8, 16, 32))
    depth: int = option(2, "residual blocks (5 in the paper)", low=1, high=64, search=(2, 3, 5))
    skip: bool = option(True, "the picture itself is added at the end, where the paper's network paints it anew")
    content_weight: float = option(3.0, "what keeping the picture counts", low=0, high=1e6, search=(1.0, 10.0), log=True)
    style_weight: float = option(10.0, "what taking on the style counts", low=0, high=1e6, search=(3.0, 30.0), log=True)
    smooth_weight: float = option(0.1, "what being smooth counts", low=0, high=1e6, search=(0.001, 0.1), log=True)
    optimised_steps: int = option(
        100, "steps of optimising the pixels themselves, the control beside the network; 0 for none", low=0, high=10_000
    )
    class_weights: str = refused("none", "there are no classes")

    def check(self):
        super().check()
        if self.image_size % 4 or self.image_size > self.picture_size:
            raise UserError(
                f"--image-size {self.image_size}: expected a multiple of 4, at most --picture-size {self.picture_size}"
            )


@dataclass(frozen=True)
class PredictOptions(NamedFiles):
    folder: str = option("restyled", "where the PNG files go")
    size: int = option(512, "pixels that the longer side of a picture is made smaller to", low=8, high=4096)
    optimise: int = option(
        0, "steps of optimising the picture's own pixels (Gatys), in the place of the network; 100 show the style; 0 for none",
        low=0, high=100_000,
    )  # fmt: skip


RECIPES = {}


def load_data(config, about=None):
    """Squares cut at random out of pictures to train on, squares side by side for the test; uint8, without targets."""
    import numpy as np

    from apps.common.data.fingerprint import digest
    from apps.common.data.images.pictures import (
        Patches,
        as_png,
        photographs,
        read_pictures,
        smaller,
        split_pictures,
        spread_squares,
    )

    side, largest = (about["image_size"], about["picture_size"]) if about else (config.image_size, config.picture_size)
    splits, notes = read_pictures(find_data(config.data), smallest=side) if config.data else ({"train": photographs()}, [])
    splits = {name: [smaller(picture, largest) for picture in part] for name, part in splits.items()}

    def squares(pictures):
        refuse_small(pictures, side)
        return Examples(np.concatenate([spread_squares(picture.pixels, side) for picture in pictures]))

    if about:
        test = splits.get("test") or [picture for part in splits.values() for picture in part]
        return Data(None, None, squares(test), about, notes, config.data)
    style = style_picture(config, notes)
    train, held, test = split_pictures(splits, config.seed, notes)
    refuse_small(train, side)
    drawn = Patches([(picture.pixels,) for picture in train], side, config.patches, config.seed)
    facts = {"image_size": side, "picture_size": largest, "style": config.style or "waves", "style_digest": digest(style)}
    example = shlex.quote(str(test[0].path))
    about = About(facts, {"style.png": as_png(style)})
    return Data(drawn, squares(held), squares(test), about, notes, config.data or "photographs", example)


def style_picture(config, notes):
    """The picture whose style is taken on, its shorter side at most `--picture-size`; a line to `notes` where it is dark."""
    from apps.common.data.images.decoding import Unreadable, dark_notes
    from apps.common.data.images.pictures import Picture, drawn_waves, read_picture, smaller

    if config.style is None:
        return drawn_waves(config.seed, max(128, config.image_size))
    path = find_data(config.style)
    if not Path(path).is_file():
        raise UserError(f"--style {config.style}: expected a picture, this is a folder")
    try:
        style = smaller(Picture(path.name, path, read_picture(path)), config.picture_size)
    except Unreadable as reason:
        raise UserError(f"--style {config.style}: not a readable picture ({reason}); give another") from None
    refuse_small([style], config.image_size)
    notes += [f"--style: {note}" for note in dark_notes([path])]
    return style.pixels


def refuse_small(pictures, side):
    """Squares must fit into every picture or tile that they are cut from."""
    for picture in pictures:
        height, width = picture.pixels.shape[:2]
        if min(height, width) < side:
            raise UserError(
                f"{picture.name}: {width} x {height} pixels, but squares of {side} are cut out; give larger pictures or a "
                "smaller --image-size"
            )


def build_model(config, data):
    """Pixels in 0..255 -> repainted pixels; the losses each in units of what an untouched picture or the bare style has."""
    from apps.common.data.images.pictures import from_png, spread_squares
    from apps.common.training.feature_maps import given_features
    from apps.common.training.optimizers import compile_model
    from apps.common.training.restyling import levelled, loss_units
    from layers.models import StyleTransfer

    side = config.image_size
    style = spread_squares(from_png(data.about.files["style.png"]), side, 3)
    pictures = data.train.take(range(min(16, len(data.train))))[0]
    features = levelled(given_features(config.features, (side, side, 3)), pictures, style)
    content_maps = (min(2, len(features.outputs) - 1),)  # the first are the pixels
    units = loss_units(features, pictures, style, content_maps)
    wanted = (config.content_weight, config.style_weight, config.smooth_weight)
    weights = [weight / unit for weight, unit in zip(wanted, units, strict=True)]
    sizes = {"width": config.width, "depth": config.depth, "skip": config.skip}
    model = StyleTransfer((side, side, 3), features, content_maps=content_maps, weights=weights, **sizes)
    model = compile_model(model, config, data.train)
    model.set_style(style)
    return model


def evaluate(model, data, config):
    """Style and content loss of the test squares, beside untouched squares and pixels that were optimised one by one."""

    from apps.common.reports.pictures import side_by_side
    from apps.common.training.batches import predict_all
    from apps.common.training.restyling import as_pixels, mean_losses, optimised_pixels

    squares = data.test.x
    restyled = predict_all(model, squares, 16)
    chosen = evenly_spaced(len(squares), CONTROLLED)
    made = {"untouched": squares[chosen], "network": restyled[chosen]}
    if config.optimised_steps:
        made["optimised"] = optimised_pixels(model, squares[chosen], config.optimised_steps)
    rows = [{"method": name, **mean_losses(model, squares[chosen], pictures)} for name, pictures in made.items()]
    metrics = mean_losses(model, squares, restyled)
    for row in rows:
        if row["method"] != "network":
            metrics |= {f"{name}_{row['method']}": row[name] for name in ("style_loss", "content_loss")}
    columns = [[style_square(data)] * len(chosen[:5]), *(as_pixels(pictures[:5]) for pictures in made.values())]
    figure = side_by_side(columns, ["style", "picture", *list(made)[1:]])
    return Report(metrics, {"restyled": figure}, {"control": rows}, control_remarks(rows, config.optimised_steps))


def control_remarks(rows, steps):
    """A line where the pixels that were optimised have less of both losses than what the network paints, on the same squares."""
    found = {row["method"]: row for row in rows}
    ours, control = found["network"], found.get("optimised")
    if not control or any(control[name] >= ours[name] for name in ("style_loss", "content_loss")):
        return []
    losses = " and ".join(f"{control[name]:.3g} of {name} (network {ours[name]:.3g})" for name in ("style_loss", "content_loss"))
    return [f"{steps} steps of optimising the pixels come to {losses}; predict --optimise {steps} does the same, more slowly"]


def style_square(data):
    """A square of the style, of the size that is trained on."""
    from apps.common.data.images.pictures import from_png, spread_squares

    return spread_squares(from_png(data.about.files["style.png"]), data.about["image_size"], 1)[0]


def predict(model, inputs, about, options=PredictOptions()):
    """A PNG file of each picture repainted, or why it cannot be read."""
    from apps.common.data.images.decoding import Unreadable
    from apps.common.data.images.pictures import read_picture
    from apps.common.reports.drawn_files import write_images
    from apps.common.training.restyling import AnySize, Restyler, optimised_picture

    by_steps = functools.partial(optimised_picture, model, steps=options.optimise)
    restyle, rows = Restyler(by_steps if options.optimise else AnySize(model.generator)), []
    for path in inputs:
        try:
            pixels = read_picture(path)
        except Unreadable as reason:
            rows.append({"reason": f"not a readable picture: {reason}"})
            continue
        made = restyle(pixels, options.size)
        [written] = write_images(options.folder, [made], [f"{options.names.of(path)}-restyled"])
        rows.append({"width": made.shape[1], "height": made.shape[0], "picture": str(written)})
    return rows


if __name__ == "__main__":
    start(__spec__)
