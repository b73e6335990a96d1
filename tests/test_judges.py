"""How drawn pictures are judged: distances, coverage, samples of each class, what goes wrong and is said."""

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.linalg import sqrtm

from apps import image_generation as app
from apps.common.data.examples import Data, Examples
from apps.common.reports import generated_images as generation
from apps.common.reports import judges
from apps.common.training import codes
from layers import models

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

CLASSES, COUNT = 3, 6
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1)).astype("uint8")
LABELS = np.arange(COUNT) % CLASSES


def test_frechet_distance_of_known_distributions():
    draws = np.random.default_rng(3)
    mean, other, deviation, spread = draws.uniform(0.5, 2, (4, 5))
    expected = ((mean - other) ** 2).sum() + ((deviation - spread) ** 2).sum()
    found = generation.frechet_distance(mean, np.diag(deviation**2), other, np.diag(spread**2))
    assert found == pytest.approx(expected, rel=1e-9)
    first, second = (part @ part.T for part in draws.normal(size=(2, 5, 5)))
    expected = ((mean - other) ** 2).sum() + np.trace(first + second - 2 * sqrtm(first @ second).real)
    assert generation.frechet_distance(mean, first, other, second) == pytest.approx(expected, rel=1e-6)
    assert generation.frechet_distance(mean, first, mean, first) == pytest.approx(0, abs=1e-6)
    flat = np.zeros((5, 5))  # a generator that draws one image only
    assert generation.frechet_distance(mean, flat, mean, second) == pytest.approx(np.trace(second))


def test_coverage_counts_the_classes_that_are_drawn_often_enough():
    real = np.repeat(np.arange(4), 25)
    assert generation.class_coverage(real, real, 5) == 1.0
    assert generation.class_coverage(np.zeros(100, int), real, 5) == 0.25
    assert generation.class_coverage(np.repeat([0, 1, 2], [48, 47, 5]), real, 5) == 0.75


def test_spherical_interpolation_stays_on_the_sphere():
    start, end = np.linalg.qr(np.random.default_rng(4).normal(size=(6, 2)))[0].T
    way = generation.spherical(start, end, np.linspace(0, 1, 5))
    np.testing.assert_allclose(np.linalg.norm(way, axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(way[[0, 2, 4]], [start, (start + end) / 2**0.5, end], atol=1e-6)


@pytest.fixture(scope="module")
def digits():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "CLASSIFIER_STEPS", 150)
        data = app.load_data(app.Config())
        assert data.example == "0" and app.load_data(app.Config(model="vae")).example == "any"
        judges.judge_of(data)
        yield data


def test_our_own_features_tell_digits_apart(digits):
    judge = judges.judge_of(digits)
    assert judge is judges.judge_of(digits)
    assert np.mean(judge.look(digits.test.x)[1] == digits.test.y) > 0.85
    threes = digits.train.x[digits.train.y == 3]
    real = judge.metrics(digits.train.x, digits.train.y, "test", digits.test)
    narrow = judge.metrics(threes, None, "test", digits.test)
    assert real["class_coverage"] == 1 and real["class_accuracy"] > 0.85 and 0.8 < real["diversity"] < 1.2
    assert narrow["class_coverage"] == pytest.approx(0.1) and narrow["diversity"] < 0.5
    assert narrow["frechet_own_features"] > 10 * real["frechet_own_features"]
    assert generation.trouble(None, narrow)[0] == "collapse" and generation.trouble(None, real) is None
    assert generation.trouble(None, {"class_coverage": 0.2, "diversity": 3.0})[0] == "noise"


def test_one_picture_and_pictures_all_alike_can_be_judged(monkeypatch):
    monkeypatch.setattr(generation.Judge, "__init__", lambda self: vars(self).update(num_classes=CLASSES, references={}))

    def look(self, images):
        return images.reshape(len(images), -1) / 255, images[:, 0, 0, 0] % 2

    monkeypatch.setattr(generation.Judge, "look", look)
    several, one = Examples(IMAGES, LABELS), Examples(IMAGES[:1], LABELS[:1])
    alike = Examples(IMAGES[:1].repeat(3, 0), LABELS[:1].repeat(3))
    for reference in (one, alike):
        found = generation.Judge().metrics(several.x, None, "test", reference)
        assert np.isfinite(found["frechet_own_features"]) and np.isnan(found["diversity"])
        found = generation.Judge().metrics(reference.x, None, "test", several)
        assert np.isfinite(found["frechet_own_features"]) and found["diversity"] == pytest.approx(0, abs=1e-12)


def test_samples_to_be_judged_are_of_each_class_as_many_as_there_are_among_few(monkeypatch):
    monkeypatch.setattr(generation, "draw_images", lambda model, latents, labels, **_: labels)
    model = SimpleNamespace(latent_dim=1, num_classes=2)
    for labels, expected in (([0, 1], [500, 500]), ([0, 0, 1, 1], [500, 500]), ([0, 1, 1, 1], [250, 750])):
        assert np.bincount(generation.sample(model, np.array(labels), 1000, 0)[1]).tolist() == expected


def test_codes_are_standardised_by_pictures_of_all_classes(monkeypatch):
    monkeypatch.setattr(codes, "trained_autoencoder", lambda model, data, config: None)
    pictures, seen = np.repeat(np.arange(4, dtype="uint8"), 2500)[:, None], []
    model = SimpleNamespace(adapt=lambda autoencoder, images: seen.append(images))
    app.prepare(model, Data(Examples(pictures, None), None, None, {}), app.Config(model="latent-flow"))
    assert np.bincount(seen[0].ravel()).tolist() == [1250] * 4


def test_divergence_is_noticed_once_and_said(digits, capsys):
    model, said = models.DCGAN((8, 8, 1), 5), []
    fine = {"class_coverage": 1.0, "diversity": 1.0}
    model.discriminator_loss.update_state(0.01)
    model.generator_loss.update_state(9.0)
    kind, line = wrong = generation.trouble(model, fine)
    assert kind == "divergence" and "discriminator has won, its loss is 0.010" in line
    tracker = type("Tags", (), {"tags": lambda self, values: said.append(values)})()
    for epoch in (4, 5):
        judges.judge_of(digits).notice(wrong, epoch, tracker)
    assert capsys.readouterr().err == f"epoch 4: divergence: {line}\n"
    assert said == [{"trouble": f"divergence in epoch 4: {line}"}]
