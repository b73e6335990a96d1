"""Sentences with a tag a word: CoNLL's columns, and the entities that BIO tags spell."""

import itertools
import re
from collections import Counter

from apps.common.data.decoded import text_of
from apps.common.data.reading import SPLIT_NAMES, list_folder
from apps.common.data.text.plain import ABOUT_THE_DATA
from apps.common.data.text.words import split_words
from apps.common.errors import UserError

WORD_A_LINE = (".conll", ".bio", ".iob", ".iob2", ".annotated")  # endings that nothing else has
ENDINGS = (*WORD_A_LINE, ".tsv", ".txt")
TAG = re.compile(r"O|[BI]-\S+")
# Marks before and behind a word, runs of one mark, initials (the last full stop is theirs), and what English adds to words.
BEFORE, BEHIND = re.compile(r"[\"'“”‘’«»„(\[{<¿¡`]*"), re.compile(r"[\"'“”‘’«»)\]}>.,;:!?…。，！？]*$")
MARKS, INITIALS, ENDED = re.compile(r"(.)\1*"), re.compile(r"(?:\w\.)+"), re.compile(r"n['’]t|['’]\w{1,2}")
MISSED = 0.02  # share of the training sentences that `split_words` may split otherwise
MOST_WHOLE = 1000  # words that are noted
LONGEST = 10_000  # characters of a line that may be a word and its tag


def read_tagged(path):
    """The sentences of a file, or of the files of a folder, by the split that their names say.

    Args:
        path: A file, or a folder of files called like `train.txt`, `wnut17train.conll` or `emerging.dev.conll`.
    Returns: `({split: [(words, tags)]}, notes)`; `"train"` is the only one of a single file.
    Raises:
        UserError: There is no such file, two files of one split, or a line is not what it must be (the line is named).
    """
    splits, notes, repaired = {}, [], 0
    for split, file in split_files(path):
        if split in splits:
            raise UserError(f"{file}: a second file of the {split} split; leave one of them out of the folder")
        splits[split], count = read_sentences(file)
        repaired += count
    if "train" not in splits and len(splits) > 1:
        raise UserError(f"{path}: no file to train on; expected one whose name has the word train")
    if repaired:
        notes.append(f"{repaired} I- tags without their B- are taken as the beginning of an entity (CoNLL's convention)")
    return splits, notes


def split_files(path):
    """`(split, file)` of a single file (whose split is the first), or of those in a folder whose names say one."""
    if not path.is_dir():
        return [("train", path)]
    files = [file for file in list_folder(path) if file.suffix.lower() in ENDINGS and file.name.lower() not in ABOUT_THE_DATA]
    named = [(split, file) for file in files if (split := split_in(file.stem))]
    if not named and len(files) == 1:
        return [("train", files[0])]
    if not named:
        raise UserError(f"{path}: no file here is called train, dev or test and ends in {' '.join(ENDINGS)}")
    return named


def split_in(name):
    """The split whose word stands somewhere in a name, letters before and after it excepted; or `None`."""
    words = [(word, split) for split, names in SPLIT_NAMES.items() for word in names]
    return next((split for word, split in words if re.search(rf"(?<![a-z]){word}(?![a-z])", name.lower())), None)


def read_sentences(path):
    """The sentences of one file: a line a word, the word in its first column and the tag in its last, a blank line after each.

    Returns: `([(words, tags)], count)` with the number of I- tags that had to become B-.
    """
    sentences, words, tags = [], [], []
    for number, line in enumerate([*text_of(path, "a word and its tag on each line").split("\n"), ""], 1):
        text = line.rstrip("\r")
        if not text.strip():
            if words:
                sentences.append((words, tags))
                words, tags = [], []
        elif not text.startswith("-DOCSTART-"):
            word, tag = columns(text, path, number)
            words.append(word)
            tags.append(tag)
    if not sentences:
        raise UserError(f"{path}: has no sentence; expected a word and its tag on each line")
    begun = [begin_entities(tags) for _, tags in sentences]
    count = sum(a != b for (_, tags), found in zip(sentences, begun, strict=True) for a, b in zip(tags, found, strict=True))
    return [(words, tags) for (words, _), tags in zip(sentences, begun, strict=True)], count


def has_word_a_line(path):
    """Whether a file has a word a line: by its ending, or where that does not tell by a tag behind the word of every line."""
    if path.suffix.lower() not in (".tsv", ".txt"):
        return path.suffix.lower() in WORD_A_LINE
    some = False
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for line in iter(lambda: file.readline(LONGEST), ""):
            if line.strip() and not line.startswith("-DOCSTART-"):
                cells = cells_of(line)
                if len(cells) < 2 or not TAG.fullmatch(cells[-1].strip()):
                    return False
                some = True
    return some


