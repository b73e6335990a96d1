"""A network trained as a classifier as the trunk of a detector and the way down of a U-Net."""

import keras
import numpy as np
import pytest
from app_cases import write_boxes, write_masks, write_pictures
from runs import bundle_weights, forked, train

from apps import object_detection, segmentation
from apps.common.data.examples import Data, Examples
from apps.common.errors import UserError
from apps.common.training import trunk_maps
from layers import models
from layers.initialization import own_variables

pytestmark = pytest.mark.once  # agreement of the backends and the contract carry it to the others

SHAPE = (32, 32, 3)
NETWORK = "MobileNet"
SHORT = ("--epochs", "1", "--batch-size", "8")
DETECTION = ("object-detection", "--data", "squares", "--image-size", "32", "--width", "4", *SHORT)
SEGMENTATION = ("segmentation", "--data", "shapes", "--image-size", "32", "--width", "4", "--depth", "3", *SHORT)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trunk-maps")
    write_boxes(folder, count=12)
    write_masks(folder, count=12)
    write_pictures(folder, count=8)
    keras.utils.set_random_seed(0)
    network = getattr(keras.applications, NETWORK)(include_top=False, weights=None, input_shape=SHAPE)
    network.save_weights(folder / "network.weights.h5")
    return folder


@pytest.fixture(scope="module")
def encoder(place):
    """A residual network that learned to tell views of small pictures apart."""
    begun = ("contrastive", "--data", "pictures", "--architecture", "small-cnn", "--projection-dim", "4", "--probe-share", "0.5")
    return train(*begun, "--epochs", "1", "--batch-size", "8", cwd=place)["model"]


def arrays(model):
    return [keras.ops.convert_to_numpy(weight) for weight in model.weights]


def all_there(wanted, bundle):
    saved = list(bundle_weights(bundle).values())
    return all(any(weight.shape == each.shape and np.array_equal(weight, each) for each in saved) for weight in wanted)


def test_maps_are_those_of_the_last_layer_at_each_stride(place):
    trunk = trunk_maps.given_trunk(f"keras:{NETWORK}={place / 'network.weights.h5'}", "object-detection", SHAPE, (8, 16, 32))
    alone = getattr(keras.applications, NETWORK)(include_top=False, weights=None, input_shape=SHAPE)
    alone.load_weights(place / "network.weights.h5")
    names = ("conv_pw_5_relu", "conv_pw_11_relu", "conv_pw_13_relu")  # those before a convolution of stride 2
    pixels = np.random.default_rng(0).integers(0, 256, (2, *SHAPE)).astype("float32")
    expected = keras.Model(alone.inputs, [alone.get_layer(name).output for name in names]).predict_on_batch(pixels / 127.5 - 1)
    found = trunk.model.predict_on_batch(pixels)
    assert [each.shape[1:3] for each in found] == [(4, 4), (2, 2), (1, 1)]
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * np.abs(theirs).max())
    assert np.abs(expected[0]).max() > 0


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("ResNet50V2", ["conv2_block3_1_relu", "conv3_block4_1_relu", "conv4_block6_1_relu"]),  # not the map it pads
        ("EfficientNetB0", ["block3a_expand_activation", "block4a_expand_activation", "block6a_expand_activation"]),
        ("VGG16", ["block3_conv3", "block4_conv3", "block5_conv3"]),
    ],
)
def test_maps_of_padded_squeezed_and_pooled_networks(name, names):
    network = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(64, 64, 3))
    found = trunk_maps.maps_at(network, (64, 64, 3), (4, 8, 16))
    assert all(ours is network.get_layer(layer).output for ours, layer in zip(found, names, strict=True))


@pytest.mark.parametrize("model", ["ssd", "yolo", "detr"])
def test_a_detector_learns_on_a_frozen_trunk_and_its_bundle_needs_no_source(place, model):
    width = () if model != "detr" else ("--width", "16")
    source = ("--pretrained", f"keras:{NETWORK}=network.weights.h5", "--freeze")
    result = train(*DETECTION, "--model", model, *width, *source, cwd=place)
    strides = (8, 16) if model == "detr" else (8, 16, 32)
    trunk = trunk_maps.given_trunk(f"keras:{NETWORK}={place / 'network.weights.h5'}", "object-detection", SHAPE, strides)
    assert all_there(arrays(trunk.model), result["model"])
    if model == "ssd":
        again = forked("evaluate", result["model"], "--json", cwd=place)
        assert f'"map50": {result["metrics"]["map50"]}' in again.stdout
        forked("predict", result["model"], "squares/0.png", "--folder", "drawn", "--json", cwd=place)


