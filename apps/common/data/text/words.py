"""Words as token ids: a vocabulary of the commonest words of the training texts, kept as a file of the bundle."""

import collections
import itertools
import json
import re

import numpy as np

from apps.common.errors import UserError

FILE = "tokenizer.json"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PADDING, UNKNOWN, BEGINNING, END, MASK = range(len(SPECIAL))
MASK_WORD = SPECIAL[MASK]
# What ends an English word apart ('s, n't), whole words, and every sign by itself. Scripts without spaces between words
# (Chinese, Japanese) come character by character, as in BERT.
CHARACTERS = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002fa1f"
PIECES = re.compile(
    rf"\[MASK\]|[{CHARACTERS}]|n't\b|'(?:s|m|d|re|ve|ll)\b|(?:(?!n't\b)[^\W{CHARACTERS}])+|[^\w\s]", re.IGNORECASE
)


def pieces(text):
    """The words and signs of a text in lower case; `[MASK]` is one of them."""
    return [MASK_WORD if piece == MASK_WORD.lower() else piece for piece in PIECES.findall(text.replace("’", "'").lower())]



class WordTokenizer:
    """Ids of words; a word that is not in the vocabulary is `[UNK]`.

    Args:
        entries: The words in the order of their ids, `SPECIAL` first.
    """

    def __init__(self, entries):
        self.entries = list(entries)
        self._ids = {word: index for index, word in enumerate(self.entries)}

    def __len__(self):
        return len(self.entries)

    def encode(self, text, ends=False):
        """Ids `(tokens,)` of a text, never none; with `ends` between `[CLS]` and `[SEP]`."""
        ids = [self._ids.get(piece, UNKNOWN) for piece in pieces(text)]
        if ends:
            return np.array([BEGINNING, *ids, END], "int32")
        return np.array(ids or [UNKNOWN], "int32")

    def words(self, text):
        """The pieces of a text as they are read, one for each id of `encode` without ends."""
        return pieces(text) or [SPECIAL[UNKNOWN]]

    def decode(self, ids):
        """The words of these ids with spaces between them, but for signs that stand close."""
        text = " ".join(self.entries[index] for index in ids if index not in (PADDING, BEGINNING, END))
        return re.sub(r" ((?:n't|'(?:s|m|d|re|ve|ll))\b|[.,;:!?)\]}])", r"\1", re.sub(r"([(\[{]) ", r"\1", text))

    def to_bytes(self):
        """The content of the bundle's file."""
        return json.dumps({"level": "word", "entries": self.entries}, ensure_ascii=False, indent=0).encode()


def train_tokenizer(texts, size, min_count=1):
    """A `WordTokenizer` of the commonest words of these texts.

    Args:
        texts: Any iterable of them, gone through once.
        size: Entries at most, the special ones among them.
        min_count: How often a word must occur.
    """
    counts = collections.Counter()
    for text in texts:
        counts.update(pieces(text))
    for word in SPECIAL:
        counts.pop(word, None)
    # Of equally common words the first in the alphabet, so that the order of the texts does not matter.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    common = itertools.takewhile(lambda item: item[1] >= min_count, ranked[: max(0, size - len(SPECIAL))])
    return WordTokenizer([*SPECIAL, *(word for word, _ in common)])


def read_tokenizer(about):
    """The tokenizer among the files of a trained model.

    Raises:
        UserError: It is not there, or is not one.
    """
    try:
        entries = json.loads(about.files[FILE])["entries"]
    except (AttributeError, KeyError, TypeError, ValueError):
        raise UserError(f"{FILE}: the model has no such file, or it is no tokenizer; train the model again") from None
    return WordTokenizer(entries)
