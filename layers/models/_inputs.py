"""The doors of the architectures: each kind of input, checked once."""

from numbers import Integral

import keras


def image_input(image_shape, *, minimum=1):
    """Return the input of an image model.

    Args:
        image_shape: `(height, width, channels)`.
        minimum: Fewest pixels a side that the architecture can take.
    Raises:
        ValueError: for a shape that is not three positive whole numbers, or an image that is too small.
    """
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(size, Integral) and size > 0 for size in shape):
        raise ValueError(
            "`image_shape` must be three positive whole numbers (height, width, channels). "
            f"Received: image_shape={image_shape}. Give a grey image one channel, as in (28, 28, 1)."
        )
    if min(shape[:2]) < minimum:
        raise ValueError(
            f"`image_shape` must have at least {minimum} pixels a side for this architecture. "
            f"Received: image_shape={image_shape}. Enlarge the images or take an architecture for smaller ones."
        )
    return keras.Input(shape, name="image")


def tabular_inputs(num_numeric, cardinalities):
    """Return the inputs of a model for tables: a dict with the parts `"numeric"` and `"categorical"`.

    Args:
        num_numeric: Number of numeric columns; zero leaves `"numeric"` out.
        cardinalities: Number of values of each categorical column; an empty tuple leaves `"categorical"` out. Column
            `i` holds whole numbers in `[0, cardinalities[i])`.
    Raises:
        ValueError: if there is no column at all, or a categorical column without values.
    """
    if num_numeric < 0 or any(cardinality < 1 for cardinality in cardinalities):
        raise ValueError(
            "`num_numeric` must not be negative and every entry of `cardinalities` must be positive. "
            f"Received: num_numeric={num_numeric}, cardinalities={tuple(cardinalities)}. Leave empty columns out."
        )
    inputs = {}
    if num_numeric:
        inputs["numeric"] = keras.Input((num_numeric,), name="numeric")
    if cardinalities:
        inputs["categorical"] = keras.Input((len(cardinalities),), dtype="int32", name="categorical")
    if not inputs:
        raise ValueError(
            "A model for tables needs at least one column. "
            f"Received: num_numeric={num_numeric}, cardinalities={tuple(cardinalities)}. "
            "Give a numeric column, a categorical column or both."
        )
    return inputs


def token_input(block_size):
    """Return the input of a language model: the ids of `block_size` tokens.

    Raises:
        ValueError: if there is no token.
    """
    if block_size < 1:
        raise ValueError(f"`block_size` must be positive. Received: block_size={block_size}")
    return keras.Input((block_size,), dtype="int32", name="tokens")


def sequence_input(name="tokens"):
    """Return the input of a model for texts of any lengths: ids, 0 of which is padding."""
    return keras.Input((None,), dtype="int32", name=name)


def graph_inputs(num_features, entries=None):
    """Return the inputs of a model for the nodes of a graph, of any number: a dict, `"edges"` its last.

    Args:
        num_features: Features of a node.
        entries: How many of them are not zero, at most, where they are given sparse; `None` for one dense input.
    Returns: `"features"` and `"edges"`, or `"values"`, `"columns"` and `"edges"`.
    Raises:
        ValueError: if there is no feature.
    """
    if num_features < 1:
        raise ValueError(
            f"`num_features` must be positive. Received: num_features={num_features}. "
            "Give nodes without features a constant one."
        )
    edges = keras.Input((2, None), dtype="int32", name="edges")
    if entries is None:
        return {"features": keras.Input((None, num_features), name="features"), "edges": edges}
    columns = keras.Input((None, entries), dtype="int32", name="columns")
    return {"values": keras.Input((None, entries), name="values"), "columns": columns, "edges": edges}


def choose(name, value, choices):
    """Return `choices[value]`, or say which values there are."""
    if value not in choices:
        raise ValueError(f"`{name}` must be one of {', '.join(map(repr, choices))}. Received: {name}={value!r}.")
    return choices[value]


def differing(name, given, known):
    """`known` with what is `given` otherwise; `None` gives nothing.

    Raises:
        ValueError: Something is given that is not known.
    """
    for each in given or {}:
        if each not in known:
            raise ValueError(f"`{name}` may have {', '.join(map(repr, known))}. Received: {name}={given!r}.")
    return {**known, **(given or {})}
