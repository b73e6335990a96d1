"""Plain methods stand beside the networks: their numbers are known values on data made for it."""

import numpy as np
import pytest

from apps import graph, image_classification, image_generation, text_generation
from apps.common.data.graphs.nodes import spread_labels
from apps.common.options.declare import make_config
from apps.common.reports.baselines import back_off, class_shares
from apps.common.training.fit import settled
from layers.models.vision.small_cnn import filters_of

pytestmark = pytest.mark.once


def found(app, **options):
    config = make_config(app.Config, options)
    data = app.load_data(config)
    return app.baselines(data, settled(app, config, data)[0])


def test_the_shares_of_the_classes_are_right_as_often_as_the_commonest():
    metrics = class_shares(np.array([0, 0, 0, 1]), np.array([0, 1, 1, 1]), 2)
    assert metrics["accuracy"] == 0.25 and metrics["auc"] == 0.5
    np.testing.assert_allclose(metrics["cross_entropy"], -(np.log(0.75) + 3 * np.log(0.25)) / 4)


def test_a_forest_on_shrunk_pixels_knows_digits():
    digits = found(image_classification)
    assert digits["majority"]["accuracy"] < 0.2 and digits["random forest on 16 by 16 pixels"]["accuracy"] > 0.9


def test_pixels_are_shrunk_by_the_mean_of_blocks():
    images = np.arange(2 * 32 * 48 * 3, dtype="uint8").reshape(2, 32, 48, 3)
    small = image_classification.shrunk_pixels(images)
    assert small.shape == (2, 16 * 16 * 3)
    np.testing.assert_allclose(small[1, :3], images[1, :2, :3].mean((0, 1)))
    assert image_classification.shrunk_pixels(images[:, :5, :7]).shape == (2, 5 * 7 * 3)


def test_labels_spread_to_the_nodes_beside_them():
    edges = np.array([[0, 1, 1, 2, 3, 4], [1, 0, 2, 1, 4, 3]])
    shares = spread_labels(edges, np.array([0, 0, 0, 1, 1, 0]), np.array([True, False, False, True, False, False]), 2)
    assert shares.argmax(1).tolist()[:5] == [0, 0, 0, 1, 1]
    np.testing.assert_allclose(shares.sum(1), 1)
    np.testing.assert_allclose(shares[5], 0.5)  # nothing reaches it


def test_karate_is_nearly_known_from_its_edges():
    karate = found(graph)
    assert karate["labels spread along edges"]["accuracy"] > 0.8 > karate["majority"]["accuracy"]


def test_back_off_probabilities_sum_to_one_and_know_a_cycle():
    ids = np.tile([0, 1, 2, 3], 50)
    known = back_off(ids, 5, longest=3)
    windows = np.array([[0, 1, 4, token] for token in range(5)])
    np.testing.assert_allclose(known(windows)[:, 2].sum(), 1)
    np.testing.assert_allclose(known(np.array([[0, 1, 2]]))[0], 1, atol=0.05)
    unigram = back_off(ids, 5, longest=1)(np.array([[0, 1]]))
    np.testing.assert_allclose(unigram, (50 + 4 / 5) / 204)


def test_five_characters_tell_more_than_one_of_text():
    text = found(text_generation)
    assert text["5-gram with back-off"]["cross_entropy"] < text["unigram"]["cross_entropy"] - 0.5


def test_pixels_drawn_alone_are_far_from_digits(monkeypatch):
    from apps.common.reports import generated_images

    monkeypatch.setattr(generated_images, "CLASSIFIER_STEPS", 20)
    assert found(image_generation)["pixel gaussian"]["frechet_own_features"] > 0


def test_the_default_network_is_as_deep_as_the_pictures_are_large():
    sides = {4: 2, 8: 2, 16: 2, 28: 3, 32: 3, 64: 4, 128: 5, 500: 5}
    assert {side: len(filters_of((side, side, 3))) for side in sides} == sides
    network = image_classification.network(make_config(image_classification.Config, {}), (64, 64, 3), 4)
    assert [layer.output.shape[-1] for layer in network.layers if "flatten" in layer.name] == [4 * 4 * 128]


def test_the_small_network_halves_large_pictures_until_they_are_small():
    sizes = {4: 2, 8: 2, 28: 2, 32: 2, 64: 3, 128: 4, 224: 5}
    assert {side: image_classification.halvings((side, side, 3)) for side in sizes} == sizes
    network = image_classification.network(make_config(image_classification.Config, {"model": "small-cnn"}), (64, 64, 3), 4)
    assert network.count_params() < 350_000
