"""Options of a `predict` that writes files."""

import functools
from dataclasses import dataclass


@dataclass(frozen=True)
class NamedFiles:
    """Base of the `PredictOptions` of an app that writes a file for each of its inputs."""

    with_folder = False  # whether the folder of an input stands in the name of what is made of it

    @functools.cached_property
    def names(self):
        """Names of the files that are written in one call, over all its parts: `names.of(path)`, `names.of_text(text, end)`."""
        from apps.common.reports.drawn_files import FileNames

        return FileNames(self.with_folder)
