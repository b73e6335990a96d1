"""Predictions for any number of inputs: words, files, folders, lines and tables, read one by one; a row out for each in.

What cannot be read keeps its place, with a reason in the place of a prediction. A user's own columns come back text for text.
"""

import contextlib
import csv
import itertools
import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from apps.common.app import inputs_of
from apps.common.bundles.input_rows import ARRAYS, PARQUET, ROWS, TABLES, column_of, decoded, rows_of
from apps.common.data.reading import as_text, is_text, visible_files
from apps.common.data.text.tagged import read_words
from apps.common.errors import UserError
from apps.common.files import remove_left
from apps.common.output import plain

CHUNK = 256  # inputs given to an app at a time
LINES = (".txt", ".lst")
NO_TEXT = "holds bytes that are not UTF-8, or half of a surrogate pair"
SHOWN = 60  # characters of an input in a message
LONGEST = 10_000_000  # characters of a line


@dataclass(frozen=True)
class Item:
    """One input: the user's own fields, what the app gets, or why there is nothing to give it."""

    fields: dict = field(default_factory=dict)
    value: object = None
    reason: str = ""


def answer(app, model, about, words, options=()):
    """The app's rows for the words of a command line, one for each input in their order, as an iterator.

    Args:
        app: The app's module; what its `predict` takes as `values` it is given all at once.
        model, about: Of the bundle.
        words: After MODEL.
        options: `(PredictOptions,)` where the app has any.
    """
    for each in options:
        if hasattr(each, "check_words"):
            each.check_words(words)
    inputs = inputs_of(app)
    if inputs.kind == "values":
        yield from app.predict(model, words, about, *options)
        return
    if about.get("column"):
        inputs = replace(inputs, column=(about["column"], *inputs.column))
    if about.get("whole_files"):
        inputs = replace(inputs, whole_files=True)
    columns = about.get("columns", [])
    orders = ([name for name in columns if name != about.get("target")], columns)
    items = read_items(words, inputs, {len(names): names for names in orders if names}, about.get(inputs.named, ()))
    yield from answer_items(app, model, about, items, options)


def answer_items(app, model, about, items, options=()):
    """The app's rows for an iterator of `Item`s, a chunk at a time; of an app that compares its inputs, after the last one."""
    answered = _answered(app, model, about, items, options)
    if hasattr(app, "compare_inputs"):
        held = list(answered)
        rows = app.compare_inputs([item.value for item, _ in held], [row for _, row in held])
        answered = ((item, row) for (item, _), row in zip(held, rows, strict=True))
    for item, row in answered:
        yield merged(item.fields, row)


def _answered(app, model, about, items, options):
    """`(item, the app's row)` of each; of an input with several rows as often."""
    while chunk := list(itertools.islice(items, CHUNK)):
        readable = [item.value for item in chunk if not item.reason]
        found = iter(app.predict(model, readable, about, *options) if readable else ())
        for item in chunk:
            row = {"reason": item.reason} if item.reason else next(found)
            for each in row if isinstance(row, list) else (row,):
                yield item, each


def merged(fields, row):
    """The user's fields and the prediction's beside them, renamed where the user has one of that name."""
    free = {}
    for name, value in row.items():
        while name in fields or name in free:
            name = f"predicted_{name}"
        free[name] = value
    return {**fields, **free}


def read_items(words, inputs, orders=None, named=()):
    """The `Item`s that the words of a command line mean, read as they are asked for.

    Args:
        words: Of the command line, after MODEL; `-` is standard input, a line each.
        inputs: The app's `Inputs`.
        orders: `{number of cells: names}` by which a table without a header is read.
        named: Words that are inputs themselves and no files.
    """
    orders, tables = orders or {}, (*TABLES, *ROWS, *PARQUET, *(ARRAYS if inputs.kind == "texts" else ()))
    if inputs.kind == "rows" and any("=" in word and not Path(word).exists() for word in words):
        yield _row_of_pairs(words)
        return
    for word in words:
        if word == "-":
            yield from _from_lines(sys.stdin.buffer, "-", inputs, Path())
            continue
        path = None if word in named else _existing(word)
        if path is None:
            if inputs.kind == "rows":
                raise UserError(f"{word}: no such file. Expected a table ({', '.join((*TABLES, *ROWS))}) or name=value words")
            yield _item(word, inputs, {})
        elif path.is_dir():
            yield from _from_folder(path, inputs)
        elif inputs.whole_files and path.suffix.lower() == ".txt":
            yield _whole(path, inputs)
        elif inputs.has_word_a_line(path):
            yield from _from_words(path)
        elif inputs.kind == "rows" or path.name.lower().endswith(tables):
            yield from _from_table(path, inputs, orders)
        elif inputs.kind == "texts" or (inputs.kind == "files" and path.suffix.lower() in LINES):
            with open(path, "rb") as file:
                yield from _from_lines(file, path, inputs, path.parent)
        else:
            yield _item(word, inputs, {})


