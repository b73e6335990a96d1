"""Our layers give Keras's numbers, weights come from NumPy, and the backend's functions do what they say."""

import subprocess
import sys

import keras
import numpy as np
import pytest

import layers
from layers import backend
from layers.initialization import initialize, own_variables

IMAGE, SEQUENCE = (8, 7, 3), (5, 4)
SAME_AS_KERAS = [
    ("Conv2D", IMAGE, {"filters": 4, "kernel_size": 3, "strides": 2, "padding": "same"}),
    ("Conv2D", IMAGE, {"filters": 6, "kernel_size": 3, "groups": 3, "use_bias": False, "activation": "relu"}),
    ("Conv2D", IMAGE, {"filters": 2, "kernel_size": 3, "dilation_rate": 2, "padding": "same"}),
    ("DepthwiseConv2D", IMAGE, {"kernel_size": 3, "depth_multiplier": 2, "padding": "same"}),
    ("MaxPooling2D", IMAGE, {"pool_size": 3, "strides": 2, "padding": "same"}),
    ("MaxPooling2D", IMAGE, {"pool_size": 2}),
    ("AveragePooling2D", IMAGE, {"pool_size": 2}),
    ("BatchNormalization", IMAGE, {}),
    ("BatchNormalization", SEQUENCE, {"scale": False}),
    ("LayerNormalization", SEQUENCE, {}),
    ("Dense", SEQUENCE, {"units": 3, "activation": "gelu"}),
    ("LSTM", SEQUENCE, {"units": 3}),
    ("LSTM", SEQUENCE, {"units": 3, "return_sequences": True, "go_backwards": True}),
    ("GRU", SEQUENCE, {"units": 3, "return_sequences": True}),
]


def single(layer, shape):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, layer(inputs))
    model.compile("sgd", "mse")
    return model


def numbers(*shape):
    return np.random.default_rng([4, *shape]).normal(size=shape).astype("float32")


def as_array(x):
    return keras.ops.convert_to_numpy(x)


@pytest.mark.parametrize(("name", "shape", "options"), SAME_AS_KERAS)
def test_outputs_and_gradients_are_those_of_keras(name, shape, options):
    ours = single(getattr(layers, name)(**options), shape)
    stock = single(getattr(keras.layers, name)(**options), shape)
    weights = [np.abs(numbers(*weight.shape)) for weight in stock.get_weights()]
    ours.set_weights(weights)
    stock.set_weights(weights)
    x = numbers(4, *shape)
    y = numbers(*stock.compute_output_shape((4, *shape)))
    for training in (False, True):
        left, right = (backend.loss_and_gradients(model, x, y, training=training) for model in (ours, stock))
        np.testing.assert_allclose(left[0], right[0], atol=1e-5)
        for ours_gradient, stock_gradient in zip(left[2], right[2], strict=True):
            np.testing.assert_allclose(ours_gradient, stock_gradient, atol=1e-5)


def test_average_at_the_edge_counts_no_padding():
    x = np.arange(9, dtype="float32").reshape(1, 3, 3, 1)
    pooled = as_array(layers.AveragePooling2D(2, 2, "same")(x))[0, :, :, 0]
    np.testing.assert_allclose(pooled, [[2.0, 3.5], [6.5, 8.0]])


def network():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(3, 3)(inputs)
    x = layers.BatchNormalization()(layers.DepthwiseConv2D(3)(x))
    x = keras.layers.SeparableConv2D(4, 2)(x)
    x = layers.TransformerBlock(2, 6)(layers.PositionEmbedding()(layers.ClassToken()(keras.layers.Reshape((-1, 4))(x))))
    x = layers.LSTM(3)(keras.layers.MultiHeadAttention(2, 3)(x, x))
    return keras.Model(inputs, layers.Dense(2, kernel_initializer="orthogonal")(x))


def test_the_same_seed_gives_the_same_weights_whatever_keras_drew():
    models = []
    for keras_seed in (1, 2):
        keras.utils.set_random_seed(keras_seed)
        models.append(network())
        initialize(models[-1], seed=5)
    for left, right in zip(models[0].get_weights(), models[1].get_weights(), strict=True):
        np.testing.assert_array_equal(left, right)


