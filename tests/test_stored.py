"""Examples on disk, and decoded on demand: the batches of those in memory."""

import threading
import time

import keras
import numpy as np
import pytest

from apps.common.data.examples import Examples
from apps.common.data.fingerprint import example_digests
from apps.common.data.stored import Decoded, Stored, smallest_type, stored_arrays
from apps.common.training.batches import Batches, InOrder
from layers import backend

COUNT = 10


def in_memory():
    generator = np.random.default_rng(0)
    return Examples(generator.integers(0, 255, (COUNT, 3, 2), "uint8"), np.arange(COUNT, dtype="int64") % 3)


def on_disk(folder):
    examples = in_memory()
    pieces = [{"x": examples.x[i : i + 4], "y": examples.y[i : i + 4]} for i in range(0, COUNT, 4)]
    arrays = stored_arrays(folder / "cache", lambda: pieces)
    return Stored(arrays["x"], arrays["y"])


def decoded():
    examples = in_memory()
    return Decoded([row.tobytes() for row in examples.x], lambda each: np.frombuffer(each, "uint8").reshape(3, 2), examples.y)


@pytest.mark.once
@pytest.mark.parametrize("kind", ["on disk", "decoded"])
def test_batches_are_those_of_examples_in_memory(kind, tmp_path):
    found, expected = on_disk(tmp_path) if kind == "on disk" else decoded(), in_memory()
    part = np.array([5, 1, 5])
    for ours, theirs in ((found, expected), (found.subset(part), expected.subset(part))):
        for make in (lambda each: Batches(each, 4, seed=1), lambda each: InOrder(each, 2)):
            one, other = make(ours), make(theirs)
            assert len(one) == len(other) and one.ahead == 2 and one.arrays() is None
            for step in range(len(one)):
                for a, b in zip(one[step], other[step], strict=True):
                    np.testing.assert_array_equal(a, b)
    assert type(Batches(found, 4, seed=1)[0][0]) is np.ndarray
    np.testing.assert_array_equal(example_digests(found)[part], example_digests(found.subset(part)))
    assert len(set(example_digests(found))) == COUNT and found.fingerprint() != found.subset(part).fingerprint()


@pytest.mark.once
def test_stored_arrays_appear_whole_or_not_at_all(tmp_path):
    def breaks_off():
        yield {"x": np.arange(3)}
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        stored_arrays(tmp_path / "a", breaks_off)
    assert not list(tmp_path.iterdir())
    stored_arrays(tmp_path / "a", lambda: [{"x": np.arange(3)}, {"x": np.arange(2)}])
    again = stored_arrays(tmp_path / "a", breaks_off)
    assert again["x"].tolist() == [0, 1, 2, 0, 1] and isinstance(again["x"], np.memmap)
    with pytest.raises(ValueError, match="must stay"):
        stored_arrays(tmp_path / "b", lambda: [{"x": np.arange(3)}, {"x": np.ones(2)}])


@pytest.mark.once
def test_the_smallest_type_holds_what_there_is():
    assert smallest_type(0, 255) == np.uint8 and smallest_type(-1, 100) == np.int8
    assert smallest_type(0, 256) == np.uint16 and smallest_type(-1, 40000) == np.int32 and smallest_type(0, 2**33) == np.uint64


def test_batches_are_decoded_in_other_threads_than_the_one_that_trains():
    names, examples = set(), in_memory()

    def decode(index):
        names.add(threading.current_thread().name)
        time.sleep(0.001)
        return np.float32(examples.x[index].reshape(-1))

    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    backend.accelerate_steps(model)
    batches = Batches(Decoded(list(range(COUNT)), decode, examples.y), 4, seed=0)
    history = model.fit(backend.feed(batches), epochs=2, shuffle=False, verbose=0).history
    assert np.isfinite(history["loss"]).all() and threading.main_thread().name not in names
