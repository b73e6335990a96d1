"""Dialogues for a language model: turns one after the other, of which only the answers count."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from apps.common.data.decoded import text_of
from apps.common.data.reading import json_objects
from apps.common.data.sequences import Sequences, bucket_lengths, ragged
from apps.common.errors import UserError, count_skipped

# What begins a turn of the user, what begins an answer, and what ends either; no text has these characters.
ASKED, ANSWERED, ENDED = "\x01", "\x02", "\x03"
MARKS = ASKED + ANSWERED + ENDED
EXPECTED = 'a line each: {"messages": [{"role": "user", "content": ...}, {"role": "assistant", ...}]} or {"turns": ["...", ...]}'
ANSWERING = ("assistant", "bot", "gpt", "model")
INSTRUCTING = ("system", "developer")
PARTS = ("text", "input_text", "output_text")  # kinds of parts of a message that are text, in OpenAI's two interfaces
SENDERS = ("from", "sender", "author", "user", "name", "speaker")  # of a chat's export, one message a line
BLOCK, MOST_BLOCK = 32, 256  # tokens a model sees at most, unless asked for: of any text, and of dialogues


def is_dialogues(path):
    """Whether a file holds dialogues, by its ending."""
    return Path(path).suffix.lower() in (".jsonl", ".ndjson", ".json")


def read_dialogues(path):
    """`(dialogues, notes)`: each a list of `(whether it is an answer, text)`.

    Raises:
        UserError: No dialogue can be read, naming the first line that is none.
    """
    dialogues, skipped = [], []
    for where, row, reason in rows_of(Path(path)):
        try:
            dialogues += [] if reason else [turns_of(row)]
        except ValueError as error:
            reason = str(error)
        if reason:
            skipped.append(f"{where} ({reason[:100]})")
    if not dialogues:
        first = skipped[0] if skipped else "it is empty"
        raise UserError(f"{path}: no dialogue: {first}. Expected {EXPECTED}; a file to learn as plain text must end in .txt")
    note = count_skipped(skipped, len(dialogues) + len(skipped), "dialogues")
    answers = sum(is_answer for dialogue in dialogues for is_answer, _ in dialogue)
    return dialogues, [f"{len(dialogues)} dialogues, {answers} answers", *([note] if note else [])]


def rows_of(path):
    """`(where, object, "")` of each line that is not blank, or entry of a `.json`'s list; `(where, None, reason)` of no object.

    Raises:
        UserError: A `.json` is empty or not UTF-8.
    """
    if path.suffix.lower() != ".json":
        with open(path, "rb") as file:
            yield from ((f"line {number}", row, reason) for number, row, reason in json_objects(file))
        return
    text = text_of(path, EXPECTED)
    try:
        whole = json.loads(text)
    except ValueError:  # many a .json has an object a line
        yield from ((f"line {number}", row, reason) for number, row, reason in json_objects(text.split("\n")))
        return
    for number, row in enumerate(whole if isinstance(whole, list) else [whole], 1):
        yield (f"entry {number}", row, "") if isinstance(row, dict) else (f"entry {number}", None, "not a JSON object")


def turns_of(row):
    """The turns of one line's object.

    Raises:
        ValueError: It is no dialogue, or has no answer.
    """
    listed = next((name for name in ("messages", "conversations", "conversation") if name in row), None)
    if listed:
        turns = turns_by_role(row[listed], listed)
    elif "turns" in row:
        turns = turns_in_order(row["turns"])
    elif {"prompt", "response"} <= row.keys():
        turns = [(False, spoken(row["prompt"], "prompt")), (True, spoken(row["response"], "response"))]
    elif {"instruction", "output"} <= row.keys():  # as Alpaca's, which may have an input that it is about
        parts = [spoken(row[name], name) for name in ("instruction", "input") if row.get(name)]
        turns = [(False, "\n".join(parts)), (True, spoken(row["output"], "output"))]
    elif any(name in row for name in SENDERS) and any(isinstance(row.get(name), str) for name in ("text", "message", "content")):
        raise ValueError("a single message: put those of a conversation into one line, the answers as role assistant")
    else:
        expected = "messages, conversations, turns, prompt and response, or instruction and output"
        raise ValueError(f"no {expected} among {', '.join(map(str, row))}"[:200])
    if not any(is_answer and text.strip() for is_answer, text in turns):
        raise ValueError("it has no answer")
    return turns


def turns_in_order(turns):
    """The turns of a list of texts, every other one an answer, or of a list of objects, each with its role."""
    if not isinstance(turns, list) or any(isinstance(each, dict) for each in turns):
        return turns_by_role(turns, "turns")
    return [(index % 2 == 1, spoken(text, f"turn {index + 1}")) for index, text in enumerate(turns)]


def turns_by_role(messages, name):
    """The turns of a list of objects with `role` (ShareGPT: `from`) and `content`, `text` or `value`, without instructions."""
    if not isinstance(messages, list):
        raise ValueError(f"{name}: expected a list. Received: {json_kind(messages)}")
    turns = []
    for number, each in enumerate(messages, 1):
        role = each.get("role", each.get("from")) if isinstance(each, dict) else None
        if not isinstance(role, str):
            raise ValueError(f"{name}: number {number} has no role")
        if role not in INSTRUCTING:
            text = next((each[key] for key in ("content", "text", "value") if key in each), None)
            turns.append((role in ANSWERING, spoken(text, f"content of message {number}")))
    return turns


def spoken(content, name):
    """What is said in a message: its text, or that of its parts, a line each.

    Raises:
        ValueError: It is neither, or a part is no text, such as a picture.
    """
    if isinstance(content, str):
        return content
    if not isinstance(content, list) or not content:
        raise ValueError(f"{name}: expected a text. Received: {json_kind(content)}")
    for part in content:
        if not isinstance(part, dict) or part.get("type") not in PARTS or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else json_kind(part)
            raise ValueError(f"{name}: expected parts of type text. Received: {kind}")
    return "\n".join(part["text"] for part in content)


def json_kind(value):
    """What JSON calls a value, for a message."""
    kinds = {dict: "an object", list: "an empty list" if not value else "a list", str: "a text", bool: "true or false"}
    return "null" if value is None else kinds.get(type(value), "a number")


def written(turns):
    """The text of some turns."""
    return "".join((ANSWERED if is_answer else ASKED) + clean(text) + ENDED for is_answer, text in turns)


def clean(text):
    """A turn's text without the characters that part turns."""
    return "".join(each for each in text if each not in MARKS)


