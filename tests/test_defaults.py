"""Options that the data settle, and the table of default options beside plain methods."""

import dataclasses

import numpy as np
import pytest
from runs import forked, train

from apps import (
    graph,
    image_classification,
    object_detection,
    question_answering,
    segmentation,
    summarization,
    tabular,
    tagging,
    translation,
)
from apps.common.data.examples import Data, Examples
from apps.common.files import read_json
from apps.common.options.declare import make_config
from apps.common.options.settle import settled_steps
from apps.common.training.fit import settled
from bench import defaults, waiting

STEPS = {"batches": ((10, 2), (None, 8)), "steps": 100, "epochs": (3, 30)}


def pictures(count, side):
    examples = Examples(np.zeros((count, side, side, 1), "uint8"), np.arange(count) % 2)
    return Data(examples, examples, examples, {"image_shape": [side, side, 1], "class_names": ["a", "b"]})


@pytest.mark.parametrize(("count", "found"), [(6, (2, 30)), (40, (8, 20)), (4000, (8, 3))])
def test_few_examples_are_seen_often_in_small_batches(count, found):
    config, why = settled_steps(image_classification.Config(), count, **STEPS)
    assert (config.batch_size, config.epochs) == found and f"{found[1]} epochs" in why and f"({count:,})" in why


def test_what_was_asked_for_stays():
    config, why = settled_steps(image_classification.Config(epochs=7, batch_size=5), 6, **STEPS)
    assert (config.epochs, config.batch_size, why) == (7, 5, "")
    config, why = settled_steps(image_classification.Config(epochs=7), 6, **STEPS)
    assert (config.epochs, config.batch_size) == (7, 2) and "epochs" not in why


@pytest.mark.parametrize("app", [image_classification, tabular, graph, object_detection, segmentation])
def test_what_is_settled_stays_settled(app):
    data = app.load_data(app.Config())
    config, _ = settled(app, app.Config(), data)
    assert settled(app, config, data) == (config, "") and None not in (config.epochs, config.batch_size)


@pytest.mark.parametrize(("count", "found"), [(7, (4, 80)), (60, (8, 72)), (600, (16, 15)), (5000, (16, 15))])
def test_detection_takes_enough_steps_with_few_pictures(count, found):
    config, _ = settled(object_detection, object_detection.Config(), pictures(count, 8))
    assert (config.batch_size, config.epochs) == found


@pytest.mark.parametrize(("count", "found"), [(8, (4, 100)), (100, (8, 62)), (612, (8, 12)), (100_000, (8, 12))])
def test_few_pictures_with_masks_are_seen_often_and_the_drawings_as_before(count, found):
    config, why = settled(segmentation, segmentation.Config(), pictures(count, 8))
    assert (config.batch_size, config.epochs) == found and f"({count:,})" in why
    asked = segmentation.Config(epochs=12, batch_size=8)
    assert settled(segmentation, asked, pictures(count, 8)) == (asked, "")


# The training examples of the default data, and the passes over them and over few.
PASSES = ((translation, 3420, 6, 60), (summarization, 2565, 5, 50), (tagging, 1500, 8, 60), (question_answering, 3000, 6, 60))


@pytest.mark.once
@pytest.mark.parametrize(("app", "count", "fewest", "most"), PASSES)
def test_few_texts_are_seen_often_and_many_as_before(app, count, fewest, most):
    assert len(app.load_data(app.Config()).train) == count
    for size, found in ((40, most), (count, fewest), (30_000, fewest)):
        config, why = settled(app, app.Config(), pictures(size, 1))
        assert config.epochs == found and why == f"{found} epochs, by the number of training examples ({size:,})"
    assert all("epochs" in recipe.options for recipe in app.RECIPES.values()), "a recipe says what it takes"


def test_detection_chooses_no_epoch_by_a_handful_of_pictures():
    many, few = ({}, pictures(10, 8)), ({}, pictures(9, 8))
    stopping, asked = ({"early_stopping": "3"}, few[1]), ({"keep": "best"}, few[1])
    for (options, data), kept in ((many, "best"), (few, "last"), (stopping, "best"), (asked, "best")):
        config, why = settled(object_detection, make_config(object_detection.Config, options), data)
        assert config.keep == kept and ("9 pictures of validation are too few" in why) == (kept == "last")


