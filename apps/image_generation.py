"""Draw new images in the manner of a set, also by class or from a text: VAE, adversarial networks, diffusion, flow.

triptych train image-generation --model latent-flow
triptych predict MODEL "a blue triangle above a red square" --guidance 2 --gif yes
triptych predict MODEL prompts.txt

A model that draws from captions learns on drawn shapes where there are no data; of labelled pictures the caption is the class.
Latent-flow takes about two minutes on two cores (170 seconds of processor time): .47 of its pictures show all that their
captions say, with --guidance 2 .54; of real pictures under one another's captions .02 do.

The default, a conditional VAE on 1,800 digits of 8 x 8 pixels, takes a minute and a half, to a Fréchet distance of 15 in our
own features (a normal distribution for each pixel: 73).
"""

import functools
import math
import shlex
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, complete_splits, evenly, evenly_spaced, find_data
from apps.common.data.images.arrays import LabelsMissing
from apps.common.data.images.captioned import CAPTIONS, caption_file
from apps.common.data.images.conditioned import captioned, captioned_by_class, conditions_of, undrawable
from apps.common.data.images.labelled import named_images, read_labelled_images
from apps.common.data.images.unlabelled import GROUP, grouped, read_pictures
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.files import NamedFiles
from apps.common.options.training import Recipe, Splitting

VAES, GANS, CRITICS = ("vae", "cvae"), ("dcgan", "cdcgan"), ("wgan-gp", "cwgan-gp")
LATENT = (*VAES, *GANS, *CRITICS)
CODED = ("latent-diffusion", "latent-flow")  # draw the codes of an autoencoder
TEXT = ("text-diffusion", "text-flow", *CODED)
NOISED = ("diffusion", "cdiffusion", "text-diffusion", "latent-diffusion")
STEPPED = ("diffusion", "cdiffusion", "flow", "cflow", *TEXT)  # draw in many steps
NETWORKS = (*LATENT, *STEPPED)
# What is not given, by the model's name before the dash; those that draw from captions are to take about two minutes.
BY_MODEL = {
    "latent": {"epochs": 20, "batch_size": 32, "learning_rate": 4e-3, "schedule": "cosine", "ema": 0.99, "width": 32},
    "text": {"epochs": 20, "batch_size": 32, "learning_rate": 2e-3, "schedule": "cosine", "ema": 0.99, "width": 16},
}
OTHERS = {"epochs": 80, "batch_size": 64, "learning_rate": 1e-3, "schedule": "constant", "ema": 0.0, "width": 32}
BY_CLASS = ("cvae", "cdcgan", "cwgan-gp", "cdiffusion", "cflow")
# The one measure of all models: an adversary's loss says nothing of quality.
METRIC = Metric("frechet_own_features", higher_is_better=False)
INPUTS = Inputs("texts", column=("prompt", "caption", "text", "class"), named="class_names")


