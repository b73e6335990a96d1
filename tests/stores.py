"""MLflow stores for tests by copy: making the tables of one takes MLflow a second and more, of two hundred some minutes."""

import contextlib
import functools
import os
import shutil
import sqlite3
import tempfile
from pathlib import Path

from apps.common.records import mlflow as tracking

make_store = tracking._make_store


@functools.cache
def template():
    """A store as the house makes it, made once in this process: `(file, address of its artifacts)`."""
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    with contextlib.chdir(folder):
        make_store(tracking.ROOT / "mlflow.db")
        return tracking.ROOT.resolve() / "mlflow.db", (tracking.ROOT / "artifacts").resolve().as_uri()


def put_store(folder):
    """A new store in `folder/mlruns`, if there is none."""
    path = Path(folder).resolve() / tracking.ROOT / "mlflow.db"
    if path.exists():
        return
    file, artifacts = template()
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_name(f".{path.name}.{os.getpid()}")
    shutil.copyfile(file, made)
    with contextlib.closing(sqlite3.connect(made)) as store, store:
        here = (path.parent / "artifacts").as_uri()
        store.execute("UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)", (artifacts, here))
    os.replace(made, path)
