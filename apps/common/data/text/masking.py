"""Passages of a text with some of their tokens hidden, anew in each epoch."""

from dataclasses import dataclass, replace

import numpy as np

from apps.common.data.fingerprint import digest, row_digests
from apps.common.data.text.overlap import is_of_pieces, margin, piece_digests, stands_in

MASKED, REPLACED = 0.8, 0.1  # of the chosen tokens: behind the mask, another token; the rest stays as it is


@dataclass
class MaskedTexts:
    """Passages side by side of a text, each between its two ends; what is hidden follows from (seed, epoch, passage).

    Of the tokens of a passage `share` are chosen, one at least; four in five of them are masked, one in ten is another
    token, one in ten stays. `take` gives `({"tokens", "segments", "places"}, y, weight)`: where the chosen tokens stand,
    which they are, and one for each of them; zeros fill up where there are fewer.

    Args:
        ids: `(tokens,)`, the text.
        length: Tokens of a passage, its two ends among them.
        tokenizer: Has `begin`, `end` and `mask`, and knows how many tokens there are.
        share: Share of the tokens that is chosen.
        seed: Of the choice.
        stride: Passages from one that is taken to the next.
        segments: Whether the model can tell of which of two texts a token is, and is given `"segments"`.
        chosen: Numbers of the passages that these are; all where it is `None`.
    Reference: Devlin et al., 2018, arXiv 1810.04805, section 3.1.
    """

    ids: np.ndarray
    length: int
    tokenizer: object
    share: float = 0.15
    seed: int = 0
    stride: int = 1
    segments: bool = True
    epoch: int = 0
    chosen: np.ndarray | None = None

    def __len__(self):
        if self.chosen is not None:
            return len(self.chosen)
        passages = -(-len(self.ids) // (self.length - 2))
        return -(-passages // self.stride)

    def set_epoch(self, epoch):
        self.epoch = epoch

    @property
    def places(self):
        """How many tokens of a passage are chosen at most."""
        return max(1, round(self.share * (self.length - 2)))

    def numbers(self, indices):
        """Which passages of all these are."""
        return np.asarray(indices) if self.chosen is None else self.chosen[indices]

    def subset(self, indices):
        """Some of the passages, in which the same tokens are hidden."""
        return replace(self, chosen=self.numbers(indices))

    def passages(self, indices):
        """Token ids `(passages, length)`, padded where the text ends."""
        inner = self.length - 2
        made = np.zeros((len(indices), self.length), "int32")
        for row, index in zip(made, self.numbers(indices), strict=True):
            first = int(index) * self.stride * inner
            tokens = self.ids[first : first + inner]
            row[: len(tokens) + 2] = [self.tokenizer.begin, *tokens, self.tokenizer.end]
        return made

    def take(self, indices):
        whole = self.passages(indices)
        x, places = whole.copy(), np.zeros((len(whole), self.places), "int32")
        weight = np.zeros(places.shape, "float32")
        special = max(self.tokenizer.begin, self.tokenizer.end, self.tokenizer.mask)
        for row, (index, tokens) in enumerate(zip(self.numbers(indices), whole, strict=True)):
            candidates = np.flatnonzero(tokens > special)
            if not len(candidates):
                continue
            generator = np.random.default_rng([self.seed, 30, self.epoch, int(index)])
            count = max(1, round(self.share * len(candidates)))
            chosen, fate = generator.permutation(candidates)[:count], generator.random(count)
            others = generator.integers(special + 1, len(self.tokenizer), count)
            hidden = np.where(fate < MASKED, self.tokenizer.mask, others)
            x[row, chosen] = np.where(fate < MASKED + REPLACED, hidden, tokens[chosen])
            places[row, :count], weight[row, :count] = chosen, 1
        y = np.take_along_axis(whole, places, 1) * (weight > 0)
        segments = {"segments": np.zeros_like(x)} if self.segments else {}
        return {"tokens": x, **segments, "places": places}, y.astype("int32"), weight

    def fingerprint(self):
        return digest(self.example_digests())

    def example_digests(self, targets=True):
        """One digest a passage; the text is input and target at once."""
        parts = np.split(np.arange(len(self)), range(4096, len(self), 4096))
        return np.concatenate([row_digests(self.passages(part)) for part in parts])

    def known_by(self):
        """Pieces of the text, wherever passages begin."""
        return piece_digests(lambda starts, size: self.ids[starts[:, None] + np.arange(size)], len(self.ids))

    def known_again(self, known):
        """Which passages stand in a text that was trained on, wherever its passages began."""
        if not is_of_pieces(known):
            return np.isin(self.example_digests(), known)
        around, inner = margin(known), self.length - 2
        padded = np.pad(np.asarray(self.ids, "int64"), around, constant_values=-1)
        padded = np.pad(padded, (0, inner), constant_values=-1)
        places = np.arange(inner + 2 * around)
        parts = np.split(np.arange(len(self)), range(512, len(self), 512))
        rows = (padded[self.numbers(part)[:, None] * self.stride * inner + places] for part in parts)
        return np.concatenate([stands_in(each, known, around, around + inner) for each in rows])
