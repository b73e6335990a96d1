"""Compress pictures into short codes, clean them of noise, map them, and find those that are unlike the rest.

    triptych train autoencoding --latent-dim 8

The default, 8 x 8 digits, takes half a minute on two cores: 22.6 dB with 16 numbers a digit, principal components 19.8.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, complete_splits, evenly, evenly_spaced
from apps.common.data.images.codes import ENDING, code_range, from_bytes, read_code, to_bytes, write_code
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED, Unreadable
from apps.common.data.images.labelled import read_images
from apps.common.data.images.unlabelled import as_examples, example_of, read_pictures
from apps.common.errors import UserError, nearest
from apps.common.options.declare import option, refused
from apps.common.options.files import NamedFiles
from apps.common.options.training import Recipe, Splitting

KINDS = ("convolutional", "dense", "spatial")
METRIC = Metric("psnr")
INPUTS = Inputs("files", (*ENDINGS, ENDING), NOT_DECODED)
MOST = 1000  # pictures that an epoch, a map or a range is judged on


@dataclass(frozen=True)
class Config(Splitting):
    model: Literal[(*KINDS, "vae")] = option(
        "convolutional", "architecture; the code of spatial is a small picture, that of vae a normal distribution", search=KINDS
    )
    epochs: int = option(150, "passes over the training data", low=1, high=100_000)
    latent_dim: int | None = option(
        None, "length of the code (16); of spatial its channels (2)", low=1, high=4096, search=(4, 8, 16, 32)
    )
    width: int = option(32, "channels of the first hidden picture; dense has 8 times as many units", low=1, high=1024,
                        search=(16, 32, 64))  # fmt: skip
    depth: int | None = option(None, "times a picture is halved; of dense the hidden layers", low=1, high=8)
    noise: float = option(
        0.0, "deviation of noise to be taken away, of brightness in -1..1", low=0, high=10, needs={"model": KINDS}
    )
    kl_weight: float = option(
        1.0, "factor of the KL divergence", low=0, high=1000, search=(0.25, 4.0), log=True, needs={"model": "vae"}
    )
    anomaly_quantile: float = option(
        0.99, "share of the validation pictures whose error is below that of an anomaly", above=0, high=1
    )
    leave_out: str | None = option(None, "class that is not trained on, whose pictures are to stand out in the test")
    image_size: int | None = option(None, "side every picture is resized to; else the side they share", low=4, high=512)
    class_weights: str = refused("none", "every picture counts once")


@dataclass(frozen=True)
class PredictOptions(NamedFiles):
    mode: Literal["reconstruct", "codes", "scores"] = option(
        "reconstruct", "what is written to --folder: pictures through the code and back, their codes, or nothing"
    )
    folder: str = option("pictures", "where the files go")
    with_folder = True  # digits/3/1.png and digits/4/1.png


RECIPES = {
    "mnist-denoise": Recipe(
        "convolutional denoising autoencoder on MNIST, noise of deviation 0.5",
        data="mnist",
        options={"keep": "last",
                 "noise": 0.5, "latent_dim": 64, "width": 16, "epochs": 8, "batch_size": 128, "learning_rate": 2e-3,
                 "schedule": "cosine"},
        metric="psnr_gain", floor=0.0, minutes=4,
        source="control: the better of a median filter and PCA at equal code size; the gain over it in dB",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Pictures as uint8 `(n, height, width, channels)` and, for the map, class indices, in three splits."""
    name, options = config.data or "digits", {"image_size": config.image_size}
    if about:
        *size, channels = about["image_shape"]
        options = {"image_size": tuple(size), "channels": channels}
    found = read_pictures(name, **options)
    splits, names, notes = as_examples(found), found.class_names, list(found.notes)
    if about:
        chosen = [splits["test"]] if "test" in splits else list(splits.values())
        x, y = np.concatenate([part.x for part in chosen]), np.concatenate([part.y for part in chosen])
        return Data(None, None, Examples(x, y), {**about, "class_names": names}, notes, name)
    train, validation, test = complete_splits(splits, config, notes)
    if config.leave_out is not None:
        if config.leave_out not in names:
            raise UserError(f"--leave-out {config.leave_out}: not a class of the data. {nearest(config.leave_out, names)}")
        train, validation = (without(part, names.index(config.leave_out)) for part in (train, validation))
        notes.append(f"{len(train)} and {len(validation)} of them without class {config.leave_out}")
    about = {"class_names": names, "image_shape": list(train.x.shape[1:])}
    return Data(train, validation, test, about, notes, name, example=example_of(config.data, found))


def without(examples, label):
    return examples.subset(np.flatnonzero(examples.y != label))


def build_model(config, data):
    """Encoder and decoder of one of the kinds; both own their objective."""
    from apps.common.training.optimizers import compile_model
    from layers import models

    shape, sizes = data.about["image_shape"], {"width": config.width, "depth": config.depth}
    length = config.latent_dim or (2 if config.model == "spatial" else 16)
    if config.model == "vae":
        model = models.VAE(shape, length, likelihood="gaussian", kl_weight=config.kl_weight, **sizes)
    else:
        model = models.Autoencoder(shape, length, kind=config.model, noise=config.noise, **sizes)
    return compile_model(model, config, Examples(data.train.x))


