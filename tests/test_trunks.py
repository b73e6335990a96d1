"""Networks of `keras.applications` as trunks: what they are fed, what stays still, what is refused."""

import keras
import numpy as np
import pytest
from app_cases import write_pictures
from runs import bundle_weights, forked, train

from apps.common.errors import UserError
from apps.common.training import trunks

SHAPE = (32, 32, 3)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunks")
    write_pictures(folder, size=32, count=10)
    keras.utils.set_random_seed(0)
    keras.applications.MobileNet(include_top=False, weights=None, input_shape=SHAPE).save_weights(folder / "mobilenet.weights.h5")
    return folder


def test_a_trunk_sees_pixels_as_it_was_trained_to_and_keeps_its_weights(place):
    source = f"keras:MobileNet={place / 'mobilenet.weights.h5'}"
    model, layers, digest = trunks.keras_classifier(source, SHAPE, 5, (40.0, 100.0))
    alone = keras.applications.MobileNet(include_top=False, weights=None, input_shape=SHAPE)
    alone.load_weights(place / "mobilenet.weights.h5")
    pixels = np.random.default_rng(0).uniform(0, 255, (3, *SHAPE)).astype("float32")
    first = "conv1_relu"  # what comes later is next to nothing under weights as they are drawn
    expected = keras.Model(alone.inputs, alone.get_layer(first).output).predict_on_batch(pixels / 127.5 - 1)
    found = keras.Model(model.inputs, model.get_layer(first).output).predict_on_batch((pixels - 100) / 40)
    assert found == pytest.approx(expected, abs=1e-5) and expected.std() > 0.01
    assert len(digest) == 24 and sum(len(layer.weights) for layer in layers) == len(alone.weights)
    assert model.predict_on_batch(pixels).shape == (3, 5)


@pytest.mark.once
@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("MobileNetV2", keras.applications.mobilenet_v2), ("ResNet50", keras.applications.resnet),
        ("DenseNet121", keras.applications.densenet), ("VGG16", keras.applications.vgg16),
        ("EfficientNetB0", keras.applications.efficientnet), ("ConvNeXtTiny", keras.applications.convnext),
        ("NASNetMobile", keras.applications.nasnet), ("ResNet50V2", keras.applications.resnet_v2),
        ("InceptionV3", keras.applications.inception_v3), ("Xception", keras.applications.xception),
        ("MobileNetV3Small", keras.applications.mobilenet_v3), ("EfficientNetV2B0", keras.applications.efficientnet_v2),
    ],
)  # fmt: skip
def test_pixels_are_scaled_as_keras_says_for_each_network(name, known):
    pixels = np.random.default_rng(1).uniform(0, 255, (2, 4, 4, 3)).astype("float32")
    factor, offset = trunks.TRUNKS[name]
    ours = (pixels[..., ::-1] if trunks.TRUNKS[name] is trunks.CAFFE else pixels) * factor + offset
    assert ours == pytest.approx(np.array(known.preprocess_input(pixels.copy())), abs=1e-3)


def test_a_frozen_trunk_stays_and_its_bundle_needs_no_source(place):
    result = train(
        "image-classification", "--data", "pictures", "--epochs", "1", "--batch-size", "8", "--freeze",
        "--pretrained", "keras:MobileNet=mobilenet.weights.h5", cwd=place,
    )  # fmt: skip
    alone = keras.applications.MobileNet(include_top=False, weights=None, input_shape=SHAPE)
    alone.load_weights(place / "mobilenet.weights.h5")
    saved = list(bundle_weights(result["model"]).values())
    for weight in map(keras.ops.convert_to_numpy, alone.weights):
        assert any(weight.shape == each.shape and np.array_equal(weight, each) for each in saved)
    answered = forked("predict", result["model"], "pictures/dark/0.png", "--json", cwd=place)
    assert '"class": "' in answered.stdout or '"prediction"' in answered.stdout


@pytest.mark.once
def test_what_is_no_trunk_is_refused_in_one_line(place):
    with pytest.raises(UserError, match="Did you mean 'MobileNet'"):
        trunks.keras_classifier("keras:MobilNet", SHAPE, 2, (1.0, 0.0))
    with pytest.raises(UserError, match="--image-size 96"):
        trunks.keras_classifier("keras:MobileNet=x.h5", (8, 8, 3), 2, (1.0, 0.0))
    with pytest.raises(UserError, match="cannot be read"):
        trunks.keras_classifier("keras:MobileNet=nowhere.weights.h5", SHAPE, 2, (1.0, 0.0))
    begun = ("--data", "pictures", "--pretrained", "keras:MobileNet=mobilenet.weights.h5")
    refused = forked("train", "image-classification", *begun, "--model", "mlp", cwd=place, check=2)
    assert "leave --model out" in refused.stderr