def test_no_random_weight_is_left_as_keras_drew_it():
    model = network()
    before = {id(variable): as_array(variable) for _, variable in own_variables(model)}
    initialize(model, seed=5)
    for _, variable in own_variables(model):
        if len(np.unique(before[id(variable)])) > 2:  # the LSTM's bias is ones at the forget gate and zeros elsewhere
            assert not np.array_equal(as_array(variable), before[id(variable)]), variable.path


@pytest.mark.parametrize(
    ("name", "variance"), [("he_normal", 2 / 400), ("glorot_uniform", 2 / 500), ("lecun_normal", 1 / 400)]
)
def test_a_named_initializer_has_its_variance(name, variance):
    model = keras.Sequential([keras.Input((400,)), layers.Dense(100)])
    initialize(model, seed=0, initializer=name)
    kernel = as_array(model.layers[0].kernel)
    np.testing.assert_allclose(kernel.var(), variance, rtol=0.03)
    assert abs(kernel.mean()) < 1e-3


def test_orthogonal_kernels_keep_lengths():
    model = keras.Sequential([keras.Input((5,)), layers.Dense(5)])
    initialize(model, seed=0, initializer="orthogonal")
    kernel = as_array(model.layers[0].kernel)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(5), atol=1e-6)


def test_unknown_initializer_is_named():
    with pytest.raises(ValueError, match="Received: initializer='xavier'"):
        initialize(network(), seed=0, initializer="xavier")


def test_causal_attention_does_not_look_ahead():
    block, x = layers.TransformerBlock(2, 8, causal=True), numbers(1, 6, 4)
    changed = x.copy()
    changed[:, 4:] += 1.0
    np.testing.assert_allclose(as_array(block(x))[:, :4], as_array(block(changed))[:, :4], atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
def test_masked_positions_get_no_attention(causal):
    attention, x = layers.SelfAttention(2, causal=causal), numbers(1, 6, 4)
    mask = np.array([[True, True, False, True, False, False]])
    changed = x + np.where(mask, 0.0, 1.0)[..., None].astype("float32")
    outputs = [as_array(attention(inputs, mask=mask))[:, mask[0]] for inputs in (x, changed)]
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-6)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("tokens", [5, 150, 300])  # also of more than one block of queries, and one example at a time
@pytest.mark.parametrize("place", [0, 1, 2])
def test_attention_and_its_gradient_are_the_formula(tokens, causal, place):
    generator = np.random.default_rng(0)
    heads = [generator.normal(size=(2, tokens, 2, 4)).astype("float32") for _ in range(3)]
    direction = generator.normal(size=heads[0].shape).astype("float32")
    mask = generator.random((2, tokens)) < 0.7
    mask[:, 0] = True

    def formula(moved):
        query, key, value = (moved if index == place else part for index, part in enumerate(heads))
        scores = np.einsum("bqhf,bkhf->bhqk", query, key) / 2
        seen = mask[:, None, None, :] & (np.tri(tokens, dtype=bool) if causal else True)
        shares = np.exp(scores - scores.max(-1, keepdims=True)) * seen
        return np.einsum("bhqk,bkhf->bqhf", shares / shares.sum(-1, keepdims=True), value)

    def ours(moved):
        given = [moved if index == place else keras.ops.convert_to_tensor(part) for index, part in enumerate(heads)]
        return backend.attention(*given, causal, keras.ops.convert_to_tensor(mask))

    x = keras.ops.convert_to_tensor(heads[place])
    np.testing.assert_allclose(as_array(ours(x)), formula(heads[place]), atol=1e-5)
    slope = as_array(backend.gradient(lambda x: keras.ops.sum(keras.ops.multiply(ours(x), direction)), x))
    step = 1e-3 * generator.normal(size=heads[0].shape)
    change = np.sum((formula(heads[place] + step) - formula(heads[place] - step)) * direction) / 2
    np.testing.assert_allclose(np.sum(slope * step), change, rtol=1e-3, atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "jax", reason="cuDNN is called by name on JAX alone")
