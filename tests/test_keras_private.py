"""Each private name of Keras that we touch is there and does what we take it to do."""

import re
from pathlib import Path

import keras
import numpy as np
import pytest

import layers
from layers.backend import keras_private

LAYERS = Path(layers.__file__).parent


@pytest.fixture
def model():
    inner = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="within")])
    inputs = keras.Input((3,))
    model = keras.Model(inputs, inner(inputs))
    model.compile(keras.optimizers.Adam(0.1, use_ema=True), "mse", metrics=["mae"])
    model.optimizer.build(model.trainable_variables)
    return model


def test_values_of_variables_are_read_and_put_without_a_cast(model):
    variable = model.trainable_variables[0]
    with keras_private.autocast("bfloat16"):
        assert keras.backend.standardize_dtype(variable.value.dtype) == "bfloat16"
        assert keras.backend.standardize_dtype(keras_private.raw_value(variable).dtype) == "float32"
    other = keras.Variable(np.ones((3, 2), "float32"))
    keras_private.put_value(other, keras_private.raw_value(variable))
    np.testing.assert_array_equal(other.numpy(), variable.numpy())


def test_layers_and_their_own_weights_are_found(model):
    found = keras_private.all_layers(model, include_self=False)
    (within,) = [layer for layer in found if layer.name == "within"]
    assert model not in found and model in keras_private.all_layers(model)
    assert [weight.name for weight in keras_private.own_weights(within)] == ["kernel", "bias"]
    assert keras_private.own_weights(model) == []


def test_a_model_tells_whether_it_was_compiled_again_or_is_distributed(model):
    before = keras_private.compiled_metrics(model)
    assert keras_private.compiled_metrics(model) is before
    model.compile("sgd", "mse", metrics=["mae"])
    assert keras_private.compiled_metrics(model) is not before
    if keras.backend.backend() == "tensorflow":
        assert not keras_private.is_distributed(model)


def test_an_epoch_has_the_metrics_of_its_last_step(model):
    assert callable(keras.Model._get_metrics_result_or_logs)
    keras_private.keep_results_of_steps(model)
    assert model._get_metrics_result_or_logs({"loss": 5.0}) == {"loss": 5.0}


def test_an_optimizer_has_what_it_keeps_of_each_weight(model):
    optimizer, weights = model.optimizer, model.trainable_variables
    calls = []

    def make(own):
        def update(gradients, variables, learning_rate):
            calls.append(len(variables))
            own(gradients, variables, learning_rate)

        return update

    averaged = []
    keras_private.replace_update(optimizer, make)
    keras_private.replace_average_update(optimizer, averaged.append)
    optimizer.apply([keras.ops.ones(weight.shape) for weight in weights])
    means, squares = keras_private.adam_moments(optimizer, weights)
    np.testing.assert_allclose(means[0].numpy(), np.full((3, 2), 0.1), rtol=1e-6)
    np.testing.assert_allclose(squares[1].numpy(), np.full(2, 0.001), rtol=1e-5)
    assert calls == [2] and len(averaged) == 1
    assert int(keras_private.batches_seen(optimizer)) == 1
    assert [each.shape for each in keras_private.weight_averages(optimizer)] == [weight.shape for weight in weights]


def test_a_graph_is_run_with_other_calls(model):
    seen = []

    def instead(layer):
        seen.append(layer.name)
        return layer

    keras_private.run_graph(model, keras.ops.ones((1, 3)), instead)
    assert len(seen) >= 1


def test_private_names_of_keras_are_touched_in_one_file():
    private = re.compile(
        r"keras\.src|\._(value|flatten_layers|(non_)?trainable_variables|compile_metrics|get_metrics_result_or_logs|"
        r"distribute_strategy|get_variable_index|momentums|velocities|parallel_update_step|backend_update_step|iterations|"
        r"model_variables_moving_average|update_model_variables_moving_average|run_through_graph)\b"
    )
    places = {
        str(path.relative_to(LAYERS))
        for path in LAYERS.rglob("*.py")
        if private.search(path.read_text(encoding="utf-8"))
    }
    assert places <= {"backend/keras_private.py", "decoding.py"}
