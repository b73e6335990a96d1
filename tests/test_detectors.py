"""Detectors: what they learn by heart, what moves their losses and what does not, a trunk that is given."""

import keras
import numpy as np
import pytest
from one_backend import share

import layers
from layers import backend, boxes, models
from layers.models.vision import _dense_boxes

generator = np.random.default_rng(0)


def array(tensor):
    return keras.ops.convert_to_numpy(tensor)


def drawn_squares():
    """Two pictures with a square each, red and green, and their targets."""
    images = np.full((2, 64, 64, 3), 30, "uint8")
    corners, classes = np.zeros((2, 3, 4), "float32"), np.full((2, 3), -1, "int32")
    for index, (left, top, right, bottom) in enumerate([(8, 12, 30, 36), (24, 20, 60, 52)]):
        images[index, top:bottom, left:right, index] = 230
        corners[index, 0] = np.array([left, top, right, bottom]) / 64
        classes[index, 0] = index
    return images, {"boxes": corners, "classes": classes}


DETR_SIZES = {"depth": (1, 2), "num_queries": 9, "trunk_width": 8}
DETECTORS = {
    "SSD": (lambda: models.SSD((64, 64, 3), 2, width=8, num_levels=3, octaves=1), 40),
    "YOLO": (lambda: models.YOLO((64, 64, 3), 2, width=8, depth=1), 60),
    "DETR": (lambda: models.DETR((64, 64, 3), 2, width=32, denoising=2, sizes=DETR_SIZES), 160),
}
RATES = {"DETR": 1e-3}  # at more its boxes never rest, whichever the seed and the backend
each_detector = pytest.mark.parametrize("name", DETECTORS)


def made(name):
    model = DETECTORS[name][0]()
    layers.initialize(model, 0)
    model.compile(backend.fused(keras.optimizers.Adam(RATES.get(name, 3e-3))))
    return model


@pytest.mark.once
@each_detector
def test_a_detector_learns_two_squares_by_heart(name):
    images, targets = drawn_squares()
    model = made(name)
    backend.accelerate_steps(model)
    model.fit(images, targets, batch_size=2, epochs=DETECTORS[name][1], shuffle=False, verbose=0)
    found = {part: array(value) for part, value in model.detect(model.predict_on_batch(images)).items()}
    assert found["classes"][:, 0].tolist() == [0, 1] and (found["scores"][:, 0] > 0.3).all()
    assert (array(boxes.iou(found["boxes"][:, 0], targets["boxes"][:, 0])) > 0.75).all()


@pytest.mark.parametrize("name", share(sorted(DETECTORS), "compiles"))
def test_a_detectors_step_compiles_once(name):
    images, targets = drawn_squares()
    model = made(name)
    backend.accelerate_steps(model)
    counts = [backend.compilations()]
    count = keras.callbacks.LambdaCallback(on_epoch_end=lambda *_: counts.append(backend.compilations()))
    model.fit(images, targets, batch_size=2, epochs=3, verbose=0, callbacks=[count])
    assert counts[0] < counts[1] == counts[3]
    replays = getattr(model.train_function, "replays", {})  # torch's, `None` for a step that cannot be recorded
    assert all(replay is not None for replay in replays.values())


def evaluated(model, images, targets, weights=None):
    """The loss in inference, without the batch norm of training, which ties the pictures of a batch together."""
    model.reset_metrics()
    return model.test_on_batch(images, targets, weights, return_dict=True)["loss"]


@pytest.mark.once
@each_detector
def test_padding_and_pictures_of_no_weight_change_no_loss(name):
    images, targets = drawn_squares()
    model = made(name)
    alone = {part: value[:1, :1] for part, value in targets.items()}
    expected = evaluated(model, images[:1], alone, np.ones(1, "float32"))
    assert evaluated(model, images, targets, np.array([1.0, 0.0], "float32")) == pytest.approx(expected, rel=1e-4)


