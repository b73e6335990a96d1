"""Enlarge pictures two, three or four times, sharper than bicubic interpolation does.

    triptych train super-resolution --factor 3
    triptych predict MODEL holiday.jpg --folder enlarged

A network learns brightness from pictures made smaller by Pillow's antialiased bicubic filter; colours are enlarged by bicubic.
On tiles of scikit-learn's two photographs (scikit-image's too would be one more dependency), under two minutes: PSNR 25.1 dB, a
linear filter 24.7, bicubic 24.2.
"""

import shlex
from dataclasses import dataclass, replace
from typing import Literal

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Report, find_data
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED
from apps.common.errors import UserError
from apps.common.options.declare import is_active, option, options_of, refused
from apps.common.options.files import NamedFiles
from apps.common.options.training import Recipe, Training

MODELS = ("espcn", "fsrcnn", "edsr", "srgan")
# The loss of each paper; SRGAN has its own.
LOSSES = {"espcn": "mse", "fsrcnn": "mse", "edsr": "mae"}
METRIC = Metric("psnr")
INPUTS = Inputs("files", ENDINGS, NOT_DECODED)


@dataclass(frozen=True)
class Config(Training):
    model: Literal[MODELS] = option(
        "edsr", "architecture; srgan looks sharpest and has a lower PSNR; bicubic is no model: it stands beside every report",
        search=MODELS[:3],
    )  # fmt: skip
    factor: Literal[2, 3, 4] = option(3, "how many times higher and wider a picture becomes")
    epochs: int = option(25, "passes over the training data", low=1, high=100_000)
    batch_size: int = option(16, "examples a step", low=1, high=65_536, search=(8, 16, 32))
    learning_rate: float = option(3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(1e-4, 1e-1), log=True)
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "cosine", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    keep: Literal["best", "last"] | None = option(
        None, "the epoch whose weights are kept; none: the best on validation, or the last of srgan, which PSNR would stop early"
    )
    test_data: str | None = option(None, "pictures to test on (a path or a name, as --data), else a part of --data")
    patch_size: int = option(24, "side of the squares that are trained on, in pixels of the small picture", low=4, high=512)
    patches: int = option(640, "squares cut out of the training pictures each epoch", low=1, high=10_000_000)
    smaller_copies: int = option(
        2, "copies of each training picture to cut from as well, each 0.8 as large as the one before", low=0, high=10
    )
    width: int | None = option(
        None, "filters of a convolution: ESPCN (64), FSRCNN (56), EDSR and SRGAN (32)", low=2, high=1024, search=(16, 32, 64)
    )
    depth: int | None = option(
        None, "FSRCNN: convolutions that map (4); EDSR and SRGAN: residual blocks (4)", low=1, high=128, search=(2, 4, 8),
        needs={"model": ("fsrcnn", "edsr", "srgan")},
    )  # fmt: skip
    loss: Literal["auto", "mse", "mae"] = option(
        "auto", "what is minimised; auto is as the paper has it (EDSR mae, the others mse)", needs={"model": tuple(LOSSES)}
    )
    features: str = option(
        "textures", "whose features SRGAN compares: textures (a small network trained at once), random (the same, "
        "untrained), a bundle of image-classification, or keras:VGG19=FILE", needs={"model": "srgan"},
    )  # fmt: skip
    adversarial: float = option(1e-3, "what convincing the second player counts", low=0, high=10, needs={"model": "srgan"})
    perceptual: float = option(0.01, "what the distance of the features counts", low=0, high=1000, needs={"model": "srgan"})
    class_weights: str = refused("none", "there are no classes")

    def check(self):
        super().check()
        if self.model == "srgan" and self.schedule == "plateau":
            raise UserError("--schedule plateau: two players have no common learning rate; choose constant or cosine")


@dataclass(frozen=True)
class PredictOptions(NamedFiles):
    folder: str = option("enlarged", "where the PNG files go")


PAPERS = "arXiv 1609.05158, 1608.00367 (91 training pictures; here 30 of Sun-Hays 80)"
SET5 = {"test_data": "sr_denoise/CSet5", "factor": 3, "patches": 4000, "smaller_copies": 4, "batch_size": 16,
        "learning_rate": 2e-3}
