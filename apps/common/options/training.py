"""The options every training run shares: what the field calls technique, and published recipes made of them.

Nothing here imports a backend; `training/optimizers.py` turns these options into Keras objects.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from apps.common.errors import UserError
from apps.common.options.declare import option

ACTIVATIONS = (
    "relu", "sigmoid", "tanh", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "softsign", "softmax", "linear",
)  # fmt: skip
Activation = Literal[ACTIVATIONS]
LIBRARIES = ("keras:", "hf:", "tfhub:")  # how a source of weights begins that is a network of another library


@dataclass(frozen=True)
class Training:
    """Options of a run. Each is a flag, an MLflow parameter, a tuner's dimension and part of the bundle's record."""

    data: str | None = option(None, "path of your data, or the name of a known set; without it a small set at hand")
    epochs: int = option(10, "passes over the training data", low=1, high=100_000)
    batch_size: int = option(64, "examples a step", low=1, high=65_536, search=(16, 32, 64, 128, 256))
    seed: int = option(0, "seed of the split, initial weights, data order and dropout", low=0, high=2**31 - 1)
    optimizer: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adagrad", "adadelta"] = option(
        "adam", "gradient descent rule", search=("momentum", "rmsprop", "adam", "adamw")
    )
    learning_rate: float = option(1e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(1e-4, 1e-1), log=True)
    momentum: float = option(
        0.9, "share of the last step kept", low=0, high=0.9999, needs={"optimizer": ("momentum", "nesterov")}
    )
    beta1: float = option(
        0.9, "share of the mean gradient kept", low=0, high=0.9999, needs={"optimizer": ("adam", "adamw")}
    )
    beta2: float = option(
        0.999, "share of the mean squared gradient kept; short runs want less", low=0, high=0.99999,
        needs={"optimizer": ("adam", "adamw")},
    )  # fmt: skip
    weight_decay: float = option(
        0.0, "decoupled weight decay of kernels", low=0, high=1, search=(1e-6, 1e-1), log=True,
        needs={"optimizer": ("sgd", "momentum", "nesterov", "rmsprop", "adamw", "adam")},
    )  # fmt: skip
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "constant", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    warmup: float = option(
        0.0, "share of the run over which the learning rate rises from zero", low=0, high=0.9,
        needs={"schedule": ("constant", "cosine", "step", "exponential")},
    )  # fmt: skip
    final_rate: float = option(
        0.0, "share of the learning rate at which the cosine ends", low=0, high=1, needs={"schedule": "cosine"}
    )
    decay_rate: float = option(
        0.1, "factor of each drop of the learning rate", above=0, high=1, needs={"schedule": ("step", "exponential", "plateau")}
    )
    decay_epochs: int = option(
        10, "epochs between drops (plateau: judged epochs without progress before one)", low=1,
        needs={"schedule": ("step", "exponential", "plateau")},
    )  # fmt: skip
    clip_norm: float | None = option(None, "largest norm of the whole gradient", above=0)
    clip_value: float | None = option(None, "largest entry of a gradient", above=0)
    l1: float = option(0.0, "L1 penalty on kernels", low=0, high=10)
    l2: float = option(0.0, "L2 penalty on kernels", low=0, high=10)
    initializer: Literal[
        "default", "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_normal", "orthogonal", "random_normal"
    ] = option("default", "how kernels are drawn; default is each layer's own (Xavier = glorot, He = he)")
    early_stopping: int = option(0, "judged epochs without progress on validation before stopping (0: never)", low=0)
    keep: Literal["best", "last"] = option("best", "the epoch whose weights are kept: the best on validation, or the last")
    ema: float = option(0.0, "decay of the moving average of the weights used at the end (0: off)", low=0, high=0.99999)
    accumulate: int = option(1, "steps whose gradients are averaged into one update", low=1, high=10_000)
    precision: Literal["float32", "mixed_bfloat16", "mixed_float16"] = option("float32", "number format of the computation")
    compile: Literal["auto", "on", "off"] = option("auto", "XLA or torch.compile; auto is the backend's best on its own")
    distribute: Literal["none", "data"] = option("none", "split each batch over the devices of this machine")
    class_weights: Literal["none", "balanced"] = option("none", "weigh classes by how rare they are")
    gradient_flow: bool = option(False, "record the norm of the gradient of every layer at each epoch, as a figure")
    checkpoint_every: int = option(1, "epochs between checkpoints; 0 for as many as take a thousandth of the time", low=0)

    # No option: into how many parts a batch is cut because it did not fit into memory.
    parts: ClassVar[int] = 1
    # The options that name other bundles: what a run took from them is in its own when that is evaluated.
    sources: ClassVar[tuple] = ()

    @property
    def keeps_best(self):
        """Whether the best epoch's weights are kept; an average of the weights is one of the whole run."""
        return self.keep == "best" and not self.ema

    def check(self):
        """What two options together cannot mean."""
        if self.clip_norm is not None and self.clip_value is not None:
            raise UserError("--clip-norm and --clip-value exclude each other: leave one out")
        if self.ema and self.early_stopping:
            raise UserError("--ema and --early-stopping exclude each other: both choose the final weights; leave one out")
        if self.early_stopping and self.keep == "last":
            raise UserError("--keep last and --early-stopping exclude each other: stopping early goes back to the best epoch")
        if self.schedule == "plateau" and self.warmup:
            raise UserError("--warmup does nothing with --schedule plateau: leave it out")


def is_given(value):
    """What an option `needs` of `pretrained` that does nothing without."""
    return value is not None


