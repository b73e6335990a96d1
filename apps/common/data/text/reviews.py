"""Reviews of products written by a small grammar, whose words alone do not tell what they come to."""

import numpy as np

THINGS = {
    "phone": ("screen", "battery", "camera", "speaker"),
    "novel": ("plot", "ending", "dialogue", "first chapter"),
    "hotel": ("room", "breakfast", "staff", "view"),
    "film": ("acting", "script", "music", "last hour"),
    "restaurant": ("food", "service", "wine", "dessert"),
}
GOOD = ("good", "great", "lovely", "impressive", "solid", "charming", "superb", "reliable", "delightful", "clever")
BAD = ("bad", "poor", "dull", "disappointing", "awful", "clumsy", "weak", "dreadful", "tedious", "flimsy")
DEGREES = ("", "", "really ", "quite ", "rather ", "truly ", "surprisingly ")
DENIALS = ("is not {}", "is hardly {}", "is never {}", "is anything but {}", "is far from {}")
# {0} is the opinion that does not count in the end, {1} the one that does.
CONTRASTS = ("{0}, but {1}", "although {0}, {1}", "{1}, even though {0}", "{0}; still, {1}", "{1}, while admittedly {0}")
OPENINGS = ("", "", "bought it last week. ", "my second {}. ", "we tried this {} on a sunday. ", "a friend told me about it. ")
CLOSINGS = ("", "", " that is all.", " you have been told.", " make of it what you will.")
CLASSES = ("negative", "positive")
WRONG = 0.03  # share of labels that are the other one, as people make them


def reviews(count=3000, seed=0):
    """`(texts, labels)`: different short reviews and what their writers thought, one of `CLASSES`.

    An opinion may be denied ("is far from good") and set against another ("although ..., ..."), whose order decides: a
    model that only counts words does a little better than chance, one that reads phrases better, and one that reads the
    whole sentence best. Three labels in a hundred are wrong.
    """
    generator = np.random.default_rng([seed, 17])

    def one_of(choices):
        return choices[generator.integers(len(choices))]

    def opinion(thing, positive):
        aspect, denied = one_of(THINGS[thing]), generator.random() < 0.35
        word = one_of(GOOD if positive != denied else BAD)
        said = one_of(DENIALS).format(word) if denied else f"is {one_of(DEGREES)}{word}"
        return f"the {aspect} {said}"

    written = {}
    while len(written) < count:
        positive, thing = bool(len(written) % 2), one_of(tuple(THINGS))
        text = opinion(thing, positive)
        if generator.random() < 0.6:
            text = one_of(CONTRASTS).format(opinion(thing, not positive), text)
        text = f"{one_of(OPENINGS).format(thing)}{text}.{one_of(CLOSINGS)}"
        written.setdefault(text, CLASSES[positive != (generator.random() < WRONG)])
    return list(written), list(written.values())
