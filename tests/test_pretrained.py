"""Weights trained before: what is taken, what is held still, and for how long."""

import json
import os
from pathlib import Path

import keras
import numpy as np
import pytest
from app_cases import write_pictures
from runs import bundle_weights, forked, train

from apps import image_classification
from apps.common import command
from apps.common.data.examples import Examples
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from apps.common.options.training import Recipe
from apps.common.training.optimizers import compile_model

OPTIONS = ("--model", "small-cnn", "--epochs", "2", "--batch-size", "8", "--learning-rate", "0.01")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    write_pictures(folder)
    (folder / "more").mkdir()
    write_pictures(folder / "more", ("black", "grey", "white"))
    return folder


@pytest.fixture(scope="module")
def source(place):
    return train("image-classification", "--data", "pictures", *OPTIONS, cwd=place)["model"]


def kernels(model):
    """The kernels of a bundle by size, the largest first, and those of its head apart."""
    found = {name: array for name, array in bundle_weights(model).items() if array.ndim > 1}
    trunk = {name: array for name, array in found.items() if array.shape[-1] not in (2, 3)}
    return list(trunk.values()), [array for name, array in found.items() if name not in trunk]


def tuned(place, source, *options):
    begun = ("--data", "more/pictures", *OPTIONS, "--pretrained", source)
    return kernels(train("image-classification", *begun, *options, cwd=place)["model"])


def moved(before, after):
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))


def test_a_frozen_trunk_stays_to_the_bit_and_the_head_is_new(place, source):
    trunk, head = tuned(place, source, "--freeze")
    assert moved(kernels(source)[0], trunk) == 0.0 and len(trunk) > 1
    assert head[-1].shape[-1] == 3


def test_a_trunk_trains_at_a_lower_rate_and_not_before_its_epoch(place, source):
    lower, _ = tuned(place, source, "--trunk-rate", "0.01")
    higher, _ = tuned(place, source, "--trunk-rate", "1")
    held, _ = tuned(place, source, "--unfreeze-epoch", "2")
    before = kernels(source)[0]
    assert 0 < moved(before, lower) < 0.2 * moved(before, higher)
    assert moved(before, held) == 0.0, "two epochs of two are held"


def steps_of_layers(epochs, **options):
    """How far each of five layers, of which the first four were trained before, goes in each epoch of one step."""
    model = keras.Sequential([keras.Input((3,)), *(keras.layers.Dense(3, name=f"layer_{index}") for index in range(5))])
    given = {"pretrained": "somewhere", "optimizer": "sgd", "learning_rate": 1e-3, "trunk_rate": 0.5, "batch_size": 4}
    config = make_config(image_classification.Config, {**given, "epochs": epochs, **options})
    generator = np.random.default_rng(0)
    x, y = generator.normal(size=(4, 3)).astype("float32"), generator.normal(size=(4, 3)).astype("float32")
    compile_model(model, config, Examples(x, y), loss="mse", trunk=model.layers[:-1])
    found = []
    for _ in range(epochs):
        before = [keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers]
        model.fit(x, y, batch_size=4, verbose=0)
        after = [keras.ops.convert_to_numpy(layer.kernel) for layer in model.layers]
        found.append(np.array([np.abs(one - other).mean() for one, other in zip(before, after, strict=True)]))
    return found


def test_the_deeper_a_group_of_layers_lies_the_later_it_is_trained():
    moved_in = [step > 0 for step in steps_of_layers(4, trunk_groups=3, unfreeze_epoch=1)]
    assert [each.tolist() for each in moved_in] == [
        [False, False, False, False, True], [False, False, True, True, True], [False, True, True, True, True], [True] * 5,
    ]  # fmt: skip


def test_rates_fall_from_group_to_group_and_are_one_without_groups():
    (one,), (two,) = steps_of_layers(1), steps_of_layers(1, trunk_groups=2, group_rate=0.25)
    np.testing.assert_allclose(two / one, [0.25, 0.25, 1, 1, 1], rtol=2e-3)
    (whole,) = steps_of_layers(1, trunk_rate=1.0)
    np.testing.assert_allclose(one / whole, [0.5, 0.5, 0.5, 0.5, 1], rtol=2e-3)


def test_more_groups_than_layers_and_what_needs_them_are_refused():
    with pytest.raises(UserError, match="--trunk-groups 9: expected at most 4, the layers"):
        steps_of_layers(1, trunk_groups=9)
    with pytest.raises(UserError, match="--group-rate does nothing with --trunk-groups 1"):
        steps_of_layers(1, group_rate=0.5)


@pytest.mark.once
def test_what_fits_nothing_is_refused_in_one_line_and_the_source_is_on_record(place, source):
    other = ("--data", "pictures", "--model", "mlp", "--pretrained", source)
    refused = forked("train", "image-classification", *other, cwd=place, check=2)
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert "expected the same architecture" in line and "small-cnn" in line
    for words, given in (("--freeze", ("--freeze",)), ("no bundle folder", ("--pretrained", "nowhere"))):
        refused = forked("train", "image-classification", "--data", "pictures", *given, cwd=place, check=2)
        assert words in refused.stderr.strip().splitlines()[-1]
    result = train("image-classification", "--data", "pictures", *OPTIONS, "--pretrained", source, cwd=place)
    record = (Path(place) / "mlruns" / "runs" / result["run_id"] / "run.json").read_text()
    assert '"pretrained_digest"' in record and keras.backend.backend() in record


def test_layers_before_the_logits_begin_anew_and_classes_are_chosen_by_name(place, source):
    begun = ("--data", "more/pictures", *OPTIONS, "--pretrained", source, "--classes", "white,black")
    result = train("image-classification", *begun, "--freeze", "--renewed", "1", cwd=place)
    before, after = kernels(source), kernels(result["model"])
    changed = [not np.array_equal(one, other) for one, other in zip(sorted_by_size(before), sorted_by_size(after), strict=True)]
    assert sum(changed) == 2, "the hidden dense layer and the logits"
    assert json.loads((Path(result["model"]) / "bundle.json").read_text())["about"]["class_names"] == ["white", "black"]
    refused = forked("train", "image-classification", *begun[:-1], "white,pink", cwd=place, check=2)
    assert "no class is called 'pink'" in refused.stderr
    refused = forked("train", "image-classification", *begun, "--renewed", "9", cwd=place, check=2)
    assert "expected fewer than" in refused.stderr


def sorted_by_size(parts):
    return sorted((array for part in parts for array in part), key=lambda array: (array.size, array.shape))


@pytest.mark.once
def test_a_recipe_trains_the_run_it_begins_with_first(place, monkeypatch):
    recipe = Recipe(
        "", data="more/pictures", metric="accuracy", source="", options={"classes": "grey,white", "freeze": True},
        first={"classes": "black,grey", "epochs": 1, "batch_size": 8},
    )  # fmt: skip
    monkeypatch.setitem(image_classification.RECIPES, "two-steps", recipe)
    monkeypatch.chdir(place)
    result, _ = command.train(image_classification, {"recipe": "two-steps", "epochs": "1", "batch_size": "8"})
    newest = sorted(Path("mlruns/runs").glob("*/run.json"), key=os.path.getmtime)[-2:]
    first, second = (json.loads(path.read_text()) for path in newest)
    assert result["first"] == first["result"]["metrics"] and result["run_id"] == second["result"]["run_id"]
    assert second["options"]["pretrained"] == first["result"]["model"]
    assert moved(kernels(first["result"]["model"])[0], kernels(result["model"])[0]) == 0.0
