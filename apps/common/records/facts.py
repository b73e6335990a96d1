"""What is known about a run besides its options: the data's fingerprint, the machine, its curves."""

import contextlib
import hashlib

import numpy as np


def fingerprint(data):
    """A digest of the training examples, by which a change of the data between two runs is seen."""
    own = getattr(data.train, "fingerprint", None)
    if own:
        return own()
    inputs = data.train.x.values() if isinstance(data.train.x, dict) else [data.train.x]
    return digest(*inputs, data.train.y)


def digest(*arrays):
    """A short digest of the shapes, types and values of some arrays; `None` among them counts for nothing."""
    made = hashlib.blake2b(digest_size=12)
    for array in arrays:
        if array is not None:
            array = np.ascontiguousarray(array)
            made.update(str((array.shape, array.dtype)).encode())
            made.update(memoryview(array).cast("B") if array.size else b"")
    return made.hexdigest()


def describe_machine():
    """Tags of a run: backend, device, versions, git state."""
    import platform
    import subprocess
    from importlib.metadata import version
    from pathlib import Path

    import keras

    from layers import backend

    name = keras.backend.backend()
    packages = ("triptych", "keras", name, "numpy")
    facts = {"backend": name, "device": backend.devices()[0], "version_python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(Exception):  # a source tree without its metadata
            facts[f"version_{package}"] = version(package)
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent, capture_output=True, text=True, timeout=5, check=True,
        )  # fmt: skip
        facts["git"] = described.stdout.strip()
    return facts


def run_figures(history, gradient_norms):
    from apps.common import figures

    made = {"curves": figures.curves(history)} if len(history.get("loss", ())) > 1 else {}
    if gradient_norms:
        made["gradient-flow"] = figures.gradient_flow(gradient_norms)
    return made
