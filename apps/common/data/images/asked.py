"""Questions about pictures: read, or drawn, and as a model takes them that is shown pictures, several in a row.

A caption is the answer where nothing is asked.
"""

import hashlib
import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from apps.common.data.examples import About, find_data, split_indices
from apps.common.data.fingerprint import digest, row_digests
from apps.common.data.images.arrays import resize_images
from apps.common.data.images.captioned import TEXTS, draw_captioned, picture_rows, splits_of
from apps.common.data.images.drawn_questions import draw_questions
from apps.common.data.images.labelled import read_images
from apps.common.data.reading import list_folder, split_of
from apps.common.data.text.prompts import WordPrompts, answer_ids, join_lines, question_ids
from apps.common.errors import UserError, count_skipped

ANSWERS = ("answer", *TEXTS)
LONGEST = 512  # tokens of some lines
TABLES = (".csv", ".tsv", ".jsonl", ".ndjson")
EXPECTED = (
    "a CSV or JSONL of picture, question and answer (or picture and caption), or its folder, or a folder with "
    "train/questions.json of [question, answer, number] and train/images/number.png"
)


@dataclass(frozen=True)
class Asked:
    """A question about a picture, by its number, and the answer; an empty question is answered by a caption."""

    picture: int
    question: str
    answer: str


def read_asked(path, shape):
    """The questions of a table, or of a folder in easy-VQA's layout.

    Args:
        path: A file or folder that is there.
        shape: `(height, width, channels)` that every picture is made.
    Returns: `(pictures uint8, {split: [Asked]}, notes)`.
    Raises:
        UserError: Another format, or too much that cannot be used.
    """
    path = Path(path)
    files = sorted(path.rglob("questions.json")) if path.is_dir() else []
    within = [path] if path.is_file() else list_folder(path)
    tables = [each for each in within if each.suffix.lower() in TABLES]
    if not files and len(tables) == 1:
        rows = table_rows(tables[0])
    else:
        if not files:
            raise UserError(f"{path}: no questions about pictures. Expected {EXPECTED}")
        rows = [row for file in files for row in json_rows(file)]
    empty = [f"{picture.name} (no answer to {question or 'it'!r})" for _, picture, question, answer in rows if not answer.strip()]
    missing = count_skipped(empty, len(rows), "answers")
    rows = [row for row in rows if row[3].strip()]
    pictures = list(dict.fromkeys(picture for _, picture, _, _ in rows))
    images, reasons = read_images(pictures, shape, what="pictures read")
    skipped = [f"{picture.name} ({reason})" for picture, reason in zip(pictures, reasons, strict=True) if reason]
    unread = count_skipped(skipped, len(pictures), "pictures")
    good = [picture for picture, reason in zip(pictures, reasons, strict=True) if not reason]
    place = {picture: number for number, picture in enumerate(good)}
    splits, seen, twice = {}, set(), []
    for split, picture, question, answer in rows:
        if picture in place and (picture, question) in seen:
            twice.append(f"{question!r} of {picture.name}")
        elif picture in place:
            seen.add((picture, question))
            splits.setdefault(split, []).append(Asked(place[picture], question, answer))
    again = f"left out {len(twice)} questions asked before of the same picture: {', '.join(twice[:3])}" if twice else None
    size = f"{len(images)} pictures made {shape[0]} x {shape[1]}, {len(seen)} questions or captions"
    return images, splits, [size, *filter(None, (missing, unread, again))]


def table_rows(path):
    """`[(split, picture, question, answer)]` of a table."""
    rows, picture, text = picture_rows(path, ANSWERS)
    lines = [(path.parent / row[picture], row.get("question", "").strip(), row[text].strip()) for row in rows]
    return [(split, *each) for split, each in zip(splits_of(path, rows), lines, strict=True)]


