"""Questions and answers as the ids of a language model: a line each, question first.

The sign of a new line stands before each line and behind the last one: it ends an answer, and stands for the line's picture.
"""

from collections import Counter
from functools import cached_property

import numpy as np

from apps.common.data.text.subwords import vocabulary_of
from apps.common.data.text.words import split_words

PADDING, UNKNOWN, LINE, RESERVED = 0, 1, 2, 3  # ids of `WordPrompts`


class WordPrompts:
    """Texts as words in small letters and punctuation marks.

    Args:
        words: Those that are known, the first of them number 3.
    """

    line = LINE

    def __init__(self, words):
        self.words = tuple(words)

    @classmethod
    def fit(cls, texts):
        """Of all words of some texts, the most frequent first."""
        counts = Counter(word for text in texts for word in lower_words(text))
        return cls(sorted(counts, key=lambda word: (-counts[word], word)))

    def __len__(self):
        return len(self.words) + RESERVED

    @cached_property
    def table(self):
        return {word: index for index, word in enumerate(self.words, RESERVED)}

    def ids(self, text):
        return [self.table.get(word, UNKNOWN) for word in lower_words(text)]

    def unknown(self, text):
        """The words of a text that are not known."""
        return sorted(set(lower_words(text)) - self.table.keys())

    def text(self, ids):
        """The text of some ids; what is no word is left out."""
        return " ".join(self.words[index - RESERVED] for index in ids if index >= RESERVED)


class LetterPrompts:
    """Texts as the characters, bytes or pieces of words that a trained language model knows.

    Args:
        vocabulary: As `vocabulary_of` returns it.
    Raises:
        ValueError: It has no sign of a new line.
    """

    def __init__(self, vocabulary):
        self.vocabulary = vocabulary
        if self.unknown("\n"):
            raise ValueError("the text it was trained on has no line breaks")
        self.line = int(vocabulary.encode("\n")[-1])

    def __len__(self):
        return len(self.vocabulary)

    def ids(self, text):
        return self.vocabulary.encode(text).tolist()

    def unknown(self, text):
        """The characters of a text that are not known."""
        known = self.vocabulary.characters
        return sorted(set(text) - set(known)) if known else []

    def text(self, ids):
        spell = self.vocabulary.decoder()
        return "".join(spell(index) for index in ids).strip()


def lower_words(text):
    return [word.lower() for word, _, _ in split_words(text)]


def prompts_of(about):
    """The `WordPrompts` or `LetterPrompts` that a model's `about` tells of."""
    return WordPrompts(about["words"]) if about.get("words") is not None else LetterPrompts(vocabulary_of(about))


def as_question(text):
    """A question in one line with a mark at its end, by which the model knows that an answer follows; of nothing, nothing."""
    text = " ".join(text.split())
    return text if not text or text[-1] in "?.!:" else f"{text}?"


def question_ids(prompts, question):
    """Ids of a line up to where its answer begins."""
    return [prompts.line, *prompts.ids(as_question(question))]


def answer_ids(prompts, question, answer):
    """Ids of a line from where its answer begins, without the sign at its end."""
    return prompts.ids((" " if question else "") + " ".join(answer.split()))


def join_lines(lines, line, length):
    """Lines one after the other, as a language model is trained on them.

    Args:
        lines: `(ids of the question, ids of the answer)` each; where all do not fit, the last are left out.
        line: The id of a new line.
        length: Ids of a row.
    Returns: `(ids, ids after them, weights)`, `(length,)` each; what counts is an answer and the end of it.
    """
    sizes = np.cumsum([len(question) + len(answer) for question, answer in lines])
    lines = lines[: int((sizes <= length).sum())]
    ids, counts = np.zeros(length + 1, "int32"), np.zeros(length + 1, "float32")
    place = 0
    for question, answer in lines:
        ids[place : place + len(question)] = question
        place += len(question)
        ids[place : place + len(answer)] = answer
        counts[place : place + len(answer) + 1] = 1
        place += len(answer)
    ids[place] = line
    return ids[:-1], ids[1:], counts[1:]
