"""What each augmentation means: known pixels, angles and areas; off at inference, different for each example."""

import keras
import numpy as np
import pytest

import layers
from layers import augmentation, drawing

AUGMENTATIONS = (
    layers.RandomFlip, layers.RandomShift, layers.RandomCrop, layers.RandomRotation, layers.Cutout, layers.RandomColor,
)  # fmt: skip


def images(batch=8, size=8, channels=2):
    return np.random.default_rng(0).uniform(1.0, 2.0, (batch, size, size, channels)).astype("float32")


def as_array(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize("make", [*AUGMENTATIONS, layers.Mixup])
def test_inference_leaves_the_images_alone(make):
    np.testing.assert_array_equal(as_array(make(seed=0)(images())), images())


@pytest.mark.parametrize("make", AUGMENTATIONS)
def test_each_example_is_changed_in_its_own_way(make):
    x = np.repeat(images(1), 16, axis=0)
    augmented = as_array(make(seed=0)(x, training=True))
    assert len(np.unique(augmented.reshape(16, -1), axis=0)) > 1


@pytest.mark.parametrize("make", [*AUGMENTATIONS, layers.Mixup])
def test_the_state_of_the_seed_decides_what_is_drawn(make):
    layer = make(seed=7)
    layer(images())
    begin = as_array(layer.generator.state)
    first, second = (as_array(layer(images(), training=True)) for _ in range(2))
    layer.generator.state.assign(begin)
    np.testing.assert_array_equal(as_array(layer(images(), training=True)), first)
    assert not np.array_equal(first, second)


def test_flipped_twice_is_the_image_itself():
    x = images()
    flipped = as_array(layers.RandomFlip(seed=0)(x, training=True))
    for before, after in zip(x, flipped, strict=True):
        assert np.array_equal(after, before) or np.array_equal(after[:, ::-1], before)


def test_shift_moves_each_image_by_its_own_pixels():
    x = np.zeros((2, 4, 4, 1), "float32")
    x[:, 1, 1] = 1.0
    moved = as_array(augmentation.shift(x, np.array([1, 0], "int32"), np.array([2, -1], "int32")))
    assert moved[0, 2, 3, 0] == 1.0 and moved[1, 1, 0, 0] == 1.0 and moved.sum() == 2.0


def test_shift_stays_within_its_fraction():
    x = np.zeros((64, 20, 20, 1), "float32")
    x[:, 10, 10] = 1.0
    places = np.argwhere(as_array(layers.RandomShift(0.1, seed=0)(x, training=True)))[:, 1:3] - 10
    assert np.abs(places).max() == 2 and len(places) == 64


def test_crop_shows_a_window_of_the_padded_image():
    x = images(4, size=5)
    padded = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    for image, crop in zip(padded, as_array(layers.RandomCrop(2, seed=0)(x, training=True)), strict=True):
        windows = [image[i : i + 5, j : j + 5] for i in range(5) for j in range(5)]
        assert any(np.array_equal(crop, window) for window in windows)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_rotation_by_right_angles_is_exact(turns):
    x = images(2)
    turned = as_array(augmentation.rotate(x, np.full(2, turns * np.pi / 2, "float32")))
    np.testing.assert_allclose(turned, np.rot90(x, turns, axes=(1, 2)), atol=1e-5)


def test_rotation_forth_and_back_keeps_the_centre():
    x = np.ones((1, 9, 9, 1), "float32")
    angle = np.array([0.3], "float32")
    turned = as_array(augmentation.rotate(augmentation.rotate(x, angle), -angle))
    np.testing.assert_allclose(turned[:, 3:6, 3:6], 1.0, atol=1e-5)


def test_cutout_erases_one_square_of_its_size():
    erased = as_array(layers.Cutout(0.5, seed=0)(images(), training=True)) == 0.0
    assert (erased.sum(axis=(1, 2)) == 16).all()
    assert all(np.ptp(np.argwhere(image[..., 0]), axis=0).tolist() == [3, 3] for image in erased)


def test_color_changes_brightness_and_contrast_and_nothing_else():
    x = images()
    colored = as_array(layers.RandomColor(0.5, 0.5, seed=0)(x, training=True))
    for before, after in zip(x, colored, strict=True):
        slope, offset = np.polyfit(before.ravel(), after.ravel(), 1)
        np.testing.assert_allclose(after, slope * before + offset, atol=1e-5)
        assert 0.5 <= slope <= 1.5


def test_mixup_mixes_images_and_labels_by_the_same_ratio():
    x, y = images(4, 2, 1), np.array([0.0, 1.0, 0.0, 3.0], "float32")
    inputs = keras.Input((2, 2, 1))
    mixed = layers.Mixup(0.5, seed=1)(inputs)
    model = layers.MixupModel(inputs, keras.layers.GlobalAveragePooling2D()(mixed))
    model.compile(keras.optimizers.SGD(0.0), "mean_squared_error")
    loss = model.train_on_batch(x, y)
    ratio = float(as_array(model.layers[1].ratio))
    assert 0.5 <= ratio < 1.0
    prediction = (ratio * x + (1 - ratio) * x[::-1]).mean(axis=(1, 2, 3))
    expected = ratio * np.mean((y - prediction) ** 2) + (1 - ratio) * np.mean((y[::-1] - prediction) ** 2)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    np.testing.assert_allclose(model.test_on_batch(x, y), np.mean((y - x.mean(axis=(1, 2, 3))) ** 2), rtol=1e-5)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_numbers_are_the_quantiles_of_the_uniform_ones(alpha):
    stats = pytest.importorskip("scipy.stats")
    numbers = as_array(drawing.beta((2000,), keras.random.SeedGenerator(3), alpha))
    probabilities = as_array(drawing.uniform((2000,), keras.random.SeedGenerator(3)))
    inside = np.clip(numbers.astype("float64"), 1e-30, 1 - 1e-7)  # single precision ends there, and the density is steep
    away = np.abs(stats.beta.cdf(inside, alpha, alpha) - probabilities)
    assert np.max(away[numbers < 0.99]) < 1e-3
    np.testing.assert_allclose([numbers.mean(), numbers.var()], [1 / 2, 1 / (4 * (2 * alpha + 1))], atol=0.02)


def test_uniform_numbers_and_draws_are_independent():
    generator = keras.random.SeedGenerator(5)
    first, second = (as_array(drawing.uniform((4000,), generator)) for _ in range(2))
    np.testing.assert_allclose([first.mean(), first.var()], [1 / 2, 1 / 12], atol=0.02)
    pairs = [(first, second), (first[1:], first[:-1]), (first[64:], first[:-64]), (first[1:], second[:-1])]
    assert all(abs(np.corrcoef(left, right)[0, 1]) < 0.06 for left, right in pairs)
    low = np.floor(first * 2**24) % 16  # the lower bits are spread too
    assert np.abs(np.bincount(low.astype(int), minlength=16) - 250).max() < 75


def test_mixup_draws_the_same_ratio_on_every_backend():
    layer = layers.Mixup(0.2, seed=7)
    layer.build((2, 2))
    layer.generator.state.assign([7, 0])
    ratios = []
    for _ in range(4):
        layer(np.zeros((2, 2), "float32"), training=True)
        ratios.append(float(as_array(layer.ratio.value)))
    np.testing.assert_allclose(ratios, [0.735603, 0.99839, 0.858406, 0.974819], rtol=2e-6)


def test_a_model_with_every_augmentation_stays_compiled_and_trains():
    x = inputs = keras.Input((8, 8, 2))
    for make in (*AUGMENTATIONS, layers.Mixup):
        x = make(seed=0)(x)
    model = layers.MixupModel(inputs, layers.Dense(1)(keras.layers.Flatten()(x)))
    model.compile("sgd", "mse")
    assert all(layer.supports_jit for layer in model._flatten_layers())
    assert np.isfinite(model.fit(images(), np.ones(8), batch_size=4, verbose=0).history["loss"]).all()


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: layers.RandomShift(1.5), "fraction"),
        (lambda: layers.RandomCrop(-1), "padding"),
        (lambda: layers.RandomRotation(200), "degrees"),
        (lambda: layers.RandomColor(contrast=2), "contrast"),
        (lambda: layers.Mixup(0), "alpha"),
    ],
)
def test_bad_arguments_are_named(make, name):
    with pytest.raises(ValueError, match=rf"`{name}` must .* Received: {name}="):
        make()
