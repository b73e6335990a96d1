"""What holds for everything public, on the running backend: one measurement of each case serves every statement.

Measured, and so held against the other backends, is every case on every backend. Saving and half precision run on one
backend a case, a third of the cases on each; `TRIPTYCH_EVERYTHING=1` (`make test-all`) runs everything on everything.
"""

import os

import keras
import numpy as np
import pytest
from cases import CASES
from one_backend import share

import layers
from bench import parity
from layers.initialization import undrawn

PARITY = os.environ.get("TRIPTYCH_PARITY")


def on_one_backend(check):
    """Run the check of each case on one backend."""
    return pytest.mark.parametrize("case", share(sorted(CASES), check.__name__), indirect=True)(check)


@pytest.fixture(scope="module", params=CASES)
def case(request):
    """`(name, model, measurement)` of one entry; the tests of an entry run one after the other, then its model goes."""
    backend, name = keras.backend.backend(), request.param
    assert backend == os.environ.get("KERAS_BACKEND", backend)  # what is measured is what was asked for
    exchanged = PARITY and name in parity.EXCHANGED
    model, measurement = parity.measure(CASES[name], os.path.join(PARITY, backend, name) if exchanged else None)
    if PARITY:
        parity.save(PARITY, backend, name, measurement)
    yield name, model, measurement
    keras.utils.clear_session(free_memory=False)  # names begin anew


def test_gradients_are_finite_and_reach_every_weight(case):
    _, model, measurement = case
    assert len(measurement["gradients"]) == len(model.trainable_variables)
    for variable, gradient in zip(model.trainable_variables, measurement["gradients"], strict=True):
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0.0, variable.path


def test_loss_stays_finite(case):
    assert np.isfinite(case[2]["loss"]).all()


def test_output_shapes_are_known_before_the_values(case):
    name, model, measurement = case
    symbols = keras.tree.map_structure(
        lambda array: keras.KerasTensor((None, *array.shape[1:]), array.dtype.name), CASES[name].inputs
    )
    symbolic = flat(model.compute_output_spec(symbols))
    symbolic += model.generator.outputs if hasattr(model, "generator") else []
    for symbol, output in zip(symbolic, measurement["outputs"], strict=True):
        assert len(symbol.shape) == len(output.shape)
        assert all(size in (None, found) for size, found in zip(symbol.shape[1:], output.shape[1:], strict=True))


def test_compilation_is_not_switched_off(case):
    _, model, _ = case
    assert [layer.name for layer in model._flatten_layers() if not layer.supports_jit] == []


@on_one_backend
def test_saved_model_predicts_the_same(case, tmp_path):
    name, model, _ = case
    model.save(tmp_path / "model.keras")
    with undrawn():  # a weight that the file does not bring is NaN
        loaded = keras.saving.load_model(tmp_path / "model.keras", compile=False)
    inputs = CASES[name].inputs
    for before, after in zip(parity.outputs_of(model, inputs), parity.outputs_of(loaded, inputs), strict=True):
        np.testing.assert_array_equal(before, after)


@on_one_backend
def test_half_precision_predicts_finite_values(case):
    name, _, _ = case
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        with undrawn():
            model = CASES[name].build()
        layers.initialize(model, seed=0)
        outputs = flat(model.predict_on_batch(CASES[name].inputs))
    finally:
        keras.config.set_dtype_policy("float32")
    assert all(np.isfinite(np.asarray(output).astype("float32")).all() for output in outputs)


def flat(outputs):
    return keras.tree.flatten(outputs)
