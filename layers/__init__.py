"""What models are made of: layer classes, one family per file, with the same numbers on every backend.

`import layers` imports no backend: a class or a submodule is fetched the first time it is named. What there is, the files'
`__all__` say, so a new family is a new file.
"""

import importlib
from pathlib import Path

from ._discovery import public_names

_FOLDER = Path(__file__).parent
_MODULE_OF = {name: path.stem for path in sorted(_FOLDER.glob("[!_]*.py")) for name in public_names(path)}
_SUBMODULES = {"backend", "models", *(path.stem for path in _FOLDER.glob("[!_]*.py"))}

__all__ = [*sorted(_MODULE_OF), "register"]


def register():
    """Import every family and architecture, so that Keras can load a saved model that holds any of their classes."""
    for module in sorted(path.stem for path in _FOLDER.glob("[!_]*.py")):
        importlib.import_module(f".{module}", __name__)
    importlib.import_module(".models", __name__).register()


def __getattr__(name):
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module `layers` has no attribute `{name}`")


def __dir__():
    return sorted({*globals(), *__all__, *_SUBMODULES})
