"""Pictures with the captions that they are to be drawn from, each different caption a class for the judge."""

import shlex
from collections import Counter

import numpy as np

from apps.common.data.examples import Data, Examples
from apps.common.data.images.captioned import (
    caption_file,
    draw_captioned,
    encode,
    read_captioned,
    text_of,
    unreadable,
    vocabulary_of,
    words_of,
)
from apps.common.data.images.paired import by_split, complete_pairs, joined
from apps.common.errors import UserError, nearest

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


def captioned(config, side, about=None):
    """Pictures and the ids of their captions in three splits, each different caption a class for the judge.

    Without data they are drawn shapes. The words are those of the training captions, and of captions with others these alone
    count. Other data have three splits as well, since their judge is trained on a part of them.

    Args:
        config: What `--data` says and the seed, of the shapes and of what the data do not split.
        side: Of the pictures.
        about: Of a trained model, to evaluate it.
    Raises:
        UserError: There are too few pictures, or a split without a caption that can be read.
    """
    name, side = config.data, about["image_shape"][0] if about else side
    if config.folds:
        raise UserError("--folds: pictures with captions are split as their column split says, else by the seed; leave it out")
    if name and name != DRAWN:
        *pairs, notes = read_captioned(caption_file(name), side)
        splits = by_split(*pairs)
        splits = {"train": joined(splits)} if about and "train" not in splits else splits
    else:
        splits = {"train": draw_captioned(3000, side, config.seed, pairs=side >= 20)}
        notes = [f"{len(splits['train'][0])} drawn shapes of {side} x {side} pixels with captions"]
    splits = complete_pairs(splits, config, notes)
    trained_on = splits[0][1]
    words = about["words"] if about else vocabulary_of(trained_on)
    length = about["length"] if about else max(len(words_of(caption)) for caption in trained_on)
    images, captions = joined(dict(enumerate(splits)))
    captions, said = readable(captions, words, length)
    places = np.split(np.arange(len(captions)), np.cumsum([len(part[1]) for part in splits])[:-1])
    parts = [np.array([index for index in part if captions[index]], int) for part in places]
    empty = next((split for split, part in zip(("training", "validation", "test"), parts, strict=True) if not len(part)), None)
    if empty:
        expected = f"captions that share words with those trained on: {', '.join(words[:30])}"
        raise UserError(f"{name or DRAWN}: no {empty} caption has a word that is trained on; give {expected}")
    # What a trained model numbered keeps its number, by which the examples are known again.
    names = list(about["class_names"]) if about else []
    names += sorted(set(captions) - {"", *names})
    position = {name: index for index, name in enumerate(["", *names], -1)}
    y = {"label": np.array([position[caption] for caption in captions]), "text": encode(captions, words, length)}
    train, validation, test = (Examples(images, y).subset(part) for part in parts)
    new = ~np.isin(test.y["label"], train.y["label"])
    said += [f"{new.sum()} of {len(test)} test pictures have a caption that no training picture has"] if new.any() else []
    said.append(f"{len(train)} examples to train on, {len(validation)} for validation, {len(test)} for the test")
    described = about or {"image_shape": list(images.shape[1:]), "words": words, "length": length, "captions": True}
    example = shlex.quote(names[train.y["label"].min()])
    return Data(train, validation, test, {**described, "class_names": names}, [*notes, *said], name or DRAWN, example)


def readable(captions, words, length):
    """`(captions, notes)`: the same captions with the known words of one that has others, cut where it is too long.

    Args:
        captions: Texts; what is left of one without a known word is nothing.
        words: Those known.
        length: Words that are read.
    """
    known, found, strange, changed, cut = set(words), [], Counter(), 0, 0
    for caption in captions:
        own = words_of(caption)
        kept = [word for word in own if word in known]
        strange.update(word for word in dict.fromkeys(own) if word not in known)  # a set's order is another each time
        changed += len(kept) < len(own)
        cut += len(kept) > length
        found.append(caption if len(kept) == len(own) <= length else " ".join(kept[:length]))
    notes = []
    if strange:
        named = ", ".join(word for word, _ in strange.most_common(5))
        more = f" and {len(strange) - 5} more" if len(strange) > 5 else ""
        notes.append(f"{changed} captions are read without the words that are not trained on: {named}{more}")
    if cut:
        notes.append(f"{cut} captions are read to their word {length}, the most that is trained on")
    lost = [caption for caption, left in zip(captions, found, strict=True) if not left]
    if lost:
        notes.append(f"{len(lost)} pictures left out: no word of their caption is trained on, as of {lost[0]!r}")
    return found, notes


def undrawable(model, name, about):
    """Why a class or caption cannot be drawn, or ""."""
    names = about["class_names"]
    if about.get("captions"):
        return unreadable(name, about["words"], about["length"])
    if name != "any" and not model.num_classes:
        return "this model draws without a class; ask for: any. Train with --model cvae to ask for one"
    return f"not a class of this model. {nearest(name, [*names, 'any'])}" if name not in ("any", *names) else ""


def conditions_of(pairs, about):
    """What is to be drawn for each `(name, seed)`: class indices, or token ids of captions."""
    names = about["class_names"]
    if about.get("captions"):
        return encode([prompt for prompt, _ in pairs], about["words"], about["length"])
    return [names.index(name) if name in names else seed % len(names) for name, seed in pairs]
