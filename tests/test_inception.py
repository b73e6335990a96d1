"""Drawn pictures beside real ones in the features of InceptionV3, whose weights come from a file."""

import keras
import numpy as np
import pytest

from apps.common.errors import UserError
from apps.common.reports import inception

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    keras.utils.set_random_seed(0)
    file = tmp_path_factory.mktemp("inception") / "inception.weights.h5"
    keras.applications.InceptionV3(include_top=False, weights=None, input_shape=(75, 75, 3)).save_weights(file)
    return f"{inception.NAME}={file}"


def test_the_same_pictures_lie_at_no_distance_and_others_further(source, monkeypatch):
    monkeypatch.setattr(inception, "SIDE", 75)  # the least it takes, for the time's sake
    pictures = np.random.default_rng(0).integers(0, 256, (4, 12, 12, 3)).astype("uint8")
    near = inception.inception_distance(source, pictures, pictures)
    further = inception.inception_distance(source, pictures // 4, pictures)
    assert abs(near) < 1e-6 * further
    assert inception.inception(source).output_shape == (None, 2048)
    grey = pictures[..., :1]
    assert abs(inception.inception_distance(source, grey, np.repeat(grey, 3, axis=-1))) < 1e-6 * further


def test_weights_that_are_not_there_are_refused_before_a_run(tmp_path):
    inception.check_source(inception.NAME)
    for given, said in (("keras:VGG16", "expected keras:InceptionV3"), (f"{inception.NAME}={tmp_path}/no.h5", "no such file")):
        with pytest.raises(UserError, match=said):
            inception.check_source(given)
