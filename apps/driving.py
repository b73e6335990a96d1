"""Steer a car by what its camera sees: the angle of the wheel from one picture.

    triptych train driving --recipe steering

Without --data: a drive along a drawn road, half a minute on two cores, squared error .001 (the mean angle .126, ridge .007).
"""

import shlex
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Examples, Report, find_data
from apps.common.data.images.decoding import ENDINGS, NOT_DECODED, fit_pixels
from apps.common.data.images.driving import FEWEST, draw_drive, read_drive, read_views
from apps.common.data.images.moving import Moves, Moving
from apps.common.data.reading import PATH_COLUMNS
from apps.common.data.stored import Stored
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Transfer

METRIC = Metric("mse", higher_is_better=False)
INPUTS = Inputs("files", ENDINGS, NOT_DECODED, column=("center", *PATH_COLUMNS))
FRAMES = 600  # of the drawn road
VALIDATION, TEST = 0.1, 0.2


@dataclass(frozen=True)
class Config(Transfer):
    pretrained: str | None = option(
        None, "weights to begin with: a bundle of driving, or of contrastive --architecture pilotnet (its convolutions)"
    )
    model: Literal["pilotnet"] = option("pilotnet", "architecture")
    width: int = option(24, "filters of the first convolution; the others in proportion", low=1, high=256, search=(8, 16, 24, 48))
    dropout: float = option(0.1, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.5))
    loss: Literal["mse", "mae", "huber"] = option("mse", "what is minimised")
    image_size: tuple[int, ...] = option((66, 200), "height,width all pictures are resized to", low=4, high=1024)
    cut_top: float = option(0.0, "share of the height cut away at the top, such as sky", low=0, high=0.9)
    cut_bottom: float = option(0.0, "share of the height cut away at the bottom, such as the bonnet", low=0, high=0.9)
    mirror: bool = option(True, "mirror half of the pictures in training, the angle's sign with them", search=(True, False))
    brightness: float = option(0.2, "largest share by which pictures get lighter or darker in training", low=0, high=0.9)
    class_weights: str = refused("none", "the target is a number, there are no classes")

    def check(self):
        super().check()
        if len(self.image_size) != 2:
            raise UserError(f"--image-size: expected height,width. Received: {len(self.image_size)} numbers")
        if self.cut_top + self.cut_bottom > 0.9:
            raise UserError("--cut-top and --cut-bottom: expected at most 0.9 together, for something must be left to see")


