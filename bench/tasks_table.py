"""The table of tasks in README and the gallery's page, made from the apps themselves: `python -m bench.tasks_table`.

A row is a task: what it does, one command, a small picture where `docs/gallery` has one, and the published numbers it met
by `docs/results.md`.
"""

import re
import sys
from pathlib import Path

from apps.common.app import load_app, tasks
from apps.common.files import write_text

HOUSE = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- tasks: written by python -m bench.tasks_table -->", "<!-- end of tasks -->"
PICTURES = HOUSE / "docs" / "gallery"


def table():
    """The Markdown table."""
    lines = ["| task | what it does | shown by | published numbers met |", "|---|---|---|---|"]
    numbers = met()
    for task in tasks():
        app = load_app(task)
        about = app.__doc__.strip().splitlines()[0].rstrip(".")
        picture = f' <img src="docs/gallery/{task}.png" height="64">' if (PICTURES / f"{task}.png").is_file() else ""
        lines.append(f"| [{task}]({path_of(task)}) | {about}{picture} | `{command_of(app, task)}` | {numbers.get(task, '')} |")
    return "\n".join(lines)


def path_of(task):
    return f"apps/{task.replace('-', '_')}.py"


def command_of(app, task):
    """The first command of the app's docstring, without what continues on another line."""
    found = re.search(rf"triptych train {task}[^\n`\\]*", app.__doc__)
    return found.group(0).strip() if found else f"triptych train {task}"


def met():
    """`{task: the recipes whose number was met on all backends that were tried}`."""
    page = HOUSE / "docs" / "results.md"
    if not page.is_file():
        return {}
    rows = [[cell.strip() for cell in line.strip("|\n ").split("|")] for line in page.read_text().splitlines() if line[:1] == "|"]
    header, found = rows[0] if rows else [], {}
    for row in rows[2:]:
        if len(row) == len(header):
            named = dict(zip(header, row, strict=True))
            found.setdefault(named["recipe"], []).append(named)
    words = {}
    for task in tasks():
        names = [name for name in load_app(task).RECIPES if name in found and all(row["met"] == "yes" for row in found[name])]
        shown = [f"{name} {found[name][0]['metric']} {found[name][0]['ours']}" for name in names[:2]]
        words[task] = "; ".join(shown)
    return words


def written(text):
    """The README with the table in its place."""
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.partition(END)[2]}"


def main():
    readme = HOUSE / "README.md"
    write_text(readme, written(readme.read_text(encoding="utf-8")))
    return 0


if __name__ == "__main__":
    sys.exit(main())
