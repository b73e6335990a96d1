"""Draw new images in the manner of a set: variational autoencoder and adversarial network, also by class."""

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apps.common.app import Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, complete_splits, find_data
from apps.common.data.images.labelled import named_images, read_labelled_images
from apps.common.errors import UserError, nearest
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Splitting

VAES, GANS = ("vae", "cvae"), ("dcgan", "cdcgan")
NETWORKS = (*VAES, *GANS)
# The one measure of all models: an adversary's loss says nothing of quality.
METRIC = Metric("frechet_own_features", higher_is_better=False)


@dataclass(frozen=True)
class Config(Splitting):
    model: Literal[(*NETWORKS, "pixel-gaussian")] = option(
        "cvae", "architecture; cvae and cdcgan draw by class", search=NETWORKS
    )
    epochs: int = option(80, "passes over the training data", low=1, high=100_000)
    latent_dim: int | None = option(
        None, "length of the latent vector (VAE 16, GAN 64)", low=1, high=4096, search=(8, 16, 32, 64), needs={"model": NETWORKS}
    )
    width: int = option(
        32, "channels of the largest hidden picture", low=1, high=1024, search=(16, 32, 64), needs={"model": NETWORKS}
    )
    depth: int | None = option(
        None, "times a picture is halved and doubled; else to 4 pixels or more", low=1, high=8, needs={"model": NETWORKS}
    )
    kl_weight: float = option(
        1.0, "factor of the KL divergence", low=0, high=1000, search=(0.25, 4.0), log=True, needs={"model": VAES}
    )
    beta1: float | None = option(
        None, "share of the mean gradient kept (VAE 0.9, GAN 0.5)", low=0, high=0.9999, needs={"optimizer": ("adam", "adamw")}
    )
    discriminator_rate: float | None = option(
        None, "step size of the discriminator, else the generator's", above=0, high=100, search=(1e-4, 1e-2), log=True,
        needs={"model": GANS},
    )  # fmt: skip
    discriminator_steps: int = option(
        1, "discriminator steps to one of the generator, which takes the mean of its gradients over them", low=1, high=100,
        search=(1, 2, 3), needs={"model": GANS},
    )  # fmt: skip
    image_size: int | None = option(None, "side every image is resized to; else the side they share", low=4, high=256)
    class_weights: str = refused("none", "every image counts once")

    def check(self):
        super().check()
        if self.model in GANS and self.schedule == "plateau":
            raise UserError("--schedule plateau: two players have no common learning rate; choose constant or cosine")


@dataclass(frozen=True)
class PredictOptions:
    seeds: tuple[int, ...] = option((0, 1, 2, 3), "a picture of each class for each of these", low=0, high=2**31 - 1)
    folder: str = option("pictures", "where the PNG files go")


