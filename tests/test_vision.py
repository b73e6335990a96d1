"""Boxes, losses and the best matching against independent references; what each architecture of vision promises."""

import itertools

import keras
import numpy as np
import pytest
from pycocotools import mask as coco
from scipy.optimize import linear_sum_assignment

import layers
from layers import backend, boxes, models, style, vision_losses
from layers.matching import assign

generator = np.random.default_rng(0)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def random_boxes(*shape, seed=0):
    """Corners inside the picture, sides of 0.05 to 0.5."""
    draws = np.random.default_rng(seed)
    corner, side = draws.uniform(0.0, 0.5, (*shape, 2)), draws.uniform(0.05, 0.5, (*shape, 2))
    return np.concatenate([corner, corner + side], axis=-1).astype("float32")


# Boxes


def test_formats_of_boxes_go_there_and_back():
    corners = random_boxes(6)
    np.testing.assert_allclose(array(boxes.to_centers(np.array([[0.1, 0.2, 0.5, 0.8]], "float32"))), [[0.3, 0.5, 0.4, 0.6]], 1e-6)
    np.testing.assert_allclose(array(boxes.to_corners(boxes.to_centers(corners))), corners, atol=1e-6)
    np.testing.assert_allclose(array(boxes.to_pixels(np.array([0.1, 0.2, 0.5, 1.0], "float32"), 50, 100)), [10, 10, 50, 50], 1e-6)
    np.testing.assert_allclose(array(boxes.from_pixels(boxes.to_pixels(corners, 480, 640), 480, 640)), corners, atol=1e-6)


def counted_on_a_grid(first, second, size=64):
    """Intersection and union of two boxes by counting the pixels they cover."""
    centers = (np.arange(size) + 0.5) / size

    def covered(box):
        inside = [(centers > box[i]) & (centers < box[i + 2]) for i in (0, 1)]
        return np.outer(inside[1], inside[0])

    first, second = covered(first), covered(second)
    return (first & second).sum() / (first | second).sum()


def test_iou_is_the_share_of_pixels_both_cover():
    corners = np.round(random_boxes(5) * 32) / 32
    found = array(boxes.pairwise(boxes.iou, corners, corners[:4]))
    expected = [[counted_on_a_grid(one, other) for other in corners[:4]] for one in corners]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def coco_iou(first, second):
    """The overlap of each box with each, `(n, m)`, as pycocotools finds it."""
    first, second = (np.concatenate([each[:, :2], each[:, 2:] - each[:, :2]], 1).astype("float64") for each in (first, second))
    return coco.iou(first, second, [0] * len(second))


def test_iou_is_that_of_pycocotools():
    first, second = random_boxes(30, seed=11), random_boxes(20, seed=12)
    found = array(boxes.pairwise(boxes.iou, first, second))
    np.testing.assert_allclose(found, coco_iou(first, second), atol=1e-5)
    assert (found == 0).any() and found.max() > 0.5


def test_iou_and_giou_do_not_change_when_both_boxes_move_grow_or_swap():
    first, second = random_boxes(8, seed=1), random_boxes(8, seed=2)
    for measure in (boxes.iou, boxes.giou):
        before = array(measure(first, second))
        np.testing.assert_allclose(array(measure(second, first)), before, atol=1e-6)
        np.testing.assert_allclose(array(measure(first * 3 + 0.7, second * 3 + 0.7)), before, atol=2e-5)
        np.testing.assert_allclose(array(measure(first, first)), 1.0, atol=1e-5)


def test_giou_tells_boxes_that_do_not_touch_by_their_distance():
    first = np.array([0.0, 0.0, 0.1, 0.1], "float32")
    away = np.array([[0.1, 0.0, 0.2, 0.1], [0.3, 0.0, 0.4, 0.1], [0.9, 0.9, 1.0, 1.0]], "float32")
    # Two squares side by side fill the box around them; with a gap of two sides half of it; in the corners 2 of 100.
    np.testing.assert_allclose(array(boxes.giou(first, away)), [0.0, -0.5, -0.98], atol=1e-5)
    assert (array(boxes.iou(first, away)) == 0).all()


