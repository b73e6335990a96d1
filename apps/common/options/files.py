"""Options of a `predict` that writes files."""

import functools
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

LONGEST = 100  # bytes of a text in the name of a file, of which file systems take 255


@dataclass(frozen=True)
class NamedFiles:
    """Base of the `PredictOptions` of an app that writes a file for each of its inputs."""

    with_folder = False  # whether the folder of an input stands in the name of what is made of it

    @functools.cached_property
    def names(self):
        """Names of the files that are written in one call, over all its parts: `names.of(path)`, `names.of_text(text, end)`."""
        return FileNames(self.with_folder)


def plain_name(name):
    """The name with `_` for each character that may mean something in a path."""
    return "".join(c if c.isalnum() or c in "-_ " else "_" for c in name)


class FileNames:
    """A name for what is made of each input of a call, which come a few hundred at a time: no two inputs share one.

    Args:
        folders: Whether the name of a file's folder stands before its own.
    """

    def __init__(self, folders=False):
        self.folders, self.names, self.taken, self.counts = folders, {}, set(), Counter()

    def of(self, path):
        """The file's own name without the ending, and a number where that is another file's already."""
        path = Path(path)
        return self.unlike_others(path, "-".join(filter(None, (path.parent.name if self.folders else "", path.stem))))

    def of_text(self, text, end=""):
        """A text and `end` behind it, and a number between them where that is another text's already."""
        return self.unlike_others((text, end), text, end)

    def unlike_others(self, key, text, end=""):
        """The name of what `key` is; of a long text the first `LONGEST` bytes."""
        if key not in self.names:
            start = plain_name(text).encode()[:LONGEST].decode(errors="ignore")
            name = first = start + end
            while name.lower() in self.taken:  # some file systems do not tell A from a
                self.counts[first] += 1
                name = f"{start}-{self.counts[first] + 1}{end}"
            self.taken.add(name.lower())
            self.names[key] = name
        return self.names[key]
