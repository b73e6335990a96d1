"""Rosenblatt's rule comes out of ordinary `fit`, and with it what one unit can learn and what it cannot."""

import keras
import numpy as np
import pytest

import layers

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

CORNERS = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "float32")
TARGETS = {"and": [0, 0, 0, 1], "or": [0, 1, 1, 1], "xor": [0, 1, 1, 0]}


def classic_rule(x, targets, weights, bias, learning_rate):
    """w += learning_rate (t - y) x, one example after another."""
    for example, target in zip(x, targets, strict=True):
        error = target - (example @ weights + bias > 0)
        weights, bias = weights + learning_rate * np.outer(example, error), bias + learning_rate * error
    return weights, bias


def half_squared_error(y_true, y_pred):
    return 0.5 * keras.ops.sum(keras.ops.square(y_true - y_pred), axis=-1)


def models():
    """The two ways of writing the rule: a step whose slope is taken to be one, and the criterion on the sums."""
    return {
        "step": ([keras.Input((2,)), layers.Perceptron()], half_squared_error),
        "criterion": ([keras.Input((2,)), layers.Dense(1)], layers.PerceptronLoss()),
    }


def fitted(kind, targets, epochs):
    stack, loss = models()[kind]
    model = keras.Sequential(stack)
    layers.initialize(model, seed=3)
    begin = model.get_weights()
    model.compile(keras.optimizers.SGD(0.1), loss)
    y = np.array(targets, "float32")[:, None]
    model.fit(CORNERS, y, batch_size=1, epochs=epochs, shuffle=False, verbose=0)
    return model, begin


@pytest.mark.parametrize("kind", ["step", "criterion"])
def test_one_epoch_of_fit_is_the_classic_rule(kind):
    model, (weights, bias) = fitted(kind, TARGETS["xor"], epochs=1)
    expected = classic_rule(CORNERS, np.array(TARGETS["xor"])[:, None], weights, bias, 0.1)
    for ours, theirs in zip(model.get_weights(), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-7)


@pytest.mark.parametrize(("function", "learnt"), [("and", True), ("or", True), ("xor", False)])
def test_one_unit_learns_what_a_line_divides(function, learnt):
    model, _ = fitted("step", TARGETS[function], epochs=20)
    decisions = model.predict_on_batch(CORNERS)[:, 0]
    assert set(decisions) <= {0.0, 1.0}
    assert np.array_equal(decisions, TARGETS[function]) is learnt


def test_criterion_takes_class_numbers_for_several_units():
    logits = np.array([[2.0, -1.0, 0.5], [-1.0, -2.0, 3.0]], "float32")
    # class 0: unit 2 fires wrongly, 0.5; class 1: unit 2 fires wrongly, 3, and unit 1 does not fire, 2
    loss = layers.PerceptronLoss(reduction="none")(np.array([0, 1]), logits)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(loss), [0.5, 5.0])


@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_units_pass_their_sum_through_the_activation(activation):
    layer = layers.Perceptron(3, activation)
    outputs = layer(CORNERS)
    sums = CORNERS @ keras.ops.convert_to_numpy(layer.kernel)
    expected = getattr(keras.ops, activation)(sums)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(outputs), keras.ops.convert_to_numpy(expected), atol=1e-6)


def test_unknown_activation_is_named():
    with pytest.raises(ValueError, match="Received: activation='softmax'"):
        layers.Perceptron(1, "softmax")