def _existing(word):
    """The path a word means, or `None` for a word that is no path; a text may be longer than any name."""
    with contextlib.suppress(OSError, ValueError, RuntimeError):
        path = Path(word).expanduser()
        if word and (path.is_file() or path.is_dir()):  # not a device, which may have no end; no word is no folder
            return path
    return None


def item_of(value, inputs):
    """One input that is given by itself: a word, or a row as a dict."""
    return Item(value, value) if isinstance(value, dict) else _item(value, inputs, {})


def _item(word, inputs, fields, folder=None):
    """One input; a path in a list is one beside the list."""
    text = str(word)
    if not text.strip():
        return Item(fields, None, "empty")
    if inputs.kind == "files":
        path = Path(text).expanduser()
        path = path if folder is None or path.is_absolute() else folder / path
        named = fields or {"input": text}
        return Item(named, path) if path.is_file() else Item(named, None, "no such file")
    if not is_text(text):
        return Item(fields or {"input": as_text(text)}, None, NO_TEXT)
    return Item(fields, text)


def _row_of_pairs(words):
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (_, equals, _) in zip(words, pairs, strict=True) if not equals]
    if wrong:
        raise UserError(f"{wrong[0]}: expected name=value, as the other words")
    names = [name.strip() for name, _, _ in pairs]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise UserError(f"{twice[0]}: given twice")
    fields = {name.strip(): value.strip() for name, _, value in pairs}
    return Item(fields, fields)


def _from_folder(path, inputs):
    endings = (".txt",) if inputs.whole_files else (*inputs.endings, *inputs.unreadable)
    if inputs.kind != "files" and not inputs.whole_files:
        raise UserError(f"{path}: a folder; expected a file or a {inputs.kind.removesuffix('s')}")
    found = [file for file in visible_files(path) if not endings or file.suffix.lower() in endings]
    if not found:
        raise UserError(f"{path}: no file in this folder ends in {' '.join(endings)}")
    for file in found:
        yield _whole(file, inputs) if inputs.whole_files else Item({"input": str(file)}, file)


def _whole(path, inputs):
    """A file that is one text."""
    fields, (text, reason) = {"input": str(path)}, decoded(path.read_bytes())
    return Item(fields, None, reason) if reason else _item(text, inputs, fields)


def _from_lines(file, name, inputs, folder):
    """A line each, blank ones too, so that answers stand beside the lines they belong to."""
    number = 0
    while line := file.readline(LONGEST):
        number += 1
        text, reason = decoded(line.rstrip(b"\r\n"))
        fields = {"input": text}
        yield Item(fields, None, reason) if reason else _item(text, inputs, fields, folder)
    if not number:
        raise UserError(f"{name}: empty; expected a line for each input")


def _from_words(path):
    """The sentences of a file with a word a line."""
    with open(path, "rb") as file:
        lines = iter(lambda: file.readline(LONGEST), b"")
        for words, reason in read_words((decoded(line.rstrip(b"\r\n")) for line in lines), path):
            fields = {"input": " ".join(words)}
            yield Item(fields, None, reason) if reason else Item(fields, words)


