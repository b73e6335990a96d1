"""Options of a `predict` that writes files."""

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class NamedFiles:
    """Base of the `PredictOptions` of an app that writes a file for each of its inputs."""

    with_folder = False  # whether the folder of an input stands in the name of what is made of it

    @functools.cached_property
    def names(self):
        """Names of the files that are written in one call, over all its parts: `names.of(path)`."""
        return FileNames(self.with_folder)


def plain_name(name):
    """The name with `_` for each character that may mean something in a path."""
    return "".join(c if c.isalnum() or c in "-_ " else "_" for c in name)


class FileNames:
    """A name for what is made of each file of a call, whose inputs come a few hundred at a time: no two files share one.

    Args:
        folders: Whether the name of a file's folder stands before its own.
    """

    def __init__(self, folders=False):
        self.folders, self.names, self.taken, self.counts = folders, {}, set(), Counter()

    def of(self, path):
        """The file's own name without the ending, and a number where that is another file's already."""
        path = Path(path)
        return self.called(path, "-".join(filter(None, (path.parent.name if self.folders else "", path.stem))))

    def called(self, path, name):
        """The same of any input: a name that says what it is, and a number where another one has it already."""
        if path not in self.names:
            name = first = plain_name(name)
            while name.lower() in self.taken:  # some file systems do not tell A from a
                self.counts[first] += 1
                name = f"{first}-{self.counts[first] + 1}"
            self.taken.add(name.lower())
            self.names[path] = name
        return self.names[path]
