"""The instruments of `triptych bench`, in small, where what they measure must hold on every machine."""

import itertools
import os

import keras
import numpy as np
import pytest

from apps.common.errors import UserError
from apps.common.options import backends
from apps.common.training.batches import predict_all
from bench import accelerator, generation, growth, images, instruments, prediction, raw, run, speed, turns
from bench.apart import UNTOUCHED, Apart
from layers import backend
from layers.models import gpt, lenet5, lstm_language_model, tabular_mlp


@pytest.fixture(autouse=True)
def float32():
    """What is measured sets how the whole process computes; later tests are not to find it so."""
    backend.configure()
    keras.config.set_dtype_policy("float32")
    yield
    backend.configure()
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize("build", [
    lambda: (lenet5((12, 12, 1), 3), np.random.default_rng(0).integers(0, 256, (5, 12, 12, 1), "uint8")),
    lambda: (gpt(7, 6, width=8, depth=1, num_heads=2), np.random.default_rng(0).integers(0, 7, (5, 6), "int32")),
    lambda: (lstm_language_model(7, 6, width=8, depth=1), np.random.default_rng(0).integers(0, 7, (5, 6), "int32")),
    lambda: (tabular_mlp(2, (3,), 2), {"numeric": np.ones((5, 2)), "categorical": np.arange(5)[:, None] % 3}),
])  # fmt: skip
def test_predictions_are_those_of_the_model_and_follow_its_weights(build):
    model, x = build()
    for _ in range(4):  # torch records the third
        expected = keras.ops.convert_to_numpy(model(x, training=False))
        np.testing.assert_allclose(predict_all(model, x), expected, rtol=1e-5, atol=1e-6)
    model.set_weights([weight + 0.1 for weight in model.get_weights()])
    np.testing.assert_allclose(predict_all(model, x), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)


def test_a_prediction_of_known_shape_compiles_nothing_and_one_of_a_new_shape_does():
    model, x = lenet5((12, 12, 1), 3), np.zeros((6, 12, 12, 1), "uint8")
    backend.compilations()
    for _ in range(3):
        predict_all(model, x[:1])
    known = backend.compilations()
    for _ in range(3):
        predict_all(model, x[:1])
    assert backend.compilations() == known
    for _ in range(3):
        predict_all(model, x[:5])
    assert backend.compilations() > known


def test_single_rows_in_a_loop_are_the_rows_of_a_batch_and_memory_stays():
    (row,) = prediction.measure("mlp", rows=2000, seconds=0.005)
    assert row["difference"] < 1e-5
    assert row["grown_megabytes"] < 4


def test_a_run_compiles_nothing_after_its_first_epoch():
    found = run.epochs("mlp", step=1.0)
    assert found["compiled_again"] == 0
    assert found["checkpoint"] > 0  # tracking is a difference of two times and may be lost in their noise


def test_utilisation_is_the_models_arithmetic_over_the_peak():
    assert accelerator.operations(124_439_808, accelerator.GPT2) == 6 * 123_653_376 + 12 * 12 * 12 * 64 * 1024
    size = {"tokens": 11, "block_size": 8, "batch_size": 2, "width": 8, "depth": 1, "num_heads": 2}
    (row,) = accelerator.measure("gpt-124m", size, peak=1e9)
    per_second = row["tokens_per_second"] * accelerator.operations(row["parameters"], size) / 1e9
    assert row["utilisation"] == pytest.approx(per_second, rel=0.02, abs=2e-4)
    with pytest.raises(UserError, match="expected a GPU or TPU"):
        accelerator.measure("gpt-124m", size)


@pytest.mark.once
def test_texts_side_by_side_are_those_of_one_by_one():
    (row,) = generation.measure("gpt", prompts=3, added=4, turns=1)
    assert row["alike"] == 3 and row["one_by_one"] > 0 and row["side_by_side"] > 0


@pytest.mark.once
def test_growth_reads_a_step_at_every_size():
    (row,) = growth.measure("gcn-edges", largest=512)
    assert [each["size"] for each in row["readings"]] == [64, 128, 256, 512]
    assert all(each["milliseconds"] > 0 for each in row["readings"])
    assert growth.figure([row]).axes[0].get_title() == "gcn-edges"


@pytest.mark.once
def test_the_slope_of_a_power_is_its_exponent():
    sizes = [1, 2, 4, 8]
    assert growth.slope(sizes, [3, 12, 48, 192]) == 2
    assert growth.slope(sizes, [0.1, 0.2, 0.1, 0.2], least=1) is None