def on_epoch(model, epoch, tracker, data, config):
    """How well validation pictures come back, from noise where it is to be taken away."""
    from apps.common.reports.reconstruction import noisy, psnr, restored, squared_errors

    images = evenly(data.validation.x, MOST)
    given = noisy(images, config.noise, config.seed) if config.noise else images
    return {"val_psnr": float(psnr(squared_errors(lambda x: restored(model, x), given, images)))}


def baselines(data, config):
    """The mean picture, and principal components with as long a code; of noisy pictures the median filter as well."""
    from apps.common.reports.reconstruction import median_filtered, psnr, squared_errors

    test, given = normal_and_given(data, config)
    mean = evenly(data.train.x, 10 * MOST).mean(0) / 255
    size = data.about["code_size"]
    found = {
        "mean picture": {"psnr": psnr(squared_errors(lambda x: mean, test, test))},
        f"PCA with {size} components": {"psnr": pca_psnr(data, config, test, given)},
    }
    if config.noise:
        found["noisy as it is"] = {"psnr": psnr(squared_errors(lambda x: x / 255, given, test))}
        found["median filter"] = {"psnr": psnr(squared_errors(median_filtered, given, test))}
    return found


def normal_and_given(data, config):
    """The test pictures of the classes trained on, all where there are none, and what the model is given of them."""
    from apps.common.reports.reconstruction import noisy

    names = data.about["class_names"]
    test = without(data.test, names.index(config.leave_out)) if config.leave_out in names else data.test
    test = test if len(test) else data.test
    return test.x, noisy(test.x, config.noise, config.seed + 1) if config.noise else test.x


def pca_psnr(data, config, test, given):
    from apps.common.reports.reconstruction import components_of, psnr, squared_errors

    return psnr(squared_errors(components_of(data, data.about["code_size"], config.seed).restored, given, test))


def evaluate(model, data, config):
    """PSNR beside PCA's, on other data alone; bytes beside JPEG's; maps; what stands out."""
    from apps.common import figures
    from apps.common.reports.maps import NEIGHBOURS, maps, neighbours_kept, pixels, principal_map
    from apps.common.reports.reconstruction import (
        codes_of,
        components_of,
        eight_bit,
        histogram,
        median_filtered,
        psnr,
        restored,
        squared_errors,
    )

    def rebuild(x):
        return restored(model, x)

    test, given = normal_and_given(data, config)
    metrics = {"psnr": psnr(squared_errors(rebuild, given, test))}
    if data.train is not None:
        # What prediction needs of the trained model goes into the bundle with the rest.
        limits = code_range(codes_of(model, evenly(data.train.x, MOST)))
        errors = squared_errors(rebuild, data.validation.x, data.validation.x)
        threshold = float(np.quantile(errors, config.anomaly_quantile))
        data.about.update(code_size=model.latent_dim, code_range=limits, threshold=threshold)
        metrics["psnr_pca"] = pca_psnr(data, config, test, given)
    if config.noise:
        metrics["psnr_noisy"] = psnr(squared_errors(lambda x: x / 255, given, test))
        metrics["psnr_median"] = psnr(squared_errors(median_filtered, given, test))
    others = [metrics[name] for name in ("psnr_pca", "psnr_median") if name in metrics]
    if others:  # on other data than those of the training there are none
        metrics["psnr_gain"] = metrics["psnr"] - max(others)

    errors, threshold = squared_errors(rebuild, data.test.x, data.test.x), data.about["threshold"]
    metrics |= anomalies(errors, data, config)
    chosen = evenly_spaced(len(test), 10)
    rows = {"test picture": test[chosen], "noisy": given[chosen], "through the code": eight_bit(rebuild(given[chosen]))}
    if not config.noise:
        del rows["noisy"]
    if data.train is not None:
        components = components_of(data, model.latent_dim, config.seed)
        rows["PCA"] = eight_bit(components.restored(given[chosen]))
    sample = evenly_spaced(len(data.test), MOST)
    images, labels = data.test.x[sample], data.test.y[sample]
    points = {"codes": principal_map(codes_of(model, images)), "pixels (PCA)": principal_map(pixels(images))}
    if len(sample) > 2 * NEIGHBOURS:  # of fewer, most others are neighbours whatever the map
        metrics["neighbours_kept"] = neighbours_kept(pixels(images), points["codes"])
        metrics["neighbours_kept_pca"] = neighbours_kept(pixels(images), points["pixels (PCA)"])
    strange = np.argsort(-errors)[:12]
    drawn = {
        "reconstructions": figures.generated(
            figures.mosaic(np.concatenate(list(rows.values())), len(chosen), names=list(rows)), model
        ),
        "map": maps(points, labels, data.about["class_names"]),
        "errors": histogram(errors, threshold, "how well test pictures come back"),
        "strangest": figures.image_grid(data.test.x[strange], [f"{errors[index]:.2g}" for index in strange]),
    }
    table = compression(model, data, config)
    metrics |= {"code_bytes": table[0]["bytes"], "psnr_code": table[0]["psnr"], "jpeg_bytes": table[-1]["bytes"]}
    metrics["psnr_jpeg"] = table[-1]["psnr"]
    return Report(metrics, drawn, {"compression": table})


