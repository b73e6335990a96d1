"""The training options turned into Keras objects: optimizer, schedule, penalties, compilation."""

import contextlib
import copy
import math

import keras
import numpy as np

from apps.common.bundles.pretrained import is_bundle, load_weights
from apps.common.errors import UserError
from apps.common.output import say
from layers import backend
from layers.backend import keras_private
from layers.initialization import initialize


@keras.saving.register_keras_serializable(package="triptych")
class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """Learning rate as a function of the step, from zero to `peak` over the warm-up and then by `kind`.

    With t the share of the run after the warm-up that has passed:
    constant: peak; cosine: peak (f + (1 - f) (1 + cos(pi t)) / 2), f the final rate (Loshchilov & Hutter, 2017, arXiv
    1608.03983);
    step: peak * rate^floor(step / decay_steps); exponential: peak * rate^(step / decay_steps);
    one-cycle: from peak / 25 up to peak over 30 % of the run and down to peak / 10,000, both along a cosine
    (Smith & Topin, 2018, arXiv 1708.07120).
    A step that is computed in `parts` has one rate for all of them. Before `hold_steps` it is zero.
    """

    def __init__(
        self, kind, peak, total_steps, warmup_steps=0, decay_rate=0.1, decay_steps=1, final_rate=0.0, parts=1, hold_steps=0
    ):
        self.kind, self.peak, self.total_steps, self.final_rate = kind, peak, total_steps, final_rate
        self.warmup_steps, self.decay_rate, self.decay_steps, self.parts = warmup_steps, decay_rate, decay_steps, parts
        self.hold_steps = hold_steps

    def __call__(self, step):
        step = keras.ops.cast(step, "float32")
        if self.parts > 1:
            step = keras.ops.floor(step / self.parts)
        rate = self.rate(step)
        return keras.ops.where(step < self.hold_steps, 0.0, rate) if self.hold_steps else rate

    def rate(self, step):
        after = step - self.warmup_steps
        passed = keras.ops.clip(after / max(1, self.total_steps - self.warmup_steps), 0.0, 1.0)

        def cosine(start, end, share):
            return end + (start - end) * 0.5 * (1.0 + keras.ops.cos(math.pi * share))

        if self.kind == "one-cycle":
            rise = cosine(self.peak / 25, self.peak, keras.ops.minimum(passed / 0.3, 1.0))
            fall = cosine(self.peak, self.peak / 1e4, keras.ops.maximum((passed - 0.3) / 0.7, 0.0))
            return keras.ops.where(passed < 0.3, rise, fall)
        if self.kind == "cosine":
            rate = cosine(self.peak, self.final_rate * self.peak, passed)
        elif self.kind == "step":
            rate = self.peak * self.decay_rate ** keras.ops.floor(keras.ops.maximum(after, 0.0) / self.decay_steps)
        elif self.kind == "exponential":
            rate = self.peak * self.decay_rate ** (keras.ops.maximum(after, 0.0) / self.decay_steps)
        else:
            rate = self.peak * keras.ops.ones_like(step)
        if self.warmup_steps:
            rate = keras.ops.where(step < self.warmup_steps, self.peak * (step + 1) / self.warmup_steps, rate)
        return rate

    def get_config(self):
        return dict(vars(self))


def make_optimizer(config, steps_per_epoch):
    """The optimizer of a `Training` config, its schedule, clipping, weight decay, averaging and accumulation included.

    Args:
        config: A `Training` (or subclass of it).
        steps_per_epoch: Batches an epoch, in which schedules are measured.
    """
    rate = config.learning_rate
    hold = getattr(config, "hold_steps", 0)
    if config.warmup or hold or config.schedule not in ("constant", "plateau"):
        total = steps_per_epoch * config.epochs
        rate = Schedule(
            config.schedule,
            config.learning_rate,
            total,
            warmup_steps=round(config.warmup * total),
            decay_rate=config.decay_rate,
            decay_steps=steps_per_epoch * config.decay_epochs,
            final_rate=config.final_rate,
            parts=config.parts,
            hold_steps=hold,
        )
    shared = {
        "learning_rate": rate,
        "global_clipnorm": config.clip_norm,
        "clipvalue": config.clip_value,
        "weight_decay": config.weight_decay or None,
        "use_ema": config.ema > 0,
        "ema_momentum": config.ema or 0.99,
        "gradient_accumulation_steps": config.accumulate * config.parts if config.accumulate * config.parts > 1 else None,
    }
    rules, betas = keras.optimizers, {"beta_1": config.beta1, "beta_2": config.beta2}
    makers = {
        "sgd": lambda: rules.SGD(**shared),
        "momentum": lambda: rules.SGD(momentum=config.momentum, **shared),
        "nesterov": lambda: rules.SGD(momentum=config.momentum, nesterov=True, **shared),
        "rmsprop": lambda: rules.RMSprop(**shared),
        "adam": lambda: rules.Adam(**betas, **shared),
        "adamw": lambda: rules.AdamW(**betas, **{**shared, "weight_decay": config.weight_decay}),
        "adagrad": lambda: rules.Adagrad(**shared),
        "adadelta": lambda: rules.Adadelta(**shared),
    }
    optimizer = backend.fused(makers[config.optimizer]())
    if config.ema and optimizer.gradient_accumulation_steps:
        average_after_updates(optimizer)
    return optimizer


