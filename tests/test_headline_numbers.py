"""The numbers that image apps lead with, of models that make a known error."""

from types import SimpleNamespace

import keras
import numpy as np
import pytest

from apps import autoencoding, contrastive, image_generation, image_text
from apps.common.data.examples import Data, Examples
from apps.common.data.images.paired import pairs_of
from apps.common.reports import judges, probe
from apps.common.reports.classification import classification_metrics
from apps.common.reports.generated_images import Judge
from layers import models

pytestmark = pytest.mark.once  # nothing in it depends on the backend

ops = keras.ops
draws = np.random.default_rng(0)


def greys(levels, channels=1):
    """Pictures of 2 x 2 pixels, one level of grey each."""
    return np.tile(np.array(levels, "uint8")[:, None, None, None], (1, 2, 2, channels))


def examples(levels, labels=None):
    return Examples(greys(levels), np.zeros(len(levels), int) if labels is None else np.array(labels))


def data_of(train, validation, test):
    return Data(train, validation, test, {"class_names": [], "image_shape": [2, 2, 1]})


# Contrastive


def test_probes_are_given_the_labelled_share_alone_and_the_gain_counts_from_the_best_control(monkeypatch):
    asked, fit = [], probe.probe_metrics
    monkeypatch.setattr(probe, "probe_metrics", lambda *given: asked.append((len(given[0]), len(given[1]))) or fit(*given))
    controls = {"pixels": {"probe_accuracy": 0.5}, "encoder untrained": {"probe_accuracy": 0.75}}
    monkeypatch.setattr(contrastive, "controls", lambda data, config: controls)
    monkeypatch.setattr(contrastive, "loss_of", lambda model, images, config: 0.0)
    monkeypatch.setattr(contrastive, "views_of", lambda model, images, config: None)
    labels = np.arange(100) % 2
    data = data_of(examples(40 + 150 * labels, labels), None, examples([40, 190, 40, 190], [0, 1, 0, 1]))
    data.about["class_names"] = ["dark", "light"]
    model = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten()])
    found = contrastive.evaluate(model, data, contrastive.Config(probe_share=0.1)).metrics
    assert asked == [(10, 10)] and found["labels"] == 10
    assert found["probe_accuracy"] == 1.0 and found["probe_gain"] == pytest.approx(0.25)


# Autoencoding


def test_macro_f1_is_scikit_learns_and_a_share_of_a_class_that_the_test_lacks_is_not_told():
    from sklearn.metrics import f1_score

    for labels, predicted, count in (([0, 0], [0, 1], 2), ([1, 1, 1], [1, 0, 1], 2), ([0, 2, 2, 0], [0, 2, 1, 2], 4)):
        labels, predicted = np.array(labels), np.array(predicted)
        found = classification_metrics(np.eye(count)[predicted] * 0.9 + 0.1 / count, labels)
        assert found["macro_f1"] == pytest.approx(f1_score(labels, predicted, average="macro", zero_division=0))
        told = {"specificity"} & found.keys(), {"sensitivity"} & found.keys()
        assert list(map(bool, told)) == [count == 2 and place in labels for place in (0, 1)]


def autoencoder(generate):
    """The code of a picture is its brightness squared; `generate` makes brightness of codes."""
    picture, code = keras.Input((2, 2, 1)), keras.Input((1,))
    encoder = keras.Model(picture, ops.square(0.5 + 0.5 * ops.mean(picture, axis=(1, 2))))
    brightness = ops.clip(generate(code), 1e-6, 1 - 1e-6) + ops.zeros((1, 4))
    logits = ops.reshape(ops.log(brightness / (1 - brightness)), (-1, 2, 2, 1))
    return SimpleNamespace(encoder=encoder, generator=keras.Model(code, logits), latent_dim=1, name="stub")


