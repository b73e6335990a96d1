"""The architectures: published sizes, published numbers, what must not change the answer, and what is refused."""

import importlib
import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest

from layers import models

IMAGE_MODELS = {
    "small_cnn": {"filters": (2, 2), "dense_dim": 4},
    "lenet5": {},
    "alexnet": {"width": 6, "dense_dim": 4},
    "vgg": {"width": 2, "depth": 11},
    "resnet": {"width": 2},
    "mobilenet": {"version": "v3-small", "width": 0.25},
    "efficientnet": {"width": 0.25, "depth": 0.1},
    "vit": {"width": 4, "depth": 1, "num_heads": 2},
}


@pytest.fixture
def no_random_weights(monkeypatch):
    """Counting weights needs no random numbers, which cost seconds for a hundred million of them."""
    monkeypatch.setattr(
        keras.initializers.VarianceScaling,
        "__call__",
        lambda self, shape, dtype=None: np.zeros(shape, dtype or "float32"),
    )


def num_trainable(model):
    return sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)


def set_random_weights(model, seed=0):
    """Weights that no two layers share and that keep the signal alive; variances stay positive."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        value = rng.normal(size=weight.shape) / np.sqrt(fan_in)
        weight.assign(np.abs(value) + 0.5 if "variance" in weight.path else value)


def images(*shape, seed=1):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def outputs(model, inputs):
    return keras.ops.convert_to_numpy(model(inputs, training=False))


# Published sizes


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "image_shape", "num_outputs", "options", "expected"),
    [
        ("lenet5", (28, 28, 1), 10, {}, 61_706),
        ("alexnet", (227, 227, 3), 1000, {}, 62_378_344),
        ("vgg", (224, 224, 3), 1000, {"depth": 11}, 132_863_336),
        ("vgg", (224, 224, 3), 1000, {"depth": 16}, 138_357_544),
        ("vgg", (224, 224, 3), 1000, {"depth": 16, "batch_norm": True}, 138_365_992),
        ("vgg", (224, 224, 3), 1000, {"depth": 19}, 143_667_240),
        ("resnet", (224, 224, 3), 1000, {"depth": 18}, 11_689_512),
        ("resnet", (224, 224, 3), 1000, {"depth": 34}, 21_797_672),
        ("resnet", (224, 224, 3), 1000, {"depth": 50}, 25_557_032),
        ("resnet", (32, 32, 3), 10, {"depth": 20}, 269_722),
        ("resnet", (32, 32, 3), 10, {"depth": 32}, 464_154),
        ("resnet", (32, 32, 3), 10, {"depth": 56}, 853_018),
        ("mobilenet", (224, 224, 3), 1000, {"version": "v2"}, 3_504_872),
        ("mobilenet", (224, 224, 3), 1000, {"version": "v3-small"}, 2_542_856),
        ("mobilenet", (224, 224, 3), 1000, {"version": "v3-large"}, 5_483_032),
        ("efficientnet", (224, 224, 3), 1000, {"variant": "b0"}, 5_288_548),
        ("efficientnet", (240, 240, 3), 1000, {"variant": "b1"}, 7_794_184),
        ("vit", (224, 224, 3), 1000, {}, 5_717_416),
        ("vit", (224, 224, 3), 1000, {"width": 384, "num_heads": 6}, 22_050_664),
    ],
)
def test_published_configurations_have_the_published_size(
    name, image_shape, num_outputs, options, expected, no_random_weights
):
    model = getattr(models, name)(image_shape, num_outputs, **options)
    assert num_trainable(model) == expected
    assert model.output.shape == (None, num_outputs)


@pytest.mark.once
def test_efficientnet_b0_has_the_size_that_keras_documents(no_random_weights):
    assert models.efficientnet((224, 224, 3), 1000).count_params() == 5_330_571


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "options"),
    [("mobilenet", {"version": version}) for version in ("v2", "v3-small", "v3-large")]
    + [("efficientnet", {"variant": "b0"}), ("efficientnet", {"variant": "b1"})],
)
def test_the_form_for_small_images_has_the_weights_of_the_published_form(name, options, no_random_weights):
    small, large = (getattr(models, name)((size, size, 3), 10, **options) for size in (32, 64))
    assert [w.shape for w in small.trainable_weights] == [w.shape for w in large.trainable_weights]


@pytest.mark.once
def test_the_small_cnn_for_fashion_mnist_has_under_100_000_parameters(no_random_weights):
    assert models.small_cnn((28, 28, 1), 10).count_params() < 100_000


@pytest.mark.once
def test_the_mlp_for_fashion_mnist_has_three_hidden_layers(no_random_weights):
    # 784 -> 256 -> 128 -> 100 -> 10
    assert models.mlp((28, 28), 10).count_params() == 200_960 + 32_896 + 12_900 + 1_010


# Published numbers


@pytest.mark.once
def test_vgg_computes_what_keras_applications_computes(no_random_weights):
    published = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    ours = models.vgg((32, 32, 3), 2)
    features = keras.Model(ours.input, next(x for x in ours.layers if isinstance(x, keras.layers.Flatten)).output)
    set_random_weights(published)
    features.set_weights(published.get_weights())
    x = images(2, 32, 32, 3)
    np.testing.assert_allclose(outputs(features, x), outputs(published, x).reshape(2, -1), rtol=1e-4, atol=1e-5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("version", "published"),
    [
        ("v2", lambda **options: keras.applications.MobileNetV2(**options)),
        ("v3-small", lambda **options: keras.applications.MobileNetV3Small(**options, include_preprocessing=False)),
    ],
)
def test_mobilenet_blocks_compute_what_keras_applications_computes(version, published, no_random_weights):
    from layers.models import mobilenet

    file = sys.modules[mobilenet.__module__]
    published = published(input_shape=(32, 32, 3), alpha=0.5, weights=None, include_top=False)
    inputs = keras.Input((32, 32, 3))
    ours = keras.Model(inputs, file._features(inputs, version, 0.5, stem_strides=2))
    set_random_weights(published)
    ours.set_weights(published.get_weights())
    x = images(2, 32, 32, 3)
    expected = published.predict(x, verbose=0)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.once
def test_efficientnet_blocks_compute_what_keras_applications_computes(no_random_weights):
    file = importlib.import_module(models.efficientnet.__module__)
    published = keras.applications.EfficientNetB0(input_shape=(32, 32, 3), weights=None, include_top=False)
    inputs = keras.Input((32, 32, 3))
    ours = keras.Model(inputs, file._features(inputs, 1.0, 1.0, stem_strides=2))
    set_random_weights(ours)
    values = iter(ours.get_weights())
    for layer in published.layers:
        if not isinstance(layer, keras.layers.Normalization):
            layer.set_weights([next(values) for _ in layer.weights])
    x = images(2, 32, 32, 3)
    expected = published.predict(255.0 * x, verbose=0)
    assert np.std(expected) > 1e-3
    np.testing.assert_allclose(ours.predict(x, verbose=0), expected, rtol=1e-3, atol=1e-4)


# Sizes


@pytest.mark.once
@pytest.mark.parametrize("name", IMAGE_MODELS)
@pytest.mark.parametrize("image_shape", [(28, 28, 1), (11, 9, 2), (64, 72, 3)])
def test_image_models_take_small_odd_oblong_and_larger_images(name, image_shape, no_random_weights):
    model = getattr(models, name)(image_shape, 3, **IMAGE_MODELS[name])
    assert model.input_shape == (None, *image_shape)
    assert model.output.shape == (None, 3)


@pytest.mark.once
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_image_models_take_28_pixels_without_further_options(name, no_random_weights):
    assert getattr(models, name)((28, 28, 1), 10).output.shape == (None, 10)


@pytest.mark.once
@pytest.mark.parametrize("name", ["resnet", "mobilenet", "efficientnet"])
def test_small_images_keep_their_resolution_in_the_first_convolution(name, no_random_weights):
    model = getattr(models, name)((16, 16, 1), 3, **IMAGE_MODELS[name])
    assert model.layers[1].output.shape[1:3] == (16, 16)


@pytest.mark.once
def test_the_stem_of_a_resnet_can_be_chosen(no_random_weights):
    model = models.resnet((32, 32, 1), 3, width=2, stem="large")
    assert model.layers[-3].output.shape[1:3] == (1, 1)
    model = models.resnet((32, 32, 1), 3, width=2, stem="small")
    assert model.layers[-3].output.shape[1:3] == (4, 4)


@pytest.mark.parametrize(("side", "patch_size"), [(224, 16), (32, 4), (28, 4), (16, 2), (8, 1)])
def test_a_vit_finds_a_patch_size_that_divides_the_image(side, patch_size):
    file = importlib.import_module(models.vit.__module__)
    assert file._largest_patch_size((side, side)) == patch_size


def test_a_table_without_numeric_or_without_categorical_columns_has_one_input():
    for build in (models.tabular_mlp, models.ft_transformer, models.tabular_perceptron):
        assert list(build(3, (), 2).input) == ["numeric"]
        assert list(build(0, (4, 2), 2).input) == ["categorical"]
        assert sorted(build(3, (4, 2), 2).input) == ["categorical", "numeric"]


def test_embeddings_of_categories_grow_with_the_number_of_values():
    model = models.tabular_mlp(0, (2, 7, 1000), 1)
    tables = [layer.embeddings.shape for layer in model.layers if isinstance(layer, keras.layers.Embedding)]
    assert tables == [(2, 1), (7, 4), (1000, 50)]


# What must not change the answer


@pytest.mark.parametrize("block", ["_basic_block", "_bottleneck_block"])
def test_a_residual_block_whose_last_gamma_is_zero_is_the_identity(block):
    file = importlib.import_module(models.resnet.__module__)
    inputs = keras.Input((5, 5, 8))
    filters = 8 if block == "_basic_block" else 2
    model = keras.Model(inputs, getattr(file, block)(inputs, filters, 1, file._convolution_shortcut))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    norms[-1].gamma.assign(np.zeros(8))
    x = images(2, 5, 5, 8)
    np.testing.assert_array_equal(outputs(model, x), np.maximum(x, 0.0))


def test_the_cifar_shortcut_is_every_other_pixel_and_zeros_for_new_channels():
    file = importlib.import_module(models.resnet.__module__)
    inputs = keras.Input((5, 5, 2))
    model = keras.Model(inputs, file._zero_padding_shortcut(inputs, 3, 2))
    x = images(1, 5, 5, 2)
    assert not model.weights
    np.testing.assert_array_equal(outputs(model, x)[..., :2], x[:, ::2, ::2])
    np.testing.assert_array_equal(outputs(model, x)[..., 2:], 0.0)


def test_lenet_reads_a_28_pixel_digit_as_the_same_digit_in_a_32_pixel_frame():
    small, large = models.lenet5((28, 28, 1), 10), models.lenet5((32, 32, 1), 10)
    large.set_weights(small.get_weights())
    x = images(2, 28, 28, 1)
    framed = np.pad(x, ((0, 0), (2, 2), (2, 2), (0, 0)))
    np.testing.assert_allclose(outputs(small, x), outputs(large, framed), rtol=1e-5, atol=1e-6)


def test_an_mlp_with_skips_and_zero_hidden_weights_passes_its_input_on():
    plain = models.mlp((4,), 3, hidden_dims=())
    deep = models.mlp((4,), 3, hidden_dims=(4, 4, 4), skip=True)
    deep.set_weights([*[np.zeros_like(w) for w in deep.get_weights()[:-2]], *plain.get_weights()])
    x = images(2, 4)
    np.testing.assert_allclose(outputs(deep, x), outputs(plain, x), rtol=1e-6)


@pytest.mark.once
def test_skips_need_equal_widths(no_random_weights):
    model = models.mlp((4,), 3, hidden_dims=(5, 6, 6), skip=True)
    assert sum(isinstance(layer, keras.layers.Add) for layer in model.layers) == 1


@pytest.mark.parametrize(
    "activation",
    ["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus", "softmax", "linear"],
)
def test_an_mlp_takes_every_activation(activation):
    model = models.mlp((2,), 2, hidden_dims=(3,), activation=activation)
    x = images(2, 2)
    kernel, bias, last_kernel, last_bias = model.get_weights()
    hidden = keras.activations.get(activation)(keras.ops.convert_to_tensor(x @ kernel + bias))
    hidden = keras.ops.convert_to_numpy(hidden)
    np.testing.assert_allclose(outputs(model, x), hidden @ last_kernel + last_bias, rtol=1e-5, atol=1e-6)


def test_a_vit_without_positions_does_not_see_where_a_patch_is():
    model = models.vit((8, 8, 1), 3, patch_size=4, width=8, depth=1, num_heads=2)
    positions = next(weight for weight in model.weights if "positions" in weight.path)
    x = images(2, 8, 8, 1)
    upside_down = np.concatenate([x[:, 4:], x[:, :4]], axis=1)
    assert not np.allclose(outputs(model, x), outputs(model, upside_down), rtol=1e-5, atol=1e-6)
    positions.assign(np.zeros(positions.shape))
    np.testing.assert_allclose(outputs(model, x), outputs(model, upside_down), rtol=1e-5, atol=1e-6)


def test_an_ft_transformer_does_not_care_about_the_order_of_its_columns():
    model = models.ft_transformer(3, (), 2, width=8, depth=1, num_heads=2)
    x = images(4, 3)
    expected = outputs(model, {"numeric": x})
    order = [2, 0, 1]
    for weight in model.weights:
        if weight.shape == (3, 8):  # the tokenizer's kernel and bias, a row a column
            weight.assign(keras.ops.convert_to_numpy(weight)[order])
    np.testing.assert_allclose(outputs(model, {"numeric": x[:, order]}), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("unit", ["step", "sigmoid", "relu"])
def test_a_perceptron_weighs_its_inputs_and_leaves_step_and_sigmoid_to_the_loss(unit):
    model = models.perceptron((3, 2), 4, unit=unit)
    x = images(5, 3, 2)
    kernel, bias = model.get_weights()
    sums = x.reshape(5, 6) @ kernel + bias
    expected = np.maximum(sums, 0.0) if unit == "relu" else sums
    np.testing.assert_allclose(outputs(model, x), expected, rtol=1e-5, atol=1e-6)


def test_a_perceptron_for_tables_adds_one_row_of_its_weights_for_each_category():
    model = models.tabular_perceptron(2, (3, 4), 2)
    numeric, categorical = images(2, 2), np.array([[2, 0], [1, 3]], "int32")
    kernel, bias = model.get_weights()
    expected = numeric @ kernel[:2] + kernel[2 + categorical[:, 0]] + kernel[5 + categorical[:, 1]] + bias
    actual = outputs(model, {"numeric": numeric, "categorical": categorical})
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


def test_logits_stay_single_precision_under_mixed_precision():
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = models.lenet5((28, 28, 1), 10)
    finally:
        keras.config.set_dtype_policy(policy)
    assert model.layers[2].compute_dtype == "bfloat16"
    assert model.output.dtype == "float32"


# What is refused


@pytest.mark.once
@pytest.mark.parametrize(
    ("build", "received"),
    [
        (lambda: models.lenet5((28, 28), 10), r"image_shape=\(28, 28\)"),
        (lambda: models.lenet5((28, 28, 0), 10), r"image_shape=\(28, 28, 0\)"),
        (lambda: models.alexnet((4, 4, 1), 10), r"image_shape=\(4, 4, 1\)"),
        (lambda: models.small_cnn((3, 28, 1), 10), r"image_shape=\(3, 28, 1\)"),
        (lambda: models.vgg((28, 28, 1), 10, depth=12), "depth=12"),
        (lambda: models.resnet((28, 28, 1), 10, depth=101), "depth=101"),
        (lambda: models.resnet((28, 28, 1), 10, stem="tiny"), "stem='tiny'"),
        (lambda: models.mobilenet((28, 28, 1), 10, version="v1"), "version='v1'"),
        (lambda: models.efficientnet((28, 28, 1), 10, variant="b8"), "variant='b8'"),
        (lambda: models.vit((28, 28, 1), 10, patch_size=16), r"patch_size=16.*Sizes that do: \[1, 2, 4, 7, 14, 28\]"),
        (lambda: models.vit((227, 227, 3), 10), "227 x 227 pixels.*Resize"),
        (lambda: models.vit((28, 28, 1), 10, width=100), "width=100, num_heads=3.*width=99"),
        (lambda: models.ft_transformer(2, (), 1, width=20), "width=20, num_heads=8"),
        (lambda: models.ft_transformer(0, (), 1), r"num_numeric=0, cardinalities=\(\)"),
        (lambda: models.tabular_mlp(-1, (2,), 1), "num_numeric=-1"),
        (lambda: models.tabular_perceptron(1, (2, 0), 1), r"cardinalities=\(2, 0\)"),
        (lambda: models.perceptron((2,), 1, unit="softmax"), "softmax"),
    ],
)
def test_bad_arguments_are_named_with_what_came(build, received):
    with pytest.raises(ValueError, match=f"Received.*{received}"):
        build()


# The package


@pytest.mark.once
def test_architectures_are_listed_without_importing_keras():
    code = (
        "import sys; from layers import models; assert 'resnet' in models.ARCHITECTURES;"
        "assert not {'keras', 'layers.models.vision.resnet'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.once
def test_every_architecture_has_a_case():
    from cases import CASES

    assert set(models.ARCHITECTURES) <= set(CASES)


@pytest.mark.once
@pytest.mark.parametrize("name", models.ARCHITECTURES)
def test_an_architecture_is_a_documented_function_of_at_most_seven_arguments_with_a_file(name):
    build = getattr(models, name)
    assert build.__name__ == name
    assert models.ARCHITECTURES[name] == inspect.getdoc(build).partition("\n")[0]
    arguments = [each for each in inspect.signature(build).parameters.values() if each.kind is not each.VAR_KEYWORD]
    assert len(arguments) <= 7
    assert "Args:" in build.__doc__


def test_an_architecture_stays_a_function_when_its_file_is_imported():
    from layers.models.vision.resnet import resnet

    assert models.resnet is resnet


def test_an_unknown_architecture_is_an_attribute_error_that_lists_the_known_ones():
    with pytest.raises(AttributeError, match="resnet"):
        models.resnet_v9  # noqa: B018
