"""The backends agree: the measurements `test_cases.py` wrote on each of them are compared here, and what it finds is true."""

import os
from pathlib import Path

import keras
import numpy as np
import pytest
from cases import CASES

import layers.backend
from apps.common.errors import UserError
from bench import curves, matrix, matrix_page, parity

FOLDER = os.environ.get("TRIPTYCH_PARITY")
# One of each family whose bundle and checkpoint every backend's process wrote.
EXCHANGED = [name for name in parity.EXCHANGED if name in CASES]


@pytest.fixture(scope="module")
def folder():
    if not FOLDER:
        pytest.skip("TRIPTYCH_PARITY names no folder of measurements; `make test` sets it")
    missing = [backend for backend in matrix.BACKENDS if not Path(FOLDER, backend).is_dir()]
    if missing:
        pytest.skip(f"tests/test_cases.py has not yet written measurements on {', '.join(missing)}")
    return FOLDER


@pytest.fixture(scope="module")
def rows(folder):
    return {row["case"]: row for row in matrix.compare(CASES, folder)}


@pytest.mark.parametrize("name", CASES)
def test_backends_agree(rows, name):
    assert rows[name]["ok"], rows[name]


@pytest.mark.parametrize("name", EXCHANGED)
def test_what_another_backend_wrote_predicts_and_goes_on_the_same(folder, name):
    found = parity.exchange(folder, name, CASES[name], matrix.BACKENDS, keras.backend.backend())
    tolerance = parity.TOLERANCES[CASES[name].family]
    assert len(found["predicts"]) == 3 and max(found["predicts"].values()) <= tolerance.forward, found
    assert len(found["continues"]) == 2 and max(found["continues"].values()) <= tolerance.backward, found


def test_the_cases_are_those_of_the_file_that_is_named(tmp_path):
    (tmp_path / "two_cases.py").write_text("CASES = {'first': 1, 'second': 2}")
    found = parity.load_cases(tmp_path / "two_cases.py")
    assert parity.chosen_cases(found, "sec") == {"second": 2}
    with pytest.raises(UserError, match="--only third: no case is called so"):
        parity.chosen_cases(found, "third")
    with pytest.raises(UserError, match="expected the Python file of the cases"):
        matrix.matrix(tmp_path / "none.py", only="first")


def test_every_case_is_of_a_family_with_a_tolerance():
    assert {case.family for case in CASES.values()} <= parity.TOLERANCES.keys()


def two_layers(scale=1.0):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, name="first"), layers.Dense(2, name="second")])
    for index, weight in enumerate(model.weights):
        weight.assign(np.random.default_rng(index).normal(size=weight.shape))
    model.layers[1].kernel.assign(np.array(model.layers[1].kernel) * scale)
    return model


def test_the_first_layer_that_differs_is_named():
    x = np.random.default_rng(5).normal(size=(4, 3)).astype("float32")
    right, wrong = (parity.layer_outputs(two_layers(scale), x, training=False) for scale in (1.0, 1.001))
    path, far = parity.first_difference(right, wrong, 1e-5)
    assert path.endswith("/second") and 1e-4 < far < 2e-3
    assert parity.first_difference(right, right, 1e-5) is None


def test_a_difference_in_a_small_array_is_not_hidden_by_a_large_one():
    large, small = np.array([100.0, -3.0]), np.array([2.0])
    assert parity.difference([large, small], [large, small * 1.01]) == pytest.approx(0.02 / 2.02)
    assert parity.difference([large, small * 1e-9], [large, -small * 1e-9]) < 1e-8
    assert parity.difference([small], [np.array([np.nan])]) == np.inf


def test_a_row_beyond_its_tolerance_names_the_weight_nearest_the_loss(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {quantity: [generator.normal(size=3), generator.normal(size=2)] for quantity in parity.QUANTITIES}
    paths = {"gradients": ["dense/kernel", "dense/bias"], "weights": ["dense/kernel", "dense/bias"]}
    common = {"predictions": [], "paths": paths, "milliseconds": 1.0}
    for backend, factor in (("tensorflow", 1.0), ("jax", 1.0), ("torch", 1.01)):
        changed = {**arrays, "gradients": [arrays["gradients"][0] * factor, arrays["gradients"][1]]}
        parity.save(tmp_path, backend, "Dense", {**changed, **common})
    (row,) = matrix.compare({"Dense": CASES["Dense"]}, tmp_path)
    assert not row["ok"] and row["where"].startswith("gradient of dense/kernel, tensorflow and torch")
    assert row["pairs"]["tensorflow-jax"]["gradients"] == 0 < row["pairs"]["jax-torch"]["gradients"]
    page = matrix_page.MatrixPage([row], [], list(matrix.BACKENDS))
    assert "**no**: gradient of dense/kernel" in page.markdown() and "#d32f2f" in page.html()


def measured_with(monkeypatch, folder, name, function, fault):
    """The row of a case, one backend's measurement of which was made while `function` of the backend had a fault."""
    right = getattr(layers.backend, function)
    for backend in matrix.BACKENDS:
        with monkeypatch.context() as patch:
            if backend == "torch":
                patch.setattr(layers.backend, function, lambda *arguments: fault(right(*arguments)))
            parity.save(folder, backend, name, parity.measure(CASES[name])[1])
    (row,) = matrix.compare({name: CASES[name]}, folder)
    return row


@pytest.mark.parametrize(
    ("name", "function", "fault"),
    [
        ("Dense", "gelu", lambda x: x * 1.0001),
        ("Dropout", "random_bits", lambda bits: keras.ops.flip(bits, axis=-1)),
        ("VAE", "random_bits", lambda bits: keras.ops.bitwise_xor(bits, np.int32(1 << 20))),
    ],
)
def test_a_wrong_sum_or_a_wrong_draw_on_one_backend_is_found(monkeypatch, tmp_path, name, function, fault):
    assert measured_with(monkeypatch, tmp_path / "right", name, function, lambda x: x)["ok"]
    row = measured_with(monkeypatch, tmp_path / "wrong", name, function, fault)
    assert not row["ok"]
    assert max(row["pairs"]["tensorflow-jax"].values()) == 0 < max(row["pairs"]["jax-torch"].values())


def test_curves_that_part_say_where_and_why():
    first = [1.0, 0.9, 0.8]
    drift = {"tensorflow": {"losses": first}, "torch": {"losses": [1.0, 0.9, 0.7]}}
    near = {"tensorflow": {"losses": first}, "torch": {"losses": [1.0, 0.9, 0.8 + 1e-9]}}
    nudged = {"torch": {"losses": [1.0, 0.9, 0.75]}}
    found = curves.compare({"a": drift, "b": drift, "c": near}, {"a": nudged})
    assert [row["part_at"] for row in found] == [3, 3, None]
    whys = [row["why"].partition(",")[0] for row in found]
    assert whys == ["rounding", "not known", ""]
