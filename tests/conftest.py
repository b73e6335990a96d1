"""What holds for every test."""

import sys

import pytest

from apps.common.options.backends import _Absent


@pytest.fixture(autouse=True)
def imports_as_before():
    """A command hides the other backends from the imports of its process; here the process goes on.

    Finders that others put there stay: a backport of `importlib.metadata` takes the standard library's away for its own.
    """
    kept = {id(each) for each in sys.meta_path}
    yield
    sys.meta_path[:] = [each for each in sys.meta_path if id(each) in kept or not isinstance(each, _Absent)]
