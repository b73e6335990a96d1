"""What `on_epoch`, `baselines` and `evaluate` all need of the same data, worked out once in a process."""

import functools


def cached_by_data(function):
    """A function of `(data, *arguments)` whose last result is returned again for the same data and equal arguments.

    The same data are those whose training inputs are the very same object.
    """
    last = []

    @functools.wraps(function)
    def result(data, *arguments):
        if not last or last[0] is not data.train.x or last[1] != arguments:
            last[:] = data.train.x, arguments, function(data, *arguments)
        return last[2]

    return result
