"""Each `Training` option changes what it says: optimizers, schedules, penalties and losses against their formulas in NumPy."""

import math

import keras
import numpy as np
import pytest

from apps.common.app import Metric
from apps.common.data.examples import Examples, class_weights
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.options.training import ACTIVATIONS, Training
from apps.common.reports.classification import softmax
from apps.common.training.batches import Batches
from apps.common.training.callbacks import AfterEpoch, KeepBest
from apps.common.training.losses import LOSSES, OneHotLoss
from apps.common.training.optimizers import (
    Schedule,
    averaged_when_done,
    compile_model,
    make_optimizer,
)
from apps.common.training.rate_finder import find_learning_rate
from layers import backend, models
from layers.initialization import draw

START = np.array([[0.5, -1.0], [2.0, 0.1]], "float32")
GRADIENTS = [np.array([[0.2, -0.4], [1.0, 0.0]], "float32"), np.array([[-0.1, -0.3], [0.6, 0.2]], "float32")]


def optimizer_of(steps_per_epoch=10, **options):
    return make_optimizer(make_config(Training, options), steps_per_epoch)


def updated(gradients, **options):
    """`START` after one update by each of the gradients."""
    optimizer, weight = optimizer_of(**{"learning_rate": 0.1, **options}), keras.Variable(START)
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [weight])
    return keras.ops.convert_to_numpy(weight)


def linear(x, y, **options):
    """A compiled `y = x w + b` under squared error, and its batch of examples."""
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, keras.layers.Dense(y.shape[1])(inputs))
    config = make_config(Training, {"optimizer": "sgd", "learning_rate": 0.1, **options})
    return compile_model(model, config, Examples(x, y), loss="mse")


@pytest.fixture
def data():
    generator = np.random.default_rng(0)
    return generator.normal(size=(8, 3)).astype("float32"), generator.normal(size=(8, 2)).astype("float32")


# The update rules, step after step with gradients g; epsilon and the decay rates are those of the papers.
def sgd(w, gradients, rate):
    for g in gradients:
        w = w - rate * g
    return w


def momentum(w, gradients, rate, nesterov=False, share=0.9):
    velocity = 0
    for g in gradients:
        velocity = share * velocity - rate * g
        w = w + (share * velocity - rate * g if nesterov else velocity)
    return w


def rmsprop(w, gradients, rate):
    square = 0
    for g in gradients:
        square = 0.9 * square + 0.1 * g**2
        w = w - rate * g / np.sqrt(square + 1e-7)
    return w


def adam(w, gradients, rate, decay=0.0, beta2=0.999):
    mean = square = 0
    for t, g in enumerate(gradients, 1):
        w = w - rate * decay * w
        mean, square = 0.9 * mean + 0.1 * g, beta2 * square + (1 - beta2) * g**2
        w = w - rate * (mean / (1 - 0.9**t)) / (np.sqrt(square / (1 - beta2**t)) + 1e-7)
    return w


def adagrad(w, gradients, rate):
    total = 0.1
    for g in gradients:
        total = total + g**2
        w = w - rate * g / np.sqrt(total + 1e-7)
    return w


def adadelta(w, gradients, rate):
    square = step = 0
    for g in gradients:
        square = 0.95 * square + 0.05 * g**2
        change = g * np.sqrt(step + 1e-7) / np.sqrt(square + 1e-7)
        step = 0.95 * step + 0.05 * change**2
        w = w - rate * change
    return w