@dataclass(frozen=True)
class Config(Splitting):
    model: Literal[(*NETWORKS, "pixel-gaussian")] = option(
        "cvae", "architecture; those with a c draw by class, text- and latent- from captions", search=LATENT
    )
    epochs: int | None = option(None, "passes over the training data (80; latent- and text- 20)", low=1, high=100_000)
    batch_size: int | None = option(
        None, "examples a step (64; latent- and text- 32)", low=1, high=65_536, search=(16, 32, 64, 128, 256)
    )
    learning_rate: float | None = option(
        None, "step size, the peak of a schedule (0.001; latent- 0.004, text- 0.002)", above=0, high=100, search=(1e-4, 1e-1),
        log=True,
    )  # fmt: skip
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] | None = option(
        None, "how the learning rate changes over the run (constant; latent- and text- cosine)",
        search=("constant", "cosine", "one-cycle"),
    )  # fmt: skip
    latent_dim: int | None = option(
        None, "length of the latent vector (VAE 16, GAN 64); of latent- the channels of a code (4)", low=1, high=4096,
        search=(8, 16, 32, 64), needs={"model": (*LATENT, *CODED), "autoencoder": lambda value: value is None},
    )  # fmt: skip
    ema: float | None = option(
        None, "decay of the moving average of the weights used at the end (0: off; latent- and text- 0.99)", low=0, high=0.99999
    )
    width: int | None = option(
        None, "channels of the largest hidden picture (32; text- 16)", low=1, high=1024, search=(16, 32, 64),
        needs={"model": NETWORKS},
    )  # fmt: skip
    depth: int | None = option(
        None, "times a picture is halved and doubled; else to 4 pixels or more", low=1, high=8, needs={"model": LATENT}
    )
    kl_weight: float = option(
        1.0, "factor of the KL divergence", low=0, high=1000, search=(0.25, 4.0), log=True, needs={"model": VAES}
    )
    beta1: float | None = option(
        None, "share of the mean gradient kept (VAE 0.9, GAN 0.5)", low=0, high=0.9999, needs={"optimizer": ("adam", "adamw")}
    )
    discriminator_rate: float | None = option(
        None, "step size of the discriminator, else the generator's", above=0, high=100, search=(1e-4, 1e-2), log=True,
        needs={"model": (*GANS, *CRITICS)},
    )  # fmt: skip
    discriminator_steps: int = option(
        1, "discriminator steps to one of the generator, which takes the mean of its gradients over them", low=1, high=100,
        search=(1, 2, 3), needs={"model": (*GANS, *CRITICS)},
    )  # fmt: skip
    noise_schedule: Literal["cosine", "linear"] = option("cosine", "how noise grows with time", needs={"model": NOISED})
    prediction: Literal["epsilon", "v"] = option("v", "what is predicted: the noise, or v", needs={"model": NOISED})
    judged_steps: int = option(25, "steps in which samples are drawn to be judged", low=1, high=1000, needs={"model": STEPPED})
    inception: str | None = option(
        None, "keras:InceptionV3 (its weights are downloaded) or keras:InceptionV3=FILE: Fréchet distance by its features, too"
    )
    autoencoder: str | None = option(
        None, "bundle of `autoencoding --model spatial` whose codes are drawn; else one is trained first", needs={"model": CODED}
    )
    autoencoder_epochs: int = option(
        7, "passes in which the autoencoder is trained first", low=1, high=10_000,
        needs={"model": CODED, "autoencoder": lambda value: value is None},
    )  # fmt: skip
    image_size: int | None = option(None, "side every image is resized to; else the side they share", low=4, high=256)
    class_weights: str = refused("none", "every image counts once")

    def __post_init__(self):
        if self.early_stopping and self.ema is None:  # which chooses the final weights itself
            object.__setattr__(self, "ema", 0.0)
        for name, value in BY_MODEL.get(self.model.partition("-")[0], OTHERS).items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)

    def check(self):
        super().check()
        if self.model in (*GANS, *CRITICS) and self.schedule == "plateau":
            raise UserError("--schedule plateau: two players have no common learning rate; choose constant or cosine")
        if self.inception:
            from apps.common.reports.inception import check_source

            check_source(self.inception)


@dataclass(frozen=True)
class PredictOptions(NamedFiles):
    seeds: tuple[int, ...] = option((0, 1, 2, 3), "a picture of each class for each of these", low=0, high=2**31 - 1)
    folder: str = option("pictures", "where the PNG files go")
    steps: int = option(50, "steps of a model that draws in steps", low=1, high=1000)
    guidance: float = option(1.0, "above 1, the class or text counts for more (of a model that draws in steps)", low=0, high=50)
    gif: bool = option(False, "also an animation of each picture coming out of noise (of a model that draws in steps)")
    between: int = option(
        0, "also a strip of so many pictures between those of each seed and the next; with one seed, of each text and the next",
        low=0, high=100,
    )  # fmt: skip

    @functools.cached_property
    def before(self):
        """The text, if any, from which the way to the next part of a call leads, and its condition."""
        return []


