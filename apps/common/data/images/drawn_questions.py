"""Questions about drawn shapes, and their answers."""

import numpy as np

from apps.common.data.images.captioned import COLORS, SHAPES, draw_captioned

OPPOSITE = {"left of": "right of", "above": "below"}
DESCRIBE = "what is in the picture?"


def draw_questions(count, side, seed, each=6):
    """Drawn shapes, and questions about each.

    Args:
        count: Pictures.
        side: Pixels a side.
        seed: Of the drawing and of the choice of questions.
        each: Questions about a picture.
    Returns: `(uint8 (count, side, side, 3), [(picture, question, answer)])`.
    """
    images, captions = draw_captioned(count, side, seed)
    generator, asked = np.random.default_rng([seed, 63]), []
    for picture, caption in enumerate(captions):
        possible = questions_of(caption, generator)
        for index in generator.permutation(len(possible))[:each]:
            asked.append((picture, *possible[index]))
    return images, asked


def questions_of(caption, generator):
    """`[(question, answer)]` of a caption such as "a red circle above a blue square"; as many to say yes to as no."""
    words = caption.split()
    kinds = [tuple(words[place + 1 : place + 3]) for place, word in enumerate(words) if word == "a"]
    asked = [(DESCRIBE, caption), ("how many shapes are there?", ("one", "two")[len(kinds) - 1])]
    colors, shapes = zip(*kinds, strict=True)
    for color, shape in kinds:
        if shapes.count(shape) == 1:
            asked.append((f"what color is the {shape}?", color))
        if colors.count(color) == 1:
            asked.append((f"which shape is {color}?", shape))
    for names, there in ((tuple(COLORS), colors), (SHAPES, shapes)):
        absent = [name for name in names if name not in there]
        is_there = not absent or generator.random() < 0.5
        name = str(generator.choice(there if is_there else absent))
        asked.append((f"is there a {name}{'' if names is SHAPES else ' shape'}?", "yes" if is_there else "no"))
    if len(kinds) == 2:
        relation = next(each for each in OPPOSITE if each in caption)
        first, second = (" ".join(kind) for kind in kinds)
        asked.append((f"what is {relation} the {second}?", f"a {first}"))
        asked.append((f"what is {OPPOSITE[relation]} the {first}?", f"a {second}"))
    return asked
