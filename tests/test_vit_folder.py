"""A vision transformer as Hugging Face writes it: the logits of `transformers`, from our own layers."""

import json

import keras
import numpy as np
import pytest
from app_cases import write_pictures
from runs import forked, train

from apps.common.errors import UserError
from apps.common.training.vit_folder import vit_classifier

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
        np.savez(made / "answers.npz", pixels=pixels, logits=model(torch.tensor(scaled)).logits.numpy())
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