def test_the_threshold_is_the_quantile_asked_for_of_the_validation_errors():
    model = autoencoder(lambda code: 0 * code + 0.5)  # off by the distance from middle grey
    train, validation, test = examples(range(0, 250, 5)), examples([102, 102, 102, 51, 0]), examples([0, 102, 102, 102])
    data = data_of(train, validation, test)
    report = autoencoding.evaluate(model, data, autoencoding.Config(anomaly_quantile=0.75))
    assert data.about["threshold"] == pytest.approx(0.3**2)
    assert report.metrics["anomaly_share"] == 0.25
    assert report.metrics["psnr"] == pytest.approx(10 * np.log10(4 / (0.5**2 + 3 * 0.1**2)))


def test_the_error_of_a_code_is_that_of_the_code_in_bytes():
    data = data_of(examples([0, 255] * 20), examples([0, 255]), examples([51] * 4))
    report = autoencoding.evaluate(autoencoder(ops.sqrt), data, autoencoding.Config())
    assert report.metrics["psnr"] > 90, "the model loses nothing"
    step = round(0.2**2 * 255)  # the code of brightness 0.2, between those of 0 and of 1
    assert report.metrics["psnr_code"] == pytest.approx(-20 * np.log10(abs(np.sqrt(step / 255) - 0.2)), abs=0.1)


# Image and text


def test_zero_shot_accuracy_is_the_share_of_right_captions_where_the_training_has_the_right_one():
    about = {"words": ["a", "b", "c"], "length": 1, "captions": ["a", "b", "c"]}
    image, text = keras.Input((2, 2, 3), dtype="uint8", name="image"), keras.Input((1,), dtype="int32", name="text")
    # A picture of grey 2, 3 or 4 is taken for a, b or c, whose ids these are.
    vectors = [ops.one_hot(ops.cast(image[:, 0, 0, 0], "int32"), 5), ops.one_hot(text[:, 0], 5)]
    model = keras.Model({"image": image, "text": text}, vectors)
    model.embed_texts = lambda ids: ops.one_hot(ids[:, 0], 5)
    pairs = pairs_of(greys([2, 3, 3, 4, 4], 3), ["a", "a", "b", "c", "new"], about)
    data = Data(None, None, pairs, {**about, "kind": "pairs"})
    assert image_text.evaluate(model, data, image_text.Config()).metrics["zero_shot_accuracy"] == 0.75


# Image generation


class Difference(Judge):
    """Judges pictures by their mean grey level; `found` are further numbers."""

    def __init__(self, **found):
        self.found, self.said = found, set()

    def metrics(self, images, asked, name, reference):
        return {"frechet_own_features": abs(images.mean() - reference.x.mean()), **self.found}


def generating(monkeypatch, judge):
    monkeypatch.setattr(judges, "judge_of", lambda data: judge)
    data = data_of(examples([200] * 20), examples([130] * 20), examples([110] * 20))
    data.about["class_names"] = ["group 1"]
    return data


def test_samples_and_training_pictures_are_judged_beside_the_test(monkeypatch):
    data = generating(monkeypatch, Difference())
    model = models.PixelGaussian((2, 2, 1))
    model.adapt(greys([100] * 5))  # it draws nothing but pictures of grey 100
    found = image_generation.evaluate(model, data, image_generation.Config(model="pixel-gaussian")).metrics
    assert found["frechet_own_features"] == pytest.approx(10, abs=1) and found["frechet_of_train"] == 90


def test_a_run_whose_generator_collapses_says_so(monkeypatch, capsys):
    data = generating(monkeypatch, Difference(class_coverage=0.1, diversity=0.01))
    heard = []
    tracker = SimpleNamespace(
        figure=lambda *figure: None, metrics=lambda values, step: heard.append(values), tags=lambda values: heard.append(values)
    )
    config = image_generation.Config(model="vae", epochs=5)
    model = models.PixelGaussian((2, 2, 1))
    for epoch in (1, 4, 5):
        image_generation.on_epoch(model, epoch, tracker, data, config)
    said = capsys.readouterr().err
    assert said.startswith("epoch 4: collapse: samples cover 10% of the classes with 1% of the diversity")
    assert said.count("collapse") == 1
    assert heard[0] == {"trouble": 0.0} and heard[1] == {"trouble": 1.0} and heard[2]["trouble"].startswith("collapse in epoch 4")
