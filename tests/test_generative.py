"""Autoencoders, the Wasserstein network, diffusion and flow matching: closed forms, limits, and what must not change a number."""

import itertools

import keras
import numpy as np
import pytest
from one_backend import share
from scipy.stats import norm

import layers
from apps.common.training.callbacks import seed_states, set_seeds
from layers import backend, models
from layers.diffusion import clean_picture, fresh_noise, noise_levels, prediction_target, sampling_times

draws = np.random.default_rng(0)
IMAGES = draws.integers(0, 256, (6, 8, 8, 1)).astype("uint8")
LABELS = np.arange(6) % 3
TEXTS = draws.integers(1, 7, (6, 5)).astype("int32")


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def tensor(values):
    return keras.ops.convert_to_tensor(np.asarray(values, "float32"))


def made(architecture, *arguments, **options):
    """A small model, its weights and its draws those of every other one made of the same options."""
    model = architecture((8, 8, 1), *arguments, **{"width": 4, **options})
    layers.initialize(model, 0)
    set_seeds(seed_states(model), 0, 0)
    model.compile("sgd")
    return model


def loss_of(model, y=None, training=True):
    return backend.loss_and_gradients(model, IMAGES, y, training=training)[1]


# Autoencoders


def test_an_autoencoder_is_scored_by_the_squared_error_of_the_brightness():
    model = made(models.Autoencoder, 5)
    found, loss, _ = backend.loss_and_gradients(model, IMAGES, None, np.arange(6.0).astype("float32"))
    errors = ((array(found) - IMAGES / 255.0) ** 2).sum((1, 2, 3))
    assert loss == pytest.approx((errors * np.arange(6)).mean(), rel=1e-5)


def test_noise_is_for_training_alone():
    clean, noisy = made(models.Autoencoder, 5), made(models.Autoencoder, 5, noise=0.5)
    assert loss_of(noisy, training=False) == loss_of(clean, training=False)
    assert loss_of(noisy) != loss_of(clean)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["convolutional", "dense", "spatial"])
def test_an_autoencoder_learns_a_few_pictures(kind):
    model = made(models.Autoencoder, 8, kind=kind)
    parts = model.parts()
    again = array(parts["decoder"](parts["encoder"](IMAGES.astype("float32"))))
    np.testing.assert_allclose(again, array(model(IMAGES)), atol=1e-5)
    np.testing.assert_allclose(array(model.deployed()(IMAGES.astype("float32"))), again, atol=1e-5)
    model.compile(keras.optimizers.Adam(0.01))
    losses = model.fit(IMAGES[:2], epochs=80, batch_size=2, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


def test_the_gaussian_form_is_a_density():
    model = made(models.VAE, 5, likelihood="gaussian")
    logits, target = draws.normal(size=(2, 3)).astype("float32"), draws.uniform(size=(2, 3)).astype("float32")
    model.log_deviation.assign(-0.7)
    expected = -norm(1 / (1 + np.exp(-logits)), np.exp(-0.7)).logpdf(target)
    np.testing.assert_allclose(array(model.gaussian_loss(tensor(logits), tensor(target))), expected, rtol=1e-5)


# The penalty


def test_a_slope_is_the_length_of_the_finite_differences_of_the_critic():
    model = made(models.WGANGP, 3)
    images, step = draws.uniform(-1, 1, (2, 8, 8, 1)).astype("float32"), 2e-3
    nudges = step * np.eye(64, dtype="float32").reshape(64, 8, 8, 1)
    for image, slope in zip(images, array(model.slopes(tensor(images), 1.0)), strict=True):
        critic = [array(model.discriminator(image + sign * nudges))[:, 0] for sign in (1, -1)]
        assert slope == pytest.approx(np.linalg.norm((critic[0] - critic[1]) / (2 * step)), rel=1e-2)


def smooth_critic(penalty):
    """A model whose critic has no kinks, at which the slope would jump."""
    model = made(models.WGANGP, 3, penalty=penalty)
    image = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 4, strides=2, activation="tanh")(image)
    model.discriminator = keras.Model(image, layers.Dense(1)(keras.layers.Flatten()(x)), name="smooth")
    layers.initialize(model, 1)
    model.compile("sgd")
    return model


def test_the_gradient_of_the_penalty_is_its_finite_difference():
    with_it, without = smooth_critic(10.0), smooth_critic(0.0)
    direction = [draws.normal(size=v.shape).astype("float32") for v in with_it.discriminator.trainable_variables]
    length = np.sqrt(sum((part**2).sum() for part in direction))

    def gradients(model):
        paths = [variable.path for variable in model.trainable_variables]
        found = dict(zip(paths, backend.gradients(model, IMAGES, None), strict=True))
        return [found[variable.path] for variable in model.discriminator.trainable_variables]

    def penalty(distance):
        for model in (with_it, without):
            for variable, part in zip(model.discriminator.trainable_variables, direction, strict=True):
                variable.assign_add(part * (distance / length))
        value = loss_of(with_it) - loss_of(without)
        for model in (with_it, without):
            for variable, part in zip(model.discriminator.trainable_variables, direction, strict=True):
                variable.assign_add(part * (-distance / length))
        return value

    of_penalty = [a - b for a, b in zip(gradients(with_it), gradients(without), strict=True)]
    slope = sum((g * part).sum() for g, part in zip(of_penalty, direction, strict=True)) / length
    assert slope == pytest.approx((penalty(0.02) - penalty(-0.02)) / 0.04, rel=2e-2)
    assert abs(slope) > 0.1