@pytest.mark.once
@each_detector
def test_pictures_without_a_box_have_a_finite_loss(name):
    images, targets = drawn_squares()
    empty = {"boxes": 0.0 * targets["boxes"], "classes": np.full_like(targets["classes"], -1)}
    model = made(name)
    assert np.isfinite(model.train_on_batch(images, empty, return_dict=True)["loss"])
    assert all(np.isfinite(array(weight)).all() for weight in model.trainable_variables)


@pytest.mark.once
@pytest.mark.parametrize("name", ["SSD", "YOLO"])
def test_predictions_that_are_the_truth_cost_no_box_loss_and_are_found(name):
    _, targets = drawn_squares()
    model = DETECTORS[name][0]()
    corners, classes = targets["boxes"], targets["classes"]
    given = [keras.ops.convert_to_tensor(each) for each in (corners, classes >= 0)]
    assigned = (model if name == "SSD" else model.dense).assign(*given)
    matched, positive = (array(part) for part in assigned[:2])
    assert positive.any(axis=1).all()
    true = np.take_along_axis(corners, matched[..., None], axis=1)
    if name == "SSD":
        codes = array(boxes.encode(true, model.anchors))
    else:
        centers, cells = array(boxes.to_centers(true)), model.dense.cells
        sides = np.log(np.maximum(centers[..., 2:], 1e-6) / cells[:, 2:] / 4)
        codes = np.concatenate([(centers[..., :2] - cells[:, :2]) / cells[:, 2:], sides], axis=-1)
    chosen = np.take_along_axis(classes, matched, axis=1)
    logits = np.where(positive[..., None] & (chosen[..., None] == np.arange(2)), 20.0, -20.0)
    predictions = {"logits": logits.astype("float32"), "codes": np.where(positive[..., None], codes, 0).astype("float32")}
    predictions = keras.tree.map_structure(keras.ops.convert_to_tensor, predictions)
    assert float(model.compute_loss(None, targets, predictions)) < 1e-4
    found = {part: array(value) for part, value in model.detect(predictions).items()}
    assert found["classes"][:, :2].tolist() == [[0, -1], [1, -1]]
    np.testing.assert_allclose(found["boxes"][:, 0], corners[:, 0], atol=1e-4)


@pytest.mark.once
def test_detr_costs_the_same_in_whatever_order_the_boxes_come():
    images = generator.integers(0, 256, (1, 64, 64, 3)).astype("uint8")
    corners = np.array([[[0.1, 0.1, 0.3, 0.5], [0.4, 0.2, 0.9, 0.6], [0.2, 0.5, 0.6, 0.9], [0, 0, 0.4, 0.4]]], "float32")
    classes = np.array([[0, 1, 1, -1]], "int32")
    model = made("DETR")
    losses = [
        evaluated(model, images, {"boxes": corners[:, places], "classes": classes[:, places]})
        for places in ([0, 1, 2, 3], [2, 3, 0, 1])
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.once
def test_queries_are_the_best_cells_each_before_those_beside_it():
    dense = _dense_boxes.DenseBoxes([(3, 4), (1, 2)], 2)
    logits = np.full((1, 14, 2), -5.0, "float32")
    logits[0, [0, 1, 11, 13], [0, 1, 1, 0]] = [3.0, 2.0, 1.0, 0.0]  # the second stands beside the first
    chosen = array(dense.best({"logits": keras.ops.convert_to_tensor(logits)}, 5))
    assert chosen[0, :3].tolist() == [0, 11, 13] and 1 not in chosen[0]


@pytest.mark.once
def test_a_detector_takes_a_trunk_and_is_saved_with_it(tmp_path):
    trunk = models.residual_trunk((32, 32, 3), width=4, num_levels=2)
    model = models.SSD((32, 32, 3), 2, width=4, num_levels=3, octaves=1, trunk=trunk)
    layers.initialize(model, 0)
    assert any(variable is weight for weight in trunk.weights for variable in model.trainable_variables)
    x = generator.integers(0, 256, (2, 32, 32, 3)).astype("uint8")
    before = array(model.predict_on_batch(x)["logits"])
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(array(loaded.predict_on_batch(x)["logits"]), before)
