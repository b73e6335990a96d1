"""Questions about texts: SQuAD's JSON, whose answers are spans, and bAbI's numbered lines, whose answers are of a short list."""

import json
import re
from bisect import bisect_right
from dataclasses import dataclass, replace

import numpy as np

from apps.common.data.decoded import text_of
from apps.common.data.examples import Examples, complete_splits
from apps.common.data.reading import list_folder
from apps.common.data.text.plain import ABOUT_THE_DATA
from apps.common.data.text.tagged import split_in
from apps.common.data.text.words import split_words
from apps.common.errors import UserError

SHAPE = 'expected SQuAD\'s {"data": [{"paragraphs": [{"context": ..., "qas": [{"question": ..., "answers": [...]}]}]}]}'


@dataclass(frozen=True)
class Question:
    """A question about a text.

    Args:
        context, question: Texts.
        answers: Every text that is right, at least one.
        span: First and last word of the first answer in the words of the context; `None` where answers are not spans.
        whole: The text that the context is, or that it is the beginning of.
    """

    context: str
    question: str
    answers: tuple
    span: tuple | None = None
    whole: str = ""


def read_questions(path):
    """The questions of a file, or of the files of a folder, by the split that their names say.

    Args:
        path: `.json` files (SQuAD) or `.txt` files (bAbI); several tasks of bAbI in a folder are read together.
    Returns: `(kind, {split: [Question]}, notes)`, the kind `"span"` or `"closed"`.
    Raises:
        UserError: No such file, both kinds, or a file that is not what its ending says.
    """
    files = [path]
    if path.is_dir():
        files = [file for file in list_folder(path) if file.suffix.lower() in (".json", ".txt")]
        files = [file for file in files if file.name.lower() not in ABOUT_THE_DATA]
    endings = {file.suffix.lower() for file in files}
    if endings not in ({".json"}, {".txt"}):
        found = "both of them" if len(endings) > 1 else "neither"
        raise UserError(f"{path}: expected SQuAD's .json or bAbI's .txt files. Received: {found}")
    kind, splits, notes = "span" if endings == {".json"} else "closed", {}, []
    for file in files:
        split = (split_in(file.stem) if path.is_dir() else None) or "train"
        found = read_squad(file, notes) if kind == "span" else read_babi(file)
        splits.setdefault(split, []).extend(found)
    if "train" not in splits and len(splits) > 1:
        raise UserError(f"{path}: no file to train on; expected one whose name has the word train")
    return kind, splits, notes


def read_squad(path, notes):
    """The questions of a SQuAD file; those without an answer in their context are left out, counted and named in `notes`.

    Raises:
        UserError: The file is not JSON, not SQuAD (naming the article), or has no question with an answer.
    """
    try:
        whole = json.loads(text_of(path))
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); {SHAPE}") from None
    if not isinstance(whole, dict) or not isinstance(whole.get("data"), list):
        raise UserError(f"{path}: JSON, but not SQuAD: no list called data; {SHAPE}")
    made, outside, impossible = [], [], 0
    for number, article in enumerate(whole["data"]):
        try:
            asked = [(part["context"], qa) for part in article["paragraphs"] for qa in part["qas"]]
            asked = [(context, qa["question"], [dict(each) for each in qa["answers"]], qa) for context, qa in asked]
            answers = [[(str(each["text"]), int(each["answer_start"])) for each in found] for *_, found, _ in asked]
            fine = all(isinstance(text, str) for context, question, *_ in asked for text in (context, question))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{path}: data[{number}] is not SQuAD ({type(error).__name__}: {error}); {SHAPE}") from None
        if not fine:
            raise UserError(f"{path}: data[{number}] is not SQuAD: a context or question is no text; {SHAPE}")
        for (context, question, _, qa), found in zip(asked, answers, strict=True):
            inside = [(text, at) for text, at in found if text.strip() and at >= 0 and context[at : at + len(text)] == text]
            if inside:
                span = word_span(split_words(context), inside[0][1], inside[0][1] + len(inside[0][0]))
                made.append(Question(context, question, tuple(dict.fromkeys(text for text, _ in inside)), span, context))
            elif found:
                outside.append(str(qa.get("id", question[:40])))
            else:
                impossible += 1
    if outside:
        more = ", ..." if len(outside) > 5 else ""
        notes.append(f"{path}: {len(outside)} answers do not stand in their context, left out: {', '.join(outside[:5])}{more}")
    if impossible:
        notes.append(f"{path}: {impossible} questions without any answer are left out")
    if not made:
        raise UserError(f"{path}: no question has an answer that stands in its context")
    return made


def word_span(words, start, end):
    """First and last word that have a character in `[start, end)`."""
    starts = [word[1] for word in words]
    first = max(0, bisect_right(starts, start) - 1)
    if words[first][2] <= start and first + 1 < len(words):
        first += 1
    return first, max(first, bisect_right(starts, end - 1) - 1)


def read_babi(path):
    """The questions of a bAbI file: numbered lines, `question<TAB>answer<TAB>lines that tell it`; number 1 begins a new story.

    Raises:
        UserError: A line that is not of this form, by number, or no question at all.
    """
    made, story, before = [], [], 0
    for number, line in enumerate(text_of(path).split("\n"), 1):
        if not line.strip():
            continue
        found = re.fullmatch(r"\s*(\d+) (.*)", line)
        if not found:
            raise UserError(f"{path}: line {number}: expected a number and a sentence, as in bAbI. Received: {line[:60]!r}")
        place, text = int(found[1]), found[2]
        if place == 1:
            story = []
        elif place != before + 1:
            raise UserError(f"{path}: line {number}: expected number {before + 1}, or 1 for a new story. Received: {place}")
        before = place
        question, tab, rest = text.partition("\t")
        if not tab:
            story.append(text.strip())
            continue
        answer = rest.split("\t")[0].strip()
        if not answer or not question.strip():
            raise UserError(f"{path}: line {number}: a question without its answer; expected question<TAB>answer<TAB>lines")
        made.append((Question(" ".join(story), question.strip(), (answer,)), story))
    if not made:
        raise UserError(f"{path}: no question; expected lines of a question, a tab and its answer")
    return [replace(asked, whole=" ".join(story)) for asked, story in made]


def split_questions(splits, config, notes):
    """Questions to train on, for validation and for the test: as the data name them, else by the seed, whole texts in each.

    Args:
        splits: Of `read_questions`.
        config: Has `seed`, `folds` and `fold`.
        notes: List to which lines are added.
    Returns: Three lists of `Question`s.
    """
    flat = [asked for part in splits.values() for asked in part]
    members, places = [[index] for index in range(len(flat))], {}
    if len(splits) == 1:
        texts = {}
        for index, asked in enumerate(flat):
            texts.setdefault(asked.whole, []).append(index)
        if len(texts) >= max(4, config.folds or 0):
            members = list(texts.values())
        else:
            notes.append(f"too few texts to hold some out: {len(texts)}; the test asks about those that were trained on")
        places = {"train": np.arange(len(members))}
    else:
        ends = np.cumsum([len(part) for part in splits.values()])
        places = dict(zip(splits, np.split(np.arange(len(flat)), ends[:-1]), strict=True))
    said = []
    parts = complete_splits({name: Examples(part) for name, part in places.items()}, config, said, stratify=False)
    chosen = [[flat[index] for text in part.x for index in members[text]] for part in parts]
    if len(members) < len(flat):
        counts = "{} questions to train on, {} for validation, {} for the test".format(*map(len, chosen))
        said = [f"{counts}, those about a text together ({len(members)} texts)"]
    notes += said
    return chosen
