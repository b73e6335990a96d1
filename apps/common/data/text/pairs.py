"""Pairs of texts, a sentence and its translation or a text and its summary, from TSV, JSONL or two parallel files."""

import re
from dataclasses import dataclass
from pathlib import Path

from apps.common.data.decoded import text_of
from apps.common.data.reading import json_objects, split_of, visible_files
from apps.common.data.tables.text_file import text_columns
from apps.common.errors import UserError, count_skipped

SOURCES = ("source", "src", "text", "article", "document", "input")
TARGETS = ("target", "tgt", "trg", "summary", "translation", "highlights", "output")
TABLES, ROWS = (".tsv", ".tab", ".txt"), (".jsonl", ".ndjson")
# A language's code as a file's ending, and endings of two letters that are none.
LANGUAGE = re.compile(r"[a-z]{2}([-_][A-Za-z]{2,4})?|src|tgt|trg|source|target")
NO_LANGUAGES = {"md", "py", "sh", "js", "gz", "xz", "7z"}
SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Pairs:
    """Texts and what is to be written of each.

    Args:
        sources: A text each.
        references: For each source a list of one or several right answers, the first of which is learnt.
    """

    sources: list
    references: list

    def __len__(self):
        return len(self.sources)

    def subset(self, indices):
        """The pairs at these positions only."""
        return Pairs([self.sources[i] for i in indices], [self.references[i] for i in indices])

    @property
    def targets(self):
        """The first reference of each."""
        return [each[0] for each in self.references]


def read_pairs(path, source=None, target=None):
    """The pairs of a file or folder by their splits: `({split: Pairs}, notes)`.

    Args:
        path: A `.tsv` (source, tab, target) or `.jsonl` file, one of two parallel files such as `train.de` and `train.en`, or a
            folder of any of these; also with `.gz`.
        source, target: Names of the languages, that is of the endings, keys or columns; found out where not given. Of a table of
            two columns one name settles both.
    Raises:
        UserError: Nothing that can be read, files that are not aligned, wrong languages or encodings.
    """
    path = Path(path)
    files = visible_files(path) if path.is_dir() else [path]
    tables = [file for file in files if ending(file) in (*ROWS, *TABLES) and (path.is_file() or ending(file) != ".txt")]
    notes = []
    if tables:
        chosen = by_split({file: bare(file) for file in tables}, notes)
        read = {split: read_table(file, source, target, notes) for split, file in chosen.items()}
    else:
        found = parallel_files(path, source, target)
        languages = chosen_languages(path, found, source, target, notes)
        whole = {place: each for place, each in found.items() if set(languages) <= each.keys()}
        chosen = by_split({place: place.name for place in whole}, notes)
        read = {split: read_parallel(*(whole[place][each] for each in languages)) for split, place in chosen.items()}
    splits = {}
    for split, (name, pairs) in read.items():
        kept = [i for i, text in enumerate(pairs.sources) if text.strip() and any(each.strip() for each in pairs.references[i])]
        if len(kept) < len(pairs):
            notes.append(f"skipped {len(pairs) - len(kept)} of {len(pairs)} pairs of {name}: one side is empty")
        if not kept:
            raise UserError(f"{name}: no pair of texts in it; expected a source and a target in each line")
        splits[split] = pairs.subset(kept)
    if len(splits) == 1:  # a single split of any name is all there is
        splits = {"train": next(iter(splits.values()))}
    return splits, notes


def ending(file):
    """The ending that says what a file holds, `.gz` aside."""
    name = file.name.lower().removesuffix(".gz")
    return Path(name).suffix


def bare(file):
    """The name without its endings."""
    return Path(file.name.removesuffix(".gz")).stem


def by_split(names, notes):
    """`{split: key}` of keys by their names, such as `train`, `val` or `test_2016_flickr`.

    One that names no split is the only one, or is left out; of several for a split the first is taken.
    """
    found, left = {}, []
    for key, name in sorted(names.items(), key=lambda item: item[1]):
        split = split_of(re.match(r"[a-z]*", name.lower()).group())
        if split and split not in found:
            found[split] = key
        else:
            left.append((split, key, name))
    if not found:
        if len(left) > 1:
            listed = ", ".join(name for _, _, name in left[:6])
            raise UserError(f"{listed}: none is named train, val or test; name them so, or give one file")
        return {"train": left[0][1]}
    if left:
        notes.append("left out " + ", ".join(name for _, _, name in left[:6]) + (", ..." if len(left) > 6 else ""))
    return {split: found[split] for split in SPLITS if split in found}


