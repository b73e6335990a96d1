"""Options that do nothing beside others, or with the data or the model at hand, are refused."""

import pytest

from apps import image_generation, image_text
from apps.common.errors import UserError
from apps.common.options.declare import make_config
from layers import models
from tuning.space import Space

pytestmark = pytest.mark.once  # nothing in it depends on the backend

VISION, LANGUAGE = {"model": "flamingo", "vision": "one"}, {"model": "flamingo", "language": "two"}
CODES = {"model": "latent-flow", "autoencoder": "one"}


@pytest.mark.parametrize(
    ("app", "others", "name", "value", "words"),
    [
        (image_text, VISION, "tower", "resnet", "--tower does nothing with --vision one"),
        (image_text, LANGUAGE, "width", "32", "--width does nothing with --language two"),
        (image_text, LANGUAGE, "depth", "1", "--depth does nothing with --language two"),
        (image_text, VISION | LANGUAGE, "trunk_epochs", "2", "--trunk-epochs does nothing here: --vision and --language"),
        (image_generation, CODES, "latent_dim", "2", "--latent-dim does nothing with --autoencoder one"),
    ],
)
def test_sizes_of_networks_that_are_given_are_refused(app, others, name, value, words):
    with pytest.raises(UserError, match=words):
        make_config(app.Config, {**others, name: value})
    make_config(app.Config, others)
    make_config(app.Config, {"model": others["model"], name: value})


def test_what_is_trained_first_is_searched_as_long_as_one_network_is_not_given():
    for given, searched in ((VISION, True), (LANGUAGE, True), (VISION | LANGUAGE, False)):
        space = Space(image_text.Config, fixed=given)
        assert ("trunk_epochs" in {dimension.option for dimension in space.dimensions}) == searched


@pytest.mark.parametrize("data", [None, "pairs.csv"])
def test_a_prompt_for_classes_is_refused_where_there_are_captions(tmp_path, monkeypatch, data):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pairs.csv").write_text("image,caption\nnone.png,none")
    with pytest.raises(UserError, match=r"--prompt 'one \{\}' does nothing here: these pictures have captions"):
        image_text.load_data(make_config(image_text.Config, {"data": data, "prompt": "one {}"}))


def test_steps_of_a_model_that_draws_at_once_are_refused():
    with pytest.raises(UserError, match="--steps: this model draws at once"):
        image_generation.predict(
            models.VAE((8, 8, 1), 2, width=4), ["any"], {"class_names": ["a"]}, image_generation.PredictOptions(steps=3)
        )