def test_a_unet_goes_down_by_a_pretrained_network(place):
    source = ("--pretrained", f"keras:{NETWORK}=network.weights.h5", "--unfreeze-epoch", "1")
    result = train(*SEGMENTATION, *source, cwd=place)
    trunk = trunk_maps.given_trunk(f"keras:{NETWORK}={place / 'network.weights.h5'}", "segmentation", SHAPE, (1, 2, 4, 8))
    assert all_there(arrays(trunk.model), result["model"]), "one epoch of one is held"
    again = forked("evaluate", result["model"], "--json", cwd=place)
    assert f'"mean_iou": {result["metrics"]["mean_iou"]}' in again.stdout


def test_a_unet_of_a_trunk_joins_the_maps_it_has_and_makes_the_others():
    inputs = keras.Input((12, 12, 3))
    half = keras.layers.Conv2D(5, 3, strides=2, padding="same", name="half")(inputs)
    trunk = keras.Model(inputs, [half])
    model = models.unet((10, 11, 3), 2, width=4, depth=2, trunk=trunk)
    assert model.output.shape[1:] == (10, 11, 2)
    joined = [layer for layer in model.layers if isinstance(layer, keras.layers.Concatenate)]
    assert [tuple(layer.output.shape[1:]) for layer in joined] == [(6, 6, 8 + 5), (12, 12, 4 + 4)]


def test_the_network_of_a_bundle_is_a_trunk_for_pictures_of_another_size(place, encoder):
    for task, options in (DETECTION[0], DETECTION[1:]), (SEGMENTATION[0], SEGMENTATION[1:]):
        result = train(task, *options, "--pretrained", encoder, "--freeze", cwd=place)
        strides = (8, 16, 32) if task == "object-detection" else (1, 2, 4, 8)
        trunk = trunk_maps.given_trunk(encoder, task, SHAPE, strides)
        learned = arrays(trunk.model)
        assert len(learned) >= 10 and all_there(learned, encoder) and all_there(learned, result["model"])
        record = (place / "mlruns" / "runs" / result["run_id"] / "run.json").read_text()
        assert '"pretrained_digest"' in record


def test_a_detector_goes_on_from_a_detector(place):
    first = train(*DETECTION, cwd=place)["model"]
    again = train(*DETECTION, "--pretrained", first, "--freeze", "--learning-rate", "0.01", cwd=place)["model"]
    before, after = bundle_weights(first), bundle_weights(again)
    same = [name for name in before if np.array_equal(before[name], after[name])]
    assert any("logits" not in name for name in same) and len(same) >= len(before) - 4


def test_what_is_no_trunk_is_refused_in_one_line(place):
    with pytest.raises(UserError, match="Did you mean 'MobileNet'"):
        trunk_maps.given_trunk("keras:MobilNet", "segmentation", SHAPE, (1, 2))
    flat = train("image-classification", "--data", "pictures", "--model", "mlp", "--hidden-dims", "4", *SHORT, cwd=place)["model"]
    for source, said in ((flat, "no feature maps"), ("tfhub:somewhere", "takes a bundle")):
        refused = forked("train", *DETECTION, "--pretrained", source, cwd=place, check=2)
        assert said in refused.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("app", [segmentation, object_detection])
def test_how_many_weights_a_trunk_brings_is_said(place, app, capsys):
    source = f"keras:{NETWORK}={place / 'network.weights.h5'}"
    examples = Examples(np.zeros((8, *SHAPE), "uint8"), np.zeros(8))
    about = {"class_names": ["a", "b"], "image_shape": list(SHAPE), "most_boxes": 1}
    model = app.build_model(app.Config(pretrained=source, batch_size=8, epochs=1), Data(examples, examples, examples, about))
    [line] = [line for line in capsys.readouterr().err.splitlines() if "weights from" in line]
    taken, of, every = line.partition(" weights")[0].split()
    strides = (8, 16, 32) if app is object_detection else (1, 2, 4, 8)
    trunk = trunk_maps.given_trunk(source, "another", SHAPE, strides).model
    assert line.partition(" from ")[2].startswith(f"{source}; new: ") and of == "of"
    assert (int(taken), int(every)) == (len(floats(trunk)), len(floats(model))) and int(taken) < int(every)


def floats(model):
    return [variable for _, variable in own_variables(model)]
