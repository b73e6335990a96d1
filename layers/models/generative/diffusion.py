"""Diffusion and flow matching: a picture is drawn from noise in many small steps, conditioned on a class or a text."""

import itertools
import math

import keras
import numpy as np

from ... import backend, drawing
from ...diffusion import SCHEDULES, STEPS, clean_picture, fresh_noise, noise_levels, prediction_target, sampling_times
from ...generative import weighted_mean
from .._inputs import choose
from .._policy import recorded
from ..representation.text_encoder import text_encoder
from .denoiser import denoiser

__all__ = ["Diffusion"]

ops = keras.ops


@keras.saving.register_keras_serializable(package="triptych")
@recorded
class Diffusion(keras.Model):
    """A U-Net that learns to tell the noise in a picture, at any amount of it, and so draws pictures from noise alone.

    The loss of an image is the mean squared error of the prediction at one random time (see `layers.diffusion` for what is
    predicted). With classes or texts it is conditioned on them, but for a tenth of the images in training, which
    makes room for guidance when it draws: `free + guidance (conditional - free)`.

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes it is conditioned on; 0 for none.
        text: `(vocabulary_size, text_length)` of the texts it is conditioned on; `None` for none.
        width: Channels of the U-Net at full size.
        schedule: `"linear"` or `"cosine"`, how noise grows with time; a flow needs none.
        prediction: `"epsilon"`, `"v"`, or `"flow"`, the straight one (flow matching).
        condition_dropout: Share of the images in training whose class or text is left out.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. The target is the label `(batch,)`, or with texts token ids
        `(batch, text_length)`, 0 the padding; with both a dict of `"label"` and `"text"`.
    Output shape: that of the input, what noise is added to: pixels in -1..1. `sample` draws.
    Raises:
        ValueError: There is no such `schedule` or `prediction`.
    Reference: Ho et al., 2020, arXiv 2006.11239; v: Salimans and Ho, 2022, arXiv 2202.00512; flow: Lipman et al., 2022, arXiv
        2210.02747, Liu et al., 2022, arXiv 2209.03003; guidance: Ho and Salimans, 2022, arXiv 2207.12598.
    """

    def __init__(
        self,
        image_shape,
        *,
        num_classes=0,
        text=None,
        width=32,
        schedule="cosine",
        prediction="epsilon",
        condition_dropout=0.1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.image_shape, self.num_classes = tuple(image_shape), num_classes
        self.schedule = choose("schedule", schedule, dict(zip(SCHEDULES, SCHEDULES, strict=True)))
        self.prediction = choose("prediction", prediction, {"epsilon": "epsilon", "v": "v", "flow": "flow"})
        self.condition_dropout = condition_dropout
        self.latent_shape = self.build_codec(width)
        self.latent_dim = math.prod(self.latent_shape)
        self.text_length = text[1] if text else 0
        self.text_encoder = text_encoder(*text, width=2 * width) if text else None
        text_shape = (self.text_length, 2 * width) if text else None
        self.denoiser = denoiser(self.latent_shape, num_classes=num_classes, text_shape=text_shape, width=width)
        self.seeds = keras.random.SeedGenerator()
        self.built = True

    def build_codec(self, width):
        """Make what stands between a picture and what noise is added to: here nothing. Returns the shape of the latter."""
        return self.image_shape

    def call(self, x, training=None):
        return ops.cast(x, keras.config.floatx()) / 127.5 - 1.0

    def pictures(self, x):
        """What `call` made of pictures, as an array of brightness in 0..1."""
        return np.clip(ops.convert_to_numpy(x) * 0.5 + 0.5, 0.0, 1.0)

    def levels(self, count):
        """A random time in 0..1 for each of `count` images, and its alpha and sigma, `(count,)` each."""
        draws = drawing.uniform((count,), self.seeds)
        if self.prediction == "flow":
            return draws, 1.0 - draws, draws
        place = ops.cast(ops.floor(draws * STEPS), "int32")
        tables = [ops.convert_to_tensor(table.astype(keras.config.floatx())) for table in noise_levels(self.schedule)]
        return ops.cast(place + 1, draws.dtype) / STEPS, *(ops.take(table, place, axis=0) for table in tables)

    def condition(self, y, drop=None):
        """What the denoiser is conditioned on, from labels, token ids or a dict of both.

        Args:
            y: As the target of `fit`; `None` for no condition.
            drop: Booleans `(batch,)`, true where the condition is left out; `None` keeps all.
        """
        given = y if isinstance(y, dict) else {"label": y, "text": y}
        conditions = {}
        if self.num_classes:
            label = ops.reshape(ops.cast(given["label"], "int32"), (-1,))
            conditions["label"] = label if drop is None else ops.where(drop, self.num_classes, label)
        if self.text_encoder:
            tokens = ops.cast(given["text"], "int32")
            tokens = tokens if drop is None else ops.where(ops.expand_dims(drop, 1), 0, tokens)
            conditions |= self.text_encoder(tokens)
        return conditions

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        clean = ops.stop_gradient(y_pred)
        count = ops.shape(clean)[0]
        time, *levels = self.levels(count)
        alpha, sigma = (ops.reshape(level, (-1, 1, 1, 1)) for level in levels)
        noise = drawing.normal(ops.shape(clean), self.seeds)
        dropped = drawing.uniform((count,), self.seeds) < self.condition_dropout if training else None
        inputs = {"image": alpha * clean + sigma * noise, "time": time, **self.condition(y, dropped)}
        target = prediction_target(self.prediction, clean, noise, alpha, sigma)
        errors = ops.square(self.denoiser(inputs, training=training) - target)
        return weighted_mean(ops.mean(errors, axis=(1, 2, 3)), sample_weight) + sum(self.losses)

    def sample(self, noise, y=None, *, steps=50, guidance=1.0, eta=0.0, seed=0):
        """Draw pictures: brightness in 0..1, `(n, height, width, channels)`; arguments as `trajectory`."""
        *_, last = self.trajectory(noise, y, steps=steps, guidance=guidance, eta=eta, seed=seed)
        return self.pictures(last)

    def trajectory(self, noise, y=None, *, steps=50, guidance=1.0, eta=0.0, seed=0):
        """Go from noise to what `pictures` makes pictures of, and yield each step, `steps + 1` tensors in all.

        With eta 0 this is DDIM, which adds no noise; with eta 1 DDPM, at 1,000 steps that of the paper; for a flow, with eta 0,
        Euler's method. All are one formula, `x' = alpha' x_0 + sqrt(sigma'^2 - s^2) e + s z`.

        Args:
            noise: Standard normal numbers, `(n, latent_dim)` or `(n, *latent_shape)`.
            y: What to draw, as the target of `fit`; `None` leaves it to the model. Of texts also `(first, second, shares)`, what
                lies between two, `shares` `(n,)` in 0..1.
            steps: Number of steps, up to 1,000.
            guidance: 1 is the conditional model; above, its condition counts for more than it would, by two passes a step.
            eta: Share of fresh noise in each step.
            seed: Of the fresh noise.
        Raises:
            ValueError: There are no so many steps, or `guidance` has no class and no text to guide by.
        """
        conditional = bool(self.num_classes or self.text_encoder)
        if guidance != 1.0 and (not conditional or y is None):
            raise ValueError(f"`guidance` needs a class or a text to guide by. Received: guidance={guidance} without one")
        x = np.reshape(noise, (-1, *self.latent_shape)).astype("float32")
        times = sampling_times(self.prediction, self.schedule, steps)
        conditions, draws = self.encoded(len(x), y, guidance != 1.0), np.random.default_rng([seed, 50])
        step = self.in_inference("step", self.step) if guidance == 1.0 else self.in_inference("guided_step", self.guided_step)
        yield x
        for now, later in itertools.pairwise(times):
            fresh = fresh_noise(now, later, eta)
            z = draws.normal(size=x.shape if eta else (1, 1, 1, 1)).astype("float32")
            numbers = np.array([*now, *later, fresh, guidance], "float32")
            x = step(x, numbers, z, conditions)
            yield x

    def encoded(self, count, y, guided):
        """The condition of each image to be drawn; if guided, those of the same images without one after them."""
        if isinstance(y, tuple):
            first, second, shares = y
            ends = [self.encoded(count, each, guided) for each in (first, second)]
            return between(*ends, np.tile(np.asarray(shares, "float32"), 2 if guided else 1))
        empty = {}
        if self.num_classes:
            empty["label"] = np.full(count, self.num_classes, "int32")
        if self.text_encoder:
            empty["text"] = np.zeros((count, self.text_length), "int32")
        given = y if isinstance(y, dict) else {} if y is None else dict.fromkeys(empty, y)
        given = {name: np.asarray(given.get(name, nothing), "int32") for name, nothing in empty.items()}
        if guided:
            given = {name: np.concatenate([part, empty[name]]) for name, part in given.items()}
        return self.in_inference("condition", self.condition)(given) if empty else {}

    def step(self, x, numbers, z, conditions):
        """One step of the sampler; `numbers` are a time, alpha and sigma, the next ones, the fresh noise's s and the guidance."""
        return self.moved(x, self.predicted(x, numbers[0], conditions), numbers, z)

    def guided_step(self, x, numbers, z, conditions):
        """`step` away from what would be drawn without a condition; `conditions` has those first and then none as often."""
        conditional, free = ops.split(self.predicted(ops.concatenate([x, x]), numbers[0], conditions), 2)
        return self.moved(x, free + numbers[7] * (conditional - free), numbers, z)

    def predicted(self, x, time, conditions):
        """What the denoiser says of pictures that are all at the same time."""
        times = ops.broadcast_to(time, (ops.shape(x)[0],))
        return self.denoiser({"image": x, "time": times, **conditions}, training=False)

    def moved(self, x, prediction, numbers, z):
        """From one time to the next, `alpha' x_0 + sqrt(sigma'^2 - s^2) e + s z`."""
        _, alpha, sigma, _, next_alpha, next_sigma, fresh, _ = ops.unstack(numbers, 8)
        clean = self.bounded(clean_picture(self.prediction, x, prediction, alpha, sigma))
        noise = (x - alpha * clean) / sigma
        return next_alpha * clean + ops.sqrt(ops.maximum(next_sigma**2 - fresh**2, 0.0)) * noise + fresh * z

    def bounded(self, clean):
        """A predicted picture cut to the range that pictures have."""
        return ops.clip(clean, -1.0, 1.0)

    def in_inference(self, name, function):
        """A function of this model in inference, compiled once and kept beside it."""
        kept = vars(self).setdefault("_compiled", {})  # no attribute: Keras would look for weights in it
        if name not in kept:
            kept[name] = backend.compiled(function, self)
        return kept[name]


def between(first, second, shares):
    """Conditions on the way from some to others; a token that either has counts, but at the ends those of the end alone."""
    found, shares = {}, ops.convert_to_tensor(shares)
    for name, start in first.items():
        end, share = second[name], ops.reshape(shares, (-1,) + (1,) * (len(start.shape) - 1))
        if keras.backend.standardize_dtype(start.dtype) == "bool":
            found[name] = ops.logical_or(ops.logical_and(start, share < 1.0), ops.logical_and(end, share > 0.0))
        else:
            share = ops.cast(share, start.dtype)
            found[name] = (1 - share) * start + share * end
    return found