def test_attention_goes_on_where_a_chip_has_no_kernel_for_it(monkeypatch):
    import jax

    query = keras.ops.cast(np.random.default_rng(0).normal(size=(2, 6, 2, 8)), "bfloat16")
    expected = as_array(keras.ops.cast(backend.attention(query, query, query, True, None), "float32"))
    before = backend.fallbacks()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    chip = type("Chip", (), {"compute_capability": "9.0"})()
    with monkeypatch.context() as patched:
        patched.setattr(jax, "devices", lambda *_: [chip])
        found = jax.jit(lambda x: backend.attention(x, x, x, True, None))(query)
    np.testing.assert_allclose(as_array(keras.ops.cast(found, "float32")), expected, atol=0.02)
    (said,) = set(backend.fallbacks()) - set(before)
    assert "cuDNN has no kernel" in said


def test_patches_are_read_row_by_row():
    layer, x = layers.PatchEmbedding(2, 12), numbers(1, 4, 6, 3)
    layer.build(x.shape)
    layer.projection.kernel.assign(np.eye(12))
    patches = as_array(layer(x))[0]
    np.testing.assert_allclose(patches[4], x[0, 2:4, 2:4].ravel(), atol=1e-6)


def test_each_column_of_a_table_becomes_its_own_token():
    layer = layers.FeatureTokenizer(4, cardinalities=(2, 3))
    numeric, categorical = np.array([[2.0]], "float32"), np.array([[1, 2]], "int32")
    tokens = as_array(layer([numeric, categorical]))[0]
    bias, table = as_array(layer.bias), as_array(layer.embeddings)
    expected = [
        as_array(layer.token),
        bias[0] + 2.0 * as_array(layer.kernel)[0],
        bias[1] + table[1],
        bias[2] + table[4],
    ]
    np.testing.assert_allclose(tokens, expected, atol=1e-6)


def test_gradient_of_a_function():
    x = keras.ops.convert_to_tensor(np.array([1.0, 2.0], "float32"))
    np.testing.assert_allclose(as_array(keras.ops.stop_gradient(backend.gradient(lambda x: x**3, x))), [3.0, 12.0])


@pytest.mark.parametrize(
    ("call", "received"),
    [
        (lambda: layers.PatchEmbedding(3, 4)(numbers(1, 8, 8, 1)), "patch_size=3, image of 8 x 8 pixels"),
        (lambda: layers.SelfAttention(3)(numbers(1, 2, 4)), "num_heads=3, tokens of width 4"),
        (lambda: layers.TransformerBlock(1, -1), "hidden_dim=-1"),
        (lambda: layers.FeatureTokenizer(2, cardinalities=(3,))(np.ones((1, 2), "int32")), "2 categorical columns"),
        (lambda: backend.distribution("model"), "distribution='model'"),
        (lambda: backend.configure(threads=0), "threads=0"),
    ],
)
def test_bad_arguments_are_named_with_what_came(call, received):
    with pytest.raises(ValueError, match=f"Received: .*{received}"):
        call()


def test_importing_layers_imports_no_backend():
    code = "import layers, sys; layers.__all__; assert not {'keras', 'jax', 'torch', 'tensorflow'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_public_name_has_a_case():
    from cases import CASES

    assert set(layers.__all__) - set(CASES) == {"initialize", "register"}


def dropout_mask(first, second, size, rate):
    """`layers.drawing.dropout_mask` in NumPy's unsigned integers, as the paper has it."""
    golden, spread, again = (np.array([number], "uint32") for number in (0x9E3779B1, 0x7FEB352D, 0x846CA68B))
    x = np.arange(size, dtype="uint32") * golden ^ (np.uint32(first) + np.uint32(second) * again)
    x = (x ^ x >> np.uint32(16)) * spread
    x = (x ^ x >> np.uint32(15)) * again
    return x.view("int32") >= round(rate * 2**32) - 2**31


