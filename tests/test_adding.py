"""The adding problem: what its sequences are, and that the gradient's reach is found where a network looks."""

import json

import keras
import numpy as np
import pytest

from bench import adding


@pytest.mark.once
def test_the_target_is_the_sum_of_the_two_marked_numbers_one_in_each_half():
    x, y = adding.additions(2000, 10, seed=0).take(np.arange(2000))
    numbers, marks = x[..., 0], x[..., 1]
    assert x.shape == (2000, 10, 2) and y.shape == (2000, 1)
    assert (marks[:, :5].sum(1) == 1).all() and (marks[:, 5:].sum(1) == 1).all()
    assert np.allclose((numbers * marks).sum(1), y[:, 0])
    assert abs(np.mean((y - 1) ** 2) - 1 / 6) < 0.01  # of always answering 1


def test_the_gradient_reaches_the_steps_that_a_network_looks_at():
    sequence = keras.Input((6, 2))
    model = keras.Model(sequence, keras.layers.Dense(1, kernel_initializer="ones")(sequence[:, 3]))
    found = adding.reach(model, adding.additions(8, 6, seed=1))
    assert (found[[0, 1, 2, 4, 5]] == 0).all() and found[3] > 0


@pytest.mark.once
def test_each_cell_is_trained_by_the_same_machinery():
    row = adding.trained("gru", length=4, units=3, steps=4, epochs=2, batch_size=4)
    assert len(row["validation_mse"]) == len(row["norms"]) == 2 and len(row["reach"]["after"]) == 4
    assert any("recurrent_kernel" in name for name in row["norms"][0]) and np.isfinite(row["test_mse"])
    adding.figure([row])


@pytest.mark.once
def test_the_recipe_trains_each_cell_with_what_it_says(monkeypatch, capsys):
    asked = []

    def trained(cell, **options):
        asked.append((cell, options))
        return {"test_mse": float(len(asked)), "seconds": 2.0 * len(asked)}

    monkeypatch.setattr(adding, "trained", trained)
    monkeypatch.setattr(adding, "prepare", lambda backend: None)  # as it stands in the process of the tests
    monkeypatch.setattr("layers.backend.configure", lambda **settings: None)
    monkeypatch.setattr("sys.argv", ["adding", "--json", "--recipe=adding-problem", "--seed=3", "--steps=7"])
    adding.main()
    found = json.loads(capsys.readouterr().out)
    assert found == {"metrics": {"mse": 3.0}, "baselines": {"simple-rnn": {"mse": 1.0}, "lstm": {"mse": 2.0}}, "seconds": 6.0}
    options = {"length": 600, "steps": "7", "seed": "3", "learning_rate": "0.005"}
    assert asked == [(cell, options) for cell in ("simple-rnn", "lstm", "gru")]