def test_the_generator_moves_without_the_penalty():
    free, held = (made(models.WGANGP, 3, penalty=penalty) for penalty in (0.0, 10.0))
    first = len(free.discriminator.trainable_variables)
    pairs = [backend.gradients(model, IMAGES, None)[first:] for model in (free, held)]
    assert len(pairs[0]) == len(free.generator.trainable_variables)
    for left, right in zip(*pairs, strict=True):
        np.testing.assert_allclose(left, right, rtol=1e-4, atol=1e-7)


# Schedules and predictions


def test_noise_added_step_by_step_is_noise_added_at_once():
    alpha, sigma = noise_levels("linear")
    x, start = np.full(40_000, 0.8), 0.8
    for t, beta in enumerate(np.linspace(1e-4, 0.02, 1000)[:300]):
        x = np.sqrt(1 - beta) * x + np.sqrt(beta) * draws.normal(size=x.shape)
        if t in (99, 299):
            assert x.mean() == pytest.approx(alpha[t] * start, abs=4 * sigma[t] / 200)
            assert x.std() == pytest.approx(sigma[t], rel=0.02)


def test_the_cosine_schedule_is_a_cosine():
    alpha, sigma = noise_levels("cosine")
    assert alpha[499] == pytest.approx(np.cos((0.5 + 0.008) / 1.008 * np.pi / 2) / np.cos(0.008 / 1.008 * np.pi / 2))
    np.testing.assert_allclose(alpha**2 + sigma**2, 1.0)
    assert alpha[-1] < 0.01 and alpha[0] > 0.999


@pytest.mark.parametrize("kind", ["epsilon", "v", "flow"])
def test_a_perfect_prediction_gives_the_picture_back(kind):
    x, noise = draws.normal(size=(2, 5))
    for alpha in (0.1, 0.6, 0.99):
        sigma = 1 - alpha if kind == "flow" else np.sqrt(1 - alpha**2)
        target = prediction_target(kind, x, noise, alpha, sigma)
        np.testing.assert_allclose(clean_picture(kind, alpha * x + sigma * noise, target, alpha, sigma), x, rtol=1e-8)


def test_what_the_network_sees_is_picture_and_noise_in_the_right_parts():
    model, seen = models.Diffusion((8, 8, 1), width=4), []
    call = model.denoiser.call
    model.denoiser.call = lambda inputs, **options: seen.append(inputs) or call(inputs, **options)
    images = np.full((500, 8, 8, 1), 230, "uint8")
    clean = model(images)
    model.compute_loss(images, None, clean)
    alpha, sigma = noise_levels("cosine")
    place = np.round(array(seen[0]["time"]) * 1000).astype(int) - 1
    assert place.min() >= 0 and place.max() <= 999 and place.mean() == pytest.approx(499.5, abs=60)
    rest = (array(seen[0]["image"])[..., 0] - alpha[place, None, None] * (230 / 127.5 - 1)) / sigma[place, None, None]
    assert rest.mean() == pytest.approx(0.0, abs=0.02)
    assert rest.std() == pytest.approx(1.0, abs=0.02)


def test_ddim_with_eta_1_adds_the_noise_of_ddpm():
    times = sampling_times("epsilon", "linear", 1000)
    beta, remaining = np.linspace(1e-4, 0.02, 1000), np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
    for t in (999, 500, 1):
        now, later = times[999 - t], times[1000 - t]
        posterior = (1 - remaining[t - 1]) / (1 - remaining[t]) * beta[t]
        assert fresh_noise(now, later, 1.0) ** 2 == pytest.approx(posterior, rel=1e-6)
    assert all(fresh_noise(now, later, 0.0) == 0.0 for now, later in itertools.pairwise(times))


# Sampling


@pytest.mark.once
@pytest.mark.parametrize(("kind", "steps"), [("epsilon", 1000), ("v", 200), ("flow", 200)])
def test_a_sampler_with_a_perfect_network_draws_from_the_distribution_it_knows(kind, steps):
    """Of pictures that are normal with deviation 0.3 about 0.2 the best prediction is known."""
    model = models.Diffusion((8, 8, 1), width=4, prediction=kind)
    numbers = {}

    def predicted(x, time, told):
        _, alpha, sigma, *_ = numbers["now"]
        clean = 0.2 + alpha * 0.09 / (alpha**2 * 0.09 + sigma**2) * (x - alpha * 0.2)
        return prediction_target(kind, clean, (x - alpha * clean) / sigma, alpha, sigma)

    def step(x, given, z, told):
        numbers["now"] = keras.ops.unstack(given, 8)
        return type(model).step(model, x, given, z, told)

    model.predicted, model.step, model.bounded = predicted, step, lambda clean: clean
    noise = draws.normal(size=(8, 64))
    *_, found = model.trajectory(noise, steps=steps)
    np.testing.assert_allclose(array(found).reshape(8, 64), 0.2 + 0.3 * noise, atol=0.02)


