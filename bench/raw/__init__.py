"""The networks that are measured, one module a task, found by looking into this folder.

A module is named as its app is and declares `FAMILIES`, `{name: bench.family.Family}`, and where there is something that
grows, `GROWTH`, `{name: bench.family.Growth}`. A new task is a new file here; nothing else is edited. What needs a backend
is imported inside functions, since the names of all families are read before one is chosen.
"""

import importlib
import pkgutil


def modules():
    """`{task: module}` of every file here."""
    names = sorted(each.name for each in pkgutil.iter_modules(__path__))
    return {name.replace("_", "-"): importlib.import_module(f"{__name__}.{name}") for name in names}


def families(benchmark=None):
    """`{name: Family}` of all tasks, those alone that `benchmark` takes up, if one is given."""
    found = {name: each for module in modules().values() for name, each in module.FAMILIES.items()}
    return {name: each for name, each in found.items() if benchmark is None or benchmark in each.measured_by}


def growths():
    """`{name: Growth}` of all tasks."""
    return {name: each for module in modules().values() for name, each in getattr(module, "GROWTH", {}).items()}


def tasks():
    """`{task: names of its families}` of the tasks that have loops written by hand."""
    found = {}
    for task, module in modules().items():
        names = tuple(name for name, each in module.FAMILIES.items() if "speed" in each.measured_by)
        if names:
            found[task] = names
    return found