def _from_table(path, inputs, orders):
    if not path.is_file():
        raise UserError(f"{path}: not a file but a device or a pipe; expected a table")
    row = None
    for row, reason in rows_of(path, orders, inputs.column if inputs.kind == "texts" else ()):
        fields = row  # what comes back beside the answer
        if not is_text("".join(map(str, (*row, *row.values())))):
            fields = {as_text(name): as_text(value) for name, value in row.items()}
        if reason:
            yield Item(fields, None, reason)
        elif inputs.kind == "rows":
            yield Item(fields, row)
        else:
            column = column_of(row, (*inputs.column, "input"))
            if column is None:
                raise UserError(f"{path}: no column called {' or '.join(inputs.column)}. It has {', '.join(list(fields)[:12])}")
            yield _item(row[column], inputs, fields, path.parent)
    if row is None:
        raise UserError(f"{path}: no rows. Expected one for each input")


def check_writable(flag, path, inputs=()):
    """Refuse a file to write that is a folder, whose folder is not there, or that is an input.

    Args:
        flag: The option that names it.
        path: The file.
        inputs: Words of the command line, none of which may be the file.
    Raises:
        UserError: Naming option and file.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f"{flag} {path}: a folder; name a file in it")
    if not path.absolute().parent.is_dir():
        raise UserError(f"{flag} {path}: the folder {path.parent} is not there; make it first")
    if any((there := _existing(word)) and path.exists() and there.samefile(path) for word in inputs):
        raise UserError(f"{flag} {path}: is an input as well; name another file")


class RowsFile:
    """Rows written to a .csv, .json or .jsonl file as they come; the file appears whole when it is closed.

    The columns of a CSV are known with the last row alone, so rows lie as JSON lines beside it until then.

    Args:
        path: The file, found by its ending.
        inputs: Words of the command line, none of which may be the file itself.
    Raises:
        UserError: Another ending, or what `check_writable` refuses.
    """

    def __init__(self, path, inputs=()):
        self.path = Path(path)
        if self.path.suffix not in (".csv", ".json", ".jsonl"):
            raise UserError(f"--output {path}: expected a name ending in .csv, .json or .jsonl")
        check_writable("--output", self.path, inputs)
        self.temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        self.names = {}

    def __enter__(self):
        remove_left(self.path)
        self.file = open(self.temporary, "w+", encoding="utf-8")
        return self

    def write(self, row):
        self.names |= dict.fromkeys(row)
        self.file.write(json.dumps(plain(row), ensure_ascii=False) + "\n")

    def __exit__(self, kind, error, trace):
        made = self.temporary.with_suffix(".made")
        try:
            if kind is None:
                self.file.flush()
                self.file.seek(0)
                with open(made, "w", encoding="utf-8", newline="") as whole:
                    self._convert(whole)
                    whole.flush()
                    os.fsync(whole.fileno())
                os.replace(made, self.path)
        finally:
            self.file.close()
            self.temporary.unlink(missing_ok=True)
            made.unlink(missing_ok=True)

    def _convert(self, whole):
        if self.path.suffix == ".jsonl":
            whole.writelines(self.file)
        elif self.path.suffix == ".json":
            whole.write("[\n")
            for index, line in enumerate(self.file):
                whole.write((",\n" if index else "") + line.rstrip("\n"))
            whole.write("\n]\n")
        else:
            writer = csv.DictWriter(whole, list(self.names))
            writer.writeheader()
            for line in self.file:
                writer.writerow({name: _cell(value) for name, value in json.loads(line).items()})


def _cell(value):
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else value


class Failures:
    """Counts and names the rows without an answer."""

    def __init__(self):
        self.rows, self.failed, self.first = 0, 0, []

    def see(self, row):
        self.rows += 1
        if row.get("reason"):
            self.failed += 1
            if len(self.first) < 5:
                named = str(next(iter(row.values()), ""))
                named = named if len(named) <= SHOWN else f"...{named[-SHOWN:]}"  # the end of a path says most
                self.first.append(f"{named} ({row['reason']})")

    def check(self):
        """Refuse where there is no answer at all.

        Raises:
            UserError: No input could be read.
        """
        if self.rows and self.failed == self.rows:
            raise UserError(f"no input has an answer: {self.first[0]}")

    def line(self):
        """What is said of them, or nothing."""
        more = "; ..." if self.failed > len(self.first) else ""
        return f"{self.failed} of {self.rows} inputs have no answer: {'; '.join(self.first)}{more}" if self.failed else ""
