"""Texts as ids of the words, pieces of words, bytes or characters that a model's training text is made of."""

import os
import re

import numpy as np

from apps.common.data.text.words import CJK
from apps.common.errors import UserError

TOKENIZER_FILE = "tokenizer.json"  # of a bundle
KINDS = ("wordpiece", "bpe", "byte-bpe", "words", "characters")
PADDING, UNKNOWN = "[PAD]", "[UNK]"
SPECIALS = {"begin": "[BEGIN]", "end": "[END]", "mask": "[MASK]"}
SPECIAL = re.compile("|".join(map(re.escape, (PADDING, UNKNOWN, *SPECIALS.values()))))
LONGEST_WORD = 500  # characters: Thai has few blanks, and of a longer word nothing is known; the time grows by its cube
WIDE = rf"{CJK}\u3000-\u303f\uff00-\uffef"  # and the punctuation between them
BETWEEN_WIDE = re.compile(rf"(?<=[{WIDE}]) (?=[{WIDE}])")
# Its threads do not survive a fork, by which tests and searches start processes.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


class Tokenizer:
    """From texts to ids and back. Id 0 is padding, 1 what is unknown; then begin, end and mask as far as there are any.

    Args:
        content: The bytes of a `tokenizer.json`, as `to_bytes` returns them.
    Raises:
        UserError: They are none.
    """

    padding, unknown = 0, 1

    def __init__(self, content):
        import tokenizers

        try:
            self.model = tokenizers.Tokenizer.from_buffer(content)
        except Exception as error:  # of no class of its own
            raise UserError(f"tokenizer.json: damaged ({error}); expected what training wrote") from None
        for name, token in SPECIALS.items():
            setattr(self, name, self.model.token_to_id(token))  # `None` where there is none
        splitter = self.model.pre_tokenizer
        # Whether Chinese characters are single words, which tokenizers learnt before 2026-11 left in one.
        self.sets_apart = splitter is not None and len(splitter.pre_tokenize_str("\u6728 \u6728\u6728")) == 3

    def __len__(self):
        return self.model.get_vocab_size()

    def encode(self, texts, before=(), after=(), *, gaps=False):
        """The ids of each text, int32 arrays.

        Args:
            texts: A list of strings.
            before, after: Ids put around each, for example `[tokenizer.begin]`.
            gaps: Whether a [MASK] in a text is the mask, and not six characters.
        """
        return [np.array([*before, *each.ids, *after], "int32") for each in self.encodings(texts, gaps=gaps)]

    def encodings(self, texts, *, gaps=False):
        """The `tokenizers.Encoding` of each text.

        Someone's text that holds the name of a special token, such as [PAD] or [END], holds characters like others: as the token
        it would be hidden from the model, or end what is written.
        """
        texts = list(texts)
        found = self.model.encode_batch(texts, add_special_tokens=False)
        named = [] if gaps else [index for index, text in enumerate(texts) if SPECIAL.search(text)]
        if named:
            self.model.encode_special_tokens = True
            again = self.model.encode_batch([texts[index] for index in named], add_special_tokens=False)
            self.model.encode_special_tokens = False
            for index, each in zip(named, again, strict=True):
                found[index] = each
        return found

    def decode(self, ids):
        """The text of some ids, special ones left out."""
        return self.joined(self.model.decode([int(each) for each in ids], skip_special_tokens=True))

    def joined(self, text):
        """A decoded text without the blanks between Chinese characters."""
        return BETWEEN_WIDE.sub("", text) if self.sets_apart else text

    def token(self, index):
        """How an id is spelt."""
        return self.model.id_to_token(int(index))

    def unknown_share(self, texts):
        """The share of the tokens of these texts that the training text did not have."""
        ids = np.concatenate([np.empty(0, "int32"), *self.encode(texts)])
        return float((ids == self.unknown).mean()) if len(ids) else 0.0

    def to_bytes(self):
        """What `tokenizer.json` holds."""
        return self.model.to_str().encode()


def train_tokenizer(texts, kind="wordpiece", size=8000, *, specials=("begin", "end"), lowercase=False):
    """The `Tokenizer` of a text, the same for the same texts.

    Args:
        texts: Strings, a list or a function without arguments that yields them anew.
        kind: `"wordpiece"` (pieces of words, marked by ## within one), `"bpe"` (frequent strings of characters),
            `"byte-bpe"` (of bytes, to which nothing is unknown), `"words"` (and punctuation) or `"characters"`. Words and their
            pieces have no Chinese characters but single ones.
        size: Tokens at most, the special ones among them; at least the characters there are.
        specials: Those of begin, end and mask that the model needs.
        lowercase: Whether capital letters count as small ones.
    References: Schuster and Nakajima, 2012; Sennrich et al., 2016, arXiv 1508.07909; Radford et al., 2019.
    Raises:
        UserError: There is no text.
    """
    if kind not in KINDS:
        raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}")
    named = [PADDING, UNKNOWN, *(SPECIALS[name] for name in SPECIALS if name in specials)]

    def pieces():
        return texts() if callable(texts) else iter(texts)

    if not any(each.strip() for each in pieces()):
        raise UserError("there is no text to make a tokenizer from; give texts with words in them")
    made = _empty(kind, lowercase)
    made.train_from_iterator(pieces(), _trainer(kind, made, pieces, size, named))
    if kind == "wordpiece":
        made = _empty(kind, lowercase, made.get_vocab(with_added_tokens=False))
    made.add_special_tokens(named)
    return Tokenizer(made.to_str().encode())


def _empty(kind, lowercase, vocabulary=None):
    """A tokenizer with all its parts but what is trained."""
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    def words(splitter):
        return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(f"[{CJK}]"), "isolated"), splitter])

    if kind == "wordpiece":
        made = Tokenizer(models.WordPiece(vocabulary or {}, unk_token=UNKNOWN, max_input_chars_per_word=LONGEST_WORD))
        made.pre_tokenizer, made.decoder = words(pre_tokenizers.BertPreTokenizer()), decoders.WordPiece(cleanup=True)
    elif kind == "bpe":
        made = Tokenizer(models.BPE(unk_token=UNKNOWN))
        made.pre_tokenizer, made.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    elif kind == "byte-bpe":
        made = Tokenizer(models.BPE())
        made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    else:
        made = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
        if kind == "words":
            made.pre_tokenizer = words(pre_tokenizers.Whitespace())
        else:
            made.pre_tokenizer, made.decoder = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated"), decoders.Fuse()
    steps = [normalizers.NFC(), *([normalizers.Lowercase()] if lowercase else [])]
    made.normalizer = normalizers.Sequence(steps)
    return made


def _trainer(kind, made, pieces, size, named):
    from tokenizers import pre_tokenizers, trainers

    shared = {"vocab_size": size, "show_progress": False}
    if kind == "wordpiece":
        # Letters within a word get their ids in the order of a hash table, unless they have them already.
        letters = {letter for text in pieces() for letter in made.normalizer.normalize_str(text) if not letter.isspace()}
        known = [*sorted(letters), *(f"##{letter}" for letter in sorted(letters))]
        shared["vocab_size"] = max(size, len(named) + len(known))
        return trainers.WordPieceTrainer(special_tokens=[*named, *known], **shared)
    if kind == "bpe":
        return trainers.BpeTrainer(special_tokens=named, **shared)
    if kind == "byte-bpe":
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        return trainers.BpeTrainer(special_tokens=named, initial_alphabet=alphabet, **shared)
    return trainers.WordLevelTrainer(special_tokens=named, **shared)