def is_split(value):
    """What an option `needs` of `trunk_groups` that says how its groups differ."""
    return value > 1


def is_missing(value):
    """What an option `needs` of `pretrained` that the network trained before decides: `needs={"pretrained": is_missing}`."""
    return value is None


@dataclass(frozen=True)
class Transfer(Training):
    """Options of a run that may begin with weights trained before.

    An app that can build on networks of other libraries says of which, by `libraries`, and names them in the help of
    `pretrained`; it gives their layers to `compile_model` as `trunk`.
    """

    libraries: ClassVar[tuple] = ()  # of LIBRARIES
    sources: ClassVar[tuple] = ("pretrained",)
    bundle_rate: ClassVar[float] = 0.1  # what `trunk_rate` is for a bundle

    pretrained: str | None = option(None, "weights to begin with: a bundle folder, a run id or name@alias")
    freeze: bool = option(
        False, "the pretrained trunk stays as it is, only what is new is trained", needs={"pretrained": is_given}
    )
    unfreeze_epoch: int = option(
        0, "epochs after which a trunk that was held still is trained as well (0: from the start); so many more for each deeper "
        "group of --trunk-groups", low=0,
        needs={"pretrained": is_given, "freeze": False},
    )  # fmt: skip
    trunk_rate: float | None = option(
        None, "factor of the learning rate for the pretrained trunk (0.1; for a bundle of texts 1)", above=0, high=1,
        search=(0.01, 1.0), log=True,
        needs={"pretrained": is_given, "freeze": False},
    )  # fmt: skip
    # Gradual unfreezing and discriminative rates: Howard & Ruder, 2018 (ULMFiT), arXiv 1801.06146.
    trunk_groups: int = option(
        1, "groups of layers the pretrained trunk is split into; the deeper one lies, the later it is trained (--unfreeze-epoch "
        "epochs after the one above) and the lower its rate (--group-rate)", low=1, high=100,
        needs={"pretrained": is_given, "freeze": False},
    )  # fmt: skip
    group_rate: float = option(
        0.385, "factor of the learning rate from one group of the trunk to the next deeper one (ULMFiT: 1 / 2.6)", above=0,
        high=1, needs={"trunk_groups": is_split},
    )  # fmt: skip

    def check(self):
        super().check()
        if self.library and self.library not in self.libraries:
            also = "".join(f", {name}..." for name in self.libraries)
            raise UserError(f"--pretrained {self.pretrained}: this task takes a bundle folder, a run id or name@alias{also}")
        if self.pretrained is not None and self.schedule == "plateau":
            raise UserError("--schedule plateau: trunk and head have no common learning rate; choose constant or cosine")

    @property
    def trunk_factor(self):
        """`trunk_rate`, or what is usual for where the weights come from."""
        if self.trunk_rate is not None:
            return self.trunk_rate
        return 0.1 if self.library else self.bundle_rate

    @property
    def library(self):
        """Which of LIBRARIES the weights come from; `None` of a bundle or without any."""
        return library_of(self.pretrained)


def check_begins(config, model):
    """Refuses `--pretrained` without the `--model` it is for."""
    if config.pretrained is not None and config.model != model:
        raise UserError(f"--pretrained {config.pretrained}: begins with --model {model}; add it")


def library_of(source):
    """Which of LIBRARIES a source of weights names; `None` of a bundle."""
    return next((name for name in LIBRARIES if (source or "").startswith(name)), None)


@dataclass(frozen=True)
class Splitting(Training):
    """Options of a run whose data may be split by us: which part is the test."""

    folds: int = option(0, "test on one of this many folds of the data", low=0, high=100)
    fold: int = option(0, "which fold is the test, from 0", low=0, high=99)

    def check(self):
        super().check()
        if self.fold >= max(1, self.folds):
            raise UserError(f"--fold: expected a number below --folds {self.folds}. Received: {self.fold}")


@dataclass(frozen=True)
class Recipe:
    """A published setting with its published number.

    Args:
        about: One line: model and data.
        data: What `--data` names.
        options: Options that differ from the defaults.
        first: Options of a run before it, whose bundle `--pretrained` names; none where there is no such run.
        metric: Name in the report that is compared.
        published: The published value, or `None` where a control is run instead.
        tolerance: How far below (above, for an error) the published value still counts as met.
        source: Where the number stands.
        minutes: What one run takes on two CPU cores.
        seeds: How many seeds are run.
        folds: Number of folds run as a cross-validation in the place of seeds; 0 for none.
        control: Options of another model run beside it, which must be beaten where no number is published.
        beside: The one of the app's own baselines that is the control, in the place of a model run beside it.
        floor: A value to reach besides beating the control.
        lower_is_better: Whether the metric is an error.
    """

    about: str
    data: str
    options: dict
    metric: str
    source: str
    published: float | None = None
    tolerance: float = 0.0
    minutes: float = 1.0
    seeds: int = 1
    folds: int = 0
    control: dict = field(default_factory=dict)
    beside: str = ""
    first: dict = field(default_factory=dict)
    floor: float | None = None
    lower_is_better: bool = False

    def met(self, ours, control=None):
        """Whether `ours` reaches the published number within its tolerance, or beats the control and the floor."""
        sign = -1 if self.lower_is_better else 1
        if self.published is not None:
            return sign * (ours - self.published) >= -self.tolerance
        return (control is None or sign * (ours - control) > 0) and (self.floor is None or sign * (ours - self.floor) >= 0)
