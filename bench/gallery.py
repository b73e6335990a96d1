"""One picture a task, from its default run: `python -m bench.gallery [TASK ...]` writes `docs/gallery/` and `docs/gallery.md`.

`python -m bench.gallery --bundle RECIPE=PATH ...` runs nothing: it keeps the sample sheet of a bundle that a recipe of
image-generation ended in.
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from apps.common.app import load_app, tasks
from apps.common.errors import UserError, nearest
from apps.common.files import write_bytes, write_text

HOUSE = Path(__file__).resolve().parents[1]
FOLDER = HOUSE / "docs" / "gallery"
PLAIN = ("curves", "calibration", "confusion", "gradient-flow", "residuals")  # which every task of a kind has
DRAWING = "image-generation"
WIDTH, COLORS = 560, 96  # pixels and colours of a picture: some tens of kilobytes


def figure_of(bundle):
    """The figure of a bundle that shows most of its task: the largest file, as pictures are beside charts, that others lack."""
    figures = sorted(Path(bundle).glob("*.png"), key=lambda each: each.stat().st_size, reverse=True)
    return next((each for each in figures if each.stem not in PLAIN), next(iter(figures), None))


def shrunk(path):
    """The PNG of a picture made small."""
    from PIL import Image

    picture = Image.open(path).convert("RGB")
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.quantize(COLORS).save(buffer, "png", optimize=True)
    return buffer.getvalue()


def draw(task):
    """Run a task with its defaults and keep its picture; the numbers of the run."""
    command = [sys.executable, str(HOUSE / "triptych.py"), "train", task, "--json"]
    with tempfile.TemporaryDirectory() as place:
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=False)
        if done.returncode:
            raise UserError(f"{task}: its default run failed: {done.stderr.strip().splitlines()[-1][:300]}")
        result = json.loads(done.stdout)
        figure = figure_of(result["model"])
        FOLDER.mkdir(exist_ok=True)
        if figure is not None:
            write_bytes(FOLDER / f"{task}.png", shrunk(figure))
    return result


def keep_sheet(given):
    """Keep the sample sheet of the bundle that `RECIPE=PATH` names.

    Raises:
        UserError: There is no such recipe, or no sheet in the folder.
    """
    name, _, path = given.partition("=")
    recipes = load_app(DRAWING).RECIPES
    if name not in recipes:
        raise UserError(f"--bundle {given}: expected RECIPE=PATH with a recipe of {DRAWING}. {nearest(name, recipes)}")
    sheet = Path(path) / "samples.png"
    if not sheet.is_file():
        raise UserError(f"--bundle {given}: no samples.png in {path or 'it'}; give the folder of a bundle")
    FOLDER.mkdir(exist_ok=True)
    write_bytes(FOLDER / f"{name}.png", shrunk(sheet))


def generated():
    """The part of the page with the sheets of recipes that draw."""
    lines = []
    for name, recipe in load_app(DRAWING).RECIPES.items():
        if (FOLDER / f"{name}.png").is_file():
            about, picture = f"{recipe.about[:1].upper()}{recipe.about[1:]}.", f"![{name}](gallery/{name}.png)"
            lines += [f"### {name}", "", about, "", picture, "", f"`triptych train {DRAWING} --recipe {name}`", ""]
    return ["## Generated pictures", "", *lines] if lines else []


def page():
    """The gallery's Markdown, of the pictures that are there."""
    lines = ["# Gallery", "", "One picture a task, each made by the command under it (`python -m bench.gallery`).", ""]
    for task in tasks():
        if (FOLDER / f"{task}.png").is_file():
            about = load_app(task).__doc__.strip().splitlines()[0]
            lines += [f"## {task}", "", about, "", f"![{task}](gallery/{task}.png)", "", f"`triptych train {task}`", ""]
    return "\n".join(lines + generated())


def main(chosen):
    if chosen[:1] == ["--bundle"]:
        for given in chosen[1:]:
            keep_sheet(given)
        write_text(HOUSE / "docs" / "gallery.md", page())
        return 0
    for task in chosen or tasks():
        if task not in tasks():
            raise UserError(f"{task}: no such task. Known: {', '.join(tasks())}")
        result = draw(task)
        print(f"{task}: {result['seconds']:.0f} s", file=sys.stderr, flush=True)
        write_text(HOUSE / "docs" / "gallery.md", page())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
