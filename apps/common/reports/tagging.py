"""What taggers are judged by: entities that are found whole and named right; and two plain taggers beside ours."""

from collections import Counter, defaultdict

import numpy as np

from apps.common import figures
from apps.common.data.examples import evenly_spaced
from apps.common.data.text.tagged import begin_entities, spans

MOST_WORDS = 30_000  # the linear tagger is fitted to
COLORS = ("#9ecae1", "#fdae6b", "#a1d99b", "#bcbddc", "#fc9272", "#d9d9d9", "#fee391", "#c7e9c0")


def entity_scores(true, predicted):
    """F1, precision and recall of whole entities (CoNLL-2000's), and the share of right tags.

    Args:
        true, predicted: Lists of BIO tags, a list a sentence.
    """
    from seqeval.metrics import f1_score, precision_score, recall_score

    pairs = [pair for tags, found in zip(true, predicted, strict=True) for pair in zip(tags, found, strict=True)]
    return {
        "f1": float(f1_score(true, predicted, zero_division=0)),
        "precision": float(precision_score(true, predicted, zero_division=0)),
        "recall": float(recall_score(true, predicted, zero_division=0)),
        "tag_accuracy": sum(tag == found for tag, found in pairs) / max(1, len(pairs)),
    }


def entity_report(words, true, predicted):
    """`(metrics, tables, figures)` of the tags of some sentences."""
    from seqeval.metrics import classification_report

    said = classification_report(true, predicted, output_dict=True, zero_division=0)
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score", "entities": "support"}
    kinds = {kind: row for kind, row in said.items() if not kind.endswith(" avg")}
    rows = [{"type": kind, **{name: float(row[key]) for name, key in names.items()}} for kind, row in kinds.items()]
    wrong = [index for index, (tags, found) in enumerate(zip(true, predicted, strict=True)) if tags != found]
    mistakes = [
        {"sentence": " ".join(words[i]), "true": named(words[i], true[i]), "predicted": named(words[i], predicted[i])}
        for i in wrong[:50]
    ]
    drawn = {"sentences": sentences_figure(words, true, predicted)}
    if rows:
        drawn["f1-by-type"] = figures.bars([row["type"] for row in rows], [row["f1"] for row in rows], None, "F1 by type", "F1")
    return entity_scores(true, predicted), {"per-type": rows, "mistakes": mistakes}, drawn


def named(words, tags):
    """The entities of a sentence, such as `person: Marla Venn; place: Oslo`."""
    return "; ".join(f"{kind}: {' '.join(words[start:end])}" for kind, start, end in spans(tags))


def sentences_figure(words, true, predicted, count=12):
    """Some sentences, the entities that were found in colour; what was missed or wrong is underlined in red."""
    from matplotlib import font_manager

    # What the font does not have (emoji, some scripts) would be warned of, letter by letter.
    letters = font_manager.get_font(font_manager.findfont("monospace")).get_charmap()
    having = [index for index, tags in enumerate(true) if any(tag != "O" for tag in tags)] or range(len(true))
    chosen = [having[place] for place in evenly_spaced(len(having), count)]
    kinds = sorted({tag[2:] for tags in (*true, *predicted) for tag in tags if tag != "O"})
    color = {kind: COLORS[index % len(COLORS)] for index, kind in enumerate(kinds)}
    figure, axis = figures.new(8.2, 0.36 * len(chosen) + 1.0)
    for row, index in enumerate(chosen):
        column = 0
        for word, tag, found in zip(words[index], true[index], predicted[index], strict=True):
            shown, box = "".join(each if ord(each) in letters else "□" for each in word), None
            if column + len(word) > 105:
                axis.text(column, -row, "...", family="monospace", fontsize=8)
                break
            if found != "O":
                box = {"facecolor": color[found[2:]], "edgecolor": "none", "pad": 1.5}
            axis.text(column, -row, shown, family="monospace", fontsize=8, va="center", bbox=box)
            if tag != found:
                axis.plot([column, column + len(word) - 0.4], [-row - 0.38] * 2, color="red", linewidth=1.5)
            column += len(word) + 1
    for kind in kinds:
        axis.plot([], [], "s", color=color[kind], label=kind)
    axis.plot([], [], color="red", label="not the true tag")
    axis.set(xlim=(0, 110), ylim=(-len(chosen) + 0.3, 0.7), xticks=[], yticks=[], title="entities found")
    axis.legend(frameon=False, ncols=min(9, len(kinds) + 1), fontsize=8, loc="upper center", bbox_to_anchor=(0.5, 0.0))
    return figure


def majority_tags(train, sentences):
    """For each word the tag it most often has in training, in any case of its letters; O for a word that is new.

    Args:
        train: `[(words, tags)]`.
        sentences: Lists of words.
    """
    counts = defaultdict(Counter)
    for words, tags in train:
        for word, tag in zip(words, tags, strict=True):
            counts[word.lower()][tag] += 1
    best = {word: max(sorted(found), key=found.get) for word, found in counts.items()}
    return [begin_entities([best.get(word.lower(), "O") for word in words]) for words in sentences]


def linear_tags(train, sentences, seed):
    """A logistic regression of each word by itself: what it, its letters and its neighbours look like."""
    from sklearn.feature_extraction import FeatureHasher
    from sklearn.linear_model import SGDClassifier

    features, targets = [], []
    for index in np.random.default_rng([seed, 51]).permutation(len(train)):
        words, tags = train[index]
        features += word_features(words)
        targets += tags
        if len(targets) >= MOST_WORDS:
            break
    hasher = FeatureHasher(1 << 18, input_type="string")
    if len(set(targets)) < 2:
        return [[targets[0]] * len(words) for words in sentences]
    model = SGDClassifier(loss="log_loss", alpha=1e-6, max_iter=15, tol=None, random_state=seed)
    model.fit(hasher.transform(features), targets)
    found = iter(model.predict(hasher.transform([each for words in sentences for each in word_features(words)])))
    return [begin_entities([str(next(found)) for _ in words]) for words in sentences]


def word_features(words):
    """Of each word, names of what is seen at it."""
    edged = ["<s>", "<s>", *words, "</s>", "</s>"]
    rows = []
    for place, word in enumerate(words, 2):
        near = {step: edged[place + step] for step in (-2, -1, 0, 1, 2)}
        row = [f"{step}={each.lower()}" for step, each in near.items()]
        row += [f"{step} shape={shape(each)}" for step, each in near.items() if abs(step) < 2]
        row += [f"begins={word[:size].lower()}" for size in (2, 3)] + [f"ends={word[-size:].lower()}" for size in (2, 3)]
        rows.append(row)
    return rows


def shape(word):
    """`Xx` of Oslo, `d` of 2021: the kinds of letters, each once in a row."""
    kinds = ["X" if each.isupper() else "x" if each.isalpha() else "d" if each.isdigit() else each for each in word[:20]]
    return "".join(kind for place, kind in enumerate(kinds) if not place or kinds[place - 1] != kind)
