"""Pictures with the captions that they are to be drawn from, each different caption a class for the judge."""

import shlex

import numpy as np

from apps.common.data.examples import Data, Examples
from apps.common.data.images.captioned import (
    caption_file,
    draw_captioned,
    encode,
    read_captioned,
    split_pairs,
    text_of,
    vocabulary_of,
    words_of,
)

DRAWN = "captioned-shapes"


def captioned_by_class(data):
    """The same pictures, each with the name of its class for a caption."""
    classes = data.about["class_names"]
    names = [text_of(each) for each in classes]
    words, length = vocabulary_of(names), max(len(words_of(name)) for name in names)
    ids = encode(names, words, length)
    parts = [Examples(each.x, {"label": each.y, "text": ids[each.y]}) for each in (data.train, data.validation, data.test)]
    about = {**data.about, "class_names": names, "classes": classes, "words": words, "length": length, "captions": True}
    notes = [*data.notes, f"each picture's caption is its class: {names[0]!r}"]
    return Data(*parts, about, notes, data.source, example=shlex.quote(names[0]))


def captioned(name, side, seed, about=None):
    """Pictures and the ids of their captions, each different caption a class for the judge; drawn shapes without data.

    Args:
        name: What `--data` says.
        side: Of the pictures.
        seed: Of the shapes and of the split.
        about: Of a trained model, to evaluate it.
    """
    if name and name != DRAWN:
        images, captions, notes = read_captioned(caption_file(name), about["image_shape"][0] if about else side)
    else:
        images, captions = draw_captioned(3000, side, seed, pairs=side >= 20)
        notes = [f"{len(images)} drawn shapes of {side} x {side} pixels with captions"]
    names, words = (about or {}).get("class_names"), (about or {}).get("words")
    trained_on = split_pairs(images, seed)[0]
    names = names or sorted({captions[index] for index in trained_on})
    words = words or vocabulary_of(names)
    length = about["length"] if about else max(len(words_of(name)) for name in names)
    position = {name: index for index, name in enumerate(names)}
    inside = [index for index, caption in enumerate(captions) if caption in position]
    if len(inside) < len(images):
        notes.append(f"{len(images) - len(inside)} pictures left out: their caption is not among those trained on")
    captions = [captions[index] for index in inside]
    y = {"label": np.array([position[caption] for caption in captions]), "text": encode(captions, words, length)}
    examples = Examples(images[inside], y)
    source = name or DRAWN
    if about:
        return Data(None, None, examples, about, notes, source)
    parts = split_pairs(examples.x, seed)
    described = {"class_names": names, "image_shape": list(images.shape[1:]), "words": words, "length": length, "captions": True}
    return Data(*(examples.subset(part) for part in parts), described, notes, source, example=shlex.quote(names[0]))
