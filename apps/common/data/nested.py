"""Arrays in dicts, tuples and lists, as the inputs and targets of a model are; NumPy alone, no backend."""


def map_leaves(function, tree, *others):
    """The same nesting with `function(leaf, leaf of the second, ...)` in the place of every leaf.

    Args:
        function: Takes as many leaves as there are trees.
        tree: Dicts, tuples and lists in each other; whatever is none of these is a leaf.
        others: Trees that are nested alike.
    """
    if isinstance(tree, dict):
        return {key: map_leaves(function, each, *(other[key] for other in others)) for key, each in tree.items()}
    if isinstance(tree, (tuple, list)):
        made = [map_leaves(function, *each) for each in zip(tree, *others, strict=True)]
        return tuple(made) if isinstance(tree, tuple) else made
    return function(tree, *others)


def leaves(tree):
    """The leaves in a fixed order: those of a dict by their sorted keys."""
    return [leaf for _, leaf in paths(tree)]


def paths(tree, path=()):
    """`(path, leaf)` of every leaf in the order of `leaves`; a path has the keys and positions that lead to it."""
    if isinstance(tree, dict):
        return [found for key in sorted(tree, key=str) for found in paths(tree[key], (*path, key))]
    if isinstance(tree, (tuple, list)):
        return [found for position, each in enumerate(tree) for found in paths(each, (*path, position))]
    return [(path, tree)]


def rows(tree, indices):
    """The same nesting with these rows of each array; `None` of `None`."""
    return None if tree is None else map_leaves(lambda array: array[indices], tree)


def count_rows(tree):
    """The number of rows, which all arrays of the nesting have.

    Raises:
        ValueError: They differ, or there is no array.
    """
    sizes = {path: len(leaf) for path, leaf in paths(tree)}
    if len(set(sizes.values())) != 1:
        named = ", ".join(f"{'/'.join(map(str, path)) or 'array'}: {size}" for path, size in sizes.items())
        raise ValueError(f"Every array must have as many rows. Received: {named or 'no array'}")
    return next(iter(sizes.values()))