RULES = {
    "sgd": sgd, "momentum": momentum, "nesterov": lambda *a: momentum(*a, nesterov=True), "rmsprop": rmsprop,
    "adam": adam, "adamw": lambda *a: adam(*a, decay=0.01), "adagrad": adagrad, "adadelta": adadelta,
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_an_optimizer_takes_the_steps_of_its_formula(name):
    options = {"weight_decay": 0.01} if name == "adamw" else {}
    for count in (1, 2):
        expected = RULES[name](START.astype("float64"), GRADIENTS[:count], 0.1)
        np.testing.assert_allclose(updated(GRADIENTS[:count], optimizer=name, **options), expected, rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_beta2_is_the_share_of_the_mean_squared_gradient_that_is_kept(name):
    expected = adam(START.astype("float64"), GRADIENTS, 0.1, beta2=0.5)
    np.testing.assert_allclose(updated(GRADIENTS, optimizer=name, beta2=0.5), expected, rtol=1e-4, atol=5e-6)


def test_momentum_is_the_share_of_the_last_step_that_is_kept():
    expected = momentum(START, GRADIENTS, 0.1, share=0.5)
    np.testing.assert_allclose(updated(GRADIENTS, optimizer="momentum", momentum=0.5), expected, rtol=1e-6)


def test_weight_decay_shrinks_weights_without_a_gradient():
    zero = [np.zeros_like(START)]
    np.testing.assert_allclose(updated(zero, optimizer="sgd", weight_decay=0.2), START * (1 - 0.1 * 0.2), rtol=1e-6)


def test_clip_norm_bounds_the_whole_gradient_and_keeps_its_direction():
    (gradient,) = GRADIENTS[:1]
    step = START - updated([gradient], optimizer="sgd", clip_norm=0.5)
    assert np.linalg.norm(step) == pytest.approx(0.1 * 0.5, rel=1e-5)
    np.testing.assert_allclose(step / np.linalg.norm(step), gradient / np.linalg.norm(gradient), atol=1e-5)
    np.testing.assert_allclose(updated([gradient], optimizer="sgd", clip_norm=9), START - 0.1 * gradient, rtol=1e-6)


def test_clip_value_bounds_each_entry():
    step = START - updated(GRADIENTS[:1], optimizer="sgd", clip_value=0.3)
    np.testing.assert_allclose(step, 0.1 * np.clip(GRADIENTS[0], -0.3, 0.3), atol=1e-6)


PEAK, TOTAL = 0.8, 100
T = np.arange(TOTAL + 1)
FORMULAS = {
    "cosine": PEAK * (1 + np.cos(np.pi * T / TOTAL)) / 2,
    "step": PEAK * 0.5 ** (T // 20),
    "exponential": PEAK * 0.5 ** (T / 20),
    "one-cycle": np.where(
        T < 30,
        PEAK / 25 + (PEAK - PEAK / 25) * (1 - np.cos(np.pi * T / 30)) / 2,
        PEAK / 1e4 + (PEAK - PEAK / 1e4) * (1 + np.cos(np.pi * (T - 30) / 70)) / 2,
    ),
}


@pytest.mark.parametrize("kind", FORMULAS)
def test_a_schedule_follows_its_formula_over_the_run(kind):
    options = {"decay_rate": 0.5, "decay_epochs": 2} if kind in ("step", "exponential") else {}
    optimizer = optimizer_of(schedule=kind, learning_rate=PEAK, epochs=10, **options)
    for step in (0, 1, 15, 29, 30, 40, 79, 99, 100):
        optimizer.iterations.assign(step)
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        assert rate == pytest.approx(FORMULAS[kind][step], rel=1e-4, abs=1e-7), step


@pytest.mark.parametrize("kind", ["constant", "cosine", "step", "exponential"])
def test_warmup_rises_in_a_line_and_hands_over_at_the_peak(kind):
    optimizer = optimizer_of(schedule=kind, learning_rate=PEAK, epochs=10, warmup=0.2)
    rates = []
    for step in range(22):
        optimizer.iterations.assign(step)
        rates.append(float(keras.ops.convert_to_numpy(optimizer.learning_rate)))
    np.testing.assert_allclose(rates[:20], PEAK * np.arange(1, 21) / 20, rtol=1e-5)
    assert rates[20] == pytest.approx(PEAK, rel=1e-5)
    assert (rates[21] == pytest.approx(PEAK, rel=1e-6)) == (kind in ("constant", "step"))


def test_a_cosine_ends_at_the_final_rate():
    optimizer = optimizer_of(schedule="cosine", learning_rate=PEAK, epochs=10, final_rate=0.25)
    for step, expected in ((0, PEAK), (50, 0.625 * PEAK), (100, 0.25 * PEAK), (200, 0.25 * PEAK)):
        optimizer.iterations.assign(step)
        assert float(keras.ops.convert_to_numpy(optimizer.learning_rate)) == pytest.approx(expected, rel=1e-5)


def test_a_schedule_is_rebuilt_from_its_config():
    schedule = Schedule("cosine", PEAK, TOTAL, warmup_steps=5)
    again = Schedule.from_config(schedule.get_config())
    assert float(again(37)) == float(schedule(37)) != PEAK


def test_penalties_add_their_sum_over_kernels_and_leave_biases_alone(data):
    losses = {}
    for name, options in {"none": {}, "l1": {"l1": 0.3}, "l2": {"l2": 0.2}, "both": {"l1": 0.3, "l2": 0.2}}.items():
        model = linear(*data, **options)
        model.layers[-1].bias.assign([10.0, 10.0])
        losses[name] = model.evaluate(*data, verbose=0)
    kernel = model.get_weights()[0].astype("float64")
    first, second = 0.3 * np.abs(kernel).sum(), 0.2 * np.square(kernel).sum()
    assert losses["l1"] - losses["none"] == pytest.approx(first, rel=1e-4)
    assert losses["l2"] - losses["none"] == pytest.approx(second, rel=1e-4)
    assert losses["both"] - losses["none"] == pytest.approx(first + second, rel=1e-4)


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (300 + 100)), ("glorot_normal", 2 / (300 + 100)), ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300), ("lecun_normal", 1 / 300), ("random_normal", 0.05**2),
    ],
)  # fmt: skip
def test_an_initializer_has_its_variance(name, variance):
    kernel = models.mlp((300,), 2, hidden_dims=(100,))
    compile_model(kernel, make_config(Training, {"initializer": name}), Examples(START), loss="mse")
    drawn = kernel.get_weights()[0]
    assert drawn.shape == (300, 100) and abs(drawn.mean()) < 0.1 * math.sqrt(variance)
    assert drawn.var() == pytest.approx(variance, rel=0.05)