def test_boxes_without_area_have_finite_overlaps_and_gradients():
    empty = np.array([[0.2, 0.2, 0.2, 0.2], [0.6, 0.5, 0.3, 0.1]], "float32")
    tensor = keras.ops.convert_to_tensor(empty)
    for measure in (boxes.iou, boxes.giou):
        assert np.isfinite(array(measure(empty, empty))).all()
        assert np.isfinite(array(backend.gradient(lambda x, measure=measure: measure(x, empty), tensor))).all()


def test_coder_goes_there_and_back():
    corners, priors = random_boxes(20, seed=3), random_boxes(20, seed=4)
    np.testing.assert_allclose(array(boxes.decode(boxes.encode(corners, priors), priors)), corners, atol=1e-5)
    np.testing.assert_allclose(array(boxes.encode(priors, priors)), 0.0, atol=1e-5)
    # An anchor of 0.4 x 0.2 moved by a tenth of its width, e times as high.
    code = array(boxes.encode(*np.array([[[0.34, 0.4, 0.74, 0.4 + 0.2 * np.e]], [[0.3, 0.4, 0.7, 0.6]]], "float32")))
    np.testing.assert_allclose(code[0, [0, 2, 3]], [1.0, 0.0, 5.0], atol=1e-4)


def test_anchors_stand_about_the_cells_and_have_the_shapes_asked_for():
    found = boxes.anchors((60, 120, 3), [(3, 6), (1, 2)], scale=0.5, octaves=2, ratios=(0.5, 2.0))
    assert found.shape == ((18 + 2) * 4, 4)
    sides = (found[:, 2:] - found[:, :2]) * [120, 60]
    np.testing.assert_allclose(sides[:4, 0] / sides[:4, 1], [0.5, 2.0, 0.5, 2.0], rtol=1e-5)
    np.testing.assert_allclose(np.sqrt(sides.prod(1))[:4], [10, 10, 10 * 2**0.5, 10 * 2**0.5], rtol=1e-5)
    centers = (found[:, 2:] + found[:, :2]) / 2
    np.testing.assert_allclose(centers[:8:4], [[1 / 12, 1 / 6], [3 / 12, 1 / 6]], atol=1e-6)
    np.testing.assert_allclose(centers[-4:], [[0.75, 0.5]] * 4, atol=1e-6)


def greedy(corners, scores, most, overlap, least):
    """Non-maximum suppression as one writes it down, in NumPy, by the overlaps of pycocotools."""
    kept, overlaps = [], coco_iou(corners, corners)
    for index in np.argsort(-scores, kind="stable"):
        near = any(overlaps[index, other] > overlap for other in kept)
        if scores[index] >= least and not near and len(kept) < most:
            kept.append(index)
    return kept


@pytest.mark.parametrize(("overlap", "least"), [(0.5, 0.0), (0.2, 0.4), (0.0, 0.9), (1.0, 0.0)])
def test_suppression_chooses_what_the_greedy_reference_does(overlap, least):
    corners, scores = random_boxes(3, 25, seed=5), np.random.default_rng(6).uniform(size=(3, 25)).astype("float32")
    options = {"iou_threshold": overlap, "score_threshold": least}
    indices, valid = (array(part) for part in boxes.non_max_suppression(corners, scores, 12, **options))
    assert indices.shape == valid.shape == (3, 12)
    for row in range(3):
        expected = greedy(corners[row], scores[row], 12, overlap, least)
        assert indices[row][valid[row]].tolist() == expected
        assert not valid[row][len(expected) :].any() and not indices[row][len(expected) :].any()