def anomalies(errors, data, config):
    """The share of the test above the threshold, and how well a class that was left out is told by its error."""
    found = {"anomaly_share": np.mean(errors > data.about["threshold"])}
    names = data.about["class_names"]
    if config.leave_out in names:
        from sklearn.metrics import roc_auc_score

        strange = data.test.y == names.index(config.leave_out)
        found["anomaly_share"] = np.mean(errors[~strange] > data.about["threshold"]) if (~strange).any() else float("nan")
        if 0 < strange.sum() < len(strange):
            found |= {"anomaly_auc": roc_auc_score(strange, errors)}
        if strange.any():
            found["anomaly_recall"] = np.mean(errors[strange] > data.about["threshold"])
    return found


def compression(model, data, config):
    """Bytes a picture and PSNR of some test pictures: the code in bytes, that of PCA, and JPEG at about the size."""
    from apps.common.reports.reconstruction import SHEET, as_jpeg, codes_of, components_of, decoded, psnr

    images = data.test.x[evenly_spaced(len(data.test), SHEET)]

    def row(method, size, brightness):
        return {"method": method, "bytes": round(float(size), 1), "psnr": psnr(np.square(brightness - images / 255))}

    codes, limits = codes_of(model, images), data.about["code_range"]
    rows = [
        row("code, a byte a number", codes[0].size, decoded(model, from_bytes(to_bytes(codes, limits), limits))),
        row("code, four bytes a number", 4 * codes[0].size, decoded(model, codes)),
    ]
    if data.train is not None:
        components = components_of(data, model.latent_dim, config.seed)
        found = components.codes(images)
        fitted = code_range(components.codes(evenly(data.train.x, MOST)))
        rows.append(row("PCA, a byte a number", found[0].size, components.decoded(from_bytes(to_bytes(found, fitted), fitted))))
    quality, size, back = as_jpeg(images, codes[0].size)
    return [*rows, row(f"JPEG of quality {quality}, all in one file", size, back / 255)]


def predict(model, inputs, about, options=PredictOptions()):
    """The error of each picture and whether it stands out; the picture again, or its code; of a code its picture."""
    codes = [path for path in inputs if str(path).endswith(ENDING)]
    pictures = [path for path in inputs if not str(path).endswith(ENDING)]
    rows = {True: unpacked(model, codes, about, options), False: judged(model, pictures, about, options)}
    found = {kind: iter(each) for kind, each in rows.items()}
    return [next(found[str(path).endswith(ENDING)]) for path in inputs]


def judged(model, paths, about, options):
    """A row for each picture file."""
    from apps.common.reports.drawn_files import made_folder, origin_of, write_images
    from apps.common.reports.reconstruction import codes_of, decoded, eight_bit

    images, reasons = read_images(paths, about["image_shape"])
    rows = [{"reason": reason} if reason else {} for reason in reasons]
    good = [index for index, reason in enumerate(reasons) if not reason]
    if not good:
        return rows
    codes, names = codes_of(model, images), [options.names.of(paths[index]) for index in good]
    back = decoded(model, codes)
    errors = np.square(back - images / 255).reshape(len(images), -1).mean(1)
    for index, error in zip(good, errors.tolist(), strict=True):
        rows[index] = {"score": error, "threshold": about["threshold"], "anomalous": error > about["threshold"]}
    if options.mode == "reconstruct":
        said = [origin_of(model, about)] * len(names)
        for index, path in zip(good, write_images(options.folder, eight_bit(back), names, said), strict=True):
            rows[index]["picture"] = str(path)
    if options.mode == "codes":
        folder = made_folder(options.folder)
        for index, name, code in zip(good, names, to_bytes(codes, about["code_range"]), strict=True):
            write_code(folder / (name + ENDING), code, about["code_range"])
            rows[index] |= {"code": str(folder / (name + ENDING)), "bytes": (folder / (name + ENDING)).stat().st_size}
    return rows


def unpacked(model, paths, about, options):
    """A row for each file of a code: where its picture was written."""
    from apps.common.reports.drawn_files import origin_of, write_images
    from apps.common.reports.reconstruction import decoded, eight_bit

    codes, rows, names = [], [], []
    for path in paths:
        try:
            codes.append(read_code(path, model.generator.input_shape[1:], about["code_range"]))
            names.append(options.names.of(path))
            rows.append({})
        except (Unreadable, OSError) as error:
            rows.append({"reason": f"not a readable code: {error}"})
    if codes:
        images = eight_bit(decoded(model, from_bytes(np.stack(codes), about["code_range"])))
        written = iter(write_images(options.folder, images, names, [origin_of(model, about)] * len(names)))
        rows = [row or {"picture": str(next(written))} for row in rows]
    return rows


if __name__ == "__main__":
    start(__spec__)