def test_orthogonal_columns_are_orthonormal():
    drawn = draw(keras.initializers.Orthogonal(), (3, 3, 4, 20), np.random.default_rng(0)).reshape(-1, 20)
    np.testing.assert_allclose(drawn.T @ drawn, np.eye(20), atol=1e-5)


def test_initial_weights_follow_from_the_seed_alone_on_every_backend(data):
    limit = math.sqrt(6 / (3 + 2))
    expected = np.random.default_rng([7, 0]).uniform(-limit, limit, (3, 2)).astype("float32")
    np.testing.assert_array_equal(linear(*data, seed=7).get_weights()[0], expected)
    assert not np.array_equal(linear(*data, seed=8).get_weights()[0], expected)


def test_ema_ends_with_the_moving_average_of_the_weights(data):
    plain, averaged = linear(*data), linear(*data, ema=0.8)
    batches = Batches(Examples(*data), 4, seed=0)
    averaged.fit(batches, epochs=2, shuffle=False, verbose=0)
    mean = None
    for step in (0, 1, 0, 1):
        plain.train_on_batch(*batches[step])
        kernel = plain.get_weights()[0]
        mean = kernel if mean is None else 0.8 * mean + 0.2 * kernel
    np.testing.assert_allclose(averaged.get_weights()[0], mean, rtol=1e-5, atol=1e-6)
    assert np.abs(mean - kernel).max() > 1e-3


