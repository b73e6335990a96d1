"""Pairs of texts made by seeded rules: sentences of a made-up language, additions, and short stories with their gist."""

import itertools

import numpy as np

from apps.common.data.text.pairs import Pairs

# English, a made-up word, and its class, with which adjectives and articles agree.
NOUNS = {
    "cook": ("batu", "o"), "girl": ("sirin", "a"), "king": ("roldo", "o"), "bird": ("tivi", "a"), "dog": ("huvan", "o"),
    "fish": ("pelis", "a"), "horse": ("kavor", "o"), "cat": ("mirra", "a"), "farmer": ("adun", "o"), "queen": ("lorel", "a"),
    "wolf": ("grenok", "o"), "child": ("nisi", "a"),
}  # fmt: skip
ADJECTIVES = {
    "old": "vetr", "young": "jun", "red": "karm", "small": "mik", "big": "grand", "happy": "fel", "white": "blank",
    "slow": "lent",
}  # fmt: skip
VERBS = {
    ("sees", "saw"): "vid", ("hears", "heard"): "aud", ("finds", "found"): "trov", ("helps", "helped"): "jut",
    ("follows", "followed"): "sekv", ("likes", "liked"): "plac", ("knows", "knew"): "kon", ("calls", "called"): "vok",
}  # fmt: skip
DETERMINERS = {"the": "l", "every": "omn", "no": "nul"}


def made_up_language(count=4_000, seed=0):
    """English sentences and their translation into a language that puts the verb last and adjectives behind nouns.

    `the old cook saw every bird` is `batu-no vetro lo tivi-mi omna vidir`, written without the hyphens: a noun has an ending for
    its case, the adjective and the article agree with its class, the verb ends in its tense.
    """
    generator = np.random.default_rng([seed, 30])
    made = {}

    def drawn(words):
        return list(words)[generator.integers(len(words))]

    def phrase(case):
        noun, determiner = drawn(NOUNS), drawn(DETERMINERS)
        adjective = drawn(ADJECTIVES) if generator.random() < 0.7 else None
        stem, vowel = NOUNS[noun]
        ours = [determiner, *([adjective] if adjective else []), noun]
        theirs = [stem + case, *([ADJECTIVES[adjective] + vowel] if adjective else []), DETERMINERS[determiner] + vowel]
        return ours, theirs

    while len(made) < count:
        (subject, nominative), (object_, accusative) = phrase("no"), phrase("mi")
        verb = drawn(VERBS)
        past = int(generator.integers(2))
        source = " ".join([*subject, verb[past], *object_])
        made[source] = " ".join([*nominative, *accusative, VERBS[verb] + ("ir" if past else "as")])
    return Pairs(list(made), [[each] for each in made.values()])


def additions(count=50_000, digits=3, seed=0):
    """Sums of two numbers and their results as strings, `535+61` and `596`, each pair of numbers once.

    Reference: keras.io/examples/nlp/addition_rnn.
    """
    generator = np.random.default_rng([seed, 31])
    made, seen = {}, set()
    while len(made) < count:
        lengths = generator.integers(1, digits + 1, 2)
        first, second = (int(generator.integers(10**length)) for length in lengths)
        key = tuple(sorted((first, second)))
        if key not in seen:
            seen.add(key)
            made[f"{first}+{second}"] = str(first + second)
    return Pairs(list(made), [[each] for each in made.values()])


PLACES = ("market", "harbour", "school", "castle", "mill", "library", "garden", "tower")
THINGS = ("lamp", "map", "violin", "ring", "clock", "basket", "letter", "coat")
DEEDS = (("bought", "seller"), ("lost", "keeper"), ("found", "guard"), ("sold", "owner"))
WEATHER = (
    "The morning was cold and grey.", "A light rain had begun to fall.", "The streets were full of people.",
    "Somewhere a bell was ringing.", "It was the first day of spring.", "The sun stood high above the roofs.",
)  # fmt: skip
ENDINGS = (
    "In the evening everybody went home.", "Nobody spoke of it for a long time.", "The next day it was all forgotten.",
    "After that it grew quiet again.", "There was soup for supper.", "The dogs in the yard barked twice.",
)  # fmt: skip


def short_stories(count=3_000, seed=0):
    """Short stories in which somebody does something somewhere, and a sentence that says who, what and where.

    Names and towns are made of syllables, so that most of those of the test were never seen: they can only be copied.
    """
    generator = np.random.default_rng([seed, 32])
    syllables = ["".join(each) for each in itertools.product("bdfgklmnprstvz", "aeiou")]

    def drawn(items):
        return items[generator.integers(len(items))]

    def name(length):
        return "".join(drawn(syllables) for _ in range(length)).capitalize()

    sources, references = [], []
    for _ in range(count):
        who, other, town = name(2), name(2), name(3)
        place, thing, (deed, role) = drawn(PLACES), drawn(THINGS), drawn(DEEDS)
        kind = drawn(("small", "heavy", "golden", "broken"))
        facts = [
            f"{who} had come to {town} with a friend called {other}.",
            f"At the {place} they met the {role}, and there {who} {deed} a {kind} {thing}.",
        ]
        story = [drawn(WEATHER), *facts, *(drawn(ENDINGS) for _ in range(generator.integers(1, 3)))]
        if generator.random() < 0.5:
            story = [facts[0], drawn(WEATHER), *story[2:]]
        sources.append(" ".join(story))
        references.append([f"{who} {deed} a {thing} at the {place} of {town}."])
    return Pairs(sources, references)
