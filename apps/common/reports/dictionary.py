"""A word-for-word translation learnt from co-occurrence: what a model of whole sentences must beat."""

import re

import numpy as np

WORD = re.compile(r"\w+|[^\w\s]")


def word_dictionary(sources, targets, steps=5):
    """`{source word: its likeliest translation}` by IBM model 1, without the empty word.

    p(target word | source word) is raised by expectation maximisation; the shares with which the words of a sentence explain a
    target word add up to one.

    Args:
        sources, targets: Texts.
        steps: Of expectation maximisation.
    Reference: Brown et al., 1993, The Mathematics of Statistical Machine Translation, section 4.1.
    """
    ours, theirs = {}, {}
    pairs, slots, count = [], [], 0
    for source, target in zip(sources, targets, strict=True):
        left = np.array([ours.setdefault(word, len(ours)) for word in WORD.findall(source)], "int64")
        right = np.array([theirs.setdefault(word, len(theirs)) for word in WORD.findall(target)], "int64")
        pairs.append(np.stack([np.tile(left, len(right)), np.repeat(right, len(left))]))
        slots.append(count + np.repeat(np.arange(len(right)), len(left)))  # which target word is explained
        count += len(right)
    left, right = np.concatenate(pairs, axis=1)
    slots = np.concatenate(slots)
    if not len(left):
        return {}
    (kinds, which) = np.unique(left * len(theirs) + right, return_inverse=True)
    from_word = kinds // len(theirs)
    chance = np.full(len(kinds), 1 / len(theirs))
    for _ in range(steps):
        share = chance[which]
        share = share / np.bincount(slots, share, minlength=count)[slots]
        expected = np.bincount(which, share, minlength=len(kinds))
        chance = expected / np.bincount(from_word, expected, minlength=len(ours))[from_word]
    ours, theirs = list(ours), list(theirs)
    # The last of equal keys wins: the likeliest.
    order = np.argsort(chance, kind="stable")
    return {ours[kinds[i] // len(theirs)]: theirs[kinds[i] % len(theirs)] for i in order}


def word_for_word(text, dictionary):
    """Each word by its translation, an unknown one as it is."""
    words = [dictionary.get(word, word) for word in WORD.findall(text)]
    return re.sub(r" ([.,;:!?)]+)", r"\1", " ".join(words))