def test_accumulating_small_batches_equals_one_large_batch(data):
    x, y = data
    large, small = linear(x, y), linear(x, y, accumulate=4)
    before = small.get_weights()[0]
    large.train_on_batch(x, y)
    for start in (0, 2, 4, 6):
        np.testing.assert_array_equal(small.get_weights()[0], before)
        small.train_on_batch(x[start : start + 2], y[start : start + 2])
    np.testing.assert_allclose(small.get_weights()[0], large.get_weights()[0], rtol=1e-5, atol=1e-6)
    assert np.abs(before - large.get_weights()[0]).max() > 1e-2


def test_the_moving_average_counts_updates_and_not_the_batches_they_are_made_of(data):
    whole, halves = linear(*data, ema=0.8), linear(*data, ema=0.8, accumulate=2)
    whole.fit(Batches(Examples(*data), 4, seed=0), epochs=2, shuffle=False, verbose=0)
    halves.fit(Batches(Examples(*data), 4, seed=0, parts=2), epochs=2, shuffle=False, verbose=0)
    np.testing.assert_allclose(halves.get_weights()[0], whole.get_weights()[0], rtol=1e-5, atol=1e-6)


def test_what_goes_wrong_in_fit_is_not_hidden_by_the_moving_average(data, monkeypatch):
    def no_memory(*arguments, **options):
        raise MemoryError("of the loss")

    model = linear(*data, ema=0.8)
    monkeypatch.setattr(model, "compute_loss", no_memory)
    with pytest.raises(MemoryError, match="of the loss"), averaged_when_done(model):
        model.fit(Batches(Examples(*data), 4, seed=0), shuffle=False, verbose=0)
    monkeypatch.undo()
    with averaged_when_done(model):
        assert "finalize_variable_values" in vars(model.optimizer)
    assert "finalize_variable_values" not in vars(model.optimizer)


def test_a_schedule_ends_with_the_run_when_gradients_are_accumulated(data):
    model = linear(*data, accumulate=2, schedule="cosine", epochs=3, batch_size=2)
    model.fit(Batches(Examples(*data), 2, seed=0), epochs=3, shuffle=False, verbose=0)
    assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) == pytest.approx(0.0, abs=1e-6)


def test_class_weights_give_every_class_the_same_total_and_have_mean_one():
    labels = np.array([0, 0, 0, 0, 0, 0, 1, 1, 2])
    weights = class_weights(labels, 3)
    assert [weights[labels == label].sum() for label in range(3)] == pytest.approx([3, 3, 3])
    assert class_weights(labels, 5).mean() == pytest.approx(1), "a class without examples takes no share"


def expected_loss(kind, logits, target, probabilities):
    if kind == "cross-entropy":
        return -(target * np.log(probabilities)).sum(-1)
    if kind == "hinge":
        return np.maximum(0, 1 + np.where(target == 1, -np.inf, logits).max(-1) - (target * logits).sum(-1))
    size = np.abs(probabilities - target)
    if kind == "mse":
        return np.square(size).sum(-1)
    return (size if kind == "mae" else np.where(size < 1, size**2 / 2, size - 0.5)).sum(-1)


@pytest.mark.parametrize("kind", LOSSES)
def test_a_classification_loss_is_its_formula(kind):
    logits = np.random.default_rng(1).normal(size=(6, 4), scale=3).astype("float32")
    labels = np.array([0, 3, 1, 2, 2, 0])
    expected = expected_loss(kind, logits, np.eye(4)[labels], softmax(logits))
    found = OneHotLoss(kind, 4).call(labels, keras.ops.convert_to_tensor(logits))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), expected, rtol=1e-5, atol=1e-6)


def test_label_smoothing_spreads_its_share_over_all_classes():
    logits, labels = np.array([[2.0, -1.0, 0.5]], "float32"), np.array([0])
    target = 0.7 * np.eye(3)[labels] + 0.1
    expected = expected_loss("cross-entropy", logits, target, softmax(logits))
    found = OneHotLoss("cross-entropy", 3, smoothing=0.3)(labels, keras.ops.convert_to_tensor(logits))
    assert float(found) == pytest.approx(expected[0], rel=1e-5)


