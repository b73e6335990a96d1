"""Stories made by a seeded generator, in the manner of bAbI's first task: people go to places, where is one of them?"""

import numpy as np

from apps.common.data.text.questions import Question

PEOPLE = ("Anna", "Boris", "Clara", "David", "Elena", "Frank")
PLACES = ("kitchen", "garden", "office", "bathroom", "hallway", "cellar")
WAYS = ("went to", "moved to", "walked to", "ran back to", "came into")


def invented_stories(seed, counts):
    """Questions of several splits; a story has two to ten sentences.

    Args:
        seed: Of the draws.
        counts: `{split: number of questions}`.
    Returns: `{split: [Question]}`, no question with its story twice.
    """
    generator, seen, splits = np.random.default_rng([seed, 52]), set(), {}
    for split, count in counts.items():
        splits[split] = []
        while len(splits[split]) < count:
            made = story(generator)
            if (made.context, made.question) not in seen:
                seen.add((made.context, made.question))
                splits[split].append(made)
    return splits


def story(generator):
    """One `Question` about the last place of a person of the story."""
    where, told = {}, []
    for _ in range(generator.integers(2, 11)):
        person, place = str(generator.choice(PEOPLE)), str(generator.choice(PLACES))
        where[person] = place
        told.append(f"{person} {generator.choice(WAYS)} the {place}.")
    person = str(generator.choice(sorted(where)))
    return Question(" ".join(told), f"Where is {person}?", (where[person],))
