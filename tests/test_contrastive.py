"""Learning without labels as an app: probes, what the encoder sees, and its weights in a classifier."""

import json
import math
from types import SimpleNamespace

import keras
import numpy as np
import pytest
from app_cases import write_drive, write_pictures
from PIL import Image
from runs import bundle_weights, forked, train

import layers
from apps import contrastive as app
from apps.common.app import metric_of
from apps.common.bundles import answers
from apps.common.bundles.pretrained import by_order
from apps.common.data.examples import Data, Examples
from apps.common.options.declare import make_config
from apps.common.reports.probe import labelled_sample, linear_probe, most_alike, nearest_classes, probe_metrics
from apps.common.training import batches
from layers import models
from layers.initialization import own_variables
from layers.models.representation._encoder import image_encoder

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

draws = np.random.default_rng(0)
OPTIONS = ("--projection-dim", "4", "--epochs", "2", "--batch-size", "8", "--probe-share", "0.3")


def test_the_labelled_share_is_stratified_and_has_every_class():
    labels = np.repeat([0, 1, 2], [100, 50, 3])
    chosen = labelled_sample(labels, 0.1, 0)
    assert np.bincount(labels[chosen]).tolist() == [10, 5, 1] and len(np.unique(chosen)) == 16
    assert labelled_sample(labels, 1.0, 0).tolist() == list(range(153))
    assert len(labelled_sample(labels, 0.1, 1)) == 16 and labelled_sample(labels, 0.1, 1).tolist() != chosen.tolist()


def test_probes_find_classes_that_a_line_parts_and_nothing_in_noise():
    labels = np.arange(200) % 2
    features = draws.normal(size=(200, 5)) + 6 * labels[:, None] * [1, 0, 0, 0, 0]
    assert (linear_probe(features[:40], labels[:40], features[40:]) == labels[40:]).mean() > 0.97
    noise = probe_metrics(draws.normal(size=(40, 5)), labels[:40], draws.normal(size=(160, 5)), labels[40:])
    assert all(0.3 < value < 0.7 for value in noise.values())


def test_the_target_moves_by_its_decay_in_a_step_of_the_optimizer_however_many_batches_it_takes():
    config = make_config(app.Config, {"model": "byol", "target_decay": 0.9, "accumulate": 4})
    model = app.network(config, {"image_shape": [8, 8, 1], "mean": 0.5, "deviation": 0.2})
    assert model.decay**4 == pytest.approx(0.9)


def test_neighbours_are_those_in_the_same_direction():
    features, others = np.array([[1.0, 0.0], [0.0, 1.0]]).repeat(5, 0), np.array([[100.0, 1.0], [0.1, 0.5]])
    assert nearest_classes(features, np.repeat([7, 3], 5), others).tolist() == [7, 3]


def test_the_nearest_picture_is_looked_for_among_all_whatever_chunk_they_came_in(tmp_path, monkeypatch):
    pictures = draws.integers(0, 256, (6, 4, 4)).astype("uint8")
    pictures[4] = pictures[0]
    for index, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / f"{index}.png")
    (tmp_path / "5.png").write_bytes(b"no picture")
    monkeypatch.setattr(answers, "CHUNK", 2)
    flatten = keras.Sequential([keras.Input((4, 4, 1)), keras.layers.Flatten()])
    rows = list(answers.answer(app, flatten, {"image_shape": [4, 4, 1]}, [str(tmp_path)]))
    assert rows[0]["nearest"] == str(tmp_path / "4.png") and rows[4]["nearest"] == str(tmp_path / "0.png")
    assert rows[0]["similarity"] == pytest.approx(1) and rows[0]["features"] == pictures[0].flatten().tolist()
    assert "not a readable image" in rows[5]["reason"] and "nearest" not in rows[5]
    [alone] = answers.answer(app, flatten, {"image_shape": [4, 4, 1]}, [str(tmp_path / "1.png")])
    assert list(alone) == ["input", "features"]


def test_the_most_alike_is_another_row():
    features = draws.normal(size=(1500, 8))
    units = features / np.linalg.norm(features, axis=1, keepdims=True)
    cosines = units @ units.T - 3 * np.eye(1500)
    positions, values = zip(*most_alike(features), strict=True)
    assert list(positions) == cosines.argmax(1).tolist()
    np.testing.assert_allclose(values, cosines.max(1), atol=1e-5)


def test_the_encoder_sees_what_a_classifier_sees():
    """Pictures in -1..1 standardised within the encoder are those in 0..255 standardised by the classifier."""
    mean, deviation = [0.2, 0.5, 0.6], [0.3, 0.1, 0.2]
    encoder = image_encoder({"name": "small_cnn", "mean": mean, "deviation": deviation, "dense_dim": 5}, (8, 8, 3))
    plain = image_encoder({"name": "small_cnn", "dense_dim": 5}, (8, 8, 3))
    layers.initialize(plain, 0)
    encoder.set_weights(plain.get_weights())
    pictures = draws.integers(0, 256, (4, 8, 8, 3)).astype("uint8")
    found = encoder(pictures.astype("float32") / 127.5 - 1)
    expected = plain(((pictures / 255 - mean) / deviation).astype("float32"))
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found), keras.ops.convert_to_numpy(expected), atol=1e-4)


