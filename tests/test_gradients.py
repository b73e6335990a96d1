"""Gradients by example."""

import keras
import numpy as np
import pytest

import layers
from layers import backend

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(3, 6, 6, 2)).astype("float32")
IDS = GENERATOR.integers(0, 5, (3, 4)).astype("int32")
Y = np.array([0, 2, 1], "int32")
WEIGHTS = np.array([1.0, 0.0, 2.5], "float32")


def small_dense():
    inputs = keras.Input((6, 6, 2))
    x = layers.Dense(4, activation="gelu", kernel_regularizer=keras.regularizers.L2(0.1))(keras.layers.Flatten()(inputs))
    return keras.Model(inputs, layers.Dense(3)(layers.LayerNormalization()(x))), X


def small_convolution():
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, activation="relu", padding="same")(inputs)
    x = layers.MaxPooling2D(2)(x)
    return keras.Model(inputs, layers.Dense(3)(keras.layers.Flatten()(x))), X


def small_transformer():
    ids, scale = keras.Input((4,), dtype="int32", name="ids"), keras.Input((1,), name="scale")
    x = layers.SelfAttention(2)(layers.Embedding(5, 4)(ids))
    x = keras.ops.mean(x, axis=1) * scale
    return keras.Model({"ids": ids, "scale": scale}, layers.Dense(3)(x)), {"ids": IDS, "scale": X[:, 0, 0, :1]}


def small_recurrent():
    ids = keras.Input((4,), dtype="int32")
    return keras.Model(ids, layers.Dense(3)(layers.LSTM(4)(layers.Embedding(5, 4)(ids)))), IDS


@pytest.mark.parametrize("build", [small_dense, small_convolution, small_transformer, small_recurrent])
def test_the_mean_of_the_gradients_by_example_is_the_gradient_of_the_batch(build):
    model, x = build()
    layers.initialize(model, seed=0)
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    fallbacks = len(backend.fallbacks())
    for weights in (None, WEIGHTS):
        each = backend.per_example_gradients(model, x, Y, weights)
        whole = backend.gradients(model, x, Y, weights)
        for mine, theirs in zip(each, whole, strict=True):
            mine = keras.ops.convert_to_numpy(mine)
            assert mine.shape == (3, *theirs.shape)
            np.testing.assert_allclose(mine.mean(0), theirs, rtol=1e-4, atol=5e-6)
    one = keras.tree.map_structure(lambda part: part[:1], x)
    for mine, theirs in zip(each, backend.gradients(model, one, Y[:1], WEIGHTS[:1]), strict=True):
        np.testing.assert_allclose(keras.ops.convert_to_numpy(mine)[0], theirs, rtol=1e-4, atol=5e-6)
    # TensorFlow cannot vectorise the gradient of a loop over steps.
    alone = build is small_recurrent and keras.backend.backend() == "tensorflow"
    assert len(backend.fallbacks()) - fallbacks == alone


def test_a_strided_kernel_of_one_pixel_is_a_dense_layer_on_every_second_pixel():
    x = GENERATOR.normal(size=(8, 48, 48, 8)).astype("float32")
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, layers.Conv2D(8, 1, strides=2)(inputs))
    layers.initialize(model, seed=0)
    model.compile("sgd", "mse")
    kernel, bias = (keras.ops.convert_to_numpy(weight) for weight in model.weights)
    seen = x[:, ::2, ::2]
    answers = seen @ kernel[0, 0] + bias
    np.testing.assert_allclose(keras.ops.convert_to_numpy(model(x)), answers, atol=1e-5)
    expected = 2 * np.einsum("bhwi,bhwo->io", seen, answers) / answers.size
    for _ in range(10):  # a kernel that writes past its end shows with time
        gradient = backend.gradients(model, x, np.zeros_like(answers))[0]
        np.testing.assert_allclose(gradient[0, 0], expected, atol=1e-6)
