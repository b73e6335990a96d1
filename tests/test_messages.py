"""What a refusal names: the option at fault, why, and what can be done."""

import types

import numpy as np
import pytest
from PIL import Image

from apps import image_generation
from apps.common.bundles import export
from apps.common.data.images.asked import read_examples
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from layers import models

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def test_examples_that_are_not_there_are_named_by_their_option(tmp_path, monkeypatch):
    monkeypatch.setenv("TRIPTYCH_DATA", str(tmp_path))
    (tmp_path / "README.md").touch()
    with pytest.raises(UserError) as caught:
        read_examples("nofile.csv", None, (8, 8, 3), 2)
    assert str(caught.value).startswith("--examples nofile.csv: no such file") and "README" not in str(caught.value)


def test_an_evaluation_gives_no_advice_for_training(tmp_path):
    for number in range(4):
        Image.fromarray(np.full((8, 8), 10 * number, "uint8")).save(tmp_path / f"{number}.png")
    config = make_config(image_generation.Config, {"data": str(tmp_path), "model": "cvae"})
    with pytest.raises(UserError, match=r"labels missing.*Or draw without classes: --model vae"):
        image_generation.load_data(config)
    with pytest.raises(UserError, match=r"labels missing.*This model is judged by classes") as caught:
        image_generation.load_data(config, {"class_names": ["a", "b"], "image_shape": [8, 8, 1]})
    assert "--model" not in str(caught.value)


def test_a_model_of_several_networks_says_why_it_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "load_model", lambda bundle: models.CLIP((8, 8, 3), 5, 4, architecture="small_cnn", width=8))
    bundle = types.SimpleNamespace(about={})
    with pytest.raises(UserError, match=r"CLIP is trained by an objective of its own.*--part image or --part text"):
        export.export(bundle, "torch", tmp_path / "model.pt2")
    with pytest.raises(UserError, match=r"--part txet: expected one of image, text. Did you mean 'text'"):
        export.export(bundle, "torch", tmp_path / "model.pt2", "txet")
    monkeypatch.setattr(export, "load_model", lambda bundle: models.small_cnn((8, 8, 3), 5))
    with pytest.raises(UserError, match=r"--part encoder: expected none: this model is exported whole. Leave it out"):
        export.export(bundle, "torch", tmp_path / "model.pt2", "encoder")
