"""`--augment-with`: pictures of a generator beside a small training set, matched by name, the same after a resume."""

import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from runs import bundle_weights, forked, train, train_and_kill

from apps import image_classification as app
from apps.common.data.fingerprint import fingerprint
from apps.common.errors import UserError
from apps.common.options.declare import make_config

pytestmark = pytest.mark.once  # the contract carries generators and classifiers to the other backends

NAMES = ("dark", "light")
GENERATOR = (
    "image-generation", "--data", "pictures", "--width", "4", "--latent-dim", "2", "--epochs", "1", "--batch-size", "16",
)  # fmt: skip
CLASSIFIER = ("image-classification", "--data", "pictures", "--model", "perceptron", "--epochs", "2", "--batch-size", "16")


def write_pictures(folder, names=NAMES, size=8):
    for index, name in enumerate(names):
        (folder / name).mkdir(parents=True)
        for number in range(20):
            level = 60 + 100 * index
            pixels = np.random.default_rng([number, level]).integers(level - 40, level + 40, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generator")
    write_pictures(folder / "pictures")
    return folder, train(*GENERATOR, cwd=folder)["model"]


def loaded(data, source, **options):
    config = make_config(app.Config, {"data": str(data), "augment_with": str(source), **options})
    data = app.load_data(config)
    return data, app.more_examples(data, config)


def test_only_the_training_set_grows_and_by_as_many_of_each_class(generator):
    data, more = loaded(generator[0] / "pictures", generator[0] / generator[1], augment_times="2")
    count = len(data.train)
    assert len(more.train) == 3 * count and more.validation is data.validation and more.test is data.test
    np.testing.assert_array_equal(more.train.x[:count], data.train.x)
    np.testing.assert_array_equal(np.bincount(more.train.y), 3 * np.bincount(data.train.y))
    assert f"{2 * count} pictures drawn by" in more.notes[-1] and more.about == data.about
    again = loaded(generator[0] / "pictures", generator[0] / generator[1], augment_times="2")[1]
    np.testing.assert_array_equal(again.train.x, more.train.x)
    assert fingerprint(again) == fingerprint(more) != fingerprint(data)
    other = loaded(generator[0] / "pictures", generator[0] / generator[1], augment_times="2", seed="1")[1]
    assert not np.array_equal(other.train.x[-5:], more.train.x[-5:])


def test_classes_are_matched_by_name_and_sizes_made_equal(generator, tmp_path):
    bundle = generator[0] / generator[1]
    write_pictures(tmp_path / "fewer", ("light", "night"))
    with pytest.raises(UserError, match="it knows no class night; it draws dark, light"):
        loaded(tmp_path / "fewer", bundle)
    write_pictures(tmp_path / "larger", ("dark", "light"), size=12)
    data, more = loaded(tmp_path / "larger", bundle, class_weights="balanced")
    assert more.train.x.shape[1:] == (12, 12, 1) and "made 12 x 12 x 1 from 8 x 8 x 1" in more.notes[-1]
    assert len(more.train.weight) == len(more.train) > len(data.train)
    with pytest.raises(UserError, match="not one picture to"):
        loaded(tmp_path / "larger", bundle, augment_times="0.001")
    with pytest.raises(UserError, match="--augment-times does nothing with --augment-with None"):
        make_config(app.Config, {"augment_times": "2"})


def test_order_of_the_classes_does_not_matter(generator):
    """The generator's own index of a class is asked for, whatever the index among ours."""
    from apps.common.reports import added_pictures

    data = app.load_data(make_config(app.Config, {"data": str(generator[0] / "pictures")}))
    turned = replace(data, about={**data.about, "class_names": ["light", "dark"]}, train=replace(data.train, y=1 - data.train.y))
    asked = []

    def draw(model, latents, told):
        asked.append(told)
        return np.zeros((len(told), 8, 8, 1), "uint8")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(added_pictures, "draw_images", draw)
        more, _ = added_pictures.with_generated(turned, generator[0] / generator[1], 1.0, 0)
    np.testing.assert_array_equal(asked[0], 1 - more.y[len(data.train) :])


@pytest.mark.parametrize("model", ["cvae", "text-flow"])
def test_test_pictures_that_the_generator_learnt_from_are_remarked_upon(generator, tmp_path, model):
    bundle = generator[0] / generator[1]
    if model == "text-flow":
        write_pictures(tmp_path / "pictures")
        options = (*GENERATOR[:5], *GENERATOR[7:], "--model", model, "--judged-steps", "2")
        bundle = tmp_path / train(*options, cwd=tmp_path)["model"]
    pictures = generator[0] / "pictures"
    assert loaded(pictures, bundle)[1].remarks == [], "of the same split it has seen none of the test"
    data, more = loaded(pictures, bundle, seed="1")
    parts = app.load_data(make_config(app.Config, {"data": str(pictures)}))
    learnt, chosen = ({image.tobytes() for image in part.x} for part in (parts.train, parts.validation))
    count = sum(image.tobytes() in learnt | chosen for image in data.test.x)
    held = sum(image.tobytes() in learnt for image in data.validation.x)
    assert count and held
    expected = f"{count} of {len(data.test)} test pictures and {held} of {len(data.validation)} validation pictures of this run"
    assert len(more.remarks) == 1 and expected in more.remarks[0]
    if model == "cvae":
        done = forked("train", *CLASSIFIER, "--augment-with", bundle, "--seed", "1", cwd=generator[0])
        assert f"remark: {more.remarks[0]}" in done.stdout


def test_a_generator_that_is_told_no_class_is_refused(generator, tmp_path):
    write_pictures(tmp_path / "pictures")
    plain = train(*GENERATOR, "--model", "vae", cwd=tmp_path)["model"]
    done = forked("train", *CLASSIFIER, "--augment-with", plain, cwd=tmp_path, check=2)
    assert "it cannot be asked for a class (vae)" in done.stderr
    done = forked("train", *CLASSIFIER, "--augment-with", "nowhere", cwd=tmp_path, check=2)
    assert "nowhere" in done.stderr


def test_a_run_goes_on_with_the_very_same_pictures_and_is_evaluated_without_them(generator, tmp_path):
    write_pictures(tmp_path / "pictures")
    options = (*CLASSIFIER, "--augment-with", str(generator[0] / generator[1]))
    whole = train(*options, cwd=tmp_path)
    killed = train_and_kill(*options, cwd=tmp_path, after_epoch=1)
    resumed = train(*options, "--resume", killed.name, cwd=tmp_path)
    expected, found = (bundle_weights(tmp_path / each["model"]) for each in (whole, resumed))
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    (generator[0] / generator[1]).rename(generator[0] / "gone")
    try:
        done = forked("evaluate", tmp_path / whole["model"], "--json", cwd=tmp_path)
    finally:
        (generator[0] / "gone").rename(generator[0] / generator[1])
    assert json.loads(done.stdout)["metrics"]["accuracy"] == whole["metrics"]["accuracy"]
