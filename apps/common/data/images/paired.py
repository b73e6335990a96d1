"""Pictures and their captions as pairs, in the splits that the data name and with whole pictures in those they do not."""

from dataclasses import dataclass

import numpy as np

from apps.common.data.examples import Examples
from apps.common.data.fingerprint import row_digests
from apps.common.data.images.captioned import encode, split_pairs, words_of
from apps.common.errors import UserError

SHARES = {"validation": 0.1, "test": 0.15}  # of the pictures, where the data name no such split


@dataclass(frozen=True)
class Pairs(Examples):
    """Pictures and token ids, which know the captions that the ids were made of.

    Args:
        x: `{"image": uint8 (pairs, height, width, channels), "text": ids (pairs, length)}`.
        captions: Texts as they were written, an array of objects `(pairs,)`.
    """

    captions: object = ()

    def subset(self, indices):
        return Pairs(*(*self.take(indices), None, None)[:3], self.captions[indices])

    @property
    def spelt(self):
        """What `spelt_alike` makes of the captions, `(pairs,)`."""
        return spelt_alike(self.captions)


def spelt_alike(captions):
    """The words of each caption, `(captions,)`: two say the same where these are equal, whether a model knows them or not."""
    return np.array([" ".join(words_of(text)) for text in captions], object)


def pairs_of(images, captions, about):
    """The `Pairs` of uint8 pictures and as many captions, for a model whose `about` has `words` and `length`."""
    ids = encode(captions, about["words"], about["length"])
    return Pairs({"image": images, "text": ids}, captions=np.array(captions, object))


def by_split(images, captions, named):
    """`{split: (pictures, captions)}`, where `named` says the split of each."""
    rows = {split: [index for index, each in enumerate(named) if each == split] for split in dict.fromkeys(named)}
    return {split: chosen(images, captions, indices) for split, indices in rows.items()}


def chosen(images, captions, indices):
    """`(pictures, captions)` at these positions."""
    return images[indices], [captions[index] for index in indices]


def joined(splits):
    """`(pictures, captions)` of several splits one after the other."""
    images, captions = zip(*splits.values(), strict=True)
    return np.concatenate(images), [text for part in captions for text in part]


def complete_pairs(splits, config, notes):
    """`(pictures, captions)` of train, validation and test: as the data name them, else taken from train by the seed.

    All the captions of a picture stay in one part of those that are taken.

    Args:
        splits: `{"train": (pictures, captions), "validation": ..., "test": ...}`; all but the first may be missing.
        config: Has `data` and `seed`.
        notes: List to which lines are added that say what was decided.
    Raises:
        UserError: There is no train split, or too few pairs in one.
    """
    if "train" not in splits:
        named = " and ".join(splits)
        raise UserError(f"--data {config.data}: nothing to train on, the data name {named} alone; call one split train")
    splits = dict(splits)
    if "validation" in splits and "test" not in splits:
        notes.append("the data name no test split: their validation split is the test, validation is taken from train")
        splits["test"] = splits.pop("validation")
    missing = [name for name in SHARES if name not in splits]
    if missing:
        pairs = splits["train"]
        parts = split_pairs(pairs[0], config.seed, tuple(SHARES[name] for name in missing))
        splits |= {name: chosen(*pairs, part) for name, part in zip(("train", *missing), parts, strict=True)}
    counts = {name: len(splits[name][1]) for name in ("train", *SHARES)}
    short = min(counts, key=counts.get)
    if counts[short] < 2:
        few = f"{counts[short]} of {sum(counts.values())} pairs in {short}"
        raise UserError(f"--data {config.data}: {few}; give each split two, or at least 20 pictures to split")
    notes.append("pairs by split: " + ", ".join(f"{count} {name}" for name, count in counts.items()))
    again = np.isin(*(row_digests(splits[name][0]) for name in ("test", "train"))).sum()
    if again:
        notes.append(f"{again} of {counts['test']} test pairs are of pictures that are trained on as well: the test flatters")
    return [splits[name] for name in counts]