def test_the_network_is_chosen_by_the_pictures_and_why_is_said():
    small, why = settled(image_classification, image_classification.Config(), pictures(100, 28))
    assert small.model == "cnn" and "3 convolutions" in why and "28 by 28" in why
    assert "5 convolutions" in settled(image_classification, image_classification.Config(), pictures(100, 128))[1]
    asked = make_config(image_classification.Config, {"model": "lenet"})
    assert settled(image_classification, asked, pictures(100, 28))[0].model == "lenet"


def test_a_penalty_on_all_kernels_leaves_out_the_one_on_the_first_layer():
    data = graph.load_data(graph.Config())
    configs = [make_config(graph.Config, given) for given in ({}, {"l2": 1e-3}, {"first_l2": 0.2})]
    found = [settled(graph, config, data)[0].first_l2 for config in configs]
    assert found == [graph.FIRST_L2, 0.0, 0.2]


@pytest.mark.once
def test_a_run_says_what_it_chose_keeps_it_and_resumes_with_what_was_asked(tmp_path, capfd):
    words = ("--model", "auto", "--epochs", "1")
    result = train("image-classification", *words, cwd=tmp_path)
    record = read_json(tmp_path / "mlruns" / "runs" / result["run_id"] / "run.json")
    assert record["options"]["model"] == "cnn" and record["asked"]["model"] == "auto"
    assert "cnn with 2 convolutions" in record["chosen"] and record["options"]["batch_size"] == 32
    again = forked("train", "image-classification", *words, "--resume", "last", cwd=tmp_path)
    assert "finished already" in again.stderr
    other = forked("train", "image-classification", "--model", "lenet", "--resume", "last", cwd=tmp_path, check=2)
    assert "was started with auto" in other.stderr


def test_options_are_chosen_where_the_test_is_not_seen():
    x = np.arange(300)
    data = Data(Examples(x[:200], x[:200] % 2), Examples(x[200:220], x[200:220] % 2), Examples(x[220:], x[220:] % 2), {})
    inner = defaults.prepared(data, 0, "validation", 0)
    assert not set(inner.test.x) & {*inner.train.x, *inner.validation.x, *data.test.x} and len(inner.test) == 40
    cut = defaults.prepared(data, 50, "test", 0)
    assert (len(cut.train), len(cut.validation), len(cut.test)) == (44, 4, 80), "as many of each class"
    assert np.bincount(cut.train.y).tolist() == [22, 22]


def test_a_row_takes_the_place_of_an_older_one_and_what_was_written_by_hand_stays(tmp_path):
    row = {"task": "tabular", "data": "a/iris.csv", "cut": 0, "metric": "accuracy", "ours": 0.9, "baseline": 0.8, "tries": 5,
           "folds": 5, "seconds": 3.0, "backend": "torch", "chosen": "", "examples": [120, 30]}  # fmt: skip
    path = tmp_path / "defaults.md"
    defaults.add_row(path, row)
    path.write_text(path.read_text() + f"\n{defaults.KEPT}\n\nBy hand.\n")
    defaults.add_row(path, {**row, "ours": 0.6})
    defaults.add_row(path, {**row, "data": "a/wine.csv"})
    text = path.read_text()
    assert text.count("iris.csv |") == 1 and "| -0.200 |" in text and "| +0.100 |" in text
    assert "Mean difference -0.0500; the least is -0.200, iris.csv." in text and text.endswith("By hand.\n")


def test_the_table_of_waiting_keeps_what_was_not_measured_again():
    row = {"what": "predict of one picture, seconds", "backend": "jax", "value": 5.0, "aim": 4.0, "met": "**no**"}
    text = waiting.page("# Speed\n\nWords.\n", [row, {**row, "backend": "torch"}])
    text = waiting.page(text + "\nMore.\n", [{**row, "value": 3.25, "met": waiting.met(row["what"], 3.25)}])
    assert "| predict of one picture, seconds | jax | 3.25 | 4 | yes |" in text
    assert "| predict of one picture, seconds | torch | 5 | 4 | **no** |" in text and text.endswith("More.\n")
    assert text.count(waiting.BEGIN) == 1


def test_first_line_and_end_of_a_command_are_told_apart(tmp_path):
    code = "import time; time.sleep(0.2); print('a', flush=True); time.sleep(0.2); print('b', flush=True); time.sleep(0.3)"
    found = waiting.watched([__import__("sys").executable, "-c", code], tmp_path, "jax")
    assert found["first"] >= 0.2 and 0.25 < found["end"] < found["all"] - 0.35


def test_configs_are_frozen_and_settling_makes_new_ones():
    config = image_classification.Config()
    settled(image_classification, config, pictures(50, 28))
    assert config.model == "auto" and dataclasses.replace(config).epochs is None