def test_suppression_does_not_depend_on_the_order_of_the_boxes():
    corners, scores = random_boxes(1, 15, seed=7), np.random.default_rng(8).uniform(size=(1, 15)).astype("float32")
    order = np.random.default_rng(9).permutation(15)
    first, valid = (array(part) for part in boxes.non_max_suppression(corners, scores, 8))
    second, again = (array(part) for part in boxes.non_max_suppression(corners[:, order], scores[:, order], 8))
    np.testing.assert_array_equal(corners[0][first[valid]], corners[0][order][second[again]])


def test_detections_suppress_within_a_class_alone():
    corners = np.array([[[0.1, 0.1, 0.5, 0.5], [0.11, 0.1, 0.5, 0.5], [0.6, 0.6, 1.2, 0.9]]], "float32")
    scores = np.array([[[0.9, 0.6], [0.8, 0.7], [0.0, 0.3]]], "float32")
    found = {part: array(value) for part, value in boxes.detections(corners, scores, max_detections=5).items()}
    assert found["classes"].tolist() == [[0, 1, 1, -1, -1]]
    np.testing.assert_allclose(found["scores"], [[0.9, 0.7, 0.3, 0.0, 0.0]], atol=1e-6)
    np.testing.assert_allclose(found["boxes"][0, :3], np.minimum(corners[0], 1.0), atol=1e-6)
    assert not found["boxes"][0, 3:].any()


# Losses


def test_focal_losses_without_focus_are_cross_entropy():
    logits, labels = generator.normal(size=(5, 3)).astype("float32") * 3, np.array([0, 2, 1, -1, 3])
    p = 1 / (1 + np.exp(-logits))
    targets = (generator.uniform(size=(5, 3)) > 0.5).astype("float32")
    expected = -(targets * np.log(p) + (1 - targets) * np.log(1 - p))
    np.testing.assert_allclose(array(vision_losses.sigmoid_focal_loss(targets, logits, alpha=None, gamma=0)), expected, 1e-4)
    focal = expected * np.where(targets, 0.25, 0.75) * np.where(targets, 1 - p, p) ** 2
    np.testing.assert_allclose(array(vision_losses.sigmoid_focal_loss(targets, logits)), focal, 1e-3, 1e-7)
    quality = array(vision_losses.quality_focal_loss(targets, logits))
    np.testing.assert_allclose(quality, expected * (targets - p) ** 2, 1e-3, 1e-7)
    softmax = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    chosen = softmax[range(3), labels[:3]]
    found = array(vision_losses.softmax_focal_loss(labels, logits))
    np.testing.assert_allclose(found, [*(-np.log(chosen) * (1 - chosen) ** 2), 0.0, 0.0], 1e-4, 1e-7)


def test_dice_of_a_perfect_prediction_is_0_and_of_the_opposite_1():
    labels = generator.integers(0, 2, (2, 5, 4))
    logits = 50.0 * np.eye(2, dtype="float32")[labels]
    np.testing.assert_allclose(array(vision_losses.dice_loss(labels, logits)), 0.0, atol=1e-5)
    np.testing.assert_allclose(array(vision_losses.dice_loss(1 - labels, logits)), 1.0, atol=1e-5)
    # Half of a class found and nothing else: 2 * 1 / (1 + 2).
    row, guess = np.array([[[1, 1, 0, 0]]]), np.array([[[1, 0, 0, 0]]])
    found = array(vision_losses.dice_loss(row, 50.0 * np.eye(2, dtype="float32")[guess]))
    np.testing.assert_allclose(found, [[1 - 4 / 5, 1 - 2 / 3]], atol=1e-4)


def test_pixels_that_do_not_count_change_no_loss():
    labels, logits = generator.integers(0, 3, (1, 4, 4)), generator.normal(size=(1, 4, 4, 3)).astype("float32")
    weights = (generator.uniform(size=(1, 4, 4)) > 0.4).astype("float32")
    other = np.where(weights[..., None] > 0, logits, 9.0).astype("float32")
    before, after = (array(vision_losses.dice_loss(labels, each, weights)) for each in (logits, other))
    np.testing.assert_allclose(before, after, atol=1e-6)
    values = [vision_losses.softmax_focal_loss(labels, each, gamma=0) for each in (logits, other)]
    before, after = (float(vision_losses.mean_over_counted(each, weights)) for each in values)
    assert before == pytest.approx(after, rel=1e-6)
    assert before == pytest.approx((array(values[0]) * weights).sum() / weights.sum(), rel=1e-5)
    assert float(vision_losses.mean_over_counted(values[0], 0.0 * weights)) == 0.0


