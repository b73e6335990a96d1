"""What several families ask of their arguments."""


def positive(name, value):
    if value < 1:
        raise ValueError(f"`{name}` must be positive. Received: {name}={value}")
    return value


def divides(name, value, width):
    """Check that `value` heads can share `width` features."""
    if width % value:
        raise ValueError(f"`{name}` must divide the width of the tokens. Received: {name}={value}, tokens of width {width}")
