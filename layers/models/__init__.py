"""The architectures, one file each in the folder of its field: functions that return a `keras.Model`, logits its output.

`models.resnet((28, 28, 1), 10)` imports `vision/resnet.py`, and Keras with it, on first use. What exists is read from the
folders: a file's `__all__` names its architectures, and the first line of a docstring describes one. So a new architecture
is a new file, and listing them imports no backend.
"""

import importlib
from pathlib import Path

from .._discovery import public_names

_MODULE_OF, ARCHITECTURES = {}, {}
for _path in sorted(Path(__file__).parent.glob("*/[!_]*.py")):
    for _name, _about in public_names(_path).items():
        _MODULE_OF[_name], ARCHITECTURES[_name] = f".{_path.parent.name}.{_path.stem}", _about

__all__ = sorted(_MODULE_OF)


def register():
    """Import every file, so that Keras can load a model that is a class of its own."""
    for module in sorted(set(_MODULE_OF.values())):
        importlib.import_module(module, __name__)


def __getattr__(name):
    if name not in _MODULE_OF:
        raise AttributeError(f"`{__name__}` has no architecture {name!r}. It has: {', '.join(__all__)}.")
    return getattr(importlib.import_module(_MODULE_OF[name], __name__), name)


def __dir__():
    return sorted([*globals(), *__all__])