def test_smooth_l1_is_a_square_within_beta_and_a_line_beyond():
    x = np.array([0.0, 0.1, -0.5, 2.0, -3.0], "float32")
    expected = [0.0, 0.01, 0.25, 1.75, 2.75]
    np.testing.assert_allclose(array(vision_losses.smooth_l1_loss(0.0 * x, x, beta=0.5)), expected, 1e-5, 1e-7)


# Matching


def total(costs, columns):
    return float(costs[np.arange(len(columns)), columns].sum())


def test_matching_is_the_best_of_all():
    costs = generator.normal(size=(6, 3, 4)).astype("float32")
    for matrix, columns in zip(costs, array(assign(costs)), strict=True):
        every = [total(matrix, list(order)) for order in itertools.permutations(range(4), 3)]
        assert len(set(columns)) == 3 and total(matrix, columns) == pytest.approx(min(every), abs=1e-5)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (7, 7), (30, 100)])
def test_matching_costs_as_little_as_scipys(rows, columns):
    costs = np.random.default_rng(rows).uniform(-5, 5, size=(3, rows, columns)).astype("float32")
    costs[1] = np.round(costs[1])  # ties
    for matrix, found in zip(costs, array(assign(costs)), strict=True):
        expected = linear_sum_assignment(matrix)[1]
        assert len(set(found)) == rows and total(matrix, found) == pytest.approx(total(matrix, expected), abs=1e-3)


def test_matching_ends_whatever_it_is_given():
    costs = np.array([[[np.nan, 1.0, 2.0], [0.0, np.inf, 5.0]], [[np.nan] * 3, [np.inf] * 3]], "float32")
    found = array(assign(costs))
    assert found[0].tolist() == [1, 0] and found[1][0] != found[1][1]
    with pytest.raises(ValueError, match="a column for each row"):
        assign(costs.transpose(0, 2, 1))


@pytest.mark.once
def test_the_loop_of_keras_operations_matches_as_well():
    from layers.backend.arithmetic.assignment import assign as by_operations

    costs = np.random.default_rng(3).normal(size=(2, 6, 9)).astype("float32")
    for matrix, found in zip(costs, array(by_operations(keras.ops.convert_to_tensor(costs))), strict=True):
        assert total(matrix, found) == pytest.approx(total(matrix, linear_sum_assignment(matrix)[1]), abs=1e-4)


# Style