def test_dropout_masks_are_the_same_on_every_backend():
    layer = layers.Dropout(0.3, seed=1)
    layer.seed_generator.state.assign([12345, 2**31 - 2])
    x = np.ones((20, 500), "float32")
    steps = [as_array(layer(x, training=True)) for _ in range(2)]
    for step, dropped in enumerate(steps):
        expected = dropout_mask(12345, 2**31 - 2 + step, x.size, 0.3).reshape(x.shape)
        np.testing.assert_allclose(dropped, expected / 0.7, rtol=1e-6)
        assert abs(np.mean(dropped == 0) - 0.3) < 0.02  # four standard deviations
    zeros = [(step == 0).ravel() for step in steps]
    pairs = [(zeros[0], zeros[1]), (zeros[0][1:], zeros[0][:-1]), (zeros[0][500:], zeros[0][:-500])]
    assert all(abs(np.corrcoef(left, right)[0, 1]) < 0.04 for left, right in pairs), "steps, neighbours and rows are independent"
    np.testing.assert_array_equal(as_array(layer(x)), x)


def test_dropout_of_whole_paths_drops_examples():
    dropped = as_array(layers.Dropout(0.5, noise_shape=(None, 1, 1), seed=1)(np.ones((64, 2, 3), "float32"), training=True))
    assert set(np.unique(dropped)) == {0.0, 2.0}
    np.testing.assert_array_equal(dropped, np.broadcast_to(dropped[:, :1, :1], dropped.shape))


def test_an_id_that_occurs_twice_is_one_gradient_to_adam():
    """Against Adam written out in NumPy; stock Keras on TensorFlow squares the two parts and not their sum."""
    ids, table = np.array([[0, 0, 2]], "int32"), numbers(4, 3)
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Model(inputs, layers.Embedding(4, 3)(inputs))
    model.compile(keras.optimizers.Adam(0.1), "mean_squared_error")
    model.set_weights([table])
    expected, mean, square = table.astype("float64"), 0.0, 0.0
    for step in (1, 2, 3):
        model.train_on_batch(ids, np.ones((1, 3, 3), "float32"))
        gradient = np.zeros_like(expected)
        np.add.at(gradient, ids[0], 2 * (expected[ids[0]] - 1) / 9)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        expected = expected - 0.1 * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-7)
    np.testing.assert_allclose(model.get_weights()[0], expected, atol=1e-4)


def test_batch_normalization_of_many_rows_has_their_mean_and_variance():
    # Added up one after the other in single precision, 50,000 rows of one value are off by more than a ten-thousandth.
    generator = np.random.default_rng(0)
    x = np.maximum(generator.normal(0.3, 1.0, (64, 28, 28, 3)), 0).astype("float32")
    x[:, :8], x[:, 20:] = 0.7, 0.7
    layer = layers.BatchNormalization(momentum=0.0)
    outputs = keras.ops.convert_to_numpy(layer(x, training=True))
    mean, variance = x.mean((0, 1, 2), dtype="float64"), x.var((0, 1, 2), dtype="float64")
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.moving_mean), mean, rtol=3e-6)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer.moving_variance), variance, rtol=3e-6)
    np.testing.assert_allclose(outputs, (x - mean) / np.sqrt(variance + layer.epsilon), atol=2e-5)


@pytest.mark.parametrize("name", ["BatchNormalization", "LayerNormalization"])
def test_half_precision_is_normalised_in_single(name):
    x = 300 * numbers(16, 8)  # squares of which overflow half precision
    layer, axis = getattr(layers, name)(dtype="mixed_float16"), 0 if name.startswith("B") else 1
    outputs = layer(x, training=True) if axis == 0 else layer(x)
    assert keras.backend.standardize_dtype(outputs.dtype) == "float16"
    expected = (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True))
    np.testing.assert_allclose(as_array(outputs), expected, atol=4e-3)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float32"])
def test_logits_are_of_single_precision_whatever_their_factors_are(policy):
    layer = layers.TokenEmbedding(7, 4, dtype=policy)
    layer.build((None, 3))
    table, x = numbers(7, 4), numbers(2, 3, 4)
    layer.set_weights([table])
    logits = layer(x, reverse=True)
    assert keras.backend.standardize_dtype(logits.dtype) == "float32"
    np.testing.assert_allclose(as_array(logits), x @ table.T, rtol=1e-5, atol=1e-5 if policy == "float32" else 0.05)