@pytest.mark.once
def test_there_are_more_turns_while_they_differ_widely():
    steady, wild = itertools.repeat(1.0), itertools.cycle([1.0, 2.0])
    contenders = {"ours": lambda: next(steady), "raw": lambda: next(wild)}
    assert [len(each) for each in turns.in_turns(contenders, 5, 9).values()] == [9, 9]
    assert [len(each) for each in turns.in_turns({"ours": contenders["ours"]}, 5, 9).values()] == [5]
    assert len(turns.in_turns(contenders, 5)["raw"]) == 5
    with pytest.raises(UserError, match="--turns 0: expected a whole number from 1"):
        instruments.bench("speed", turns="0")
    with pytest.raises(UserError, match="bench speed"):
        instruments.bench("growth", turns="3")


@pytest.mark.once
def test_a_wide_range_says_so_and_a_table_is_kept_in_mlflow(tmp_path, monkeypatch):
    assert turns.ratio([2, 2, 2], [1, 1, 1]) == (2, "2.00-2.00")
    assert turns.ratio([2, 3, 3], [1, 1, 1]) == (3, "2.50-3.00")
    assert turns.ratio([2, 2, 3, 3], [1, 1, 1, 1]) == (2.5, "2.00-3.00 wide")
    assert turns.ratio([1, 4, 6], [1, 2, 2])[0] == 2  # turn by turn: the second ran twice as slowly
    assert turns.ratio([2], [1]) == (2, "2.00-2.00")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    instruments.keep("speed", [{"family": "mlp", "backend": "jax", "raw": "jax.jit, donated", "ratio": 1.25}], ["jax"], 1.0)
    from apps.common.records.mlflow import client

    (kept,) = client().search_runs([client().get_experiment_by_name("bench").experiment_id])
    assert kept.data.metrics["mlp.jax.jax.jit donated.ratio"] == 1.25
    assert {each.path for each in client().list_artifacts(kept.info.run_id)} == {"speed.txt", "speed.json"}
    assert os.listdir(tmp_path) == ["mlruns"]


@pytest.mark.once
def test_a_new_file_is_a_new_task_of_the_benchmarks(tmp_path, monkeypatch):
    before = raw.tasks()
    assert before["image-classification"] == ("mlp", "lenet", "resnet20", "vit") and before["tabular"] == ("table",)
    (tmp_path / "melodies.py").write_text(
        "from bench.family import Family\nFAMILIES = {'tunes': Family(lambda: None, {}), 'songs': Family(lambda: None, {})}\n"
    )
    monkeypatch.setattr(raw, "__path__", [*raw.__path__, str(tmp_path)])
    assert raw.tasks() == {**before, "melodies": ("tunes", "songs")}
    assert "songs" in speed.subjects() and "songs" in run.subjects() and "songs" in prediction.subjects()
    with pytest.raises(UserError, match="bench melodies has no such subject"):
        instruments.bench("melodies", only="hymns")


@pytest.mark.once
def test_each_family_has_a_loop_by_hand_on_each_backend():
    for name, family in raw.families("speed").items():
        assert set(family.loops) == {"tensorflow", "jax", "torch"}, name


def test_a_loop_by_hand_and_stock_keras_train_as_many_steps_as_asked(monkeypatch):
    family = raw.families()["lenet"]
    app, _, data = family.setting()
    assert app.__name__ == "apps.image_classification" and len(data.train) == images.EXAMPLES
    small = images.images(2 * images.BATCH_SIZE)
    runs = {"stock": family.stock(small), **family.loops[keras.backend.backend()](small)}
    assert all(run(1) > 0 for run in runs.values())


@pytest.mark.once
def test_a_subject_is_measured_in_a_process_of_its_own_and_its_words_are_passed_on(capfd):
    if "cpu" not in backend.device_kind().lower():
        pytest.skip("there is an accelerator, which would be measured")
    with pytest.raises(UserError, match="bench gpt-124m on jax failed"):
        instruments.in_child("jax", "accelerator", "gpt-124m")
    assert "expected a GPU or TPU" in capfd.readouterr().err


@pytest.mark.parametrize("name", ["unet", "ssd", "table"])
def test_a_loop_by_hand_over_nested_examples_trains(name):
    family = raw.families()[name]
    _, _, data = family.setting()
    assert all(trained(1) > 0 for trained in family.loops[keras.backend.backend()](data).values())


@pytest.mark.once
def test_a_loop_by_hand_runs_apart_without_our_hand_on_memory(monkeypatch):
    with Apart("torch", "table") as apart:
        assert set(apart.loops) == set(raw.families()["table"].loops["torch"](raw.families()["table"].setting()[2]))
        assert all(0 < run(2) < 60 for run in apart.loops.values())
    assert apart.process.returncode == 0
    monkeypatch.setattr(backends.ctypes, "CDLL", None)  # it cannot be called
    for name, value in UNTOUCHED.items():
        monkeypatch.setenv(name, value)
    backends.keep_freed_memory()