EQUAL = "control: a normal distribution for each pixel, in the same features; trained as long as {} to lie beside it"
SHUFFLED = "control: real pictures under one another's captions, as of a generator that ignores the text; aim: three times it"
FRECHET = {"metric": "frechet_own_features", "lower_is_better": True, "control": {"model": "pixel-gaussian", "epochs": 1}}
RECIPES = {
    "mnist-vae": Recipe(
        "convolutional VAE on MNIST",
        data="mnist",
        options={"keep": "last",
                 "model": "vae", "epochs": 15, "batch_size": 128, "width": 16, "learning_rate": 2e-3, "schedule": "cosine"},
        **FRECHET, source=EQUAL.format("mnist-gan"), minutes=4,
    ),
    "mnist-gan": Recipe(
        "DCGAN on MNIST",
        data="mnist", options={"keep": "last",
                               "model": "dcgan", "epochs": 12, "width": 16, "discriminator_rate": 2e-3, "schedule": "cosine"},
        **FRECHET, source=EQUAL.format("mnist-vae"), minutes=4,
    ),
    "mnist-diffusion": Recipe(
        "flow matching on MNIST",
        data="mnist", options={"keep": "last", "model": "flow", "epochs": 3, "batch_size": 128, "width": 16, "ema": 0.995,
                               "learning_rate": 2e-3, "schedule": "cosine"},
        **FRECHET, source=EQUAL.format("mnist-vae and mnist-gan"), minutes=5,
    ),
    "cifar-flow": Recipe(
        "flow matching by class on CIFAR-10's pictures",
        data="cifar10_jpg", options={"keep": "last", "model": "cflow", "epochs": 6, "batch_size": 64, "width": 24, "ema": 0.999,
                                     "learning_rate": 1e-3, "schedule": "cosine"},
        **FRECHET, source="control: a normal distribution for each pixel, in the same features", minutes=90,
    ),
    "captioned-shapes": Recipe(
        "flow matching from captions on drawn shapes: the share of pictures that show what the caption says",
        data="captioned-shapes", options={"keep": "last", "model": "text-flow", "epochs": 60, "image_size": 20, "width": 16,
                                          "batch_size": 64, "ema": 0.995, "learning_rate": 2e-3, "schedule": "cosine"},
        metric="class_accuracy", floor=0.3, beside="shuffled captions", source=SHUFFLED, minutes=15,
    ),
    "captioned-shapes-latent": Recipe(
        "latent flow matching from captions on drawn shapes, in the codes of its own autoencoder",
        data="captioned-shapes", options={"keep": "last", "model": "latent-flow", "epochs": 60, "image_size": 24, "width": 32,
                                          "autoencoder_epochs": 12, "batch_size": 64, "ema": 0.995, "learning_rate": 2e-3,
                                          "schedule": "cosine"},
        metric="class_accuracy", floor=0.1, beside="shuffled captions", source=SHUFFLED, minutes=15,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Images as uint8 `(n, height, width, channels)` and class indices, in three splits, of other data as well."""
    if config.model in TEXT and config.data in (None, "captioned-shapes"):
        return captioned(config, drawn_side(config), about)
    name, options = config.data or "digits", {"image_size": config.image_size}
    if about:
        *size, channels = about["image_shape"]
        options = {"image_size": tuple(size), "channels": channels, "class_names": about.get("classes", about["class_names"])}
        config = replace(config, folds=0)  # of the data that were trained on
    found = None if of_groups(about) else named_images(name, **options)
    if config.model in TEXT and not found and caption_file(name):
        return captioned(config, config.image_size, about)
    found = found or read_some(name, options, config, about)
    splits, notes = {key: Examples(part.images, part.labels) for key, part in found.splits.items()}, list(found.notes)
    splits = splits if "train" in splits else {"train": next(iter(splits.values()))}
    train, validation, test = complete_splits(splits, config, notes)
    about = {"class_names": found.class_names, "image_shape": list(train.x.shape[1:])}
    example = shlex.quote(found.class_names[0]) if config.model in BY_CLASS else "any"
    data = Data(train, validation, test, about, notes, name, example)
    return captioned_by_class(data) if config.model in TEXT else data


def drawn_side(config):
    """Side of the shapes that are drawn."""
    return config.image_size or (24 if config.model in CODED else 16)


def read_some(name, options, config, about):
    """Labelled images; for an unconditional model also unlabelled ones, whose groups stand in for classes."""
    try:
        if not of_groups(about):
            return read_labelled_images(find_data(name), **options)
    except LabelsMissing as error:
        free = [model for model in NETWORKS if model not in (*BY_CLASS, *TEXT)]
        if config.model not in (*free, "pixel-gaussian"):
            advice = "This model is judged by classes" if about else f"Or draw without classes: --model {', '.join(free)}"
            advice = f"Or give {CAPTIONS}. {advice}" if config.model in TEXT else advice
            raise UserError(f"{error}. {advice}") from None
    read = read_pictures(name, image_size=options["image_size"], channels=options.get("channels"))
    return grouped(read, config.seed, about and about["class_names"])


def of_groups(about):
    """Whether groups stood in for the classes of a model that was trained before."""
    return bool(about) and about["class_names"][0] == GROUP.format(1)


def build_model(config, data):
    """Latent vector (and class) -> image; the VAE's encoder or the GAN's discriminator beside it."""
    from apps.common.bundles.pretrained import note_trunk
    from apps.common.training.codes import autoencoder_sizes
    from apps.common.training.optimizers import compile_model
    from layers import models

    shape, names = data.about["image_shape"], data.about["class_names"]
    config = replace(config, beta1=(0.5 if config.model in (*GANS, *CRITICS) else 0.9) if config.beta1 is None else config.beta1)
    if config.model == "pixel-gaussian":
        model = compile_model(models.PixelGaussian(shape), config, data.train)
        model.adapt(data.train.x)
        return model
    num_classes = len(names) if config.model in BY_CLASS else 0
    if config.model in STEPPED:
        prediction = "flow" if config.model.endswith("flow") else config.prediction
        text = (len(data.about["words"]) + 2, data.about["length"]) if config.model in TEXT else None
        options = {"num_classes": num_classes, "text": text, "width": config.width}
        options |= {"schedule": config.noise_schedule, "prediction": prediction}
        if config.model not in CODED:
            return compile_model(models.Diffusion(shape, **options), config, data.train)
        sizes, digest = autoencoder_sizes(config, shape)
        model = models.LatentDiffusion(shape, **sizes, **options)
        if digest:
            note_trunk(model, config.autoencoder, digest)
        return compile_model(model, config, data.train)
    options = {"num_classes": num_classes, "width": config.width, "depth": config.depth}
    if config.model in VAES:
        model = models.VAE(shape, config.latent_dim or 16, kl_weight=config.kl_weight, **options)
        return compile_model(model, config, data.train)
    build = models.WGANGP if config.model in CRITICS else models.DCGAN
    model = build(shape, config.latent_dim or 64, **options)
    discriminator = replace(config, learning_rate=config.discriminator_rate or config.learning_rate)
    generator = replace(config, accumulate=config.accumulate * config.discriminator_steps)
    players = [(model.generator.trainable_variables, generator), (model.discriminator.trainable_variables, discriminator)]
    return compile_model(model, config, data.train, players=players)


def prepare(model, data, config):
    """The autoencoder whose codes are drawn: the one that is named, or one trained now on the training pictures.

    The network that judges beside ours is read now, so that weights that are none stop the run before it has begun.
    """
    if config.inception:
        from apps.common.reports.inception import inception

        inception(config.inception)
    if config.model not in CODED:
        return
    from apps.common.training.codes import named_autoencoder, trained_autoencoder

    found = named_autoencoder(config) if config.autoencoder else trained_autoencoder(model, data, config)
    model.adapt(found, evenly(data.train.x, 5000))


def on_epoch(model, epoch, tracker, data, config):
    """The images of fixed latent vectors, ten times in a run; how good samples are on validation; what goes wrong."""
    from apps.common import figures
    from apps.common.reports.generated_images import sample, sheet, trouble
    from apps.common.reports.judges import judge_of

    shown = epoch in (1, config.epochs) or epoch % math.ceil(config.epochs / 10) == 0
    if shown:
        drawn = figures.generated(figures.mosaic(**sheet(model, data.about)), model, seed=0, epoch=epoch)
        tracker.figure(drawn, f"samples/epoch-{epoch:05d}.png")
    judge = judge_of(data)
    if config.model in STEPPED and not shown:  # a sample takes many passes: between two looks the last one counts
        return None
    count = min(200 if config.model in STEPPED else 1000, len(data.validation))
    images, asked = sample(model, data.validation.y, count, [config.seed, 41], **sampling(config))
    found = judge.metrics(images, asked, "validation", data.validation)
    wrong = trouble(model, found) if epoch > config.epochs / 5 and config.model in NETWORKS else None
    tracker.metrics({"trouble": float(wrong is not None)}, step=epoch)
    if wrong:
        judge.notice(wrong, epoch, tracker)
    return {f"val_{name}": value for name, value in found.items()}


def sampling(config):
    """How samples that are to be judged are drawn."""
    return {"steps": config.judged_steps} if config.model in STEPPED else {}


def judged_count(config, data):
    """Samples that are judged: of a model that draws in many steps fewer, and few beside a small test."""
    if config.model in STEPPED:
        return 1000 if len(data.test) >= 200 else 200
    return min(10_000, max(1000, len(data.test)))


def baselines(data, config):
    """A normal distribution for each pixel, all of them independent; real pictures under one another's captions."""
    from apps.common.reports.captions_found import shuffled_share
    from apps.common.reports.judges import judge_of

    judge, pixels = judge_of(data), data.train.x.astype("float32")
    shape = min(2000, judged_count(config, data)), *pixels.shape[1:]
    noise = np.random.default_rng([config.seed, 44]).normal(size=shape).astype("float32")
    images = np.clip(np.rint(pixels.mean(0) + pixels.std(0) * noise), 0, 255).astype("uint8")
    found = {"pixel gaussian": judge.metrics(images, None, "test", data.test)}
    if config.model in TEXT:
        found["shuffled captions"] = {"class_accuracy": shuffled_share(judge, data.test, config.seed)}
    return found


def evaluate(model, data, config):
    """Fréchet distance and class coverage in our own features, the ELBO of a VAE; samples and ways between them."""
    from apps.common.reports.captions_found import judge_remarks
    from apps.common.reports.generated_figures import figures_of
    from apps.common.reports.generated_images import bound, labels_of, sample
    from apps.common.reports.judges import judge_of

    judge, count = judge_of(data), judged_count(config, data)
    images, asked = sample(model, data.test.y, count, [config.seed, 42], **sampling(config))
    metrics = judge.metrics(images, asked, "test", data.test)
    real = data.train.x[evenly_spaced(len(data.train), count)]
    metrics["frechet_of_train"] = judge.metrics(real, None, "test", data.test)["frechet_own_features"]
    if config.inception:
        from apps.common.reports.inception import inception_distance

        metrics["frechet_inception_v3"] = inception_distance(config.inception, images, data.test.x)
    if config.model in VAES:
        metrics |= bound(model, data.test, config.seed)
    tables, remarks = {}, []
    if config.model in TEXT:
        of_real = np.mean(judge.look(data.test.x)[1] == labels_of(data.test.y))
        metrics["class_accuracy_of_real"] = of_real
        remarks = judge_remarks(judge, data.test, of_real, config.seed)
        if hasattr(judge, "words"):
            tables["words"] = judge.words(images, asked, data.about["words"])
    return Report(metrics, figures_of(model, data, config.seed, **sampling(config)), tables, remarks)


def predict(model, inputs, about, options=PredictOptions()):
    """Of each class or caption asked for, or of `any`, a row a seed with its PNG file: `predict MODEL 3 7 --seeds 0,1,2`.

    What cannot be drawn has one row, which says why.
    """
    from apps.common.reports.drawn_files import drawn_rows, steps_of

    names = [text.strip() for text in inputs]
    reasons = [undrawable(model, name, about) for name in names]
    sampling = steps_of(model, bool(model.num_classes or about.get("captions")), options, len(inputs))
    pairs = [(name, seed) for name, reason in zip(names, reasons, strict=True) if not reason for seed in options.seeds]
    chosen = conditions_of(pairs, about)
    titles = [name if about.get("captions") else about["class_names"][index] if model.num_classes else "any"
              for (name, _), index in zip(pairs, chosen, strict=True)]  # fmt: skip
    rows = iter(drawn_rows(model, (titles, chosen), options, about, sampling) if pairs else ())
    return [{"class": name, "reason": reason} if reason else next(rows) for name, reason in zip(names, reasons, strict=True)]


if __name__ == "__main__":
    start(__spec__)
