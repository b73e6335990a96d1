"""Weights trained before: what is taken, what is held still, and for how long."""

from pathlib import Path

import keras
import numpy as np
import pytest
from app_cases import write_pictures
from runs import bundle_weights, forked, train

OPTIONS = ("--model", "small-cnn", "--epochs", "2", "--batch-size", "8", "--learning-rate", "0.01")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    write_pictures(folder)
    (folder / "more").mkdir()
    write_pictures(folder / "more", ("black", "grey", "white"))
    return folder


@pytest.fixture(scope="module")
def source(place):
    return train("image-classification", "--data", "pictures", *OPTIONS, cwd=place)["model"]


def kernels(model):
    """The kernels of a bundle by size, the largest first, and those of its head apart."""
    found = {name: array for name, array in bundle_weights(model).items() if array.ndim > 1}
    trunk = {name: array for name, array in found.items() if array.shape[-1] not in (2, 3)}
    return list(trunk.values()), [array for name, array in found.items() if name not in trunk]


def tuned(place, source, *options):
    begun = ("--data", "more/pictures", *OPTIONS, "--pretrained", source)
    return kernels(train("image-classification", *begun, *options, cwd=place)["model"])


def moved(before, after):
    return max(float(np.abs(a - b).max()) for a, b in zip(before, after, strict=True))


def test_a_frozen_trunk_stays_to_the_bit_and_the_head_is_new(place, source):
    trunk, head = tuned(place, source, "--freeze")
    assert moved(kernels(source)[0], trunk) == 0.0 and len(trunk) > 1
    assert head[-1].shape[-1] == 3


def test_a_trunk_trains_at_a_lower_rate_and_not_before_its_epoch(place, source):
    lower, _ = tuned(place, source, "--trunk-rate", "0.01")
    higher, _ = tuned(place, source, "--trunk-rate", "1")
    held, _ = tuned(place, source, "--unfreeze-epoch", "2")
    before = kernels(source)[0]
    assert 0 < moved(before, lower) < 0.2 * moved(before, higher)
    assert moved(before, held) == 0.0, "two epochs of two are held"


@pytest.mark.once
def test_what_fits_nothing_is_refused_in_one_line_and_the_source_is_on_record(place, source):
    other = ("--data", "pictures", "--model", "mlp", "--pretrained", source)
    refused = forked("train", "image-classification", *other, cwd=place, check=2)
    (line,) = refused.stderr.strip().splitlines()[-1:]
    assert "expected the same architecture" in line and "small-cnn" in line
    for words, given in (("--freeze", ("--freeze",)), ("no bundle folder", ("--pretrained", "nowhere"))):
        refused = forked("train", "image-classification", "--data", "pictures", *given, cwd=place, check=2)
        assert words in refused.stderr.strip().splitlines()[-1]
    result = train("image-classification", "--data", "pictures", *OPTIONS, "--pretrained", source, cwd=place)
    record = (Path(place) / "mlruns" / "runs" / result["run_id"] / "run.json").read_text()
    assert '"pretrained_digest"' in record and keras.backend.backend() in record
