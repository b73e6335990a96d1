"""What is searched and what is fixed: conditions, grids, and every mistake a command line can hold."""

import socket
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

import triptych
from apps import tabular
from apps.common.app import load_app, tasks
from apps.common.errors import UserError
from apps.common.options.declare import make_config, option, options_of
from apps.common.options.training import Training
from tuning.space import Space, read_fixed, read_only

pytestmark = pytest.mark.once  # nothing in it depends on the backend


@dataclass(frozen=True)
class Config(Training):
    model: Literal["a", "b", "c"] = option("a", "", search=("a", "b", "c"))
    width: int = option(8, "", low=1, search=(4, 64), needs={"model": ("b", "c")})
    heads: int = option(2, "", low=1, search=(1, 2, 4), needs={"model": "b"})
    wiring: str = option("x,0,y", "", search=[("x", "y"), ("0",), ("x", "y", "z")], needs={"model": "c"})
    sizes: tuple[int, ...] = option((8,), "", search=((8,), (16, 8)))
    square: int = option(3, "", needs={"width": lambda width: width > 10})

    def check(self):
        super().check()
        if self.model == "b" and self.width % self.heads:
            raise UserError(f"--width {self.width}: expected a multiple of --heads {self.heads}")


def names(space):
    return [each.name for each in space.dimensions]


def test_the_space_is_the_options_that_have_a_range():
    assert names(Space(Config, {}, own=True)) == ["model", "width", "heads", "wiring.0", "wiring.2", "sizes"]
    assert set(names(Space(Config, {}))) > {"batch_size", "optimizer", "learning_rate", "model"}
    assert "learning_rate" not in names(Space(Config, {"learning_rate": "0.1"}))
    assert names(Space(Config, {}, ("learning_rate", "sizes"))) == ["learning_rate", "sizes"]


def test_an_option_is_searched_only_where_it_does_something():
    assert names(Space(Config, {"model": "a"}, own=True)) == ["sizes"]
    assert names(Space(Config, {"model": "b"}, own=True)) == ["width", "heads", "sizes"]
    space, generator = Space(Config, {}, own=True), np.random.default_rng(0)
    for _ in range(50):
        values = space.draw(generator)
        assert ("heads" in values) == (values["model"] == "b") and ("width" in values) == (values["model"] != "a")
        assert ("wiring.0" in values) == (values["model"] == "c")


def test_values_become_options_and_what_is_idle_is_left_out():
    space = Space(Config, {"square": "5", "epochs": "2"}, own=True)
    assert space.given({"model": "a", "sizes": "16,8"}) == {"epochs": 2, "model": "a", "sizes": (16, 8)}
    assert space.given({"model": "b", "width": 12, "heads": 4, "sizes": "8"})["square"] == 5
    found = space.given({"model": "c", "width": 4, "wiring.0": "y", "wiring.2": "z", "sizes": "8"})
    assert found["wiring"] == "y,0,z" and "square" not in found
    with pytest.raises(UserError, match="multiple of --heads 4"):
        space.config({"model": "b", "width": 6, "heads": 4, "sizes": "8"})


def test_a_grid_has_the_ends_of_a_range_and_counts_its_points():
    rate = next(each for each in Space(tabular.Config, {}).dimensions if each.name == "learning_rate")
    assert rate.points()[0] == 1e-4 and rate.points()[-1] == 1e-1 and len(rate.points()) == 5
    assert Space(Config, {}, ("model", "heads", "sizes")).grid_size() == 2 * (1 + 3 + 1)


@pytest.mark.parametrize("task", tasks())
def test_what_is_drawn_of_an_app_can_be_configured_whichever_model_is_fixed(task):
    config_class, generator = load_app(task).Config, np.random.default_rng(1)
    model = options_of(config_class).get("model")
    for fixed in [{}, *({"model": name} for name in (model.choices if model else ()))]:
        try:
            make_config(config_class, fixed)
        except UserError:  # a model that begins with a bundle
            continue
        space = Space(config_class, fixed)
        for _ in range(50):
            space.config(space.draw(generator))


def test_lists_of_names_and_of_settings():
    assert read_only("learning-rate, dropout") == ("learning_rate", "dropout")
    assert read_fixed("hidden_dims=64,32,dropout=0.1") == {"hidden_dims": "64,32", "dropout": "0.1"}


@pytest.fixture
def taken_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--only", "learning_rat"], "'learning_rate'"),
        (["--only", "epochs"], "no search range"),
        (["--only", "learning_rate", "--fix", "learning_rate=0.1"], "fixed at 0.1"),
        (["--only", "depth", "--fix", "model=mlp"], "--depth does nothing with --model mlp"),
        (["--only", ""], "--only: a value is missing"),
        (["--fix", "dropuot=0.1"], "--dropout"),
        (["--fix", "0.1"], "name=value"),
        (["--fix", "dropout=2"], "at most 0.95"),
        (["--fix", "dropout=0.1", "--dropout", "0.2"], "leave one out"),
        (["--fix", "width=32", "--model", "mlp"], "--width does nothing with --model mlp"),
        (["--fix", "model=ft-transformer,width=20"], "multiple of --num-heads"),
        (["--trials", "0"], "--trials"),
        (["--trials", "many"], "--trials"),
        (["--search", "randon"], "'random'"),
        (["--search", "grid"], "the grid has"),
        (["--control"], "random search is the control"),
        (["--workers", "0"], "--workers"),
        (["--chief", "here"], "HOST:PORT"),
        (["--join", "here"], "HOST:PORT"),
        (["--join", "127.0.0.1:1", "--trials", "3"], "leave out --trials"),
        (["--trial-epochs", "0"], "--epochs"),
        (["--nonsense", "1"], "--nonsense"),
        (["--data", "./nowhere.csv"], "no such file"),
    ],
)
def test_mistakes_cost_one_line(arguments, told, capsys):
    assert triptych.main(["tune", "tabular", *arguments]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and told in lines[0], lines


def test_a_port_in_use_and_a_chief_that_does_not_answer_cost_one_line(taken_port, capsys, monkeypatch):
    assert triptych.main(["tune", "tabular", "--chief", str(taken_port)]) == 2
    assert f"127.0.0.1:{taken_port}" in capsys.readouterr().err
    monkeypatch.setattr("tuning.addresses.ANSWER", 0.1)
    assert triptych.main(["tune", "tabular", "--join", "127.0.0.1:1"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1 and "no chief answers" in lines[0]