EQUAL = "control: a normal distribution for each pixel, in the same features; trained as long as {} to lie beside it"
RECIPES = {
    "mnist-vae": Recipe(
        "convolutional VAE on MNIST",
        data="mnist",
        options={"keep": "last",
                 "model": "vae", "epochs": 15, "batch_size": 128, "width": 16, "learning_rate": 2e-3, "schedule": "cosine"},
        metric="frechet_own_features", lower_is_better=True, control={"model": "pixel-gaussian", "epochs": 1},
        source=EQUAL.format("mnist-gan"), minutes=4,
    ),
    "mnist-gan": Recipe(
        "DCGAN on MNIST",
        data="mnist", options={"keep": "last",
                               "model": "dcgan", "epochs": 12, "width": 16, "discriminator_rate": 2e-3, "schedule": "cosine"},
        metric="frechet_own_features", lower_is_better=True, control={"model": "pixel-gaussian", "epochs": 1},
        source=EQUAL.format("mnist-vae"), minutes=4,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Images as uint8 `(n, height, width, channels)` and class indices, in three splits, of other data as well."""
    name, options = config.data or "digits", {"image_size": config.image_size}
    if about:
        *size, channels = about["image_shape"]
        options = {"image_size": tuple(size), "channels": channels, "class_names": about["class_names"]}
    found = named_images(name, **options) or read_labelled_images(find_data(name), **options)
    splits, notes = {key: Examples(part.images, part.labels) for key, part in found.splits.items()}, list(found.notes)
    splits = splits if "train" in splits else {"train": next(iter(splits.values()))}
    train, validation, test = complete_splits(splits, config, notes)
    about = {"class_names": found.class_names, "image_shape": list(train.x.shape[1:])}
    return Data(train, validation, test, about, notes, name)


def build_model(config, data):
    """Latent vector (and class) -> image; the VAE's encoder or the GAN's discriminator beside it."""
    from apps.common.training.optimizers import compile_model
    from layers import models

    shape, names = data.about["image_shape"], data.about["class_names"]
    config = replace(config, beta1=(0.5 if config.model in GANS else 0.9) if config.beta1 is None else config.beta1)
    if config.model == "pixel-gaussian":
        model = compile_model(models.PixelGaussian(shape), config, data.train)
        model.adapt(data.train.x)
        return model
    told = len(names) if config.model in ("cvae", "cdcgan") else 0
    options = {"num_classes": told, "width": config.width, "depth": config.depth}
    if config.model in VAES:
        model = models.VAE(shape, config.latent_dim or 16, kl_weight=config.kl_weight, **options)
        return compile_model(model, config, data.train)
    model = models.DCGAN(shape, config.latent_dim or 64, **options)
    discriminator = replace(config, learning_rate=config.discriminator_rate or config.learning_rate)
    generator = replace(config, accumulate=config.accumulate * config.discriminator_steps)
    players = [(model.generator.trainable_variables, generator), (model.discriminator.trainable_variables, discriminator)]
    return compile_model(model, config, data.train, players=players)


def on_epoch(model, epoch, tracker, data, config):
    """The images of fixed latent vectors, ten times in a run; how good samples are on validation; what goes wrong."""
    from apps.common import figures
    from apps.common.reports.generated_images import judge_of, sample, sheet, trouble

    if epoch in (1, config.epochs) or epoch % math.ceil(config.epochs / 10) == 0:
        tracker.figure(figures.mosaic(**sheet(model, data.about)), f"samples/epoch-{epoch:05d}.png")
    judge = judge_of(data)
    images, asked = sample(model, data.validation.y, min(1000, len(data.validation)), [config.seed, 41])
    found = judge.metrics(images, asked, "validation", data.validation)
    wrong = trouble(model, found) if epoch > config.epochs / 5 and config.model in NETWORKS else None
    tracker.metrics({"trouble": float(wrong is not None)}, step=epoch)
    if wrong:
        judge.notice(wrong, epoch, tracker)
    return {f"val_{name}": value for name, value in found.items()}


def baselines(data, config):
    """A normal distribution for each pixel, all of them independent."""
    from apps.common.reports.generated_images import judge_of

    pixels, count = data.train.x.astype("float32"), min(2000, max(1000, len(data.test)))
    generator = np.random.default_rng([config.seed, 44])
    noise = generator.normal(size=(count, *pixels.shape[1:])).astype("float32")
    images = np.clip(np.rint(pixels.mean(0) + pixels.std(0) * noise), 0, 255).astype("uint8")
    return {"pixel gaussian": judge_of(data).metrics(images, None, "test", data.test)}


def evaluate(model, data, config):
    """Fréchet distance and class coverage in our own features, the ELBO of a VAE; samples and ways between them."""
    from apps.common import figures
    from apps.common.reports.generated_images import (
        bound,
        draw_images,
        judge_of,
        latents_of,
        sample,
        sheet,
        spherical,
        spread,
    )
    from apps.common.training.batches import predict_all

    judge, count = judge_of(data), min(10_000, max(1000, len(data.test)))
    images, asked = sample(model, data.test.y, count, [config.seed, 42])
    metrics = judge.metrics(images, asked, "test", data.test)
    real = data.train.x[spread(data.train, min(count, len(data.train)))]
    metrics["frechet_of_train"] = judge.metrics(real, None, "test", data.test)["frechet_own_features"]
    ends = latents_of(model, [config.seed, 43], 12)
    ways = np.concatenate([spherical(*pair, np.linspace(0, 1, 10)) for pair in zip(ends[:6], ends[6:], strict=True)])
    labels = np.repeat(np.arange(6) % max(1, model.num_classes), 10)
    drawn = {
        "samples": figures.mosaic(**sheet(model, data.about), title="samples"),
        "interpolation": figures.mosaic(draw_images(model, ways, labels), 10, "from one latent vector to another"),
    }
    if config.model in VAES:
        metrics |= bound(model, data.test, config.seed)
        given, labels = data.test.take(spread(data.test, 10))
        again = draw_images(model, predict_all(model, given)[0], labels)
        drawn["reconstructions"] = figures.mosaic(np.concatenate([given, again]), 10, names=["test image", "again"])
    return Report(metrics, drawn)


def predict(model, inputs, about, options=PredictOptions()):
    """PNG files of the classes asked for, or of `any`, one a seed: `predict MODEL 3 7 --seeds 0,1,2`."""
    from apps.common.reports.generated_images import draw_images, latents_of, write_images

    names = about["class_names"]
    for name in inputs:
        if name != "any" and not model.num_classes:
            raise UserError(f"{name}: this model draws without a class; ask for: any. Train with --model cvae to ask for one")
        if name != "any" and name not in names:
            raise UserError(f"{name}: not a class of this model. {nearest(name, [*names, 'any'])}")
    pairs = [(name, seed) for name in inputs for seed in options.seeds]
    latents = np.concatenate([latents_of(model, seed, 1) for _, seed in pairs])
    chosen = [names.index(name) if name in names else seed % len(names) for name, seed in pairs]
    images = draw_images(model, latents, chosen)
    titles = [names[index] if model.num_classes else "any" for index in chosen]
    paths = write_images(options.folder, images, [f"{title}-{seed}" for title, (_, seed) in zip(titles, pairs, strict=True)])
    return [
        {"class": title if model.num_classes else None, "seed": seed, "picture": str(path)}
        for title, (_, seed), path in zip(titles, pairs, paths, strict=True)
    ]


if __name__ == "__main__":
    start(__spec__)
