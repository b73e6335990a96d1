"""Stories made by a seeded generator, in the manner of bAbI's tasks 1 and 11: people go to places, where is one of them?

Some sentences say "then she" of the person of the sentence before, so that the last one with a name need not have the answer.
"""

import numpy as np

from apps.common.data.text.questions import Question

PEOPLE = {"Anna": "she", "Boris": "he", "Clara": "she", "David": "he", "Elena": "she", "Frank": "he"}
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
    where, told, person = {}, [], None
    for _ in range(generator.integers(2, 11)):
        again = person is not None and generator.random() < 0.3
        person = person if again else str(generator.choice(list(PEOPLE)))
        where[person] = place = str(generator.choice(PLACES))
        told.append(f"{f'Then {PEOPLE[person]}' if again else person} {generator.choice(WAYS)} the {place}.")
    person = str(generator.choice(sorted(where)))
    return Question(" ".join(told), f"Where is {person}?", (where[person],))
