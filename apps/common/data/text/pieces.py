"""Texts as a BERT takes them: the inputs it has, and words of which each is several tokens."""

from dataclasses import replace

import numpy as np

from apps.common.data.sequences import Ragged, ragged
from apps.common.data.text.annotated import Annotated, with_room


def bert_inputs(tokens, architecture, segments=None):
    """The inputs of a BERT of this architecture, as `Ragged`: its tokens, and of which of two texts each is if it can tell.

    Args:
        tokens: A `Ragged` of ids.
        architecture: `{"sizes": arguments of its builder}`.
        segments: A `Ragged`, 0 or 1 of each token; by default all are of one text.
    """
    if not has_segments(architecture):
        return {"tokens": tokens}
    return {"tokens": tokens, "segments": segments or replace(tokens, values=np.zeros_like(tokens.values))}


def has_segments(architecture):
    """Whether a BERT can tell of which of two texts a token is."""
    return (architecture["sizes"].get("variant") or {}).get("segments", True)


def word_tokens(tokenizer, sentences):
    """For each sentence, a list of words, the list of the ids of each word, one at least."""
    known = sorted({word for words in sentences for word in words})
    # Behind a space, where a word stands in a text: vocabularies of bytes know it so.
    found = dict(zip(known, tokenizer.encode([f" {word}" for word in known]), strict=True))
    unknown = np.array([tokenizer.unknown], "int32")
    return [[found[word] if len(found[word]) else unknown for word in words] for words in sentences]


def joined_words(words, tokenizer, most, before=()):
    """One text between its ends: `(ids, places)`, the places being where the first token of each word that fits stands.

    Args:
        words: The ids of each word.
        tokenizer: Has `begin` and `end`.
        most: Tokens at most; what does not fit is left out.
        before: Ids of another text that stands first, with an end of its own.
    """
    start = [tokenizer.begin, *before, *([tokenizer.end] if len(before) else [])]
    room = max(0, most - len(start) - 1)
    ids = np.concatenate([np.empty(0, "int32"), *words])[:room]
    places = len(start) + np.cumsum([0, *(len(each) for each in words)])[:-1]
    return np.array([*start, *ids, tokenizer.end], "int32"), places[places < len(start) + room].astype("int32")


def word_examples(texts, about, y, records, *, firsts=None, cut=False):
    """The examples of a BERT that reads words, made of `joined_words` of each text.

    Args:
        texts: `[(ids, places)]`.
        about: Of the model: `architecture`, and `buckets` in tokens and words.
        y, records: As of `Annotated`.
        firsts: How many tokens of each belong to the text that stands first; all by default.
        cut: Whether texts are cut to the buckets; else there is as much room as the longest needs.
    """
    tokens = ragged([ids for ids, _ in texts], "int32")
    counts = firsts or [len(ids) for ids, _ in texts]
    segments = ragged([np.arange(len(ids)) >= count for (ids, _), count in zip(texts, counts, strict=True)], "int32")
    x = bert_inputs(tokens, about["architecture"], segments)
    x["places"] = ragged([places for _, places in texts], "int32")
    buckets = np.array(about["buckets"])
    if not cut:
        longest = np.array([x[name].lengths.max() for name in ("tokens", "places")])
        buckets = np.minimum(with_room(buckets, longest), about["architecture"]["max_tokens"])
    # Lengths go with the inputs by their names, and then with the targets.
    columns = [int(name == "places") for name in sorted(x)] + [1] * isinstance(y, Ragged)
    return Annotated(x, y, None, buckets[:, columns], tuple(records))
