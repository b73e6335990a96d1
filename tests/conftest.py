"""What holds for every test."""

import sys

import pytest


@pytest.fixture(autouse=True)
def imports_as_before():
    """A command hides the other backends from the imports of its process; here the process goes on."""
    kept = list(sys.meta_path)
    yield
    sys.meta_path[:] = kept
