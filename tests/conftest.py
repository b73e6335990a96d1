"""What holds for every test."""

import gc
import sys

import pytest
from stores import put_store

from apps.common.options.backends import _Absent
from apps.common.records import mlflow as tracking


def pytest_collection_finish():
    """Compiling makes a million objects that stay: searching them for garbage took a fifth of the time on JAX and torch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.fixture(autouse=True)
def imports_as_before():
    """A command hides the other backends from the imports of its process; here the process goes on.

    Finders that others put there stay: a backport of `importlib.metadata` takes the standard library's away for its own.
    """
    kept = {id(each) for each in sys.meta_path}
    yield
    sys.meta_path[:] = [each for each in sys.meta_path if id(each) in kept or not isinstance(each, _Absent)]


@pytest.fixture(autouse=True, scope="session")
def stores_are_copied():
    """Commands that run in this process; `runs.py` sees to those that are forked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "_make_store", lambda path: put_store(path.resolve().parents[1]))
        yield
