"""Evaluation cannot lie, and a run says what a careful colleague would say of it."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from app_cases import write_pictures
from PIL import Image
from runs import forked, train

from apps import image_generation, image_text
from apps.common.app import Metric
from apps.common.data.examples import Data, Examples
from apps.common.data.fingerprint import example_digests
from apps.common.options.declare import make_config
from apps.common.training.remarks import beside_baselines, in_two_classes, remarks
from apps.common.training.run import on_unseen

OPTIONS = ("--data", "pictures", "--model", "mlp", "--hidden-dims", "8", "--epochs", "2", "--batch-size", "8")
ACCURACY = Metric("accuracy")


@pytest.fixture
def bundle(tmp_path):
    write_pictures(tmp_path)
    return train("image-classification", *OPTIONS, cwd=tmp_path)["model"]


@pytest.mark.once
def test_another_test_split_is_refused_and_the_same_is_taken(bundle, tmp_path):
    forked("evaluate", bundle, cwd=tmp_path)
    (tmp_path / "elsewhere").mkdir()
    refused = forked("evaluate", bundle, cwd=tmp_path / "elsewhere", check=2)
    assert "in the folder where it was trained" in refused.stderr.strip().splitlines()[-1]
    (tmp_path / "pictures" / "dark").rename(tmp_path / "pictures" / "other")
    refused = forked("evaluate", bundle, cwd=tmp_path, check=2)
    assert "no longer what this model was trained on" in refused.stderr.strip().splitlines()[-1]


@pytest.mark.once
def test_examples_that_were_trained_on_are_counted_and_left_out_beside_all(bundle, tmp_path):
    shutil.copytree(tmp_path / "pictures", tmp_path / "new" / "pictures")
    generator = np.random.default_rng(9)
    from PIL import Image

    for number in range(6):
        Image.fromarray(generator.integers(20, 100, (8, 8), dtype=np.uint8)).save(tmp_path / f"new/pictures/dark/new{number}.png")
    done = forked("evaluate", bundle, "--data", "new/pictures", "--json", cwd=tmp_path)
    assert "34 of 46 examples were trained or validated on" in done.stderr
    assert {"accuracy", "accuracy_unseen"} <= json.loads(done.stdout)["metrics"].keys()
    read = forked("evaluate", bundle, "--data", "new/pictures", cwd=tmp_path).stdout
    assert "metrics on new/pictures" in read and "majority" not in read and "remark" not in read  # these are of the test


@pytest.mark.once
def test_where_all_were_trained_on_the_numbers_are_said_to_flatter(capsys):
    examples = Examples(np.arange(12.0).reshape(4, 3), np.arange(4))
    data = Data(None, None, examples, {})
    assert on_unseen(None, None, data, None, {"train": example_digests(examples)}) == {}
    said = "".join(capsys.readouterr())
    assert "4 of 4 examples were trained or validated on; the numbers flatter" in said and "_unseen" not in said


def test_a_result_no_better_than_a_plain_method_is_said_plainly():
    weak = beside_baselines(ACCURACY, {"accuracy": 0.54}, {"forest": {"accuracy": 0.76}, "majority": {"accuracy": 0.3}}, 100)
    assert "0.54 is no better than forest (0.76)" in weak
    assert "no more than chance" in beside_baselines(ACCURACY, {"accuracy": 0.77}, {"forest": {"accuracy": 0.76}}, 100)
    assert beside_baselines(ACCURACY, {"accuracy": 0.9}, {"forest": {"accuracy": 0.76}}, 100) == ""
    error = Metric("rmse", higher_is_better=False)
    assert "no better than mean" in beside_baselines(error, {"rmse": 2.0}, {"mean": {"rmse": 1.5}}, 100)


def test_duplicates_between_train_and_test_are_counted():
    x = np.arange(12, dtype="float32").reshape(6, 2)
    data = Data(Examples(x[:4], np.arange(4)), None, Examples(x[2:], np.arange(4)), {})
    said = remarks(ACCURACY, {"accuracy": 0.9}, {}, data, (1, 20))
    assert "2 of 4 test examples stand among the training examples" in said[0] and "best epoch was 1 of 20" in said[1]
    assert remarks(ACCURACY, {}, {}, SimpleNamespace(train=data.train, test=Examples(x[4:] + 9), about={}), (19, 20)) == []


def test_examples_that_stand_in_two_classes_are_counted_and_the_classes_named():
    x = np.array([[1.0], [2.0], [1.0], [3.0], [2.0]])
    train = Examples(x, np.array([0, 1, 2, 1, 1]))  # only the first and the third contradict one another
    data = Data(train, None, Examples(x + 9, np.zeros(5, int)), {"class_names": ["cat", "dog", "cow"]})
    (said,) = remarks(ACCURACY, {}, {}, data, (19, 20))
    assert "2 of 5 training examples stand in more than one class, such as cat and cow" in said
    apart = Data(Examples(x, np.array([0, 1, 0, 1, 1])), None, data.test, data.about)
    assert in_two_classes(np.array([1, 2, 1, 3, 2]), apart) == ""
    assert remarks(ACCURACY, {}, {}, Data(Examples(x, x[:, 0]), None, data.test, {}), (19, 20)) == []


@pytest.mark.parametrize(("app", "model"), [(image_text, "clip"), (image_generation, "text-flow")])
def test_two_folders_of_the_same_pictures_are_remarked_upon_where_captions_are_classes(tmp_path, app, model):
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for number in range(20):
            Image.new("RGB", (8, 8), (12 * number, 40, 0)).save(tmp_path / name / f"{number}.png")
    data = app.load_data(make_config(app.Config, {"data": str(tmp_path), "model": model, "image_size": "8"}))
    known = example_digests(data.train, False)
    line = in_two_classes(known, data)
    assert "training examples stand in more than one class, such as" in line and "left and" in line and "right; none" in line
    rows = [f"{name}/{number}.png,{name} {number}" for name in ("left", "right") for number in range(20)]
    (tmp_path / "pairs.csv").write_text("\n".join(["image,caption", *rows]))
    captioned = app.load_data(make_config(app.Config, {"data": str(tmp_path / "pairs.csv"), "model": model, "image_size": "8"}))
    assert in_two_classes(example_digests(captioned.train, False), captioned) == "", "a picture may have several captions"
