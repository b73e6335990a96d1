"""What answers to questions are judged by, SQuAD's way, and plain ways to answer."""

import itertools
import re
import string
from collections import Counter

import numpy as np

from apps.common import figures
from apps.common.data.text.words import split_words


def normalised(text):
    """A text without case, punctuation, articles and doubled blanks, as SQuAD's evaluation has it (Rajpurkar et al., 2016)."""
    text = "".join(each for each in text.lower() if each not in string.punctuation)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def exact_match(answer, right):
    """Whether the answer is one of the right ones, both normalised."""
    return any(normalised(answer) == normalised(each) for each in right)


def answer_f1(answer, right):
    """F1 of the words of an answer and of the right one that suits it best."""
    return max(overlap_f1(normalised(answer).split(), normalised(each).split()) for each in right)


def overlap_f1(words, right):
    if not words or not right:
        return float(words == right)
    shared = sum((Counter(words) & Counter(right)).values())
    return 2 * shared / (len(words) + len(right))


def answer_scores(answers, questions, kind):
    """Exact match and F1 of some answers; accuracy as well where they are of a short list."""
    matches = [exact_match(answer, asked.answers) for answer, asked in zip(answers, questions, strict=True)]
    overlaps = [answer_f1(answer, asked.answers) for answer, asked in zip(answers, questions, strict=True)]
    scores = {"exact_match": float(np.mean(matches)), "f1": float(np.mean(overlaps))}
    return scores | ({"accuracy": scores["exact_match"]} if kind == "closed" else {})


def answer_report(answers, probabilities, questions, kind):
    """`(metrics, tables, figures)` of the answers to some questions."""
    matches = np.array([exact_match(answer, asked.answers) for answer, asked in zip(answers, questions, strict=True)])
    lengths = np.array([len(split_words(asked.context)) for asked in questions])
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, 7)).astype(int))
    groups = [(low, high) for low, high in itertools.pairwise(edges)] or [(lengths[0], lengths[0])]
    inside = [(lengths >= low) & ((lengths < high) | (high == edges[-1])) for low, high in groups]
    names = [f"{low} to {high} words" for low, high in groups]
    shares = [float(matches[rows].mean()) if rows.any() else 0.0 for rows in inside]
    drawn = {
        "exact-match-by-length": by_length(names, shares),
        "calibration": figures.reliability(np.asarray(probabilities), matches),
    }
    wrong = np.flatnonzero(~matches)[:50]
    mistakes = [
        {"question": asked.question, "context": asked.context[:500], "answer": answers[i], "right": asked.answers[0]}
        for i, asked in ((i, questions[i]) for i in wrong)
    ]
    rows = zip(names, shares, (int(each.sum()) for each in inside), strict=True)
    table = [dict(zip(("context", "exact_match", "questions"), row, strict=True)) for row in rows]
    return answer_scores(answers, questions, kind), {"mistakes": mistakes, "by-length": table}, drawn


def by_length(names, shares):
    """The share of right answers by the length of the text, short texts first."""
    figure, axis = figures.new(7.0, 0.35 * len(names) + 1.2)
    axis.barh(range(len(names)), shares)
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.set(title="right answers by length of the text", xlabel="exact match", xlim=(0, 1))
    axis.grid(alpha=0.3, axis="x")
    return figure


def majority_answer(train):
    """The answer that training has most often."""
    counts = Counter(asked.answers[0] for asked in train)
    return max(sorted(counts), key=counts.get)


def last_mentioned(asked, known, otherwise):
    """The last word of the text that is one of the known answers."""
    return next((word for word, _, _ in reversed(split_words(asked.context)) if word in known), otherwise)


def overlapping(asked, known, otherwise):
    """From the latest of the sentences that share most words with the question, a known answer, or words that it adds.

    Args:
        asked: The question.
        known: The answers there are, or `None` where answers are spans: then the longest run of words in capitals or numbers that
            are not in the question, or else the last three words.
        otherwise: The answer where the sentence has none.
    """
    wanted = {word.lower() for word, _, _ in split_words(asked.question)}
    sentences = re.split(r"(?<=[.!?])\s+", asked.context)
    shared = [len(wanted & {word.lower() for word, _, _ in split_words(each)} - {".", "the"}) for each in sentences]
    best = max(range(len(sentences)), key=lambda place: (shared[place], place))
    words = [word for word, _, _ in split_words(sentences[best]) if word[0].isalnum()]
    if known is not None:
        return next((word for word in reversed(words) if word in known), otherwise)
    runs = [[]]
    for place, word in enumerate(words):
        named = (word[0].isupper() and place) or word[0].isdigit()
        if named and word.lower() not in wanted:
            runs[-1].append(word)
        elif runs[-1]:
            runs.append([])
    return " ".join(max(runs, key=len) or words[-3:]) or otherwise
