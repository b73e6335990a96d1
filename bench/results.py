"""`docs/results.md`: ours beside the published numbers, one row for each recipe and backend.

What stands before and after the table is kept, and so are the rows of what was not run this time.
"""

import re

from apps.common.files import write_text
from apps.common.options.backends import BACKENDS
from apps.common.output import shown

COLUMNS = (
    "recipe", "backend", "metric", "ours", "spread", "theirs", "control", "tolerance", "runs", "met", "minutes", "date", "source",
)  # fmt: skip
HEAD = """# Published numbers

The table is written by `triptych reproduce [RECIPE]`, which trains a recipe on each backend and replaces its rows. Options
were chosen on validation data; the test split was looked at by the final model alone.

* `ours` is the mean and `spread` the standard deviation over `runs`; a single seed has no spread.
* `theirs` is the published value. Where there is none, a plain baseline, the `control`, is trained beside ours on the same
  seeds or folds.
* `met`: ours reaches theirs but for the `tolerance`, or is better than the control. What we miss is listed, too.
* `minutes` are those of all runs of ours together, on the machine they ran on; an empty cell was not recorded.
* `date` is the day on which the row was written.
"""


def read(text):
    """`(text before the table, rows as {column: cell}, text after it)` of a page; without a table all is before it."""
    lines = text.splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith("| recipe | backend |")]
    if not starts:
        return text.rstrip() + "\n", [], ""
    end = start = starts[0]
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    names, _, *cells = [_cells(line) for line in lines[start:end]]
    rows = [dict(zip(names, each, strict=True)) for each in cells]
    return "\n".join(lines[:start]).rstrip() + "\n", rows, "\n".join(lines[end:]).strip()


def _cells(line):
    return [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def merged(old, new):
    """The old rows with the new ones in the place of those of the same recipe and backend, a recipe's rows together."""
    rows = {(row["recipe"], row["backend"]): row for row in [*old, *new]}
    recipes = list(dict.fromkeys(recipe for recipe, _ in rows))
    return sorted(rows.values(), key=lambda row: (recipes.index(row["recipe"]), BACKENDS.index(row["backend"])))


def page(text, rows):
    """The page `text` with these rows of `reproduce` among those it has.

    Args:
        text: What the page is now; empty for a new one.
        rows: As `reproduce` returns them.
    """
    before, old, after = read(text or HEAD)
    new = list(map(_cells_of, rows))
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for row in merged(old, new):
        cells = [row.get(column, "").replace("|", "\\|") for column in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([before, *lines, *(["", after] if after else [])]) + "\n"


def _cells_of(row):
    return {column: _cell(row.get(column)) for column in COLUMNS}


def _cell(value):
    if isinstance(value, bool):
        return "yes" if value else "**no**"
    return shown(value)


def update(path, rows):
    """Write rows into the page at `path`, which is made where there is none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    write_text(path, page(text, rows))
