"""Words of a command line that mean no file, no number or more than a machine has: one line and exit code 2, at once."""

import os

import pytest
from app_cases import write_pictures

import triptych

pytestmark = pytest.mark.once


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--data", ""), "--data: a value is missing"),
        (("--resume", ""), "--resume: a value is missing"),
        (("--data", "/dev/zero"), "a device or a pipe"),
        (("--data", "fifo"), "a device or a pipe"),
        (("--data", "~nosuchuser/x"), "cannot be a path"),
        (("--data", "x" * 5000), "cannot be a path"),
        (("--resume", "last", "--find-lr"), "--find-lr does nothing with --resume"),
        (("--model", "mlp", "--hidden-dims", "1000000000"), "more weights than"),
    ],
)
def test_it_is_refused_in_one_line(tmp_path, monkeypatch, capsys, words, said):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    write_pictures(tmp_path, count=4)
    data = () if "--data" in words else ("--data", "pictures")
    capsys.readouterr()
    assert triptych.main(["train", "image-classification", *data, *words]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("triptych: ")]
    assert len(lines) == 1 and said in lines[0]
