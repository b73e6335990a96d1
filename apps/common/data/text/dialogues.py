"""Dialogues for a language model: turns one after the other, of which only the answers count."""

import math
from pathlib import Path

import numpy as np

from apps.common.data.examples import Examples
from apps.common.data.reading import json_objects
from apps.common.errors import UserError, count_skipped

# What begins a turn of the user, what begins an answer, and what ends either; no text has these characters.
ASKED, ANSWERED, ENDED = "\x01", "\x02", "\x03"
EXPECTED = 'a line each: {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}]} or {"turns": ["...", ...]}'
ANSWERING = ("assistant", "bot", "gpt", "model")
SENDERS = ("from", "sender", "author", "user", "name", "speaker")  # of a chat's export, one message a line
BLOCK, MOST_BLOCK = 32, 256  # tokens a model sees at most, unless asked for: of any text, and of dialogues


def is_dialogues(path):
    """Whether a file holds dialogues, by its ending."""
    return Path(path).suffix.lower() in (".jsonl", ".ndjson")


def read_dialogues(path):
    """`(dialogues, notes)`: each a list of `(whether it is an answer, text)`.

    Raises:
        UserError: No dialogue can be read, naming the first line that is none.
    """
    dialogues, skipped = [], []
    with open(path, "rb") as file:
        for number, row, reason in json_objects(file):
            try:
                dialogues += [] if reason else [turns_of(row)]
            except (ValueError, TypeError, KeyError) as error:
                reason = str(error)
            if reason:
                skipped.append(f"line {number} ({reason[:100]})")
    if not dialogues:
        first = skipped[0] if skipped else "it is empty"
        raise UserError(f"{path}: no dialogue: {first}. Expected {EXPECTED}")
    note = count_skipped(skipped, len(dialogues) + len(skipped), "dialogues")
    answers = sum(is_answer for dialogue in dialogues for is_answer, _ in dialogue)
    return dialogues, [f"{len(dialogues)} dialogues, {answers} answers", *([note] if note else [])]


def turns_of(row):
    """The turns of one line's object.

    Raises:
        ValueError: It is no dialogue, or has no answer.
    """
    if "messages" in row:
        turns = [(each["role"] in ANSWERING, str(each["content"])) for each in row["messages"] if each["role"] != "system"]
    elif "turns" in row:
        turns = [(index % 2 == 1, str(text)) for index, text in enumerate(row["turns"])]
    elif {"prompt", "response"} <= row.keys():
        turns = [(False, str(row["prompt"])), (True, str(row["response"]))]
    elif any(name in row for name in SENDERS) and any(isinstance(row.get(name), str) for name in ("text", "message", "content")):
        raise ValueError("a single message: put those of a conversation into one line, the answers as role assistant")
    else:
        raise ValueError(f"no messages, turns, or prompt and response among {', '.join(map(str, row))}"[:200])
    if not any(is_answer and text.strip() for is_answer, text in turns):
        raise ValueError("it has no answer")
    return turns


def written(turns, waiting=False):
    """The text of some turns; `waiting` for the answer that comes next."""
    text = "".join((ANSWERED if is_answer else ASKED) + clean(text) + ENDED for is_answer, text in turns)
    return text + (ANSWERED if waiting else "")


def clean(text):
    """A turn's text without the characters that part turns."""
    return "".join(each for each in text if each not in ASKED + ANSWERED + ENDED)


def dialogue_examples(dialogues, vocabulary, block_size):
    """`(examples, how many were cut)`: ids and the ids after them, whose weight is one within answers and zero elsewhere.

    Of a dialogue longer than a block the beginning is cut.
    """
    ids = np.zeros((len(dialogues), block_size + 1), "int32")
    weight, cut = np.zeros((len(dialogues), block_size), "float32"), 0
    for row, turns in enumerate(dialogues):
        parts = [(is_answer, vocabulary.encode(written([(is_answer, text)]))) for is_answer, text in turns]
        tokens = np.concatenate([part for _, part in parts]).astype("int32")
        # What is to be guessed: an answer and its end, not the sign that one begins.
        counts = np.concatenate([np.r_[0.0, np.full(len(part) - 1, float(is_answer))] for is_answer, part in parts])
        cut += len(tokens) > block_size + 1
        tokens, counts = tokens[-block_size - 1 :], counts[-block_size - 1 :]
        ids[row, : len(tokens)] = tokens
        weight[row, : len(tokens) - 1] = counts[1:]
    return Examples(ids[:, :-1], ids[:, 1:], weight), cut


def dialogue_block(lengths, brought, library):
    """A block that 19 of 20 dialogues fit in, a multiple of eight; positions that were trained before stay as many.

    Args:
        lengths: Tokens of each dialogue.
        brought: What the run begins with, or `None`.
        library: Whether that is a library's, of whose positions some may be left out.
    """
    wanted = min(MOST_BLOCK, max(BLOCK, 8 * math.ceil(np.quantile(lengths, 0.95) / 8)))
    most = brought["architecture"]["max_tokens"] if brought else None
    if most is None:
        return wanted
    return min(wanted, most) if library else most
