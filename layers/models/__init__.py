"""The architectures: one file each, every one a function that returns a `keras.Model` with logits for its output.

`models.resnet((28, 28, 1), 10)` imports `resnet.py`, and Keras with it, on first use. What exists is read from the
folder: each public function or class of a file without a leading underscore is an architecture, and the first line of
its docstring describes it. So a new architecture is a new file, and listing them imports no backend.
"""

import ast
import importlib
import sys
import types
from pathlib import Path


def _read_folder():
    """Return `{name: (module, first docstring line)}` for every architecture of this folder, parsed and not run."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                found[node.name] = (path.stem, ast.get_docstring(node).partition("\n")[0])
    return found


_FOUND = _read_folder()

ARCHITECTURES = {name: description for name, (_, description) in _FOUND.items()}
__all__ = sorted(_FOUND)


def register():
    """Import every file, so that Keras can load a model that is a class of its own."""
    for module in sorted({module for module, _ in _FOUND.values()}):
        importlib.import_module(f".{module}", __name__)


def __getattr__(name):
    if name not in _FOUND:
        raise AttributeError(f"`{__name__}` has no architecture {name!r}. It has: {', '.join(__all__)}.")
    module = importlib.import_module(f".{_FOUND[name][0]}", __name__)
    value = getattr(module, name)
    setattr(sys.modules[__name__], name, value)
    return value


def __dir__():
    return sorted([*globals(), *__all__])


class _Architectures(types.ModuleType):
    """This package, in which `resnet` stays the function after the import system binds the file `resnet.py` to it."""

    def __setattr__(self, name, value):
        if isinstance(value, types.ModuleType) and name in _FOUND:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Architectures
