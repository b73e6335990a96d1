"""The house keeps its own rules: import directions, backends in one place, nothing unsafe."""

import ast
import re
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
ORDER = ["keras", "layers", "apps.common", "apps", "tuning", "bench", "triptych"]


def sources(*folders):
    return [path for folder in folders for path in sorted((HOUSE / folder).rglob("*.py"))]


def place(module):
    names = [name for name in ORDER if module == name or module.startswith(name + ".")]
    return max(names, key=len) if names else None


def imports(path):
    """`(line, top module)` of every import of a file, those inside functions among them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.lineno, node.module


def test_imports_run_one_way():
    for path in [*sources("layers", "apps", "tuning", "bench"), HOUSE / "triptych.py"]:
        own = ORDER.index(place(".".join(path.relative_to(HOUSE).with_suffix("").parts)))
        for line, module in imports(path):
            other = place(module)
            assert other is None or ORDER.index(other) <= own, f"{path}:{line} imports {module}"


def test_backends_are_imported_in_one_place():
    allowed = ("layers/backend", "bench/", "apps/common/bundles/export.py")
    for path in [*sources("layers", "apps", "tuning"), HOUSE / "triptych.py"]:
        if str(path.relative_to(HOUSE)).startswith(allowed):
            continue
        for line, module in imports(path):
            assert module.split(".")[0] not in ("tensorflow", "jax", "torch"), f"{path}:{line} imports {module}"


def test_no_code_outside_the_backend_asks_which_backend_runs():
    asks = re.compile(r"backend\(\)\s*(==|!=|in\b)")
    for path in [*sources("layers", "apps", "tuning"), HOUSE / "triptych.py"]:
        if not path.is_relative_to(HOUSE / "layers" / "backend"):
            assert not asks.search(path.read_text(encoding="utf-8")), path


def test_mlflow_and_the_tuner_stay_in_their_rooms():
    for path in [*sources("layers", "apps", "bench", "tuning"), HOUSE / "triptych.py"]:
        where = str(path.relative_to(HOUSE))
        for line, module in imports(path):
            top = module.split(".")[0]
            assert top != "mlflow" or where.startswith("apps/common"), f"{path}:{line}"
            assert top != "keras_tuner" or where.startswith("tuning"), f"{path}:{line}"


def test_nothing_unsafe_is_called():
    words = (r"pickle\.load", "allow_pickle=True", "safe_mode=False", "enable_unsafe_deserialization", r"extractall\(",
             r"(?<![.\w])(eval|exec)\(")  # fmt: skip
    unsafe = re.compile("|".join(words))
    for path in [*sources("layers", "apps", "bench", "tuning"), HOUSE / "triptych.py"]:
        assert not unsafe.search(path.read_text(encoding="utf-8")), path


def test_keras_layers_are_named_in_full():
    for path in sources("layers", "apps", "tuning"):
        assert "from keras import layers" not in path.read_text(encoding="utf-8"), path