def cells_of(text):
    """The columns of a line, which are set apart by tabs or by blanks."""
    return text.split("\t") if "\t" in text else text.split()


def columns(text, path, number):
    """The word and the tag of a line."""
    cells = cells_of(text)
    if len(cells) < 2 or not cells[0].strip():
        raise UserError(f"{path}: line {number}: expected a word and its tag. Received: {text[:60]!r}")
    tag = cells[-1].strip()
    if not TAG.fullmatch(tag):
        hint = "; write S- as B- and E- as I-" if re.fullmatch(r"[SE]-\S+", tag) else ""
        raise UserError(f"{path}: line {number}: expected the tag O, B-TYPE or I-TYPE. Received: {tag[:40]!r}{hint}")
    return cells[0].strip(), tag


def read_words(lines, path):
    """The sentences of a file to predict from, one after the other: `(words, why they cannot be read, or nothing)`.

    Args:
        lines: `(text, why it cannot be read, or nothing)` of each line: a word, and its tag or none.
        path: What a message names.
    Raises:
        UserError: A line has more than a word and no tag, or there is no sentence.
    """
    words, why, some = [], "", False
    for number, (text, reason) in enumerate(itertools.chain(lines, [("", "")]), 1):
        why = why or (reason and f"line {number}: {reason}")
        if text.startswith("-DOCSTART-"):
            continue
        if text.strip():
            words.append(text.strip() if reason or len(text.split()) == 1 else columns(text, path, number)[0])
        elif words:
            yield words, why
            words, why, some = [], "", True
    if not some:
        raise UserError(f"{path}: has no sentence; expected a word on each line, and a blank line after each sentence")


def begin_entities(tags):
    """The tags with a B- in the place of each I- that does not go on with an entity of its type."""
    made, before = [], "O"
    for tag in tags:
        if tag.startswith("I-") and before[2:] != tag[2:]:
            tag = f"B-{tag[2:]}"
        made.append(tag)
        before = tag
    return made


def spans(tags):
    """The entities of some tags, `[(type, first word, word after the last)]`."""
    found = []
    for place, tag in enumerate(begin_entities(tags)):
        if tag.startswith("B-"):
            found.append((tag[2:], place, place + 1))
        elif tag.startswith("I-"):
            found[-1] = (*found[-1][:2], place + 1)
    return found


def conll(words, tags):
    """A sentence as CoNLL's lines, the blank one among them."""
    return "".join(f"{word}\t{tag}\n" for word, tag in zip(words, tags, strict=True)) + "\n"


def splitting_of(sentences):
    """How words like those of these sentences are found in a text: `None` by `split_words`, else what `split_at_blanks` takes.

    Args:
        sentences: Lists of words.
    """
    missed = sum([word for word, _, _ in split_words(" ".join(words))] != list(words) for words in sentences)
    if missed <= MISSED * len(sentences):
        return None
    counts = Counter(word for words in sentences for word in words)
    endings = sorted({word.lower() for word in counts if ENDED.fullmatch(word.lower())})
    broken = Counter({word: count for word, count in counts.items() if len(split_at_blanks(word, endings, ())) > 1})
    return {"endings": endings, "whole": [word for word, _ in broken.most_common(MOST_WHOLE)]}


def split_at_blanks(text, endings, whole):
    """The words between the blanks of a text and the punctuation at their ends, `[(word, start, end)]`, as corpora have them.

    Args:
        text: A string.
        endings: Of words that are words of their own, such as `'s` and `n't`.
        whole: Words that stay as they are, such as `Inc.` and `...`.
    """
    return [piece for found in re.finditer(r"\S+", text) for piece in pieces_of(found.group(), found.start(), endings, whole)]


def pieces_of(word, at, endings, whole):
    """The words of what stands between two blanks from character `at` on."""
    first, last = BEFORE.match(word).end(), BEHIND.search(word).start()
    if word in whole:
        cuts = []
    elif first >= last:
        cuts = [found.start() for found in MARKS.finditer(word)]
    else:
        kept = (end for end in range(len(word), last, -1) if word[first:end] in whole or INITIALS.fullmatch(word[first:end]))
        last = next(kept, last)
        core = word[first:last].lower()
        ended = [last - len(each) for each in endings if core.endswith(each) and core != each and word[first:last] not in whole]
        cuts = [first, *ended[:1], last]
        for begin, end in ((0, first), (last, len(word))):
            if word[begin:end] not in whole:
                cuts += [begin + found.start() for found in MARKS.finditer(word[begin:end])]
    edges = sorted({0, *cuts, len(word)})
    return [(word[a:b], at + a, at + b) for a, b in itertools.pairwise(edges)]
