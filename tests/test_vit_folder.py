"""A vision transformer as Hugging Face writes it: the logits of `transformers`, from our own layers."""

import json

import keras
import numpy as np
import pytest
from app_cases import write_boxes, write_pictures
from runs import forked, train

from apps.common.errors import UserError
from apps.common.training.trunk_maps import given_trunk
from apps.common.training.vit_folder import resized_positions, vit_classifier

SIDE, MEAN, DEVIATION = 16, [0.3, 0.5, 0.6], [0.2, 0.3, 0.4]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A small one with random weights, written by `transformers`."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    torch.manual_seed(0)
    made = tmp_path_factory.mktemp("vit")
    config = transformers.ViTConfig(
        image_size=SIDE, patch_size=8, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, intermediate_size=12,
        id2label={0: "dark", 1: "light"}, initializer_range=0.5, layer_norm_eps=1e-3,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too, which begin as zeros and ones
            parameter += 0.1 * torch.randn(parameter.shape)
        pixels = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype="uint8")
        scaled = ((pixels / 255 - MEAN) / DEVIATION).transpose(0, 3, 1, 2).astype("float32")
        model.vit.save_pretrained(made / "trunk")  # whose tensors are called without `vit.`
        np.savez(made / "answers.npz", pixels=pixels, logits=model(torch.tensor(scaled)).logits.numpy(),
                 tokens=model.vit(torch.tensor(scaled)).last_hidden_state.numpy())  # fmt: skip
    model.save_pretrained(made / "model")
    facts = {"image_mean": MEAN, "image_std": DEVIATION, "rescale_factor": 1 / 255}
    (made / "model" / "preprocessor_config.json").write_text(json.dumps(facts))
    write_pictures(made, size=SIDE)
    return made


def changed(folder, name, **values):
    """A copy of the configuration with other values, the weights beside it."""
    made = folder / name
    made.mkdir(exist_ok=True)
    config = json.loads((folder / "model" / "config.json").read_text())
    (made / "config.json").write_text(json.dumps({**config, **values}))
    (made / "model.safetensors").write_bytes((folder / "model" / "model.safetensors").read_bytes())
    return f"hf:{made}"


def test_logits_are_those_of_transformers(folder):
    with np.load(folder / "answers.npz") as answers:
        pixels, expected = answers["pixels"].astype("float32"), answers["logits"]
    given = ((40.0,) * 3, (100.0,) * 3)
    model, trunk, digest = vit_classifier(f"hf:{folder / 'model'}", (SIDE, SIDE, 3), ["dark", "light"], given)
    found = keras.ops.convert_to_numpy(model((pixels - 100) / 40, training=False))
    assert np.abs(found - expected).max() < 1e-4 < np.abs(expected).max()
    assert len(digest) == 24 and trunk[-1].name == "logits"
    _, trunk, _ = vit_classifier(f"hf:{folder / 'trunk'}", (SIDE, SIDE, 3), ["dark", "light"], given)
    assert [layer.name for layer in trunk] == ["patches", "class_token", "positions", "block_0", "block_1", "norm"]
    _, trunk, _ = vit_classifier(f"hf:{folder / 'model'}", (SIDE, SIDE, 3), ["light", "dark"], given)
    assert "logits" not in {layer.name for layer in trunk}, "other classes need a head of their own"


def test_as_a_trunk_its_maps_are_the_tokens_of_transformers_and_these_pooled_or_repeated(folder):
    with np.load(folder / "answers.npz") as answers:
        pixels, tokens = answers["pixels"].astype("float32"), answers["tokens"]
    trunk = given_trunk(f"hf:{folder / 'model'}", "object-detection", (SIDE, SIDE, 3), (8, 16, 32))
    fine, middle, coarse = (keras.ops.convert_to_numpy(each) for each in trunk.model(pixels, training=False))
    expected = tokens[:, 1:].reshape(3, 2, 2, -1)
    np.testing.assert_allclose(fine, expected, atol=1e-4)
    np.testing.assert_allclose(middle, expected.max((1, 2), keepdims=True), atol=1e-4)
    assert coarse.shape == middle.shape and len(trunk.digest) == 24
    assert [layer.name for layer in trunk.layers] == ["patches", "class_token", "positions", "block_0", "block_1", "norm"]
    (map_,) = given_trunk(f"hf:{folder / 'trunk'}", "segmentation", (SIDE, SIDE, 3), (1, 2, 4)).model.outputs
    assert map_.shape[1:3] == (4, 4)


def test_positions_of_other_sizes_lie_between_those_there_are():
    table = np.concatenate([[[7.0, 7.0]], [[x, y] for y in (0.0, 1.0) for x in (0.0, 1.0)]])
    found = resized_positions(table, (2, 4))
    assert found[0].tolist() == [7.0, 7.0] and found.shape == (9, 2)
    rows = found[1:].reshape(2, 4, 2)
    assert (np.diff(rows[..., 0], axis=1) > 0).all() and (np.diff(rows[..., 1], axis=0) > 0).all()
    np.testing.assert_array_equal(resized_positions(table, (2, 2)), table)


@pytest.mark.once
def test_a_detector_learns_on_it_and_what_does_not_suit_is_refused(folder):
    write_boxes(folder, count=12)
    words = ("--data", "squares", "--width", "4", "--levels", "2", "--epochs", "1", "--batch-size", "8", "--freeze")
    result = train("object-detection", *words, "--image-size", "32", "--pretrained", "hf:model", cwd=folder)
    assert "map50" in result["metrics"]
    with pytest.raises(UserError, match="patches of 14 pixels; as a trunk"):
        given_trunk(changed(folder, "other", patch_size=14), "segmentation", (28, 28, 3), (1, 2, 4))
    with pytest.raises(UserError, match="multiple of 8"):
        given_trunk(f"hf:{folder / 'model'}", "segmentation", (20, 16, 3), (1, 2, 4))


@pytest.mark.once
def test_it_is_fine_tuned_and_its_bundle_needs_no_folder(folder):
    words = ("--data", "pictures", "--pretrained", "hf:model", "--freeze", "--epochs", "1", "--batch-size", "8")
    refused = forked("train", "image-classification", *words, cwd=folder, check=2)
    assert "nothing is left to train" in refused.stderr, "the classes are the folder's own"
    result = train("image-classification", *words[:4], "--epochs", "1", "--batch-size", "8", cwd=folder)
    (folder / "model").rename(folder / "elsewhere")
    try:
        again = json.loads(forked("evaluate", result["model"], "--json", cwd=folder).stdout)
        forked("predict", result["model"], "pictures/dark/0.png", "--json", cwd=folder)
    finally:
        (folder / "elsewhere").rename(folder / "model")
    assert again["metrics"]["accuracy"] == result["metrics"]["accuracy"]


@pytest.mark.once
def test_what_does_not_fit_is_refused_in_one_line(folder):
    pixels = ((1.0,) * 3, (0.0,) * 3)
    for values, said in (
        ({"image_size": 32}, "Add --image-size 32"), ({"hidden_act": "tanh"}, "hidden_act 'tanh' is not supported"),
        ({"intermediate_size": 24}, "do not belong together"), ({"num_hidden_layers": 3}, "has no tensor"),
        ({"model_type": "bert"}, "does not read"), ({"hidden_size": "x"}, "hidden_size: expected a positive whole number"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=said):
            vit_classifier(changed(folder, "changed", **values), (SIDE, SIDE, 3), ["dark", "light"], pixels)
