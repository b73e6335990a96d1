"""A graph as two tables, as libraries write them: a list of edges and, beside it, a list of nodes with their classes.

`friends-edges.csv` and `friends-nodes.csv`, or a folder with `edges.*` and `nodes.*`. Cells are parted by commas,
semicolons, tabs or blanks. An edge is the names of two nodes; what stands after them is not used. The first column of the
nodes names them; the class is the column called `label`, `class`, `group` or so, or the last; the others are features,
as numbers or texts by what a table's columns are told by.
"""

import re
from collections import Counter

import numpy as np

from apps.common.data.reading import list_folder, require_memory
from apps.common.data.tables.roles import read_column
from apps.common.data.tables.rows import split_rows
from apps.common.data.tables.text_file import dialect, first_lines, read_text, sampled_lines
from apps.common.errors import UserError

ENDINGS = (".csv", ".tsv", ".tab", ".txt", ".edgelist", ".edges")
EDGES, NODES = "edge", "node"
CLASS_COLUMNS = ("label", "class", "group", "community", "category", "target", "y")
MOST_CODES = 50  # different texts of a column that become a feature each
HOW = "Expected beside it the nodes and their classes in {}: a name in the first column, a class in the last"


def is_lists(path):
    """Whether this is a table of edges, or a folder of one and of nodes."""
    if path.is_dir():
        return any(_is_list(entry, EDGES) for entry in list_folder(path))
    return path.suffix.lower() in ENDINGS


def read_lists(path):
    """`(arrays as an .npz would have them, notes)` of a table of edges, or of the folder that holds it.

    Raises:
        UserError: What is wrong with the tables, in one line.
    """
    edges, nodes = _two_files(path)
    notes = []
    rows, header, linked = _rows(nodes, notes), None, _edge_rows(edges, notes)
    if len(rows) > 1 and _is_header(rows, {name for row in linked for name in row[:2]}):
        header, rows = rows[0], rows[1:]
    width = len(header or rows[0])
    ragged = next((number for number, row in enumerate(rows) if len(row) != width), None)
    if ragged is not None or width < 2:
        wrong = f"row {ragged + 1} has {len(rows[ragged])} cells, the first {width}" if width > 1 else "a single column"
        raise UserError(f"{nodes}: {wrong}. Expected a row a node: its name, features where there are any, its class")
    names = [row[0] for row in rows]
    known = set(names)
    if len(known) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise UserError(f"{nodes}: node {twice!r} stands there twice. Expected a row a node")
    header = header or ["name", *(f"column {number}" for number in range(2, width + 1))]
    target = next((at for at, name in enumerate(header) if at and name.strip().lower() in CLASS_COLUMNS), width - 1)
    labels = [row[target].strip() for row in rows]
    if linked[0][0] not in known and linked[0][1] not in known:
        linked = linked[1:]  # a header
    if any(len(row) > 2 for row in linked):
        notes.append(f"what {edges.name} says of edges besides their ends, such as weights, is not used")
    strange = list(dict.fromkeys(name for row in linked for name in row[:2] if name not in known))
    if len(strange) > len(names):
        raise UserError(f"{edges}: most of its nodes are not in {nodes.name}, the first {strange[0]!r}. Expected the same names")
    if strange:
        notes.append(f"{len(strange)} nodes have no row in {nodes.name} and no class: {', '.join(strange[:5])}")
    index = {name: position for position, name in enumerate([*names, *strange])}
    notes.append(f"the class is the column {header[target]!r}")
    arrays = {
        "edges": np.array([[index[row[0]], index[row[1]]] for row in linked], "int64").reshape(-1, 2).T,
        "labels": np.array([*labels, *[""] * len(strange)]),
        "names": np.array(list(index)),
    }
    columns = [at for at in range(1, width) if at != target]
    features = _features(rows, columns, header, notes)
    if features is not None:
        arrays["features"] = np.pad(features, ((0, len(strange)), (0, 0)))
    return arrays, notes


def _is_list(entry, word):
    return entry.is_file() and entry.suffix.lower() in ENDINGS and word in entry.stem.lower()


