"""Data read before a backend is imported, which takes seconds: what they hold, or what is wrong with them, is said at once."""

from apps.common.output import say

_read = []


def read_ahead(app, config):
    """Read the data of a run that is about to begin, and say their notes."""
    data = app.load_data(config)
    for note in data.notes:
        say(note)
    _read[:] = [(app, config, data)]


def data_of(app, config):
    """The data of a run, and whether their notes have been said: those read ahead for it, once, or else read now."""
    ahead = _read.pop() if _read else None
    if ahead and ahead[0] is app and ahead[1] == config:
        return ahead[2], True
    return app.load_data(config), False
