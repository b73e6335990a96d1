"""Diffusion: how much of a picture and of noise there is at each time, what a network predicts of the two, and blocks for one.

At time t a picture x_0 has become `x_t = alpha_t x_0 + sigma_t e`, e standard normal. A network sees x_t and t and predicts e, or
`v = alpha_t e - sigma_t x_0`, or for a straight flow `e - x_0`; each gives both x_0 and e.
"""

import math

import keras
import numpy as np

from .convolution import Conv2D
from .dense import Dense
from .transformer import positive

__all__ = ["DenoisingBlock", "TimeEmbedding"]

ops = keras.ops

STEPS = 1000  # in which the papers cut the time from a picture to noise
SCHEDULES = ("linear", "cosine")


def noise_levels(schedule, steps=STEPS):
    """alpha_t and sigma_t at the times t = 1 ... `steps`, float64 arrays with `alpha^2 + sigma^2 = 1`.

    alpha_t^2 is the product of `1 - beta` up to t. Linear: beta goes evenly from 1e-4 to 0.02 for 1,000 steps. Cosine: alpha_t^2
    is proportional to `cos^2((t / steps + s) / (1 + s) pi / 2)`, s = 0.008, beta at most 0.999.

    Raises:
        ValueError: There is no such schedule.
    Reference: linear: Ho et al., 2020, arXiv 2006.11239; cosine: Nichol and Dhariwal, 2021, arXiv 2102.09672.
    """
    if schedule == "linear":
        betas = np.linspace(1e-4, 0.02, steps) * (STEPS / steps)
    elif schedule == "cosine":
        squares = np.cos((np.arange(steps + 1) / steps + 0.008) / 1.008 * math.pi / 2) ** 2
        betas = 1.0 - squares[1:] / squares[:-1]
    else:
        raise ValueError(f"`schedule` must be one of {', '.join(SCHEDULES)}. Received: schedule={schedule!r}")
    remaining = np.cumprod(1.0 - np.minimum(betas, 0.999))
    return np.sqrt(remaining), np.sqrt(1.0 - remaining)


def prediction_target(kind, x, noise, alpha, sigma):
    """What the network should say of `alpha x + sigma noise`."""
    if kind == "epsilon":
        return noise
    return alpha * noise - sigma * x if kind == "v" else noise - x


def clean_picture(kind, x, prediction, alpha, sigma):
    """x_0 as a prediction at `x` has it."""
    if kind == "epsilon":
        return (x - sigma * prediction) / alpha
    # v for alpha^2 + sigma^2 = 1; a flow goes straight, alpha + sigma = 1.
    return alpha * x - sigma * prediction if kind == "v" else x - sigma * prediction


def sampling_times(kind, schedule, steps):
    """What a sampler goes through, from noise to a picture, `(steps + 1, 3)`: time in 0..1, alpha and sigma; the last is 0, 1, 0.

    A flow is followed in even steps from 1 to 0; else the steps are spread evenly over the 1,000 of training.

    Raises:
        ValueError: There are fewer steps than one, or more than the training's.
    """
    if not 1 <= steps <= STEPS:
        raise ValueError(f"`steps` must be between 1 and {STEPS}. Received: steps={steps}")
    if kind == "flow":
        times = np.linspace(1.0, 0.0, steps + 1)
        return np.stack([times, 1.0 - times, times], axis=1)
    places = np.round(np.linspace(STEPS, 0, steps + 1)).astype(int)[:-1]
    rows = np.stack([places / STEPS, *(levels[places - 1] for levels in noise_levels(schedule))], axis=1)
    return np.concatenate([rows, [[0.0, 1.0, 0.0]]])


def fresh_noise(now, later, eta):
    """The deviation of the noise that one step of DDIM adds: none with eta 0, that of DDPM with eta 1.

    Args:
        now, later: Rows `(time, alpha, sigma)` of `sampling_times`.
    Reference: Song et al., 2020, arXiv 2010.02502, equation 16.
    """
    kept = 1.0 - (now[1] / later[1]) ** 2  # the variance that came in between the two times
    return eta * later[2] / now[2] * math.sqrt(max(kept, 0.0))


