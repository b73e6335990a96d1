"""The house keeps its own rules: import directions, backends in one place, nothing unsafe."""

import ast
import functools
import re
from pathlib import Path

import networkx
import pytest

pytestmark = pytest.mark.once  # nothing in it depends on the backend

HOUSE = Path(__file__).resolve().parents[1]
ORDER = ["keras", "layers", "apps.common", "apps", "tuning", "bench", "triptych"]
# The rooms of apps/common from the ground up; rooms of one floor may use one another.
FLOORS = [
    ("errors", "files", "figures", "output"),
    ("options", "data"),
    ("app",),
    ("records",),
    ("bundles",),
    ("training",),
    ("reports",),
    ("command",),
]
# Exceptions that are to go; add none.
KNOWN_UPWARD = {
    ("apps.common", "triptych"),  # `python -m apps.NAME` is `triptych train NAME`
    ("bench.faults.inside", "triptych"),  # the whole program is what suffers the faults
}


def sources(*folders):
    return [path for folder in folders for path in sorted((HOUSE / folder).rglob("*.py"))]


def place(module):
    names = [name for name in ORDER if module == name or module.startswith(name + ".")]
    return max(names, key=len) if names else None


def module_name(path, house=HOUSE):
    return ".".join(path.relative_to(house).with_suffix("").parts).removesuffix(".__init__")


def imports(path, house=HOUSE):
    """`(line, module)` of every import of a file, those inside functions and by `import_module` of a written name among them.

    A name taken from a package counts as a module of its own, since it may be one.
    """
    package = module_name(path, house).split(".")
    package = package if path.name == "__init__.py" else package[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            start = ".".join([*above, *filter(None, [node.module])])
            yield from ((node.lineno, f"{start}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                yield node.lineno, node.args[0].value


def module_graph(house=HOUSE):
    """Every module of apps, layers, tuning and bench, and an arrow to each of them that it imports."""
    paths = [path for folder in ("apps", "layers", "tuning", "bench") for path in sorted((house / folder).rglob("*.py"))]
    modules = {module_name(path, house): path for path in paths}
    graph = networkx.DiGraph()
    graph.add_nodes_from(modules)
    for name, path in modules.items():
        for _, imported in imports(path, house):
            while imported and imported not in modules:
                imported = imported.rpartition(".")[0]
            if imported and imported != name:
                graph.add_edge(name, imported)
    return graph


def circles(graph):
    return [sorted(each) for each in networkx.strongly_connected_components(graph) if len(each) > 1]


def floor(module):
    room = module.split(".")[2]
    return next(index for index, rooms in enumerate(FLOORS) if room in rooms)


house_graph = functools.cache(module_graph)


def test_imports_run_one_way():
    for path in [*sources("layers", "apps", "tuning", "bench"), HOUSE / "triptych.py"]:
        own = module_name(path)
        for line, module in imports(path):
            other = place(module)
            upward = other is not None and ORDER.index(other) > ORDER.index(place(own))
            assert not upward or (own, module) in KNOWN_UPWARD, f"{path}:{line} imports {module}"


def test_no_modules_import_one_another_in_a_circle():
    assert circles(house_graph()) == []


@pytest.mark.parametrize("line", [
    "import bench.first", "from bench import first", "from . import first", "from bench.first import anything",
    "def late():\n    from .first import anything", "import importlib\nimportlib.import_module('bench.first')",
])  # fmt: skip
def test_a_circle_is_seen_however_it_is_closed(tmp_path, line):
    for folder in ("apps", "layers", "tuning", "bench"):
        (tmp_path / folder).mkdir()
    (tmp_path / "bench" / "first.py").write_text("from bench import second")
    (tmp_path / "bench" / "second.py").write_text(line)
    assert circles(module_graph(tmp_path)) == [["bench.first", "bench.second"]]


def test_no_room_of_common_looks_upstairs():
    inside = [edge for edge in house_graph().edges if all(each.startswith("apps.common.") for each in edge)]
    assert [edge for edge in inside if floor(edge[1]) > floor(edge[0])] == []


def test_arithmetic_and_the_training_engine_do_not_import_one_another():
    rooms = [{edge.split(".")[2] for edge in pair} for pair in house_graph().edges if all(map(in_backend, pair))]
    assert {"arithmetic"} in rooms and {"arithmetic", "engine"} not in rooms


def in_backend(module):
    return module.startswith("layers.backend.")


def test_layers_import_one_another_relatively():
    for path in sources("layers"):
        tree = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        whole = [node for node in tree if isinstance(node, ast.Import) or (isinstance(node, ast.ImportFrom) and not node.level)]
        named = [name for node in whole for name in (getattr(node, "module", None), *(each.name for each in node.names))]
        assert "layers" not in {name.partition(".")[0] for name in named if name}, path


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