def turn_ids(turn, vocabulary, what="the text"):
    """The ids of one turn. Each is encoded by itself, in training as in asking: no piece of a word reaches into the next turn.

    Raises:
        UserError: Characters that the vocabulary does not have, of `what`.
    """
    return vocabulary.encode(written([turn]), what)


def asking_ids(turns, vocabulary, block_size, *, most_turns=None, answer_tokens=1):
    """The ids that an answer comes after: the last turns, whole, that the model can take in, and the sign that it begins.

    Args:
        turns: `[(whether it is an answer, text)]`; the last is the question, and is taken however long it is.
        vocabulary: Of the model.
        block_size: Tokens the model sees.
        most_turns: Those of a dialogue in training, the answer to come among them; `None` where there is no record of it.
        answer_tokens: Tokens left to the answer and its end, half the block at most.
    Raises:
        UserError: The question is empty, or a turn has characters that the model has never seen, naming that turn.
    """
    if not clean(turns[-1][1]):
        raise UserError("an empty prompt: expected at least one character to go on from")
    recent = turns[-max(1, most_turns - 1) :] if most_turns else turns
    parts = [turn_ids(turn, vocabulary, f"prompt {turn[1][:40]!r}") for turn in recent]
    sign = vocabulary.encode(ANSWERED)
    room = block_size + 1 - len(sign) - min(answer_tokens, block_size // 2)  # the end is said, and not seen
    fitting = int((np.cumsum([len(part) for part in reversed(parts)]) <= room).sum())
    first = len(parts) - max(1, fitting)
    while first < len(parts) - 1 and recent[first][0]:  # a dialogue does not begin with an answer
        first += 1
    return np.concatenate([*parts[first:], sign]).tolist()


def limits_of(dialogues, vocabulary):
    """What a model of these dialogues takes in at once, as `asking_ids` wants it; of the answers, one in twenty is longer."""
    lengths = [len(turn_ids(turn, vocabulary)) - 1 for turns in dialogues for turn in turns if turn[0]]
    return {"most_turns": max(map(len, dialogues)), "answer_tokens": math.ceil(np.quantile(lengths, 0.95))}


def dialogue_examples(dialogues, vocabulary, block_size):
    """`(Sequences, how many were cut)`: ids and the ids after them, whose weight is one within answers and zero elsewhere.

    Of a dialogue longer than a block the beginning is cut.
    """
    ids, weight, cut = [], [], 0
    for turns in dialogues:
        parts = [(is_answer, turn_ids((is_answer, text), vocabulary)) for is_answer, text in turns]
        tokens = np.concatenate([part for _, part in parts]).astype("int32")
        # What is to be guessed: an answer and its end, not the sign that one begins.
        counts = np.concatenate([np.r_[0.0, np.full(len(part) - 1, float(is_answer))] for is_answer, part in parts])
        cut += len(tokens) > block_size + 1
        tokens, counts = tokens[-block_size - 1 :], counts[-block_size - 1 :]
        ids.append(tokens)
        weight.append(counts[1:].astype("float32"))
    x, y = ragged([each[:-1] for each in ids], "int32"), ragged([each[1:] for each in ids], "int32")
    return Sequences(x, y, ragged(weight, "float32"), np.array([block_size])), cut


def in_buckets(parts, block_size):
    """The parts of some dialogues in batches of the lengths that suit those to train on, and of a whole block."""
    lengths = np.unique([*bucket_lengths(parts[0].x.lengths, longest=block_size), block_size])
    return [replace(part, buckets=lengths) for part in parts]


def cut_note(cut, count, block_size):
    """The line that counts the dialogues whose beginning is cut, or none."""
    return [f"{cut} of {count} dialogues are longer than --block-size {block_size}: their beginning is cut"] if cut else []


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
