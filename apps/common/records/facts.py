"""What is known about a run besides its options: the machine, its curves."""

import contextlib


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
