"""Pictures move together with their masks, boxes and steering angles."""

import numpy as np
import pytest

from apps.common.data.examples import Examples
from apps.common.data.fingerprint import example_digests
from apps.common.data.images.moving import Move, Moves, Moving, move_boxes, move_image, move_mask
from apps.common.training.batches import Batches

pytestmark = pytest.mark.once
SIDE = 32
ALL = Moves(flip=True, crop=0.3, scale=0.3, shift=0.2, brightness=0.2)


def squares(count=12, seed=0):
    """Pictures of a square each, with its mask, its box and one that only fills up, a class for both, and an angle."""
    generator = np.random.default_rng(seed)
    image, mask = np.zeros((count, SIDE, SIDE, 1), "uint8"), np.zeros((count, SIDE, SIDE), "uint8")
    boxes = np.zeros((count, 2, 4), "float32")
    for row in range(count):
        (left, top), size = generator.integers(2, 18, 2), generator.integers(8, 12)
        image[row, top : top + size, left : left + size] = 200
        mask[row, top : top + size, left : left + size] = 1
        boxes[row, 0] = np.array([left, top, left + size, top + size]) / SIDE
    y = {"mask": mask, "boxes": boxes, "class": np.tile([3, 0], (count, 1)), "angle": np.linspace(-1, 1, count)}
    return Examples(image, y)


def moving(examples, moves=ALL, seed=5):
    return Moving(examples, moves, ("image", {"mask": "mask", "boxes": "boxes", "class": "box", "angle": "angle"}), seed)


def test_a_box_surrounds_its_square_after_every_move_and_the_mask_lies_on_it():
    examples = moving(squares())
    compared = 0
    for epoch in range(6):
        examples.set_epoch(epoch)
        x, y = examples.take(np.arange(12))
        for image, mask, box, label in zip(x[..., 0], y["mask"], y["boxes"][:, 0], y["class"][:, 0], strict=True):
            assert (box == 0).all() == (label == 0), "a dropped box has no class"
            seen = np.argwhere(mask == 1)
            if not label:
                continue
            compared += 1
            found = np.array([*seen.min(0)[::-1], *(seen.max(0)[::-1] + 1)]) / SIDE
            np.testing.assert_allclose(box, found, atol=1.01 / SIDE)
            assert image[mask == 1].min() >= 40, "a quarter of the darkest, in a corner"
            assert (image[mask == 0] <= 120).all(), "outside of the square is at most half a pixel of its edge"
    assert compared > 50


def test_a_flip_mirrors_everything_and_turns_the_angle():
    examples = squares(6)
    seen = set()
    found = moving(examples, Moves(flip=True))
    for epoch in range(4):
        found.set_epoch(epoch)
        x, y = found.take(np.arange(6))
        for row in range(6):
            flipped = y["angle"][row] != examples.y["angle"][row]
            seen.add(bool(flipped))
            step = -1 if flipped else 1
            np.testing.assert_array_equal(x[row], examples.x[row][:, ::step])
            np.testing.assert_array_equal(y["mask"][row], examples.y["mask"][row][:, ::step])
            assert y["angle"][row] == step * examples.y["angle"][row]
    assert seen == {True, False}


def test_what_is_drawn_follows_from_seed_epoch_and_example_alone():
    examples = moving(squares())
    whole = examples.take(np.arange(12))[0]
    np.testing.assert_array_equal(examples.take(np.array([7, 2]))[0], whole[[7, 2]])
    batches = Batches(examples, 4, seed=1)
    batches.set_epoch(3)
    assert examples.epoch == 3 and batches.arrays() is None and batches.ahead
    again = moving(squares())
    again.set_epoch(3)
    np.testing.assert_array_equal(batches[1][0], again.take(batches.index_table()[1])[0])
    assert not np.array_equal(again.take(np.arange(12))[0], whole)
    assert not np.array_equal(moving(squares(), seed=6).take(np.arange(12))[0], whole)
    np.testing.assert_array_equal(example_digests(examples), example_digests(squares()))


def test_nothing_moves_by_default():
    examples = squares()
    x, y = moving(examples, Moves()).take(np.arange(12))
    np.testing.assert_array_equal(x, examples.x)
    for name, array in y.items():
        np.testing.assert_allclose(array, examples.y[name], rtol=1e-6)


def test_known_moves():
    image = np.arange(16, dtype="float32").reshape(4, 4, 1)
    right = Move(left=-0.25)  # a window that begins a pixel to the left shows the picture a pixel to the right
    np.testing.assert_array_equal(move_image(image, right)[..., 0], [[0, *row[:3]] for row in image[..., 0]])
    np.testing.assert_array_equal(move_mask(image, right, 9)[..., 0], [[9, *row[:3]] for row in image[..., 0]])
    half = Move(left=0.125)
    np.testing.assert_allclose(move_image(image, half)[0, :3, 0], [0.5, 1.5, 2.5])
    boxes = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0], [0, 0, 0, 0]], "float32")
    made, kept = move_boxes(boxes, Move(left=0.25, top=0.0, width=0.5, height=1.0))
    assert kept.tolist() == [True, True, False]
    np.testing.assert_allclose(made[:2], [[0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1]])
    assert move_boxes(boxes, Move(left=0.4), least_area=0.25)[1].tolist() == [False, True, False]


def test_the_brightness_is_of_the_picture_alone():
    examples = squares()
    x, y = moving(examples, Moves(brightness=0.2)).take(np.arange(12))
    peaks = x.reshape(12, -1).max(1)
    assert len(set(peaks)) > 6 and peaks.min() >= 160 and peaks.max() <= 240
    np.testing.assert_array_equal(y["mask"], examples.y["mask"])
    with pytest.raises(ValueError, match="role"):
        Moving(examples, Moves(), ("picture", None), 0)
