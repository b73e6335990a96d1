"""What a reader of an app would skip: options, file readers, the training run, tracking, bundles, figures.

Nothing here imports a backend when it is imported: options are checked first.
"""


def start(spec):
    """Make `python -m apps.NAME --epochs 3` the same as `triptych train NAME --epochs 3`."""
    import importlib
    import sys

    task = spec.name.rpartition(".")[2].replace("_", "-")
    sys.exit(importlib.import_module("triptych").main(["train", task, *sys.argv[1:]]))