def read_table(file, source, target, notes):
    """`(file, Pairs)` of a JSONL or TSV file."""
    lines = read_lines(file)
    if ending(file) in ROWS:
        return file, pairs_of_rows(file, lines, source, target, notes)
    return file, pairs_of_cells(file, lines, source, target, notes)


def pairs_of_rows(file, lines, source, target, notes):
    """The pairs of a JSONL file, whose rows call the two sides as we do, as the options do, or by their languages."""
    sources, references, keys = [], [], None
    for number, row, reason in json_objects(lines):
        if reason:
            raise UserError(f"{file}: line {number} is {reason}; expected for example {{'source': ..., 'target': ...}}")
        row = row["translation"] if isinstance(row.get("translation"), dict) else row
        keys = keys or named_keys(file, row, source, target, notes)
        given = [row.get(key) for key in keys]
        parts = [[each] if isinstance(each, str) else each for each in given]
        if not all(isinstance(part, list) and all(isinstance(each, str) for each in part) for part in parts):
            raise UserError(f"{file}: line {number}: expected texts, or lists of them, in {keys[0]!r} and {keys[1]!r}")
        sources.append(" ".join(parts[0]))
        references.append([each for each in parts[1] if each.strip()])
    return Pairs(sources, references)


def named_keys(file, row, source, target, notes):
    """Which keys of the first row hold the source and the target."""
    languages = {key: row for key in row if LANGUAGE.fullmatch(key)}
    if len(languages) > 2:
        languages.pop("id", None)  # Indonesian, too
    if len(languages) > 1 and not {*SOURCES, *TARGETS} & set(row):
        return chosen_languages(file, {file: languages}, source, target, notes)
    return named_key(file, row, source, SOURCES, "source"), named_key(file, row, target, TARGETS, "target")


def named_key(file, row, given, known, side):
    """Which key of a row holds this side."""
    found = [key for key in ([given] if given else known) if key in row]
    if not found:
        wanted = given or " or ".join(known[:3])
        there = ", ".join(list(row)[:8])
        raise UserError(f"{file}: no {side} called {wanted} in the first line; it has {there}. Rename it, or name it by option")
    return found[0]


def pairs_of_cells(file, lines, source, target, notes):
    """The pairs of a table; lines of more cells than the first, whose texts have tabs in them, are counted and left out."""
    rows = []
    for number, line in enumerate(lines, 1):
        cells = line.split("\t")
        if not line.strip():
            continue
        if len(cells) < 2:
            expected = "expected source, tab, target, or two files of one name, such as train.de and train.en"
            raise UserError(f"{file}: line {number} has no tab; {expected}")
        rows.append((number, cells))
    width = len(rows[0][1])
    longer = {number: len(cells) for number, cells in rows if any(map(str.strip, cells[width:]))}
    skipped = [f"line {number} (of {count} cells, the first line has {width})" for number, count in longer.items()]
    note = count_skipped(skipped, len(rows), f"lines of {file}")
    notes += [note] if note else []
    rows = [(number, cells) for number, cells in rows if number not in longer]
    header = [each.strip().lower() for each in rows[0][1]]
    found = named_columns(file, header, source, target)
    if found:
        places, rows = found, rows[1:]
    else:
        # The first line may be a header.
        places = text_columns([cells for _, cells in rows[1:]], width)
    if width > 2 and rows:
        shown = [f"column {place + 1} ({rows[0][1][place][:30]!r})" for place in places if place < len(rows[0][1])]
        notes.append(f"{file.name} has {width} columns: the source is {', the target '.join(shown)}")
    for number, cells in rows:
        if len(cells) <= max(places):
            raise UserError(f"{file}: line {number} has {len(cells)} cells, the first line {width}: {cells[0][:40]!r}. Mend it")
    return Pairs([cells[places[0]] for _, cells in rows], [[cells[places[1]]] for _, cells in rows])


