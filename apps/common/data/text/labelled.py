"""Texts with a label each: tables, JSON, `label text` lines, a folder a class, and the splits their names tell."""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from apps.common.data.decoded import western_text_of
from apps.common.data.reading import json_objects, list_folder, split_of, visible_files
from apps.common.data.tables.rows import read_text_rows
from apps.common.errors import UserError, count_skipped, nearest

TABLES, ROWS = (".csv", ".tsv", ".tab", ".csv.gz", ".tsv.gz"), (".jsonl", ".ndjson", ".json")
TEXT_COLUMNS = (
    "text", "sentence", "review", "content", "message", "utterance", "question", "comment", "tweet", "document", "body",
    "query", "title",
)  # fmt: skip
LABEL_COLUMNS = ("label", "class", "category", "sentiment", "intent", "topic", "target", "polarity", "rating", "stars", "y")
FASTTEXT = "__label__"  # stands before each label in fastText's files
FORMATS = (
    "a CSV, TSV, JSONL or JSON file with a column of texts and one of labels, a file of `label text` lines, or a folder with a "
    "folder of .txt files for each class"
)


@dataclass(frozen=True)
class LabelledTexts:
    """`splits` is `{split: (texts, labels)}`, both lists of strings; `notes` what was done on reading.

    `column` is the name of the column of texts, where the texts are those of a table; `whole_files` whether each is a file.
    """

    splits: dict
    notes: list
    column: str | None = None
    whole_files: bool = False


@dataclass(frozen=True)
class Table:
    """Rows with names.

    `cells` is `{column: [text]}`, `places` the rows in words, `header` "yes" or "no", `nested` the place of the first row
    that has a list or an object in a column, `{column: place}`.
    """

    cells: dict
    places: list
    notes: list
    header: str = "yes"
    nested: dict = field(default_factory=dict)


def read_labelled_texts(path, text_column=None, label_column=None):
    """Texts and labels by split; "train" is always there.

    For NAME-train.csv or NAME.train the files beside it of the same name with `dev`, `test` ... are the other splits, as
    are folders called so. Tables among them have the columns of the first; one without labels is left out.

    Args:
        path: File or folder.
        text_column, label_column: Of a table or of JSON objects; by default found by their names.
    Raises:
        UserError: Nothing that can be used, naming the file, what was expected and what to do.
    """
    notes, splits, columns, header = [], {}, None, "auto"
    files = split_places(Path(path))
    for split, place in files.items():
        if place.is_dir():
            pairs, places, said = _read_folder(place)
        elif place.name.lower().endswith((*TABLES, *ROWS)):
            table = _read_table(place, (text_column, label_column), header)
            why = columns and _unlabelled(table, columns)
            if why:
                notes.append(f"{place.name}, the {split} split by its name, {why}: it is left out")
                continue
            said = list(table.notes)
            if columns is None:  # of the training split, which comes first
                columns, header = _columns(table.cells, place, text_column, label_column), table.header
                said += _unused(table.cells, columns)
            _refuse_nested(table, columns, place)
            pairs, places = list(zip(*(table.cells[name] for name in columns), strict=True)), table.places
        else:
            pairs, places, said = _read_label_lines(place)
        texts, labels, said = _without_gaps(pairs, places, said, place)
        splits[split] = (texts, labels)
        notes += said
        if split != "train":
            notes.append(f"{place.name} is the {split} split")
    notes += _alike({label for _, labels in splits.values() for label in labels})
    return LabelledTexts(splits, notes, columns and columns[0], files["train"].is_dir())


def _alike(labels):
    """What is said of labels that differ in capitals alone: seldom are they two classes."""
    found = {}
    for label in sorted(labels):
        found.setdefault(label.casefold(), []).append(label)
    pairs = [" and ".join(map(repr, each)) for each in found.values() if len(each) > 1]
    return [f"classes that differ in capitals alone are classes of their own: {', '.join(pairs[:5])}"] if pairs else []


def split_places(path):
    """`{split: file or folder}` of what a path names."""
    if path.is_dir():
        entries = [entry for entry in list_folder(path) if not entry.name.lower().startswith(("readme", "license", "source"))]
        folders = {split_of(entry.name): entry for entry in entries if entry.is_dir() and split_of(entry.name)}
        if "train" in folders:
            return folders
        if any(entry.is_dir() for entry in entries):
            return {"train": path}
        first = [entry for entry in entries if _split_in(entry.name)[0] == "train"]
        files = first or entries
        if len(files) != 1:
            shown = ", ".join(entry.name for entry in files[:6]) or "nothing"
            raise UserError(f"{path}: expected {FORMATS}. Found {shown}; name one of the files")
        path = files[0]
    split, rest = _split_in(path.name)
    places = {"train": path}
    if split == "train":
        for other in list_folder(path.parent):
            found, same = _split_in(other.name)
            if found and found != "train" and same == rest and other.is_file():
                places[found] = other
    return places


def _split_in(name):
    """`(split, the rest of the name)`: of `TREC.train.all` train, of a name without one `None`."""
    parts = re.split(r"([-_. ])", name)
    for index, part in enumerate(parts):
        if split_of(part):
            return split_of(part), "".join([*parts[:index], "*", *parts[index + 1 :]])
    return None, name


def _read_table(path, asked, header):
    """The `Table` of a file; its header is found by looking, among others for the columns that are `asked` for, or known."""
    if path.name.lower().endswith(ROWS):
        return _read_rows(path)
    rows = read_text_rows(path, header=header, expect=tuple(filter(None, asked)))
    return Table(rows.columns, [f"line {line}" for line in rows.lines], rows.notes, "yes" if rows.has_header else "no")


