"""A run that was killed ends as if nothing had happened."""

import json
from pathlib import Path

import numpy as np
import pytest
from runs import bundle_weights, train, train_and_kill, triptych

EVERYTHING_ON = (
    "image-classification", "--epochs", "4", "--dropout", "0.3", "--augment", "flip,shift", "--schedule", "cosine",
    "--early-stopping", "3", "--seed", "5", "--batch-size", "256",
)  # fmt: skip


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    return folder, train(*EVERYTHING_ON, cwd=folder)


def test_a_killed_run_resumes_to_the_very_same_weights(undisturbed, tmp_path):
    folder, result = undisturbed
    killed = train_and_kill(*EVERYTHING_ON, cwd=tmp_path, after_epoch=2)
    resumed = train(*EVERYTHING_ON, "--resume", "last", cwd=tmp_path, run=triptych)
    assert resumed["run_id"] == killed.name
    expected, found = bundle_weights(folder / result["model"]), bundle_weights(tmp_path / resumed["model"])
    assert expected.keys() == found.keys() and len(found) > 5
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)
    assert resumed["metrics"] == result["metrics"]


@pytest.mark.once
def test_resume_refuses_other_options_and_a_finished_run_is_left_alone(undisturbed):
    folder, result = undisturbed
    refused = triptych("train", "image-classification", "--epochs", "9", "--resume", "last", cwd=folder, check=2)
    assert "--epochs 9" in refused.stderr and len(refused.stderr.strip().splitlines()) == 1
    again = train(*EVERYTHING_ON, "--resume", result["run_id"][:10], cwd=folder)
    assert again == result


@pytest.mark.once
def test_a_damaged_checkpoint_is_found_and_the_one_before_it_used(tmp_path):
    options = ("tabular", "--epochs", "300", "--batch-size", "64")
    killed = train_and_kill(*options, cwd=tmp_path, after_epoch=3)
    newest = max((killed / "checkpoints").glob("epoch-*")) / "arrays.npz"
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    done = triptych("train", *options, "--resume", "last", "--json", cwd=tmp_path)
    assert f"{newest.parent.name} is damaged" in done.stderr
    record = json.loads((Path(killed) / "run.json").read_text())
    assert record["status"] == "finished" and record["epoch"] == 300
