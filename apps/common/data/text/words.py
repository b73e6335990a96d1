"""Words of typed and read texts: how they are split, and the ids that a model knows them by."""

import json
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

import numpy as np

WORDS_FILE = "words.json"  # of a bundle
RESERVED = 2  # ids: 0 is padding, 1 whatever is unknown
# Addresses, @names and #tags stay whole, as do words with hyphens; of "isn't" two words are made, "isn" and "'t".
# An accent that is a character of its own stays with its letter, as the vowel signs of many scripts do, and what makes one
# picture of several (skin tones, joiners, variants) with the first.
MARKS = (
    "\u0300-\u036f\u0483-\u0489\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670"  # Latin, Cyrillic, Hebrew, Arabic
    "\u0900-\u0903\u093a-\u094f\u0e31-\u0e4e\u20d0-\u20ff"  # Devanagari, Thai, symbols
)
LETTERS = rf"[\w{MARKS}]+"
# Han characters, which stand without blanks between them: the ranges that BERT's tokenizer sets apart.
CJK = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ceaf\U0002f800-\U0002fa1f"
PICTURE = "[^\\w\\s](?:[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\u20e3]|\u200d[^\\w\\s])*"
WORD = re.compile(rf"https?://\S+|[@#]{LETTERS}|{LETTERS}(?:-{LETTERS})*|['’]{LETTERS}|{PICTURE}")
SCRIPT_WORD = re.compile(rf"[{CJK}]|(?:(?![{CJK}])[\w{MARKS}])+")


def split_words(text):
    """The words and punctuation marks of a text, `[(word, start, end)]` in characters."""
    return [(found.group(), *found.span()) for found in WORD.finditer(text)]


class ScriptWords:
    """A tokenizer for rouge-score: words of any script in small letters, Chinese characters singly, no punctuation."""

    def tokenize(self, text):
        return SCRIPT_WORD.findall(text.lower())


def mostly_ascii(texts):
    """Whether most letters of some texts are those of the Latin alphabet without accents."""
    letters = [letter for text in texts for letter in text if letter.isalpha()]
    return sum(map(str.isascii, letters)) * 2 >= len(letters)


@dataclass(frozen=True)
class Entries:
    """What a model knows by number (words, letters), the first of them number 2; what it does not know is 1.

    Args:
        names: The entries in the order of their ids.
    """

    names: tuple

    def __len__(self):
        """Number of ids, those of padding and of the unknown among them."""
        return len(self.names) + RESERVED

    @cached_property
    def table(self):
        return {name: index for index, name in enumerate(self.names, RESERVED)}

    @classmethod
    def read(cls, content):
        """From the bytes of a bundle's file."""
        return cls(tuple(json.loads(content)))

    def written(self):
        """As the bytes of a file."""
        return json.dumps(self.names, ensure_ascii=False).encode()

    def ids(self, found):
        """int32 ids of some words, or of the letters of one."""
        return np.array([self.table.get(each, 1) for each in found], "int32")


def fit_entries(texts, *, least=1, most=None):
    """The `Entries` of what occurs in some lists of words, the most frequent first.

    Args:
        texts: Lists of words, or words as lists of letters.
        least: How often an entry must occur.
        most: How many there may be.
    """
    counts = Counter(each for text in texts for each in text)
    # Equal counts by name, so that the order of the texts does not matter.
    ranked = sorted((name for name, count in counts.items() if count >= least), key=lambda name: (-counts[name], name))
    return Entries(tuple(ranked[:most]))
