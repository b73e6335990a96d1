"""The autoencoder in whose codes a latent diffusion draws: one that was trained before, or one trained first in the run."""

import time

import keras
import numpy as np

from apps.common.bundles.bundle import load_model, open_bundle
from apps.common.data.examples import Examples, evenly
from apps.common.errors import UserError
from apps.common.files import sha256
from apps.common.output import say
from apps.common.training.batches import Batches, predict_all
from apps.common.training.fit import train_epochs
from apps.common.training.optimizers import Schedule
from layers import initialize, models


def autoencoder_sizes(config, image_shape):
    """`(arguments of LatentDiffusion, digest of the bundle's model or None)`.

    Raises:
        UserError: `--autoencoder` names no autoencoder whose code is a picture, or one of pictures of another shape.
    """
    if not config.autoencoder:
        return {"latent_channels": config.latent_dim or 4, "autoencoder_width": max(4, config.width // 2)}, None
    bundle = open_bundle(config.autoencoder, "autoencoding")
    made, shape = bundle.options, tuple(bundle.about["image_shape"])
    if made["model"] != "spatial":
        raise UserError(
            f"--autoencoder {config.autoencoder}: a {made['model']} one, whose code is no picture. "
            "Train one with: triptych train autoencoding --model spatial"
        )
    if shape != tuple(image_shape):
        expected, found = (" x ".join(map(str, each)) for each in (image_shape, shape))
        raise UserError(f"--autoencoder {config.autoencoder}: made for {found}, the pictures are {expected}; see --image-size")
    sizes = {"latent_channels": made["latent_dim"] or 2, "autoencoder_width": made["width"], "autoencoder_depth": made["depth"]}
    return sizes, sha256(bundle.folder / "model.keras")[:24]


def named_autoencoder(config):
    """The model of `--autoencoder`."""
    say(f"its codes are those of {config.autoencoder}")
    return load_model(open_bundle(config.autoencoder, "autoencoding"))


def trained_autoencoder(model, data, config):
    """An autoencoder as the one within `model`, trained on the training pictures; how well it does is said."""
    say(f"first the autoencoder is trained, {config.autoencoder_epochs} passes over {len(data.train)} pictures")
    started, inner = time.monotonic(), model.autoencoder
    made = models.Autoencoder.from_config({**inner.get_config(), "name": "autoencoder", "trainable": True})
    initialize(made, config.seed)
    batches = Batches(Examples(data.train.x), config.batch_size, config.seed)
    rate = Schedule("cosine", 4e-3, config.autoencoder_epochs * len(batches))
    made.compile(keras.optimizers.Adam(rate))
    train_epochs(made, batches, seed=config.seed, epochs=config.autoencoder_epochs, accelerate=config.compile != "off")
    real = evenly(data.validation.x, 1000)
    error = np.mean(np.square(predict_all(made, real).astype("float64") - real / 255.0))
    size, pixels = int(np.prod(inner.latent_shape)), int(np.prod(real.shape[1:]))
    decibels = -10 * np.log10(max(error, 1e-12))
    say(f"the autoencoder gives {size} numbers for {pixels}, {decibels:.1f} dB; {time.monotonic() - started:.0f} s")
    return made
