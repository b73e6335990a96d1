"""Generated images judged by a classifier of our own, and written to files."""

import math
import sys

import keras
import numpy as np

from apps.common.data.examples import Examples, evenly_spaced
from apps.common.data.images.captioned import encode
from apps.common.training.batches import Batches, predict_all
from apps.common.training.fit import train_epochs

AT_ONCE = 256  # images a model that draws in steps works at
CLASSIFIER_STEPS, CLASSIFIER_EPOCHS = 800, 60  # about so many, at most


class Judge:
    """Features and classes of a small convolutional network trained on the training images themselves.

    So its numbers are comparable between models of one data set and with nothing else: they are not the FID of the
    literature, whose features come from ImageNet.

    Args:
        train: Labelled training images.
        num_classes: Number of classes.
    """

    def __init__(self, train, num_classes):
        from layers import initialize
        from layers.models import small_cnn

        model = small_cnn(train.x.shape[1:], num_classes, filters=(16, 32), dense_dim=32, dropout=0.0)
        initialize(model, 0)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(keras.optimizers.Adam(2e-3), loss)
        batches = Batches(Examples(scaled(train.x), labels_of(train.y)), 128, 0)
        epochs = min(CLASSIFIER_EPOCHS, -(-CLASSIFIER_STEPS // len(batches)))
        train_epochs(model, batches, seed=0, epochs=epochs, accelerate=False)
        features = keras.tree.flatten(model.get_layer("logits").input)[0]
        self.network = keras.Model(model.input, [features, model.output])
        self.num_classes, self.references, self.said = num_classes, {}, set()

    def look(self, images):
        """Features `(n, 32)` and classes `(n,)` of uint8 images."""
        features, logits = predict_all(self.network, scaled(images))
        return features.astype("float64"), logits.argmax(-1)

    def notice(self, wrong, epoch, tracker):
        """Say what goes wrong, `(kind, line)`, once in a run, and put it among the run's tags."""
        kind, line = wrong
        if kind not in self.said:
            self.said.add(kind)
            print(f"epoch {epoch}: {kind}: {line}", file=sys.stderr, flush=True)
            tracker.tags({"trouble": f"{kind} in epoch {epoch}: {line}"})

    def metrics(self, images, asked, name, reference):
        """How far generated images are from real ones.

        Args:
            images: Generated, uint8 `(n, height, width, channels)`.
            asked: The class each was asked of, or `None`.
            name: Of the reference, under which what is computed of it is kept.
            reference: Real labelled images.
        Returns: Fréchet distance and coverage in our own features, diversity (spread of the features beside that of real
            images: 1 is as much), and, where classes were asked, the share of images that are of theirs.
        """
        if name not in self.references:
            self.references[name] = self.look(reference.x)[0], labels_of(reference.y)
        real, labels = self.references[name]
        features, classes = self.look(images)
        moments = [(part.mean(0), np.cov(part.T, ddof=min(1, len(part) - 1))) for part in (features, real)]  # of one picture 0
        spread, usual = (np.trace(covariance) for _, covariance in moments)
        found = {
            "frechet_own_features": frechet_distance(*moments[0], *moments[1]),
            "class_coverage": self.coverage(classes, labels),
            "diversity": spread / usual if usual > 1e-12 else math.nan,  # no number beside real pictures that are all alike
        }
        return found if asked is None else {**found, "class_accuracy": np.mean(classes == asked)}

    def coverage(self, classes, labels):
        return class_coverage(classes, labels, self.num_classes)


def scaled(images):
    return images.astype("float32") / np.float32(127.5) - 1


def frechet_distance(mean, covariance, other_mean, other_covariance):
    """Distance of two normal distributions: `|m - n|^2 + tr(C + D - 2 (C^1/2 D C^1/2)^1/2)` (Dowson and Landau, 1982)."""
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    crossed = np.linalg.eigvalsh(root @ other_covariance @ root)
    traces = np.trace(covariance) + np.trace(other_covariance) - 2 * np.sqrt(np.maximum(crossed, 0)).sum()
    return float(np.sum((mean - other_mean) ** 2) + traces)


def class_coverage(classes, labels, num_classes):
    """Share of the classes among `labels` of which `classes` holds at least a fifth of their part there."""
    found, real = (np.bincount(part, minlength=num_classes) / len(part) for part in (classes, labels))
    return float(np.mean(found[real > 0] >= real[real > 0] / 5))


def draw_images(model, latents, labels=None, **sampling):
    """Images of latent vectors `(n, latent_dim)`, and of the conditions where the model has any, as uint8.

    Args:
        model: One with a `generator`, or one that draws in steps (`sample`).
        latents: Standard normal numbers.
        labels: Class indices, or the token ids of captions, one an image.
        sampling: `steps` and `guidance` of a model that draws in steps.
    """
    if hasattr(model, "sample"):
        conditions = labels if model.num_classes or model.text_encoder else None
        if conditions is None:
            sampling.pop("guidance", None)
        parts = []
        for first in range(0, len(latents), AT_ONCE):  # of one size, so that nothing compiles twice
            rows = np.minimum(np.arange(first, first + min(AT_ONCE, len(latents))), len(latents) - 1)
            parts.append(model.sample(latents[rows], None if conditions is None else np.asarray(conditions)[rows], **sampling))
        return np.rint(255 * np.concatenate(parts)[: len(latents)]).astype("uint8")
    inputs = {"latent": latents, "label": np.asarray(labels, "int32")} if model.num_classes else latents
    logits = predict_all(model.generator, inputs).astype("float64")
    return np.rint(255 / (1 + np.exp(-logits))).astype("uint8")


def latents_of(model, seed, count):
    """Standard normal latent vectors by NumPy: the same for a seed on every backend."""
    return np.random.default_rng(seed).normal(size=(count, model.latent_dim)).astype("float32")


def sample(model, targets, count, seed, **sampling):
    """`(images, classes asked for or None)`: so many samples, of each class as many as there are among the targets."""
    labels = labels_of(targets)
    rows = np.arange(count) * len(labels) // count  # each class as often as it occurs, even where they are sorted and few
    if isinstance(targets, dict):
        return draw_images(model, latents_of(model, seed, count), targets["text"][rows], **sampling), labels[rows]
    asked = labels[rows] if model.num_classes else None
    return draw_images(model, latents_of(model, seed, count), asked, **sampling), asked


def labels_of(targets):
    """The class indices among targets that may hold captions as well."""
    return targets["label"] if isinstance(targets, dict) else targets


def sheet(model, about, columns=10):
    """What `figures.mosaic` draws: a row of samples a class, or ten rows, from latent vectors that are always the same."""
    conditional = model.num_classes or bool(about.get("captions"))
    names = about["class_names"]
    most = min(10 if about.get("captions") else 20, len(names))
    chosen = evenly_spaced(len(names), most) if conditional else range(10)
    latents = latents_of(model, 0, columns if conditional else len(chosen) * columns)
    latents = np.resize(latents, (len(chosen) * columns, model.latent_dim))
    labels = np.repeat(np.asarray(chosen), columns)
    if about.get("captions"):
        labels = encode([names[index] for index in labels], about["words"], about["length"])
    images = draw_images(model, latents, labels, **({"steps": 25} if hasattr(model, "sample") else {}))
    return {"images": images, "columns": columns, "names": [names[index] for index in chosen] if conditional else None}


def trouble(model, found):
    """`(kind, line)` of a collapse or a divergence seen after an epoch, else `None`."""
    if found["class_coverage"] < 0.5 or found["diversity"] < 0.1:
        seen = f"samples cover {found['class_coverage']:.0%} of the classes with {found['diversity']:.0%} of the diversity"
        if hasattr(model, "discriminator_loss"):
            advice = "Lower --learning-rate or change --discriminator-rate"
        elif hasattr(model, "kl_weight"):
            advice = "Lower --learning-rate or change --kl-weight"
        else:
            advice = "More --epochs may be all it needs"
        # Noise differs from picture to picture more than real ones do, and yet none shows a class.
        return "noise" if found["diversity"] > 1.5 else "collapse", f"{seen} of real images. {advice}"
    if hasattr(model, "slope"):  # a critic's score is no probability
        return None
    losses = [float(getattr(model, name).result()) for name in ("discriminator_loss", "generator_loss") if hasattr(model, name)]
    if losses and (losses[0] < 0.05 or losses[1] < 0.05):
        winner = ("discriminator", "generator")[int(np.argmin(losses))]
        return "divergence", f"the {winner} has won, its loss is {min(losses):.3f}. Change --discriminator-rate or -steps"
    return None


def bound(model, examples, seed, batch_size=256):
    """The ELBO of test images in nats and its parts, in bits a pixel, and how many latent variables carry anything.

    `elbo = E_q log p(x | z) - KL`, from one draw of z an image; a variable is active where the variance of its mean over the
    images is above 0.01 (Burda et al., 2016, arXiv 1509.00519).
    """
    mean, log_variance = (part.astype("float64") for part in predict_all(model, examples.x, batch_size))
    z = (mean + np.exp(log_variance / 2) * latents_of(model, [seed, 44], len(mean))).astype("float32")
    errors = []
    for first in range(0, len(z), batch_size):
        rows = slice(first, first + batch_size)
        inputs = {"latent": z[rows], "label": examples.y[rows].astype("int32")} if model.num_classes else z[rows]
        logits, target = predict_all(model.generator, inputs, batch_size).astype("float64"), examples.x[rows] / 255
        errors.append((np.logaddexp(0, logits) - target * logits).sum((1, 2, 3)))
    reconstruction = np.concatenate(errors).mean()
    kl = 0.5 * (mean**2 + np.exp(log_variance) - 1 - log_variance).sum(1).mean()
    nats = reconstruction + kl
    bits = nats / (math.log(2) * math.prod(examples.x.shape[1:]))
    active = (mean.var(0) > 0.01).sum()
    return {"elbo": -nats, "reconstruction": reconstruction, "kl": kl, "bits_per_pixel": bits, "active_units": active}


def spherical(start, end, shares):
    """Points on the great circle from one latent vector to another, their lengths in between (White, 2016, 1609.04468)."""
    cosine = np.dot(start, end) / (np.linalg.norm(start) * np.linalg.norm(end))
    angle, shares = np.arccos(np.clip(cosine, -0.9999, 0.9999)), np.asarray(shares)[:, None]
    return ((np.sin((1 - shares) * angle) * start + np.sin(shares * angle) * end) / np.sin(angle)).astype("float32")