@keras.saving.register_keras_serializable(package="triptych")
class TimeEmbedding(keras.layers.Layer):
    """A time in 0..1 as sines and cosines of 1,000 t, at frequencies from 1 down to 1/10,000, then a layer of units.

    Args:
        width: Number of features, even.
    Input shape: `(batch,)`.
    Output shape: `(batch, width)`.
    Raises:
        ValueError: The width is odd.
    Reference: Vaswani et al., 2017, arXiv 1706.03762; Ho et al., 2020, arXiv 2006.11239.
    """

    def __init__(self, width, **kwargs):
        super().__init__(autocast=False, **kwargs)  # half precision has no thousand different times
        if positive("width", width) % 2:
            raise ValueError(f"`width` must be even. Received: width={width}")
        self.width = width
        self.frequencies = 10000.0 ** (-np.arange(width // 2) / max(1, width // 2 - 1)) * STEPS
        self.hidden = Dense(width, activation="silu", name="hidden", dtype=self.dtype_policy)

    def build(self, input_shape):
        self.hidden.build((None, self.width))

    def call(self, time):
        angles = ops.expand_dims(time, -1) * ops.cast(self.frequencies, time.dtype)
        return self.hidden(ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1))

    def compute_output_shape(self, input_shape):
        return input_shape[0], self.width


@keras.saving.register_keras_serializable(package="triptych")
class DenoisingBlock(keras.layers.Layer):
    """Two convolutions beside a short cut, the second's input scaled and shifted by a condition: `skip(x) + f(x, condition)`.

    `f = Conv(SiLU((1 + s) Norm(Conv(SiLU(Norm(x)))) + b))`, s and b linear in the condition. The last convolution is drawn a
    hundred times smaller than usual, so that the block begins as its short cut.

    Args:
        filters: Channels of the result.
        groups: Groups of channels that are normalised together, at most; see `group_norm`.
    Input shape: `x` of `(batch, height, width, channels)` and a condition of `(batch, features)`.
    Output shape: `(batch, height, width, filters)`.
    Reference: Dhariwal and Nichol, 2021, arXiv 2105.05233.
    """

    def __init__(self, filters, groups=8, **kwargs):
        super().__init__(**kwargs)
        self.filters = positive("filters", filters)
        self.groups = positive("groups", groups)

    def build(self, x_shape, condition_shape):
        policy, between = self.dtype_policy, (*x_shape[:-1], self.filters)
        small = keras.initializers.VarianceScaling(1e-4, "fan_avg", "uniform")
        self.first_norm = group_norm(x_shape[-1], self.groups, name="first_norm", dtype=policy)
        self.first = Conv2D(self.filters, 3, padding="same", name="first", dtype=policy)
        self.scale_shift = Dense(2 * self.filters, name="scale_shift", dtype=policy)
        self.second_norm = group_norm(self.filters, self.groups, name="second_norm", dtype=policy)
        self.second = Conv2D(self.filters, 3, padding="same", name="second", kernel_initializer=small, dtype=policy)
        self.first_norm.build(x_shape)
        self.first.build(x_shape)
        self.scale_shift.build(condition_shape)
        self.second_norm.build(between)
        self.second.build(between)
        self.skip = None
        if x_shape[-1] != self.filters:
            self.skip = Conv2D(self.filters, 1, name="skip", dtype=policy)
            self.skip.build(x_shape)

    def call(self, x, condition):
        hidden = self.first(ops.silu(self.first_norm(x)))
        scale, shift = ops.split(self.scale_shift(condition)[:, None, None, :], 2, axis=-1)
        hidden = self.second(ops.silu(self.second_norm(hidden) * (1.0 + scale) + shift))
        return hidden + (x if self.skip is None else self.skip(x))

    def compute_output_shape(self, x_shape, condition_shape):
        return (*x_shape[:-1], self.filters)


def group_norm(channels, groups=8, **options):
    """Group normalisation in the largest number of groups up to `groups` that divides the channels, 4 or more in each."""
    largest = max(1, min(groups, channels // 4))
    fitting = max(number for number in range(1, largest + 1) if channels % number == 0)
    return keras.layers.GroupNormalization(fitting, epsilon=1e-5, **options)