def test_the_right_class_far_ahead_costs_nothing_under_any_loss():
    logits = keras.ops.convert_to_tensor(np.array([[40.0, 0.0, 0.0]], "float32"))
    for kind in LOSSES:
        assert float(OneHotLoss(kind, 3)([0], logits)) == pytest.approx(0.0, abs=1e-6), kind
        assert float(OneHotLoss(kind, 3)([1], logits)) > 0.5, kind


def gelu(x):
    return x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2


ACTIVATION_FORMULAS = {
    "relu": lambda x: np.maximum(x, 0), "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "tanh": np.tanh,
    "leaky_relu": lambda x: np.where(x > 0, x, 0.2 * x), "elu": lambda x: np.where(x > 0, x, np.expm1(x)),
    "selu": lambda x: 1.05070098 * np.where(x > 0, x, 1.67326324 * np.expm1(x)), "gelu": gelu,
    "silu": lambda x: x / (1 + np.exp(-x)), "softplus": lambda x: np.log1p(np.exp(x)),
    "softsign": lambda x: x / (1 + np.abs(x)), "softmax": softmax, "linear": lambda x: x,
}  # fmt: skip


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_applied_to_the_hidden_units(name):
    model = models.mlp((3,), 2, hidden_dims=(4,), activation=name)
    first, _, second, _ = model.get_weights()
    x = np.random.default_rng(2).normal(size=(5, 3), scale=2).astype("float32")
    expected = ACTIVATION_FORMULAS[name]((x @ first).astype("float64")) @ second
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("word", "switch"), [("on", True), ("off", False)])
def test_compilation_is_as_asked(data, word, switch):
    backend.configure(deterministic=word != "on")
    assert linear(*data, compile=word).jit_compile is switch


def test_an_epoch_whose_loss_is_not_finite_is_left_to_what_ends_the_run():
    stopper = KeepBest(Metric("quality"), patience=1)
    for callback in (AfterEpoch(lambda *_: {"val_quality": 1.0}, None), stopper):
        callback.on_epoch_end(0, {"loss": math.nan})
    assert not stopper.stopped and stopper.best_epoch == -1


def test_the_rate_finder_suggests_a_rate_that_descends_and_stops_once_the_loss_diverges(data):
    x, y = data
    steepest = np.linalg.eigvalsh(np.hstack([x, np.ones((8, 1))]).T @ np.hstack([x, np.ones((8, 1))]) / 8).max()
    model = linear(x, y)
    rates, losses, suggestion = find_learning_rate(model, lambda step: (x, y), low=1e-5, high=1e3, steps=120)
    assert 1e-3 < suggestion < 2 / steepest, "gradient descent on this square diverges above 2 / its largest curvature"
    assert 2 / steepest < rates[-1] < 1e3 and len(rates) < 120
    assert np.isfinite(losses).all() and losses[-1] <= 4 * min(losses)
    np.testing.assert_allclose(np.diff(np.log(rates)), np.log(1e8) / 119, rtol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"schedule": "plateau", "warmup": 0.1}, "--warmup does nothing with --schedule plateau"),
        ({"schedule": "one-cycle", "warmup": 0.1}, "--warmup does nothing with --schedule one-cycle"),
        ({"decay_rate": 0.5, "schedule": "cosine"}, "--decay-rate does nothing with --schedule cosine"),
        ({"optimizer": "adagrad", "weight_decay": 0.1}, "--weight-decay does nothing with --optimizer adagrad"),
        ({"ema": 0.9, "early_stopping": 2}, "--ema and --early-stopping exclude each other"),
        ({"precision": "bfloat16"}, "Did you mean 'mixed_bfloat16'?"),
    ],
)
def test_an_option_without_effect_or_sense_is_refused(options, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")):
        make_config(Training, options)