def json_rows(path):
    """The same of a file in easy-VQA's layout, beside which lies a folder of its pictures."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        asked = [(str(question), str(answer), int(number)) for question, answer, number in found]
    except (ValueError, TypeError) as error:
        raise UserError(f"{path}: expected a list of [question, answer, number of the picture] ({error})") from None
    split, folder = split_of(path.parent.name) or "train", path.parent / "images"
    return [(split, folder / f"{number}.png", question.strip(), answer.strip()) for question, answer, number in asked]


def drawn_asked(name, shape, seed):
    """The same of drawn shapes: questions, or captions alone where `name` is `captioned-shapes`."""
    side = shape[0]
    if name == "captioned-shapes":
        images, captions = draw_captioned(3000, side, seed)
        asked = [Asked(number, "", caption) for number, caption in enumerate(captions)]
    else:
        images, found = draw_questions(1200, side, seed)
        asked = [Asked(*each) for each in found]
    images = resize_images(images, shape, "the drawn shapes")
    return images, {"train": asked}, [f"{len(images)} pictures of drawn shapes, {len(asked)} questions or captions"]


def split_by_picture(splits, seed, notes):
    """Train, validation and test: as the data name them; what they do not name is taken by the seed, whole pictures at a time.

    Raises:
        UserError: There are too few pictures.
    """
    splits = {name: list(asked) for name, asked in splits.items()}
    if "train" not in splits:
        raise UserError(f"nothing to train on: the data name {' and '.join(splits)} alone; call one split train")
    shares = {name: share for name, share in (("validation", 0.1), ("test", 0.15)) if name not in splits}
    pictures = sorted({each.picture for each in splits["train"]})
    if len(pictures) < 20:
        raise UserError(f"{len(pictures)} pictures; at least 20 are needed to train, validate and test")
    parts = split_indices(np.zeros(len(pictures)), tuple(shares.values()), seed, stratify=False)
    home = {pictures[index]: name for name, part in zip(("train", *shares), parts, strict=True) for index in part}
    asked = splits["train"]
    for name in ("train", *shares):
        splits[name] = [each for each in asked if home[each.picture] == name]
    counts = ", ".join(f"{len(splits[name])} {name}" for name in ("train", "validation", "test"))
    notes.append(f"questions by split: {counts}")
    return splits["train"], splits["validation"], splits["test"]


def prompts_of_text(train, shots):
    """`(prompts, tokens seen at once, About)` of the words of the training questions and answers.

    Args:
        train: A list of `Asked`.
        shots: Lines before the last one, for which there is room.
    """
    prompts = WordPrompts.fit([f"{each.question} ? {each.answer}" for each in train])
    longest = max(len(question_ids(prompts, each.question) + answer_ids(prompts, each.question, each.answer)) for each in train)
    return prompts, min(LONGEST, (shots + 1) * longest), About({"words": prompts.words})


def usable(asked, prompts, length, notes):
    """Those whose line is no longer than `length` and whose text the prompts can write; the others are counted and named."""
    skipped, fine = [], []
    for each in asked:
        strange = prompts.unknown(each.answer + each.question) if not hasattr(prompts, "words") else ()
        size = 0 if strange else len(question_ids(prompts, each.question) + answer_ids(prompts, each.question, each.answer))
        if strange:
            named = ", ".join(map(repr, strange[:3]))
            skipped.append(f"{each.question or each.answer!r} (has {named}, new to the language model)")
        elif size > length:
            skipped.append(f"{each.question or each.answer!r} ({size} tokens, more than {length})")
        else:
            fine.append(each)
    note = count_skipped(skipped, len(asked), "questions", limit=0.3)
    if note:
        notes.append(note)
    return fine


def read_examples(name, prompts, shape, most):
    """`[(picture, ids of the question, ids of the answer)]` of the examples in the table that `--examples` names.

    Args:
        name: Of the file.
        prompts: Of the model.
        shape: Of its pictures.
        most: Examples that it may be shown.
    Raises:
        UserError: There are more, or the model does not know a word of them.
    """
    images, splits, _ = read_asked(find_data(name, "--examples"), shape)
    examples = [each for part in splits.values() for each in part]
    if len(examples) > most:
        raise UserError(f"--examples {name}: {len(examples)} examples; this model was trained with {most} (--shots)")
    for each in examples:
        refuse_unknown(prompts, f"{each.question} {each.answer}", f"--examples {name}")
    return [
        (images[each.picture], question_ids(prompts, each.question), answer_ids(prompts, each.question, each.answer))
        for each in examples
    ]


def refuse_unknown(prompts, text, where):
    """Raises a UserError that names what a model has never seen of a text."""
    unknown = prompts.unknown(text)
    if unknown:
        raise UserError(f"{where}: {text.strip()!r} has what this model has never seen: {', '.join(unknown[:5])}")


@dataclass(frozen=True)
class Questions:
    """Questions about pictures as examples: pictures `(shots + 1, height, width, channels)`, and lines of question and answer.

    Where there are `shots`, an example is that many questions with their answers and one more, drawn anew each epoch, and all
    their answers count; otherwise it is a question alone.

    Args:
        images: uint8 `(pictures, height, width, channels)`.
        asked: A tuple of `Asked`.
        prompts: `WordPrompts` or `LetterPrompts`.
        length: Ids of an example.
        num_images: Pictures of an example.
        shots: Questions before the last one; at most `num_images - 1`.
        seed: Of the draws.
    """

    images: np.ndarray
    asked: tuple
    prompts: object
    length: int
    num_images: int
    shots: int = 0
    seed: int = 0
    _drawn: dict = field(default_factory=dict, compare=False)

    def __len__(self):
        return -(-len(self.asked) // (self.shots + 1))

    def set_epoch(self, epoch):
        order = np.arange(len(self.asked))
        if self.shots:
            order = np.random.default_rng([self.seed, 62, epoch]).permutation(len(order))
        self._drawn["groups"] = np.resize(order, (len(self), self.shots + 1))

    @cached_property
    def lines(self):
        """`(ids of the question, ids of the answer)` of each."""
        found = {}
        for each in self.asked:
            pair = each.question, each.answer
            if pair not in found:
                found[pair] = question_ids(self.prompts, pair[0]), answer_ids(self.prompts, *pair)
        return [found[each.question, each.answer] for each in self.asked]

    def groups(self, indices):
        if "groups" not in self._drawn:
            self.set_epoch(0)
        return self._drawn["groups"][indices]

    def texts(self, groups):
        """Ids, the ids after them, and weights, `(groups, length)` each."""
        rows = [join_lines([self.lines[index] for index in group], self.prompts.line, self.length) for group in groups]
        return tuple(np.stack(part) for part in zip(*rows, strict=True))

    def pictures(self, groups):
        shown = np.zeros((len(groups), self.num_images, *self.images.shape[1:]), "uint8")
        for place in range(groups.shape[1]):
            shown[:, place] = self.images[[self.asked[index].picture for index in groups[:, place]]]
        return shown

    def take(self, indices):
        groups = self.groups(np.asarray(indices))
        ids, following, weight = self.texts(groups)
        return {"image": self.pictures(groups), "tokens": ids}, following, weight

    def subset(self, indices):
        """The questions at these positions."""
        return replace(self, asked=tuple(self.asked[index] for index in indices), _drawn={})

    def fingerprint(self):
        content = json.dumps([(each.picture, each.question, each.answer) for each in self.asked])
        return f"{digest(self.images)}:{hashlib.sha256(content.encode()).hexdigest()[:24]}:{self.shots}"

    def example_digests(self, targets=True):
        known = row_digests(self.images)
        texts = [f"{known[each.picture]}\n{each.question}\n{each.answer if targets else ''}" for each in self.asked]
        return np.array([int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") for text in texts],
                        "uint64")  # fmt: skip
