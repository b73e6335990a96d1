"""Pairs of texts as ids for an encoder-decoder, and ids back to text; words that a vocabulary lacks can be copied."""

import re
import unicodedata
from dataclasses import dataclass

import numpy as np

from apps.common.data.examples import About
from apps.common.data.sequences import Sequences, bucket_lengths, ragged
from apps.common.data.text.pairs import Pairs
from apps.common.data.text.tokenizer import Tokenizer
from apps.common.errors import UserError


@dataclass(frozen=True)
class PairSequences(Sequences):
    """Ids of pairs in buckets, which know the texts they were made of.

    Args:
        texts: The `Pairs`.
    """

    texts: Pairs | None = None

    def subset(self, indices):
        """The same kind of examples at these positions only, with the same buckets."""
        made = super().subset(indices)
        return PairSequences(made.x, made.y, made.weight, made.buckets, self.texts.subset(indices))


@dataclass(frozen=True)
class PairCoder:
    """From pairs of texts to ids and back.

    Args:
        source, target: `Tokenizer`s of each side; the target's has begin and end.
        num_copied: Ids above the target's vocabulary, one for each word of a text that the vocabulary lacks, in the order of
            their coming; the tokenizers are then one and the same, of whole words.
    """

    source: Tokenizer
    target: Tokenizer
    num_copied: int = 0

    def encode_sources(self, texts):
        """`(ids, copied)`: an array of ids and the words to copy of each text."""
        if not self.num_copied:
            return self.source.encode(texts), [[] for _ in texts]
        rows, words, texts = [], [], composed(texts)
        for text, found in zip(texts, self.source.encodings(texts), strict=True):
            own = dict.fromkeys(text[slice(*found.offsets[place])] for place in unknown_places(found))
            own = list(own)[: self.num_copied]
            rows.append(self._with_copied(text, found, own))
            words.append(own)
        return rows, words

    def encode_targets(self, texts, copied):
        """The ids of each text, without begin and end, where `copied` are the words of its source."""
        if not self.num_copied:
            return self.target.encode(texts)
        texts = composed(texts)
        found = self.target.encodings(texts)
        return [self._with_copied(*each) for each in zip(texts, found, copied, strict=True)]

    def decode(self, ids, copied=()):
        """The text of some ids, special ones left out."""
        if not self.num_copied:
            return self.target.decode(ids).strip()
        special = (self.target.padding, self.target.begin, self.target.end)
        words = [self.spelt(each, copied) for each in ids if each not in special]
        return self.target.joined(re.sub(r" ([.,;:!?)\]]+)", r"\1", " ".join(words)))

    def spelt(self, index, copied=()):
        """How one token of a target looks."""
        size = len(self.target)
        if index >= size:
            return copied[index - size] if index - size < len(copied) else self.target.token(self.target.unknown)
        return self.target.token(index) if self.num_copied else self.target.decode([index]).strip()

    def sequences(self, pairs, buckets=None, longest=None):
        """The `PairSequences` of some pairs.

        Args:
            pairs: `Pairs`.
            buckets: Those of the training examples; made of these where not given.
            longest: Most ids of the source and of the target, where the buckets are made.
        """
        sources, copied = self.encode_sources(pairs.sources)
        targets = self.encode_targets(pairs.targets, copied)
        begin, end = [self.target.begin], [self.target.end]
        x = {
            "source": ragged(sources, "int32"),
            "target": ragged([np.concatenate([begin, each]) for each in targets], "int32"),
        }
        y = ragged([np.concatenate([each, end]) for each in targets], "int32")
        if buckets is None:
            lengths = np.stack([x["source"].lengths, x["target"].lengths, y.lengths], axis=1)
            buckets = bucket_lengths(lengths, longest=(longest[0], longest[1], longest[1]))
        return PairSequences(x, y, None, buckets, pairs)

    def _with_copied(self, text, found, own):
        ids, numbers = np.array(found.ids, "int32"), {word: len(self.target) + index for index, word in enumerate(own)}
        for place in unknown_places(found):
            ids[place] = numbers.get(text[slice(*found.offsets[place])], ids[place])
        return ids


def composed(texts):
    """The texts with letter and accent in one character, as tokenizers read them: their offsets are those of such a text."""
    return [unicodedata.normalize("NFC", text) for text in texts]


def unknown_places(found):
    return np.flatnonzero(np.array(found.ids) == Tokenizer.unknown).tolist()


def about_pairs(coder, train, longest, **values):
    """The `About` of a model for pairs: lengths to pad to and the tokenizers' files.

    Args:
        coder: A `PairCoder`.
        train: The training part's `PairSequences`.
        longest: Most ids of a source and of a target.
        values: What the app adds.
    """
    sources = sorted({int(each) for each in train.buckets[:, 0]} | {longest[0]})
    written = int(min(longest[1], 1.5 * train.buckets[-1, 1] + 5))
    files = {"target.json": coder.target.to_bytes()}
    if coder.source is not coder.target:
        files["source.json"] = coder.source.to_bytes()
    lengths = {"buckets": train.buckets.tolist(), "source_lengths": sources, "target_length": written}
    return About({**values, **lengths, "num_copied": coder.num_copied}, files)


def coder_of(about):
    """The `PairCoder` of a trained model.

    Raises:
        UserError: A tokenizer is missing.
    """
    if "target.json" not in about.files:
        raise UserError("target.json: missing in the bundle; expected the tokenizer that training wrote there")
    target = Tokenizer(about.files["target.json"])
    source = Tokenizer(about.files["source.json"]) if "source.json" in about.files else target
    return PairCoder(source, target, about["num_copied"])
