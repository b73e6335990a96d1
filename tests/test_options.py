"""Options: bounds, types, dependence on one another, all without a backend."""

from dataclasses import dataclass
from typing import Literal

import pytest

from apps.common.errors import UserError, count_skipped, nearest
from apps.common.options.declare import is_active, make_config, option, options_of, refused, to_plain
from apps.common.options.training import Recipe, Training

pytestmark = pytest.mark.once  # nothing in it depends on the backend


@dataclass(frozen=True)
class Config(Training):
    model: Literal["mlp", "cnn"] = option("mlp", "architecture")
    hidden_dims: tuple[int, ...] = option((8, 4), "widths", low=1, needs={"model": "mlp"})
    size: int | None = option(None, "size", low=2)
    batch_size: int = refused(1, "there is one batch")


def message(**values):
    with pytest.raises(UserError) as caught:
        make_config(Config, values)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_text_becomes_values_of_the_declared_type():
    config = make_config(Config, {"epochs": "3", "learning_rate": "1e-2", "hidden_dims": "16,8", "size": "none"})
    assert (config.epochs, config.learning_rate, config.hidden_dims, config.size) == (3, 0.01, (16, 8), None)
    assert to_plain(config)["hidden_dims"] == [16, 8]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"epochs": "0"}, "--epochs: expected a whole number at least 1"),
        ({"epochs": "2.5"}, "--epochs: expected a whole number"),
        ({"learning_rate": "0"}, "above 0"),
        ({"learning_rate": "nan"}, "--learning-rate: expected a number"),
        ({"optimizer": "adm"}, "Did you mean 'adam'?"),
        ({"epocs": "3"}, "Did you mean '--epochs'?"),
        ({"hidden_dims": "16,x"}, "separated by commas"),
        ({"hidden_dims": "0"}, "--hidden-dims"),
        ({"gradient_flow": "maybe"}, "yes or no"),
        ({"size": "1"}, "or none"),
    ],
)
def test_a_bad_value_names_the_option_and_what_was_expected(values, words):
    assert words in message(**values)


def test_an_option_that_would_do_nothing_is_refused():
    assert "--momentum does nothing with --optimizer adam" in message(momentum="0.5")
    assert "--hidden-dims does nothing with --model cnn" in message(model="cnn", hidden_dims="4")
    assert "there is one batch" in message(batch_size="8")
    assert "exclude each other" in message(clip_norm="1", clip_value="1")
    config = make_config(Config, {"model": "cnn"})
    assert not is_active(config, options_of(Config)["hidden_dims"])


def test_an_option_at_its_default_is_never_refused():
    assert make_config(Config, {"momentum": "0.9", "optimizer": "adam"}).momentum == 0.9


def test_the_nearest_name_is_suggested_or_the_known_ones_listed():
    assert nearest("tabluar", ["tabular", "graph"]) == "Did you mean 'tabular'?"
    assert nearest("xyz", ["tabular", "graph"]) == "Known: graph, tabular."


def test_up_to_five_per_cent_may_be_skipped_and_are_named():
    assert count_skipped([], 100, "images") is None
    assert "5 of 100 images" in count_skipped([f"{i}.png (truncated)" for i in range(5)], 100, "images")
    with pytest.raises(UserError, match=r"6 of 100 images.*and 1 more"):
        count_skipped([f"{i}.png (truncated)" for i in range(6)], 100, "images")


def test_a_recipe_is_met_within_its_tolerance_or_above_its_control():
    shared = {"about": "", "data": "", "options": {}, "metric": "accuracy", "source": ""}
    published = Recipe(**shared, published=0.9, tolerance=0.01)
    assert published.met(0.891) and published.met(0.95) and not published.met(0.889)
    error = Recipe(**shared, published=0.01, tolerance=0.002, lower_is_better=True)
    assert error.met(0.0119) and not error.met(0.0121)
    controlled = Recipe(**shared, floor=0.95)
    assert controlled.met(0.96, control=0.9) and not controlled.met(0.96, control=0.97) and not controlled.met(0.94, control=0.9)
