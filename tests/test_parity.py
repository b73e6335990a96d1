"""The backends agree: the measurements `test_cases.py` wrote on each of them are compared here."""

import os
from pathlib import Path

import pytest
from cases import CASES

from bench import matrix

FOLDER = os.environ.get("TRIPTYCH_PARITY")


@pytest.fixture(scope="module")
def rows():
    if not FOLDER:
        pytest.skip("TRIPTYCH_PARITY names no folder of measurements; `make test` sets it")
    missing = [backend for backend in matrix.BACKENDS if not Path(FOLDER, backend).is_dir()]
    if missing:
        pytest.skip(f"tests/test_cases.py has not yet written measurements on {', '.join(missing)}")
    return {row["case"]: row for row in matrix.compare(FOLDER)}


@pytest.mark.parametrize("name", CASES)
def test_backends_agree(rows, name):
    assert rows[name]["ok"], rows[name]
