"""Sentences made by a seeded grammar: people, places, products and dates, whose names are made up as well."""

import calendar

import numpy as np

SYLLABLES = (
    "ba", "bel", "cor", "da", "den", "dor", "el", "fa", "gar", "hal", "in", "ka", "kel", "lan", "lo", "mar", "mi", "nor", "o",
    "pa", "ren", "ri", "sa", "sel", "ta", "tor", "ul", "va", "ven", "vi", "wen", "zo",
)  # fmt: skip
MONTHS = calendar.month_name[1:]
DAYS = tuple(calendar.day_name)
# What stands in capitals is drawn. A name looks like any other: only its neighbours tell what it is.
SENTENCES = [line.split() for line in """
PERSON flew to PLACE on DATE .
PERSON met PERSON in PLACE .
On DATE PERSON left PLACE for good .
The new PRODUCT sold out in PLACE by DATE .
PERSON bought a PRODUCT and returned it on DATE .
She told PERSON that the PRODUCT was broken .
The mayor of PLACE thanked PERSON for the PRODUCT .
Until DATE the road from PLACE to PLACE stays closed .
Have you tried the PRODUCT that PERSON repaired ?
PLACE has more rain than PLACE .
Nobody in PLACE had seen PERSON since DATE .
My old PRODUCT still works , said PERSON .
Mrs PERSON and her son live near PLACE .
The price of a PRODUCT fell in DATE .
Trains to PLACE leave at noon .
He was born in PLACE on DATE .
Dear PERSON , your PRODUCT arrives on DATE .
We walked from PLACE to the sea and saw nobody .
It rained all day in PLACE .
""".strip().splitlines()]  # fmt: skip


def invented_sentences(seed, counts):
    """Sentences of several splits, none of whose names occurs in another split.

    Args:
        seed: Of the draws.
        counts: `{split: number of sentences}`.
    Returns: `{split: [(words, tags)]}`.
    """
    generator = np.random.default_rng([seed, 50])
    names = invented_names(generator, 150 * (len(counts) + 1))
    parts = np.split(np.array(names), [150 * (2 + index) for index in range(len(counts) - 1)])
    return {
        split: [sentence(generator, part) for _ in range(count)]
        for (split, count), part in zip(counts.items(), parts, strict=True)
    }


def invented_names(generator, count):
    """As many different names."""
    found = {}
    while len(found) < count:
        name = "".join(generator.choice(SYLLABLES, generator.integers(2, 4)))
        found[name.capitalize()] = None
    return list(found)


def sentence(generator, names):
    """`(words, tags)` of a sentence."""
    words, tags = [], []
    for part in SENTENCES[generator.integers(len(SENTENCES))]:
        entity = drawn(generator, part, names)
        words += entity or [part]
        tags += [f"{'I' if index else 'B'}-{part.lower()}" for index in range(len(entity))] or ["O"]
    return words, tags


def drawn(generator, kind, names):
    """The words of an entity of this kind, or none where it is a plain word."""
    if kind == "DATE":
        month = str(generator.choice(MONTHS))
        forms = (
            [str(generator.choice(DAYS))],
            [str(generator.integers(1, 29)), month],
            [month, str(generator.integers(1990, 2030))],
        )
        return forms[generator.integers(3)]
    if kind not in ("PERSON", "PLACE", "PRODUCT"):
        return []
    found = [str(name) for name in generator.choice(names, 1 + (generator.random() < 0.3))]
    return [*found, str(generator.integers(2, 90))] if kind == "PRODUCT" and generator.random() < 0.3 else found