def average_after_updates(optimizer):
    """Have the moving average of the weights take one step an update.

    Keras's takes one with every batch, also with those whose gradients only wait for the rest of theirs, and so forgets
    as many times faster as an update has batches.
    """
    steps = optimizer.gradient_accumulation_steps

    def update(variables):
        done = keras_private.batches_seen(optimizer) + 1  # batches; `iterations` are updates
        momentum = keras.ops.where(done % steps == 0, optimizer.ema_momentum, 1.0)
        momentum = keras.ops.where(done <= steps, 0.0, momentum)  # the first average is the weights themselves
        for variable, average in zip(variables, keras_private.weight_averages(optimizer), strict=True):
            if average is not None:
                kept = keras.ops.cast(momentum, variable.dtype)
                average.assign(kept * average + (1 - kept) * variable)

    keras_private.replace_average_update(optimizer, update)


@contextlib.contextmanager
def averaged_when_done(model):
    """Within it `fit` leaves the moving average to us, who put it into the model only when `fit` has come to its end.

    Keras on JAX does so also when `fit` is left by an exception, then over variables that hold nothing, and what had gone
    wrong (no memory, a signal, a NaN) is hidden by the error of that.
    """
    optimizer = model.optimizer
    optimizer.finalize_variable_values = lambda variables: None
    try:
        yield
    finally:
        del optimizer.finalize_variable_values
    optimizer.finalize_variable_values(model.trainable_weights)


class Players(keras.optimizers.Optimizer):
    """An optimizer for each of several groups of variables, as two players have; to Keras it is one.

    Args:
        variables: All that are trained.
        optimizers: Built optimizers.
        groups: The variables of each.
    """

    def __init__(self, variables, optimizers, groups):
        super().__init__(learning_rate=1.0)
        # In a closure, for Keras would take the model's variables it finds in an attribute for the optimizer's own.
        self._players = lambda: zip(optimizers, groups, strict=True)
        self.build(variables)

    @property
    def variables(self):
        return [*super().variables, *(variable for optimizer, _ in self._players() for variable in optimizer.variables)]

    @property
    def learning_rate(self):
        """That of the first player."""
        return next(self._players())[0].learning_rate

    @learning_rate.setter
    def learning_rate(self, rate):
        raise UserError("several players have no common learning rate to look for: leave --find-lr out, judge the samples")

    def apply(self, grads, trainable_variables=None):
        gradients = {id(v): gradient for v, gradient in zip(self._trainable_variables, grads, strict=True)}
        for optimizer, group in self._players():
            optimizer.apply([gradients[id(v)] for v in group], group)
        self._iterations.assign_add(1)

    def finalize_variable_values(self, var_list):
        for optimizer, group in self._players():
            optimizer.finalize_variable_values(group)