def test_sampling_without_noise_is_deterministic():
    model = made(models.Diffusion)
    noise = draws.normal(size=(2, 64))
    first, again = (model.sample(noise, steps=12, seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first, again)
    assert first.shape == (2, 8, 8, 1) and first.min() >= 0 and first.max() <= 1
    with_noise = [model.sample(noise, steps=12, eta=1.0, seed=seed) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(with_noise[0], with_noise[1])
    assert np.abs(with_noise[0] - with_noise[2]).max() > 0.01


@pytest.mark.parametrize(("options", "y"), [({"num_classes": 3}, LABELS[:2]), ({"text": (7, 5)}, TEXTS[:2])])
def test_guidance_of_1_is_the_conditional_model_and_of_0_the_free_one(options, y):
    model = made(models.Diffusion, **options)
    x = draws.normal(size=(2, 8, 8, 1)).astype("float32")
    z = np.zeros((1, 1, 1, 1), "float32")

    def numbers(guidance):
        return np.array([0.5, 0.6, 0.8, 0.4, 0.8, 0.6, 0.0, guidance], "float32")

    told, free, both = model.encoded(2, y, False), model.encoded(2, None, False), model.encoded(2, y, True)
    as_told, not_told = (array(model.in_inference("step", model.step)(x, numbers(1), z, each)) for each in (told, free))
    guided = [array(model.in_inference("guided_step", model.guided_step)(x, numbers(g), z, both)) for g in (1, 0)]
    np.testing.assert_allclose(guided[0], as_told, atol=1e-5)
    np.testing.assert_allclose(guided[1], not_told, atol=1e-5)
    assert np.abs(as_told - not_told).max() > 1e-4


def test_guidance_without_a_condition_is_refused():
    with pytest.raises(ValueError, match="needs a class or a text"):
        next(made(models.Diffusion).trajectory(np.zeros((1, 64)), guidance=2.0))


@pytest.mark.parametrize(("options", "y"), [({"num_classes": 3}, LABELS), ({"text": (7, 5)}, TEXTS)])
def test_a_condition_left_out_of_every_picture_changes_nothing(options, y):
    model, others = made(models.Diffusion, condition_dropout=1.0, **options), y[::-1].copy()
    assert loss_of(model, y) == loss_of(model, others)
    assert loss_of(model, y, training=False) != loss_of(model, others, training=False)


@pytest.mark.once
def test_diffusion_learns_a_single_picture():
    model = models.Diffusion((8, 8, 1), width=16, prediction="flow")
    layers.initialize(model, 0)
    model.compile(keras.optimizers.Adam(3e-3))
    images = np.repeat(IMAGES[:1] // 128 * 255, 16, axis=0)
    losses = model.fit(images, epochs=60, batch_size=16, verbose=0).history["loss"]
    assert np.mean(losses[-10:]) < 0.5 * losses[0]
    drawn = model.sample(draws.normal(size=(4, 64)), steps=10)
    assert np.abs(drawn - images[:4] / 255.0).mean() < 0.25


# In codes


def test_the_autoencoder_of_a_latent_diffusion_stays_as_it_was():
    model, autoencoder = made(models.LatentDiffusion, autoencoder_width=4), made(models.Autoencoder, 4, kind="spatial")
    model.adapt(autoencoder, IMAGES)
    codes = array(model(IMAGES))
    np.testing.assert_allclose(codes.mean((0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(codes.std((0, 1, 2)), 1.0, atol=1e-4)
    model.fit(IMAGES, epochs=1, batch_size=6, verbose=0)
    np.testing.assert_array_equal(array(model(IMAGES)), codes)
    np.testing.assert_allclose(model.pictures(codes), array(autoencoder(IMAGES)), atol=1e-5)


# Precision


@pytest.mark.once
@pytest.mark.parametrize(
    ("kind", "options", "y"),
    share(
        [
            (models.Autoencoder, {"noise": 0.1}, None),
            (models.WGANGP, {}, None),
            (models.Diffusion, {"text": (7, 5)}, TEXTS),
            (models.LatentDiffusion, {"num_classes": 3}, LABELS),
            (models.DCGAN, {}, None),
            (models.VAE, {}, None),
        ]
    ),
)
def test_half_precision_loses_little(kind, options, y):
    expected, loss, _ = backend.loss_and_gradients(made(kind, **options), IMAGES, y)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        found, loss_in_half, _ = backend.loss_and_gradients(made(kind, **options), IMAGES, y)
    finally:
        keras.config.set_dtype_policy("float32")
    assert loss_in_half == pytest.approx(loss, rel=0.05, abs=0.05)
    for half, single in zip(keras.tree.flatten(found), keras.tree.flatten(expected), strict=True):
        np.testing.assert_allclose(half, single, atol=0.05 * np.abs(single).max())