RECIPES = {
    "set5-x3-espcn": Recipe(
        "ESPCN, three times larger, trained on Sun-Hays 80, tested on Set5",
        data="sr_denoise/CSun_Hays80", options={**SET5, "model": "espcn", "epochs": 100},
        metric="psnr", published=32.88, tolerance=0.5, source=PAPERS, minutes=15,
    ),
    "set5-x3": Recipe(
        "FSRCNN, three times larger, trained on Sun-Hays 80, tested on Set5",
        data="sr_denoise/CSun_Hays80", options={**SET5, "model": "fsrcnn", "epochs": 100},
        metric="psnr", published=33.22, tolerance=0.5, source=PAPERS, minutes=20,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Squares of small and large pictures to train on, whole pictures for the test: brightness as uint8."""
    from apps.common.data.images.pictures import (
        Patches,
        WholePictures,
        photographs,
        read_pictures,
        split_pictures,
    )

    factor = about["factor"] if about else config.factor
    smallest, notes = 4 * factor, []
    if about:
        splits, notes = read_pictures(find_data(config.data), smallest=smallest)
        chosen = splits.get("test") or [picture for part in splits.values() for picture in part]
        return Data(None, None, whole(WholePictures, chosen, factor), about, notes, config.data)
    if config.data:
        splits, notes = read_pictures(find_data(config.data), smallest=config.patch_size * factor)
    else:
        splits = {"train": photographs()}
    if config.test_data:
        found, more = read_pictures(find_data(config.test_data), smallest=smallest)
        splits["test"] = [picture for part in found.values() for picture in part]
        notes += more
    *parts, test = split_pictures(splits, config.seed, notes)
    refuse_small(parts, config)
    originals = len(parts[0])
    copies = [copy for picture in parts[0] for copy in smaller_copies(picture, config)]
    if copies:
        notes.append(f"{len(copies)} smaller copies of them to train on as well")
        parts[0] = [*parts[0], *copies]
    pairs = [[pair_of(picture.pixels, factor) for picture in part] for part in parts]
    train = Patches(pairs[0], config.patch_size, config.patches, config.seed, originals=originals)
    held = Patches(pairs[1], config.patch_size, max(8, config.patches // 10), config.seed + 1, moved=False)
    options = options_of(Config)
    sizes = {name: getattr(config, name) for name in ("width", "depth") if is_active(config, options[name])}
    about = {"model": config.model, "factor": factor, "border": border_of(config.model, sizes.get("depth") or 4)}
    example = shlex.quote(str(test[0].path))
    return Data(train, held, whole(WholePictures, test, factor), about, notes, config.data or "photographs", example)


def whole(kind, pictures, factor):
    """Whole pictures as the test has them: small and large brightness, under their names."""
    return kind([picture.name for picture in pictures], [pair_of(picture.pixels, factor) for picture in pictures])


def pair_of(pixels, factor):
    """A picture's brightness made `factor` times smaller, and as it is, cut to a multiple of `factor`."""
    from apps.common.data.images.pictures import luminance, resized

    height, width = (size // factor for size in pixels.shape[:2])
    large = luminance(pixels[: height * factor, : width * factor])
    return resized(large, height, width), large


def smaller_copies(picture, config):
    """Copies of a picture, sharper pixel by pixel (as FSRCNN's), as long as a square can be cut out of one."""
    from apps.common.data.images.pictures import Picture, resized

    found = []
    for step in range(1, config.smaller_copies + 1):
        height, width = (round(size * 0.8**step) for size in picture.pixels.shape[:2])
        if min(height, width) < config.patch_size * config.factor:
            break
        found.append(Picture(picture.name, picture.path, resized(picture.pixels, height, width)))
    return found


def refuse_small(parts, config):
    """Squares must fit into every picture or tile that they are cut from."""
    need = config.patch_size * config.factor
    for picture in (picture for part in parts for picture in part):
        height, width = picture.pixels.shape[:2]
        if min(height, width) < need:
            raise UserError(
                f"{picture.name}: {width} x {height} pixels, but squares of {need} (--patch-size {config.patch_size} times "
                f"--factor {config.factor}) are cut out; give larger pictures or a smaller --patch-size"
            )


def border_of(model, depth):
    """How many pixels of the small picture a network looks away from one of its own: the sum of its convolutions' reach."""
    return {"espcn": 4, "fsrcnn": 3 + depth}.get(model, 4 + 2 * depth)


def settle(config, data):
    """Of two players the last epoch: by PSNR the best one is that in which the second player has said the least."""
    if config.keep is None:
        adversarial = config.model == "srgan" and not config.early_stopping
        config = replace(config, keep="last" if adversarial else "best")
    return config, ""


def build_model(config, data):
    """Brightness 0..255 of a small square -> that of the large one, in 0..1."""
    from apps.common.training.enlarging import BrightnessLoss, psnr_metric
    from apps.common.training.optimizers import compile_model
    from layers import models

    shape, sizes = (config.patch_size, config.patch_size, 1), {"factor": config.factor}
    sizes |= {name: getattr(config, name) for name in ("width", "depth") if getattr(config, name)}
    if config.model != "srgan":
        kind = LOSSES[config.model] if config.loss == "auto" else config.loss
        model = getattr(models, config.model)(shape, **sizes)
        return compile_model(model, config, data.train, loss=BrightnessLoss(kind), metrics=[psnr_metric()])
    from apps.common.training.feature_maps import given_features

    large = config.patch_size * config.factor
    features = given_features(config.features, (large, large, 1)) if config.perceptual else None
    weights = {"adversarial": config.adversarial, "perceptual": config.perceptual}
    model = models.SRGAN(shape, features=features, **sizes, **weights)
    players = [(part.trainable_variables, config) for part in (model.generator, model.discriminator)]
    return compile_model(model, config, data.train, metrics=[psnr_metric()], players=players)


def enlarger(model, about):
    """The trained network for pictures of any size; of two players the one that enlarges."""
    from apps.common.reports.pictures import Enlarger

    return Enlarger(getattr(model, "generator", model), about["factor"], about["border"])


def baselines(data, config):
    """Bicubic interpolation and repeated pixels, by Pillow, and a linear filter by least squares."""
    from apps.common.reports.linear_filter import LinearFilter
    from apps.common.reports.pictures import mean_quality, quality

    fitted = LinearFilter(data.train.pictures, config.seed)
    methods = {
        "bicubic": lambda small, large: grown(small, large, "bicubic"),
        "nearest": lambda small, large: grown(small, large, "nearest"),
        "linear filter": lambda small, large: fitted(small),
    }
    return {
        name: mean_quality([quality(method(*pair), pair[1], data.about["factor"]) for pair in data.test.rows])
        for name, method in methods.items()
    }


def grown(small, large, method):
    from apps.common.data.images.pictures import resized

    return resized(small, *large.shape[:2], method)


def evaluate(model, data, config):
    """PSNR and SSIM of brightness, `factor` pixels shaved off the edges as papers do; crops beside bicubic and the truth."""
    from apps.common.reports.pictures import detail, mean_quality, quality, side_by_side

    enlarge, factor, rows, shown = enlarger(model, data.about), data.about["factor"], [], []
    for name, (small, large) in zip(data.test.names, data.test.rows, strict=True):
        picture, bicubic = enlarge(small), grown(small, large, "bicubic")
        plain = {f"{key}_bicubic": value for key, value in quality(bicubic, large, factor).items()}
        rows.append({**quality(picture, large, factor), **plain})
        if len(shown) < 4:
            pictures = (grown(small, large, "nearest"), bicubic, picture, large)
            shown.append([name, *detail(pictures, 32 * factor)])
    names, *columns = zip(*shown, strict=True)
    drawn = {"enlarged": side_by_side(columns, ["pixels", "bicubic", data.about["model"], "true"], names)}
    table = [{"picture": name, **row} for name, row in zip(data.test.names, rows, strict=True)]
    return Report(mean_quality(rows), drawn, {"pictures": table})


def predict(model, inputs, about, options=PredictOptions()):
    """A PNG file of each picture, `factor` times as high and wide, or why it cannot be read."""
    from apps.common.data.images.decoding import Unreadable
    from apps.common.data.images.pictures import read_picture
    from apps.common.reports.drawn_files import write_images
    from apps.common.reports.pictures import enlarged_colours

    enlarge, factor, rows = enlarger(model, about), about["factor"], []
    for path in inputs:
        try:
            pixels = read_picture(path)
        except Unreadable as reason:
            rows.append({"reason": f"not a readable picture: {reason}"})
            continue
        large = enlarged_colours(enlarge, pixels)
        [written] = write_images(options.folder, [large], [f"{options.names.of(path)}-x{factor}"])
        rows.append({"width": large.shape[1], "height": large.shape[0], "picture": str(written)})
    return rows


if __name__ == "__main__":
    start(__spec__)
