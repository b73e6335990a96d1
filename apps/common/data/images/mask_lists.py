"""Lists of the classes of masks, as tools write them: names, or names and the colours or labels they have."""

import re

from apps.common.data.decoded import western_text_of
from apps.common.data.reading import split_of
from apps.common.errors import UserError

LISTS = (
    "classes.txt", "class_names.txt", "labels.txt", "codes.txt", "label_colors.txt", "class_dict.csv", "classes.csv",
    "labelmap.txt", "_classes.csv",
)  # fmt: skip
CVAT = re.compile(r"([^:#][^:]*):(\d+),(\d+),(\d+):[^:]*:[^:]*")  # label:color_rgb:parts:actions
HEADS = (["r", "g", "b"], ["class"])  # what the cells of a header are called after the first: no class of their own


def read_list(folder, notes):
    """`(names, colours)` of the folder's list of classes; of a list of labels 0, 1, ... without colours.

    A line is a name, a name and `r g b` before or after it, CVAT's `name:r,g,b:parts:actions` (labelmap.txt), or in
    `_classes.csv`, which Roboflow writes into the folder of each split, a label and its name.

    Args:
        folder: Where the list lies, or the folders of splits in which there is one.
        notes: List to which a line is added where the text is no UTF-8.
    Raises:
        UserError: A line is something else, a class or a colour stands there twice, or two splits have other lists.
    """
    found = {path: _read(path, notes) for path in _lists_in(folder)}
    first = next(iter(found), None)
    for path, each in found.items():
        if each != found[first]:
            raise UserError(f"{path}: other classes than in {first}. Give all splits one list")
    return found[first] if found else ((), ())


def _lists_in(folder):
    """The first list of the folder itself, else the first of each folder that is called as a split is."""
    for place in ([folder], [each for each in sorted(folder.iterdir()) if each.is_dir() and split_of(each.name)]):
        found = [next((each / name for name in LISTS if (each / name).is_file()), None) for each in place]
        if any(found):
            return [path for path in found if path]
    return []


def _read(path, notes):
    text, said = western_text_of(path, "a class a line")
    notes += said
    names, colors, labels = [], [], []
    for number, line in enumerate(text.splitlines(), 1):
        name, digits = _cells(line)
        if name is None:
            continue
        one = 1 if path.name == "_classes.csv" else 0
        if not name or len(digits) not in (one, 3) or (digits and max(digits) > 255):
            expected = "a label and a name" if one else "a name, or a name and the three numbers of a colour"
            raise UserError(f"{path}: line {number}: expected {expected}. Received: {line[:80]}")
        names.append(name)
        colors += [tuple(digits)] if len(digits) == 3 else []
        labels += digits if len(digits) == 1 else []
    if colors and len(colors) != len(names):
        raise UserError(f"{path}: {len(colors)} of {len(names)} classes have a colour. Give all of them one, or none")
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated or len(set(colors)) < len(colors):
        raise UserError(f"{path}: {f'class {repeated}' if repeated else 'a colour'} stands there twice. Name each once")
    if labels and sorted(labels) != list(range(len(names))):
        received = ", ".join(map(str, labels[:8]))
        raise UserError(f"{path}: expected the labels 0 to {len(names) - 1}, each once. Received: {received}")
    return tuple(name for _, name in sorted(zip(labels, names, strict=True))) if labels else tuple(names), tuple(colors)


def _cells(line):
    """`(name, numbers)` of a line, the name `None` where it says nothing and empty where it is not one name."""
    line = line.strip()
    if cvat := CVAT.fullmatch(line):
        return cvat[1].strip(), [int(cvat[place]) for place in (2, 3, 4)]
    cells = [cell.strip() for cell in re.split(r"[,;\t]| (?=\d+\b)|(?<=\d) ", line) if cell.strip()]
    words = [cell for cell in cells if not cell.isdecimal()]
    after = [word.lower() for word in words[1:4]]
    if not cells or line.startswith("# label:") or any(after[: len(each)] == each for each in HEADS):
        return None, []
    return words[0] if len(words) == 1 else "", [int(cell) for cell in cells if cell.isdecimal()]