RECIPES = {
    "steering": Recipe(
        "PilotNet on a recorded drive in a simulator, its last fifth held out",
        data="steering",
        options={"cut_top": 0.375, "cut_bottom": 0.15, "epochs": 20, "batch_size": 32, "schedule": "cosine",
                 "learning_rate": 5e-4},
        metric="mse", lower_is_better=True, beside="mean", minutes=2, seeds=3,
        source="control: the mean angle on the same fifth",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Pictures uint8 `(n, height, width, 3)` and angles `(n, 1)`, divided by their usual size; the last fifth is the test."""
    if about:
        drive = read_drive(find_data(config.data), about["image_shape"][:2], about["cut"])
        return Data(None, None, _examples(drive, about["scale"]), about, drive.notes, config.data)
    shape, cut = config.image_size, (config.cut_top, config.cut_bottom)
    drive = read_drive(find_data(config.data), shape, cut) if config.data else draw_drive(FRAMES, shape, 0)
    count, notes = len(drive.angles), list(drive.notes)
    if count < FEWEST:
        raise UserError(f"--data {config.data}: {count} pictures with an angle. Expected at least {FEWEST}")
    first, last = round((1 - VALIDATION - TEST) * count), round((1 - TEST) * count)
    notes.append(f"in time: {first} pictures to train on, {last - first} for validation, the last {count - last} for the test")
    trained = drive.angles[:first]
    scale = float(np.sqrt(np.mean(trained.astype("float64") ** 2)))
    if trained.std() == 0:
        raise UserError(f"--data {config.data}: the angle is {trained[0]:g} on all training pictures: nothing is to be learned")
    whole = _examples(drive, scale)
    train, validation, test = (whole.subset(np.arange(*ends)) for ends in ((0, first), (first, last), (last, count)))
    moves = Moves(flip=config.mirror, brightness=config.brightness)
    if moves != Moves():
        train = Moving(train, moves, ("image", "angle"), config.seed)
    about = {"image_shape": [*config.image_size, 3], "cut": list(cut), "scale": scale, "mean": float(trained.mean())}
    example = shlex.quote(str(drive.paths[-1])) if drive.paths else ""
    return Data(train, validation, test, about, notes, config.data or "drawn road", example)


def _examples(drive, scale):
    kind = Stored if isinstance(drive.images, np.memmap) else Examples
    return kind(drive.images, drive.angles[:, None] / np.float32(scale))


def build_model(config, data):
    """Pixels in 0..255 -> PilotNet -> the angle divided by its usual size."""
    import keras

    from apps.common.training.losses import number_loss
    from apps.common.training.optimizers import compile_model
    from layers import models

    scale = data.about["scale"]

    def squared_error(y_true, y_pred):
        return keras.ops.mean(keras.ops.square(scale * (keras.ops.cast(y_true, y_pred.dtype) - y_pred)), axis=-1)

    model = models.pilotnet(data.about["image_shape"], width=config.width, dropout=config.dropout)
    metric = keras.metrics.MeanMetricWrapper(squared_error, name="mse")
    return compile_model(model, config, data.train, loss=number_loss(config.loss), metrics=[metric])


def angles_of(examples, about):
    """The angles of examples in their own unit, float64 `(n,)`."""
    return examples.y[:, 0].astype("float64") * about["scale"]


def simple_errors(data):
    """Mean squared errors of the mean angle of training, and of the angle one picture ago, of all but the first."""
    true = angles_of(data.test, data.about)
    return np.mean((true - data.about["mean"]) ** 2), np.mean(np.diff(true) ** 2) if len(true) > 1 else np.nan


def baselines(data, config):
    """The mean angle, the true angle one picture ago, and ridge regression on pictures shrunk to some 200 pixels."""
    from sklearn.linear_model import RidgeCV

    def shrunken(examples):
        found = (examples.take(np.array([place]))[0][0] for place in range(len(examples)))
        return np.stack([fit_pixels(picture, (8, 25, 1)).reshape(-1) for picture in found]) / 255

    mean, last = simple_errors(data)
    plain = data.train.examples if isinstance(data.train, Moving) else data.train
    ridge = RidgeCV(np.logspace(-2, 4, 13)).fit(shrunken(plain), angles_of(plain, data.about))
    error = ridge.predict(shrunken(data.test)) - angles_of(data.test, data.about)
    return {"mean": {"mse": mean}, "last angle": {"mse": last}, "ridge on shrunken pixels": {"mse": np.mean(error**2)}}


def evaluate(model, data, config):
    """Squared and absolute error beside those of simple guesses; the angle over time, and what on the road it hangs on."""
    from apps.common import figures
    from apps.common.reports.driving import over_time
    from apps.common.reports.explain import grad_cam_of_number
    from apps.common.training.batches import predict_examples

    true = angles_of(data.test, data.about)
    found = predict_examples(model, data.test, 64)[:, 0].astype("float64") * data.about["scale"]
    mean, last = simple_errors(data)
    metrics = {
        "mse": np.mean((found - true) ** 2), "mae": np.mean(np.abs(found - true)),
        "mse_mean_predictor": mean, "mse_last_angle": last,
    }  # fmt: skip
    drawn = {
        "angle-over-time": over_time(true, found),
        "angles": figures.scatter(true, found, "true angle", "predicted angle", "angles", diagonal=True),
    }
    sample = np.argsort(-np.abs(found), kind="stable")[:: max(1, len(found) // 12)][:12]
    pictures = data.test.take(sample)[0]
    heat = grad_cam_of_number(model, pictures)
    if heat is not None:
        titles = [f"{found[i]:+.2f} (true {true[i]:+.2f})" for i in sample]
        drawn["grad-cam"] = figures.image_grid(pictures, titles, columns=4, overlays=heat)
    return Report(metrics, drawn)


def predict(model, inputs, about):
    """The angle for each picture, in the unit of the log."""
    from apps.common.training.batches import predict_all

    images, reasons = read_views(inputs, about["image_shape"][:2], about["cut"])
    found = iter(predict_all(model, images)[:, 0] * about["scale"] if len(images) else ())
    return [{"reason": reason} if reason else {"angle": float(next(found))} for reason in reasons]


if __name__ == "__main__":
    start(__spec__)
