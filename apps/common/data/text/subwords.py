"""A vocabulary of pieces of words for language models, with the methods of one of characters."""

import numpy as np

from apps.common.data.text.plain import Vocabulary
from apps.common.data.text.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer

LEARNT_FROM = 20_000_000  # characters of a text, at most
CHARACTER_BYTES = 4  # of UTF-8, at most


class Subwords:
    """Frequent strings of bytes, so that nothing is unknown.

    Args:
        content: The bytes of a `tokenizer.json`.
    """

    characters = ""

    def __init__(self, content):
        self.content, self.tokenizer = content, Tokenizer(content)

    def __len__(self):
        return len(self.tokenizer)

    @property
    def dtype(self):
        return np.dtype("uint16" if len(self) <= 0xFFFF else "uint32")

    def encode(self, text, what="the text"):
        """Ids of a string."""
        return self.tokenizer.encode([text])[0].astype(self.dtype)

    def decoder(self):
        """A function from one id to the text it completes; bytes of a character that is not whole yet wait for the rest.

        An id is spelt behind those of the last piece alone, as its spelling depends on no others: all ids so far would make
        a text of 16,000 cost two minutes.
        """
        before, waiting = [], []

        def spell(token):
            nonlocal before, waiting
            waiting.append(int(token))
            text = self.tokenizer.decode([*before, *waiting])
            if text.endswith("\ufffd") and len(waiting) < CHARACTER_BYTES:
                return ""
            piece = text[len(self.tokenizer.decode(before)) :]
            before, waiting = waiting, []
            return piece

        return spell


def learn_subwords(pieces, size):
    """The `Subwords` of a text that comes in pieces, strings; `pieces()` starts it from the beginning."""

    def beginning():
        read = 0
        for piece in pieces():
            if read >= LEARNT_FROM:
                return
            read += len(piece)
            yield piece

    return Subwords(train_tokenizer(beginning, "byte-bpe", size, specials=()).to_bytes())


def vocabulary_of(about):
    """The vocabulary of a trained language model: pieces where its bundle has a tokenizer, else characters or bytes."""
    files = getattr(about, "files", {})
    return Subwords(files[TOKENIZER_FILE]) if TOKENIZER_FILE in files else Vocabulary(about["characters"])