def _two_files(path):
    if path.is_dir():
        found = {word: [entry for entry in list_folder(path) if _is_list(entry, word)] for word in (EDGES, NODES)}
        for word, files in found.items():
            if len(files) != 1:
                names = ", ".join(file.name for file in files) or "none"
                raise UserError(f"{path}: expected one table with {word!r} in its name in this folder. Received: {names}")
        return found[EDGES][0], found[NODES][0]
    beside = re.sub(EDGES, NODES, path.stem, flags=re.IGNORECASE) if EDGES in path.stem.lower() else f"{path.stem}-nodes"
    stems = dict.fromkeys((beside, f"{path.stem}-nodes", "nodes"))
    fits = [entry for stem in stems for entry in list_folder(path.parent) if entry.stem == stem and _is_list(entry, NODES)]
    if not fits:
        raise UserError(f"{path}: edges without classes. {HOW.format(f'{beside}.csv')}")
    return path, fits[0]


def _rows(path, notes):
    """The rows of a table as lists of cells, without blank lines and those that begin with # or %."""
    require_memory(20 * path.stat().st_size, path, "Give a smaller graph")
    first_lines(path)  # refuses what is no text
    text = re.sub(r"(?m)^[#%][^\r\n]*", "", read_text(path))  # blank lines in their place keep the numbers of the others
    sample = sampled_lines(text.lstrip("\r\n"))
    if not sample:
        raise UserError(f"{path}: nothing but comments; expected a row a line")
    delimiter, quote = dialect(sample)
    if not all(delimiter in line for line in sample) or _is_dictionary(sample[0]):
        return [line.split() for line in text.splitlines() if line.strip()]
    rows, _, left_out = split_rows(text, delimiter, quote, path)
    notes += left_out
    return [[cell.strip() for cell in row] for row in rows]


def _is_dictionary(line):
    """Whether a line ends as networkx writes an edge: `0 1 {'weight': 4, 'kind': 'friend'}`."""
    return line.rstrip().endswith("}")


def _is_header(rows, linked):
    """Whether the first row of the nodes names columns: one is called as classes are, or it is no node and of no class."""
    first, classes = rows[0], {row[-1] for row in rows[1:]}
    return any(cell.lower() in CLASS_COLUMNS for cell in first[1:]) or (first[0] not in linked and first[-1] not in classes)


def _edge_rows(path, notes):
    rows = _rows(path, notes)
    narrow = next((row for row in rows if len(row) < 2), None)
    if narrow is not None:
        raise UserError(f"{path}: {' '.join(narrow)!r}: expected the names of two nodes, parted by a comma, a tab or a blank")
    return rows


def _features(rows, columns, header, notes):
    """Numbers and times, each of mean 0 and deviation 1, and columns of few texts as one-hot codes; `None` without any."""
    made, used, left = [], [], []
    for at in columns:
        cells = [row[at] for row in rows]
        numbers = _scaled_numbers(header[at], cells, notes)
        words = sorted(set(cells))
        if numbers is not None:
            made.append(numbers[:, None])
        elif 1 < len(words) <= min(MOST_CODES, len(rows) // 2):
            made.append(np.array([[cell == word for word in words] for cell in cells], "float32"))
        else:
            left.append(header[at])
            continue
        used.append(header[at])
    if used:
        notes.append(f"features: {', '.join(used[:12])}")
    if left:
        notes.append(f"left out, of too many different texts or of one: {', '.join(left[:12])}")
    return np.concatenate(made, axis=1).astype("float32") if made else None


def _scaled_numbers(name, cells, notes):
    """The scaled column, the mean where a cell is empty; `None` where the cells are no numbers or times, or all the same."""
    import pyarrow

    values, role, almost = read_column(name, pyarrow.array(cells, pyarrow.string()))
    if almost:
        notes.append(f"column {name!r}: {almost[0]} of {almost[1]} cells are not as the others, such as {almost[3]!r}")
    if role["role"] not in ("number", "time"):
        return None
    known = values[np.isfinite(values)]
    if not len(known) or known.std() == 0:
        return None
    return np.where(np.isfinite(values), (values - known.mean()) / known.std(), 0.0)