def compile_model(model, config, examples, *, loss=None, metrics=None, players=None, trunk=None):
    """Give a freshly built model its initial weights, penalties, optimizer and loss; returns the compiled model.

    Initial weights are drawn by NumPy from the seed, so they are the same on every backend; those that a bundle named by
    `--pretrained` has are then put in their place.

    Args:
        model: A built `keras.Model`; one that overrides `compute_loss` needs no `loss`.
        config: The app's `Config`.
        examples: The training examples, whose number sets the steps of an epoch.
        loss, metrics: As of Keras's `compile`; metrics count as the weights say.
        players: `[(variables, config)]` where each of several players has an optimizer of its own.
        trunk: Layers whose weights were trained before, where the app has built the model on them.
    """
    initialize(model, config.seed, config.initializer)
    source = getattr(config, "pretrained", None)
    if trunk is None and is_bundle(source):
        trunk = load_weights(model, source, getattr(config, "renewed", 0))
    penalise(model, config.l1, config.l2)
    if trunk:
        players = players or with_trunk(model, trunk, config, examples)

    def built(variables, config):
        optimizer = make_optimizer(config, steps_in(examples, config.batch_size))
        if config.weight_decay:  # as the penalties: biases and the scales of norms are left alone
            optimizer.exclude_from_weight_decay([each for each in variables if len(each.shape) < 2])
        optimizer.build(variables)
        return optimizer

    if players:
        optimizers, groups = [built(*player) for player in players], [variables for variables, _ in players]
        optimizer = Players(model.trainable_variables, optimizers, groups)
    else:
        optimizer = built(model.trainable_variables, config)
    jit = {"auto": "auto", "on": True, "off": False}[config.compile]
    model.compile(optimizer=optimizer, loss=loss, weighted_metrics=metrics, jit_compile=jit)
    return model


def with_trunk(model, trunk, config, examples):
    """Hold a pretrained trunk still, or train it at a lower rate: the players of `compile_model`, or `None` for one.

    Of several groups of its layers, the k-th below the new layers is held for `k unfreeze_epoch` epochs and then trained at
    `trunk_rate group_rate^(k - 1)` of the learning rate (Howard & Ruder, 2018, arXiv 1801.06146).
    Its batch norms keep their statistics in any case: those of a small new set are worse (Kornblith et al., 2019).
    """
    for layer in trunk:
        if config.freeze or isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False
    inside = {id(variable) for layer in trunk for variable in layer.trainable_variables}
    lower = [variable for variable in model.trainable_variables if id(variable) in inside]
    upper = [variable for variable in model.trainable_variables if id(variable) not in inside]
    if not upper and config.freeze:
        raise UserError("--freeze: every weight of the model comes from --pretrained, so nothing is left to train; leave it out")
    count = config.trunk_groups
    if not lower or (not upper and not config.unfreeze_epoch and config.trunk_factor == 1 and count == 1):
        return None
    players, factors = [(upper, config)] if upper else [], []
    for depth, group in enumerate(layer_groups(trunk, lower, count)):
        factors.append(config.trunk_factor * config.group_rate**depth)
        own, hold = copy.copy(config), (depth + 1) * config.unfreeze_epoch
        object.__setattr__(own, "learning_rate", config.learning_rate * factors[-1])
        object.__setattr__(own, "hold_steps", hold * steps_in(examples, config.batch_size))
        players.append((group, own))
    if count > 1:
        rates = ", ".join(f"{factor:.3g}" for factor in factors)
        later = f", each held {config.unfreeze_epoch} epochs longer than the one above" if config.unfreeze_epoch else ""
        say(f"{count} groups of layers of the trunk, from the top: rates {rates} of the learning rate{later}")
    return players


def layer_groups(trunk, variables, count):
    """The trained variables of a trunk in groups of as many layers each, that nearest to the output first.

    Args:
        trunk: Layers.
        variables: Theirs, in the order of the model.
        count: Number of groups.
    Raises:
        UserError: The trunk has fewer layers.
    """
    owners = {id(variable): place for place, layer in enumerate(trunk) for variable in layer.trainable_variables}
    places = list(dict.fromkeys(owners[id(variable)] for variable in variables))
    if count > len(places):
        raise UserError(f"--trunk-groups {count}: expected at most {len(places)}, the layers of the trunk that are trained")
    parts = np.array_split(places[::-1], count)
    return [[variable for variable in variables if owners[id(variable)] in part] for part in parts]


def steps_in(examples, batch_size):
    """Batches in an epoch."""
    return -(-len(examples) // batch_size)


def penalise(model, l1, l2):
    """Add `l1 * sum |w| + l2 * sum w^2` of every kernel (two or more dimensions) to the loss."""
    if not (l1 or l2):
        return
    for weight in model.trainable_weights:
        if len(weight.shape) > 1:
            weight.regularizer = keras.regularizers.L1L2(l1=l1, l2=l2)