def test_instance_normalisation_takes_contrast_and_brightness_from_each_picture():
    x = generator.normal(size=(2, 6, 5, 3)).astype("float32")
    layer = layers.InstanceNormalization()
    found = array(layer(x))
    np.testing.assert_allclose(found.mean((1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(found.std((1, 2)), 1.0, atol=1e-3)
    np.testing.assert_allclose(array(layer(np.array([[[[5.0]]], [[[0.2]]]], "float32") * x + 7)), found, atol=2e-3)


def test_style_does_not_depend_on_where_things_are():
    features = generator.normal(size=(1, 4, 4, 3)).astype("float32")
    shuffled = features.reshape(1, 16, 3)[:, generator.permutation(16)].reshape(features.shape)
    gram = array(style.gram_matrix(keras.ops.convert_to_tensor(features)))
    np.testing.assert_allclose(gram[0], np.einsum("ijc,ijd->cd", features[0], features[0]) / 48, atol=1e-5)
    tensors = [keras.ops.convert_to_tensor(each) for each in (features, shuffled)]
    assert float(style.style_loss([tensors[1]], [gram[0]])[0]) < 1e-8
    spread = np.tile(features[:, :2, :2], (1, 2, 2, 1))
    kinds = np.tile(np.arange(4).reshape(2, 2), (2, 2)).ravel()
    heap = spread.reshape(1, 16, 3)[:, np.argsort(kinds, kind="stable")]
    spread, heap = (keras.ops.convert_to_tensor(each) for each in (spread, heap.reshape(1, 4, 4, 3)))
    grams = [style.gram_matrix(spread)[0]]
    assert float(style.style_loss([heap], grams)[0]) < 1e-8, "a heap in one place is as good as the whole picture"
    assert float(style.style_loss([spread], grams, 2)[0]) < 1e-8 < 1e-3 < float(style.style_loss([heap], grams, 2)[0])
    assert float(style.content_loss([tensors[0]], [tensors[1]])[0]) > 0.1
    assert float(style.total_variation(keras.ops.ones((1, 3, 3, 1)))[0]) == 0.0


# Architectures


@pytest.mark.once
@pytest.mark.parametrize("size", [(13, 18), (16, 16), (1, 7)])
def test_unet_keeps_the_size_of_the_picture(size):
    model = models.unet((*size, 3), 4, width=2, depth=2, attention=size == (13, 18))
    assert model(np.zeros((1, *size, 3), "uint8")).shape == (1, *size, 4)


@pytest.mark.once
@pytest.mark.parametrize(("build", "factor"), [(models.espcn, 3), (models.fsrcnn, 2), (models.edsr, 4)])
def test_enlarged_pictures_have_the_size_asked_for(build, factor):
    model = build((5, 7, 1), factor=factor, width=4)
    assert model(np.zeros((1, 5, 7, 1), "uint8")).shape == (1, 5 * factor, 7 * factor, 1)


@pytest.mark.once
@pytest.mark.parametrize("build", [models.espcn, models.fsrcnn, models.edsr])
def test_a_network_that_enlarges_starts_as_the_repeated_picture(build):
    model = build((12, 12, 1), factor=3)
    layers.initialize(model, 0)
    small = generator.integers(0, 256, (2, 12, 12, 1)).astype("uint8")
    added = array(model(small)) - np.repeat(np.repeat(small, 3, 1), 3, 2) / 255
    assert 0 < np.abs(added).mean() < 0.03


def test_the_shuffle_that_enlarges_moves_every_value_and_loses_none():
    x = generator.permutation(2 * 3 * 18).astype("float32").reshape(1, 2, 3, 18)
    assert sorted(array(layers.PixelShuffle(3)(x)).ravel()) == sorted(x.ravel())


def test_pilotnet_has_the_weights_of_the_paper():
    assert models.pilotnet().count_params() == 252_219


def test_weights_of_the_published_networks():
    # (25 * 64 + 64) + (9 * 64 * 32 + 32) + (9 * 32 * 9 + 9), the shuffle by 3.
    assert models.espcn((8, 8, 1), factor=3).count_params() == 1664 + 18464 + 2601


def test_a_style_that_is_reached_costs_nothing():
    inputs = keras.Input((8, 8, 3))
    features = keras.Model(inputs, [layers.Conv2D(3, 3, activation="relu")(inputs)])
    model = models.StyleTransfer((8, 8, 3), features, content_maps=(0,), width=2, depth=1)
    layers.initialize(model, 0)
    tile = generator.uniform(0, 255, (1, 3, 3, 3)).astype("float32")  # the features of each quarter, 3 x 3, are the same
    picture = keras.ops.convert_to_tensor(np.tile(tile, (1, 3, 3, 1))[:, :8, :8])
    before = float(model.losses_of(picture, picture)[1][0])
    model.set_style(picture)
    content, found, smooth = (float(part[0]) for part in model.losses_of(picture, picture))
    assert content == 0.0 and found < 1e-3 * before and smooth > 0.0
    assert not any(variable is weight for weight in features.weights for variable in model.trainable_variables)