@pytest.mark.parametrize("architecture", ["small_cnn", "resnet"])
def test_weights_go_to_the_layers_of_the_same_place_or_nowhere(architecture):
    depth = {"depth": 20} if architecture == "resnet" else {}
    encoder = {"name": architecture, **depth, "mean": [0.5], "deviation": [0.2]}
    trained = models.SimCLR((8, 8, 1), encoder, projection_dim=4)
    classifier = getattr(models, architecture)((8, 8, 1), 3, **depth)
    own = list(own_variables(classifier))
    found = by_order(trained, classifier, own)
    pairs = [(ours, theirs) for (layer, ours), theirs in zip(own, found, strict=True) if layer.name != "logits"]
    assert len(pairs) == len(list(own_variables(trained.encoder))) > 5
    assert all(ours.name == theirs.name and ours.shape == theirs.shape for ours, theirs in pairs)
    assert [each for (layer, _), each in zip(own, found, strict=True) if layer.name == "logits"] == [None, None]
    other = models.mlp((8, 8, 1), 3)
    assert not any(each is not None for each in by_order(trained, other, list(own_variables(other))))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("contrastive")
    write_pictures(folder, count=10)
    return folder


def test_a_classifier_goes_on_from_the_encoder(place):
    source = train("contrastive", "--data", "pictures", "--model", "byol", *OPTIONS, cwd=place)["model"]
    begun = ("--data", "pictures", "--epochs", "1", "--batch-size", "8", "--pretrained", source, "--freeze")
    classifier = train("image-classification", *begun, cwd=place)["model"]
    theirs = [array for array in bundle_weights(source).values() if array.ndim == 4]
    ours = [array for array in bundle_weights(classifier).values() if array.ndim == 4]
    assert len(ours) == 2 <= len(theirs)
    for kernel in ours:
        assert any(kernel.shape == each.shape and (kernel == each).all() for each in theirs)
    refused = forked("train", "image-classification", *begun, "--model", "resnet", cwd=place, check=2)
    line = refused.stderr.strip().splitlines()[-1]
    assert "a bundle of contrastive whose weights fit nothing" in line and "expected the same architecture" in line


def test_a_car_steers_by_what_the_encoder_sees(tmp_path):
    write_drive(tmp_path)
    begun = ("contrastive", "--data", "drive/IMG", "--architecture", "pilotnet", *OPTIONS)
    source = train(*begun, cwd=tmp_path)["model"]
    options = ("driving", "--data", "drive", "--image-size", "20,40", "--epochs", "1", "--pretrained", source)
    steered = bundle_weights(train(*options, "--freeze", cwd=tmp_path)["model"]).values()
    theirs = [array for array in bundle_weights(source).values() if array.ndim == 4]
    ours = [array for array in steered if array.ndim == 4]
    assert len(ours) == 5 and all(any(np.array_equal(kernel, each) for each in theirs) for kernel in ours)
    refused = forked("train", *options, "--width", "8", cwd=tmp_path, check=2)
    assert "It was trained with model simclr, architecture pilotnet" in refused.stderr.strip().splitlines()[-1]


def test_the_steering_network_sees_the_same_pixels_in_the_encoder():
    config = make_config(app.Config, {"architecture": "pilotnet"})
    encoder = app.network(config, app.load_data(config).about).encoder
    steering = models.pilotnet((8, 8, 1), hidden_dims=())
    layers.initialize(steering, 0)
    features = keras.Model(steering.inputs, steering.layers[-1].input)
    encoder.set_weights(features.get_weights())
    pictures = draws.integers(0, 256, (2, 8, 8, 1)).astype("float32")
    found, expected = encoder(pictures / 127.5 - 1), features(pictures)
    np.testing.assert_allclose(*map(keras.ops.convert_to_numpy, (found, expected)), rtol=1e-4, atol=1e-5)


def test_the_loss_is_a_number_where_a_batch_is_larger_than_what_is_judged(monkeypatch):
    monkeypatch.setattr(app, "MOST", 6)
    model = models.SimCLR((8, 8, 1), {"name": "mlp", "hidden_dims": (4,)}, projection_dim=4)
    images = draws.integers(0, 256, (9, 8, 8, 1)).astype("uint8")
    losses = [app.loss_of(model, images, app.Config(batch_size=size)) for size in (3, 6, 7, 2000)]
    assert all(math.isfinite(loss) for loss in losses)
    assert losses[1] == losses[2] == losses[3], "all that are judged in one batch"


def test_what_is_judged_is_of_all_classes_where_pictures_lie_class_by_class(monkeypatch):
    monkeypatch.setattr(app, "MOST", 8)
    labels = np.repeat([0, 1], 8)
    pictures = labels.astype("uint8")[:, None, None, None]
    seen = []

    def compute_loss(x, training):
        seen.append(keras.ops.convert_to_numpy(x).ravel())
        return 0.0

    model = SimpleNamespace(variables=[], compute_loss=compute_loss)
    app.loss_of(model, pictures, app.Config(batch_size=4))
    assert [sorted(batch) for batch in seen] == [[0, 0, 1, 1]] * 2
    monkeypatch.setattr(batches, "predict_all", lambda model, x: seen.append(x[-8:].ravel()) or x.reshape(len(x), 1))
    data = Data(Examples(pictures, labels), Examples(pictures, labels), None, {"labelled": True})
    assert app.on_epoch(model, 1, None, data, app.Config())["val_knn_accuracy"] == 1.0 and seen[-1].tolist() == [0] * 4 + [1] * 4


def test_without_labels_the_loss_is_what_counts(tmp_path):
    (tmp_path / "any").mkdir()
    for index in range(20):
        Image.fromarray(draws.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / "any" / f"{index}.png")
    done = forked("train", "contrastive", "--data", "any", *OPTIONS[:-2], "--json", cwd=tmp_path)
    assert "the loss is what counts" in done.stderr
    assert metric_of(app, {"labelled": False}).name == "loss" and metric_of(app, {"labelled": True}).name == "probe_accuracy"
    metrics = json.loads(done.stdout)["metrics"]
    assert math.isfinite(metrics["loss"]) and not math.isfinite(metrics["probe_accuracy"] or math.nan)
