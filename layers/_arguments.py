"""What several families ask of their arguments."""


def positive(name, value):
    """The value of the argument `name`.

    Raises:
        ValueError: It is less than 1.
    """
    if value < 1:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    return value


def between(name, value, low, high):
    """The value of the argument `name`.

    Raises:
        ValueError: It is less than `low` or more than `high`.
    """
    if not low <= value <= high:
        raise ValueError(f"`{name}` must be between {low} and {high}. Received: {name}={value}")
    return value


def divides(name, value, width):
    """Check that `value` heads can share `width` features.

    Raises:
        ValueError: The width is no multiple of the argument `name`.
    """
    if width % value:
        raise ValueError(f"`{name}` must divide the width of the tokens. Received: {name}={value}, tokens of width {width}")
