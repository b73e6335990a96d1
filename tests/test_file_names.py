"""Names of the files that pictures are written to: short enough for any file system, and no two inputs share one."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import layers
from apps import image_generation as app
from apps.common.options.files import LONGEST, FileNames
from layers import models

pytestmark = pytest.mark.once  # nothing in it depends on the backend


def test_texts_that_differ_in_punctuation_alone_have_names_of_their_own():
    names = FileNames()
    texts = ["a, b", "a. b", "A. b", "a_ b", "a_ b-2"]
    found = [names.of_text(text, "-0") for text in texts]
    assert len({name.lower() for name in found}) == 5 and found[:2] == ["a_ b-0", "a_ b-2-0"]
    assert [names.of_text(text, "-0") for text in texts] == found, "the same input has the same name"
    assert len({names.of_text(*each) for each in (("x", "-0-to-4"), ("x-0-to", "-4"))}) == 2


@pytest.mark.parametrize("letter", ["a", "é", "語"])
def test_names_are_cut_between_letters(letter):
    names, size = FileNames(folders=True), len(letter.encode())
    cut = names.of(Path("folder") / f"{letter * 200}.png")
    assert cut.startswith("folder-" + letter) and LONGEST - size < len(cut.encode()) <= LONGEST
    assert names.of_text(letter * 200, "-restyled") == letter * (LONGEST // size) + "-restyled"


def test_every_picture_animation_and_strip_of_long_or_alike_prompts_is_written(tmp_path):
    model = models.Diffusion((8, 8, 1), text=(5, 3), width=4, prediction="flow")
    layers.initialize(model, 0)
    about = {"captions": True, "words": ["a", "circle", "red"], "length": 3, "class_names": ["a red circle"]}
    prompts = ["a red circle" + "!" * 331, "a red circle" + "?" * 331, "a, circle", "a. circle"]
    options = app.PredictOptions(seeds=(0, 1), folder=str(tmp_path), steps=1, gif=True, between=1)
    rows = list(itertools.chain(*app.predict(model, prompts, about, options)))
    files = [row[kind] for row in rows for kind in ("picture", "animation") if kind in row]
    assert len(set(files)) == len(list(tmp_path.iterdir())) == 4 * 2 * 2 + 4
    [alone] = app.predict(model, prompts[-1:], about, app.PredictOptions(seeds=(1,), folder=str(tmp_path / "alone"), steps=1))
    pictures = [np.asarray(Image.open(row["picture"])) for row in (rows[-2], *alone)]
    assert Image.open(rows[-2]["picture"]).text["Prompt"] == "a. circle"
    np.testing.assert_array_equal(*pictures)
