"""What a folder's files offer: the names in each file's `__all__`, read without running it."""

import ast


def public_names(path):
    """`{name: first line of its docstring}` of what a file's `__all__` names, parsed and not run."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assigned = (node for node in tree.body if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__")
    names = [name for node in assigned for name in ast.literal_eval(node.value)]
    defined = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    return {name: (ast.get_docstring(defined[name]) or "").partition("\n")[0] for name in names}