def _refuse_nested(table, columns, path):
    """Refuse a list or an object in the columns of texts and of labels."""
    for column, what in zip(columns, ("text", "label"), strict=True):
        if column in table.nested:
            place = table.nested[column]
            raise UserError(f"{path}: {place}: {column!r} is a list or an object; expected one {what}. Give each text one label")


def _unlabelled(table, columns):
    """Why a table cannot be held against the training split's columns of texts and labels, or nothing."""
    absent = [name for name in columns if name not in table.cells]
    if absent:
        return f"has no column {absent[0]!r}"
    return "" if any(map(str.strip, table.cells[columns[1]])) else f"has no label in its column {columns[1]!r}"


def _unused(cells, columns):
    """What is said where a table has more columns than the two that are used."""
    others = [name for name in cells if name not in columns]
    text, label = columns
    return [f"the text is the column {text!r}, its class {label!r}; not used: {', '.join(others[:12])}"] if others else []


def _columns(cells, path, text_column, label_column):
    """The names of the columns of texts and of labels."""
    for flag, column in (("--text-column", text_column), ("--label-column", label_column)):
        if column and column not in cells:
            raise UserError(f"{flag} {column}: {path} has no such column. {nearest(column, cells)}")
    lower = {name.strip().lower(): name for name in cells}
    text = text_column or next((lower[name] for name in TEXT_COLUMNS if lower.get(name, label_column) != label_column), None)
    label = label_column or next((lower[name] for name in LABEL_COLUMNS if lower.get(name, text) != text), None)
    others = [name for name in cells if name not in (text, label)]
    if len(cells) == 2 and text is None and label is None:
        text, label = sorted(cells, key=lambda name: len(set(cells[name])), reverse=True)
    elif len(others) == 1 and len(cells) == 2:
        text, label = text or others[0], label or others[0]
    missing = [flag for flag, column in (("--text-column", text), ("--label-column", label)) if column is None]
    if missing:
        raise UserError(f"{path}: its columns are {', '.join(map(str, cells))}; say which is meant by {' and '.join(missing)}")
    return text, label


def _read_rows(path):
    """The `Table` of JSON objects: one a line, or an array of them."""
    text, notes = western_text_of(path, FORMATS)
    lines, unit = text.split("\n"), "line"
    if text.lstrip().startswith("["):
        try:
            lines, unit = [json.dumps(row) for row in json.loads(text)], "row"
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}: not JSON ({error}); expected an array of objects, or an object a line") from None
    found = list(json_objects(lines))
    rows = [(number, row) for number, row, reason in found if not reason]
    skipped = [f"{unit} {number} ({reason})" for number, _, reason in found if reason]
    note = count_skipped(skipped, len(found), f"{unit}s of {path}")
    if not rows:
        raise UserError(f"{path}: it has no row. Expected an array of JSON objects, or an object a line")
    names = dict.fromkeys(name for _, row in rows for name in row)
    cells = {name: [_plain(row.get(name)) for _, row in rows] for name in names}
    places = [f"{unit} {number}" for number, _ in rows]
    nested = {}
    for place, (_, row) in zip(places, rows, strict=True):
        for name in row:
            if isinstance(row[name], list | dict):
                nested.setdefault(name, place)
    return Table(cells, places, [*notes, *([note] if note else [])], nested=nested)


def _plain(value):
    """A JSON value as a cell of a table."""
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _read_label_lines(path):
    text, notes = western_text_of(path, FORMATS)
    pairs, places = [], []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            label, rest = _label_and_text(line.strip())
            if rest.startswith(FASTTEXT):
                raise UserError(f"{path}: line {number} has several labels; expected one label a text. Leave one of them")
            pairs.append((rest, label))
            places.append(f"line {number}")
    return pairs, places, notes


def _label_and_text(line):
    if line.startswith(FASTTEXT):
        return (*line.split(maxsplit=1), "")[:2]
    label, _, text = line.partition("\t" if "\t" in line else " ")
    return label, text


def _read_folder(path):
    pairs, places, notes = [], [], []
    for folder in list_folder(path):
        if not folder.is_dir():
            continue
        for file in visible_files(folder):
            if file.suffix.lower() == ".txt":
                text, said = western_text_of(file, FORMATS)
                pairs.append((text, folder.name))
                places.append(str(file.relative_to(path)))
                notes += said
    if not pairs:
        raise UserError(f"{path}: no .txt file in its folders. Expected {FORMATS}")
    if len(notes) > 1:
        notes = [notes[0], f"and {len(notes) - 1} more files that are not UTF-8"]
    return pairs, places, notes


def _without_gaps(pairs, places, notes, path):
    """Texts, labels and notes, without what is empty; of fastText's labels the names alone."""
    skipped, texts, labels = [], [], []
    for (text, label), place in zip(pairs, places, strict=True):
        label = label.strip().removeprefix(FASTTEXT)
        if text.strip() and label:
            texts.append(text.strip())
            labels.append(label)
        else:
            skipped.append(f"{place} ({'no label' if text.strip() else 'no text'})")
    if not pairs:
        raise UserError(f"{path}: the file is empty. Expected {FORMATS}")
    note = count_skipped(skipped, len(pairs), f"texts of {path}")
    return texts, labels, [*notes, note] if note else notes
