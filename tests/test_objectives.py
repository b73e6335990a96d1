"""Parts of an objective that no loss curve shows when they are missing: a target network, a slope between."""

import keras
import numpy as np
import pytest

import layers
from apps.common.training.callbacks import seed_states, set_seeds
from layers import backend, models

draws = np.random.default_rng(0)
IMAGES = draws.integers(0, 256, (6, 8, 8, 1)).astype("uint8")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def byol(kind=models.BYOL):
    model = kind((8, 8, 1), "small_cnn", projection_dim=4)
    layers.initialize(model, 0)
    set_seeds(seed_states(model), 0, 0)
    model.compile("sgd")
    return model


class ConstantTargets(models.BYOL):
    """A BYOL that is given its targets as numbers."""

    targets = None

    def compared(self, x, training):
        return super().compared(x, training)[0], keras.ops.convert_to_tensor(self.targets)


def test_the_targets_are_those_of_the_target_network():
    model = byol()
    (predictions, targets), _, _ = backend.loss_and_gradients(model, IMAGES, None)
    for _, follower in model.pairs():
        follower.assign(follower.value + 0.3)
    (again, moved), _, _ = backend.loss_and_gradients(model, IMAGES, None)
    np.testing.assert_array_equal(again, predictions)
    assert np.abs(moved - targets).max() > 1e-2


def test_the_gradient_of_the_online_network_is_that_of_constant_targets():
    model, constant = byol(), byol(ConstantTargets)
    (_, constant.targets), _, gradients = backend.loss_and_gradients(model, IMAGES, None)
    expected = backend.gradients(constant, IMAGES, None)
    assert len(gradients) == len(expected) and max(np.abs(each).max() for each in expected) > 1e-3
    for ours, theirs in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


# The slope of a critic


@pytest.mark.once
@pytest.mark.parametrize("num_classes", [0, 3])
def test_slopes_are_asked_of_points_between_real_and_drawn_pictures(num_classes):
    model, asked, drawn = models.WGANGP((8, 8, 1), 3, num_classes=num_classes, width=4), [], []
    layers.initialize(model, 0)
    slopes, generate = model.slopes, model.generator.call

    def noted(inputs, **options):
        drawn.append(generate(inputs, **options))
        return drawn[-1]

    model.slopes = lambda images, chosen: asked.append(array(images)) or slopes(images, chosen)
    model.generator.call = noted
    images, labels = np.tile(IMAGES, (40, 1, 1, 1)), np.arange(240, dtype="int32") % 3
    model.players_losses(images, labels, model(images, training=False), False)
    [between], [logits] = asked, drawn
    real, fake = images / 127.5 - 1.0, np.tanh(0.5 * array(logits))
    ends, points = (part.reshape(240, -1).astype("float64") for part in (real - fake, between - fake))
    shares = (ends * points).sum(1) / (ends**2).sum(1)
    np.testing.assert_allclose(points, shares[:, None] * ends, atol=1e-5)
    assert 0 <= shares.min() < 0.05 and 0.95 < shares.max() <= 1 and abs(shares.mean() - 0.5) < 0.1