def named_columns(file, header, source, target):
    """The places of source and target in the first line of a table, or `None` where it is no header.

    Raises:
        UserError: A language that is asked for is not there, the other column stays open, or both are one.
    """
    sides = {"--source-language": (source, SOURCES), "--target-language": (target, TARGETS)}
    there, found = ", ".join(each[:30] for each in header[:12]), []
    for flag, (name, known) in sides.items():
        wanted = [name.lower()] if name else known
        found.append(next((header.index(each) for each in wanted if each in header), None))
        if name and found[-1] is None:
            raise UserError(
                f"{flag} {name}: {file} has no such column, its first line is {there}. Name one of these, put the names of the "
                "columns in a line before, or leave the option out: the first column is then the source"
            )
    if not (source or target):
        return None if None in found else found
    if None in found and len(header) == 2:
        found = [1 - found[1], found[1]] if found[0] is None else [found[0], 1 - found[0]]
    for flag, place in zip(sides, found, strict=True):
        if place is None:
            raise UserError(f"{file}: its columns are {there}; say by {flag} which is the other side")
    if found[0] == found[1]:
        raise UserError(f"{file}: source and target are both the column {header[found[0]]}; name two of {there}")
    return found


def parallel_files(path, source, target):
    """`{folder and name: {language: file}}` of the files whose ending is a language."""
    files = visible_files(path) if path.is_dir() else sorted(path.parent.glob(f"{bare(path)}.*"))
    found = {}
    for file in files:
        language = ending(file)[1:] if not (source and target) else file.name.removesuffix(".gz").rpartition(".")[2]
        known = language in (source, target) or (LANGUAGE.fullmatch(language) and language not in NO_LANGUAGES)
        if known and file.is_file():
            found.setdefault(file.parent / bare(file), {})[language] = file
    found = {place: each for place, each in found.items() if len(each) > 1}
    if not found:
        raise UserError(
            f"{path}: no pairs of texts found; expected a .tsv or .jsonl file, or parallel files of one name whose endings are "
            "their languages, such as train.de and train.en"
        )
    return found


def chosen_languages(path, found, source, target, notes):
    """Source and target language: those asked for, or the only two there are."""
    there = sorted(set.union(*(set(each) for each in found.values())))
    for flag, given in (("--source-language", source), ("--target-language", target)):
        if given and given not in there:
            raise UserError(f"{flag} {given}: no such file in {path}; it has {', '.join(there)}")
    own = ending(path)[1:]  # of two parallel files the one that is named is the source
    if path.is_file() and not source and own in there and own != target:
        source = own
    others = [each for each in there if each not in (source, target)]
    missing = [each for each in (source, target) if not each]
    if len(missing) > len(others) or (missing and len(others) > len(missing)):
        raise UserError(f"{path}: has {', '.join(there)}; say which by --source-language and --target-language")
    if missing:
        others.sort(key=lambda each: each in TARGETS)
        source = source or others.pop(0)
        target = target or others.pop(0)
        notes.append(f"from {source} to {target}; --source-language {target} turns it round")
    if source == target:
        raise UserError(f"--target-language {target}: expected another one than the source's")
    return source, target


def read_parallel(source, target):
    """`(source file, Pairs)` of two files whose lines belong together."""
    sources, targets = read_lines(source), read_lines(target)
    if len(sources) != len(targets):
        raise UserError(
            f"{source}: has {len(sources)} lines, but {target.name} has {len(targets)}; expected a translation in each line"
        )
    return source, Pairs(sources, [[each] for each in targets])


def read_lines(file):
    """The lines of a UTF-8 file, also of a gzipped one, without their ends; a blank one is a line.

    Raises:
        UserError: It is damaged, empty, has NUL bytes or another encoding, the line named.
    """
    # Not `splitlines`: a line may hold other separators, such as U+2028, and would be torn.
    return [line.removesuffix("\r") for line in text_of(file, "a text a line").removesuffix("\n").split("\n")]
