"""Summarise texts in a sentence or two, learnt from texts and their summaries.

    triptych train summarization

learns in about two minutes on two cores to tell who did what and where in short stories, by copying names that it has never seen.
With data of your own: `--data articles.jsonl`, a line such as `{"text": "...", "summary": "..."}`.
"""

import itertools
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Report, complete_splits, evenly_spaced, find_data, scored_part
from apps.common.data.text.encoded_pairs import PairCoder, about_pairs, coder_of
from apps.common.data.text.made_pairs import short_stories
from apps.common.data.text.pairs import read_pairs
from apps.common.data.text.tokenizer import KINDS, train_tokenizer
from apps.common.data.text.words import ScriptWords, mostly_ascii
from apps.common.options.declare import option
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe
from apps.common.options.writing import Writing, WritingOptions

VALIDATED = 100  # texts of the validation part summarised after each epoch
SENTENCE = re.compile(r"(?<=[.!?])\s+|(?<=[。！？])\s*")


@dataclass(frozen=True)
class Config(Writing):
    model: Literal["pointer-generator", "transformer"] = option(
        "pointer-generator", "architecture", search=("pointer-generator", "transformer")
    )
    cell: Literal["gru", "lstm"] = option("lstm", "of the recurrent networks", needs={"model": "pointer-generator"})
    tokens: Literal[KINDS] = option("words", "what a token is: words, pieces of words or characters")
    vocabulary: int = option(4_000, "tokens at most", low=8, high=500_000, search=(1_000, 4_000, 8_000, 16_000))
    copied: int = option(
        20, "words of a text beyond the vocabulary that can be copied", low=0, high=10_000,
        needs={"model": "pointer-generator", "tokens": "words"},
    )  # fmt: skip
    source_length: int = option(400, "tokens of a text at most; what is longer is cut", low=2, high=100_000)
    target_length: int = option(100, "tokens of a summary at most", low=2, high=10_000)
    width: int = option(64, "features of a token", low=2, search=(64, 128, 256))
    units: int = option(128, "units of the decoder", low=2, search=(64, 128, 256), needs={"model": "pointer-generator"})
    depth: int = option(2, "blocks of each side", low=1, high=24, search=(1, 2, 3), needs={"model": "transformer"})
    epochs: int | None = option(None, "passes over the training texts; none: by their number, 5 to 50", low=1, high=100_000)
    learning_rate: float = option(4e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 1e-2), log=True)

    @property
    def num_copied(self):
        return self.copied if self.model == "pointer-generator" and self.tokens == "words" else 0


@dataclass(frozen=True)
class PredictOptions(WritingOptions):
    """How to summarise."""


INPUTS = Inputs("texts", column=("text", "source", "article", "document"))
METRIC = Metric("rouge1")
ROUGE = ("rouge1", "rouge2", "rougeL")
RECIPES = {
    "scitldr": Recipe(
        "pointer-generator on abstracts of papers, a sentence each, against the abstract's first sentence",
        data="scitldr", metric="rouge1", source="control: the lead sentence", minutes=60,
        options={"lowercase": True, "vocabulary": 8_000, "copied": 50, "width": 128, "units": 256, "dropout": 0.3, "epochs": 20,
                 "batch_size": 16, "learning_rate": 1e-3, "source_length": 300, "target_length": 40},
        beside="lead sentence",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Texts and summaries as ids in buckets; one vocabulary, that of the training part, for both."""
    name, longest = config.data or "short-stories", (config.source_length, config.target_length)
    splits, notes = ({"train": short_stories()}, []) if name == "short-stories" else read_pairs(find_data(name))
    if about:
        test = coder_of(about).sequences(scored_part(splits, notes), np.array(about["buckets"]))
        return Data(None, None, test, about, notes + rouge_notes(test) + test.notes(config.batch_size), name)
    parts = complete_splits(splits, config, notes, stratify=False, validation=0.05, test=0.1)
    texts = [*parts[0].sources, *parts[0].targets]
    tokenizer = train_tokenizer(texts, config.tokens, config.vocabulary, lowercase=config.lowercase)
    coder = PairCoder(tokenizer, tokenizer, config.num_copied)
    train = coder.sequences(parts[0], longest=longest)
    validation, test = (coder.sequences(part, train.buckets) for part in parts[1:])
    several = sum(len(each) > 1 for each in parts[2].references)
    notes += [f"{len(tokenizer)} tokens"] + ([f"{several} texts of the test have several summaries"] if several else [])
    notes += rouge_notes(test)
    about = about_pairs(coder, train, longest)
    example = "'" + parts[2].sources[0].replace("'", "'\\''") + "'"
    return Data(train, validation, test, about, notes + train.notes(config.batch_size), name, example=example)


def settle(config, data):
    """Many passes over few texts."""
    return settled_steps(config, len(data.train), steps=400, epochs=(5, 50))


def build_model(config, data):
    """Ids of the text and of the summary so far -> pointer-generator or Transformer -> the summary's next token."""
    from apps.common.training.losses import TokenCrossEntropy
    from apps.common.training.optimizers import compile_model
    from layers import models

    size = len(coder_of(data.about).target)
    if config.model == "transformer":
        model = models.transformer(
            size, size, width=config.width, depth=config.depth, num_heads=config.num_heads, dropout=config.dropout
        )
    else:
        model = models.pointer_generator(
            size, num_copied=config.num_copied, width=config.width, units=config.units, cell=config.cell, dropout=config.dropout
        )
    return compile_model(model, config, data.train, loss=TokenCrossEntropy())


def on_epoch(model, epoch, tracker, data, config):
    """ROUGE-1 of greedy summaries of some validation texts, by which the best epoch is chosen."""
    from apps.common.reports.writing import write_texts

    some = data.validation.texts.subset(evenly_spaced(len(data.validation), VALIDATED))
    written, _ = write_texts(model, some.sources, coder_of(data.about), data.about)
    return {"val_rouge1": float(rouge(written, some.references)["rouge1"].mean())}


def evaluate(model, data, config):
    """ROUGE by rouge-score and that of the lead sentence beside it, its spread, examples, and where the model looked."""
    from apps.common import figures
    from apps.common.reports.writing import attention_maps, side_by_side, write_texts

    coder, pairs = coder_of(data.about), data.test.texts
    options = {"width": config.beam_width, "alpha": config.length_penalty}
    written, _ = write_texts(model, pairs.sources, coder, data.about, **options)
    ours, leads = rouge(written, pairs.references), rouge(map(lead, pairs.sources), pairs.references)
    metrics = {**means(ours), **{f"{name}_lead": value for name, value in means(leads).items()}}
    drawn = {
        "rouge1": figures.scatter(
            leads["rouge1"], ours["rouge1"], "ROUGE-1 of the lead sentence", "ROUGE-1 of ours", "a dot each text", diagonal=True
        )
    }
    shortest = int(np.argmin([len(text) for text in pairs.sources]))
    drawn["attention"] = attention_maps(model, coder, [pairs.sources[shortest]], data.about)
    return Report(metrics, drawn, {"summaries": side_by_side(pairs, written, rouge1=ours["rouge1"])})


def rouge(written, references):
    """`{name: F of each text}`; of several references the best counts.

    rouge-score's own words are of a to z and digits: there are none in other scripts, whose words are `ScriptWords`.
    """
    from rouge_score.rouge_scorer import RougeScorer

    plain = mostly_ascii(itertools.chain(*references))
    scorer = RougeScorer(ROUGE, use_stemmer=True) if plain else RougeScorer(ROUGE, tokenizer=ScriptWords())
    found = [scorer.score_multi(each, text) for text, each in zip(written, references, strict=True)]
    return {name: np.array([each[name].fmeasure for each in found]) for name in ROUGE}


def rouge_notes(examples):
    """A line that says what ROUGE counts where that is not what rouge-score takes for words."""
    if mostly_ascii(itertools.chain(*examples.texts.references)):
        return []
    return ["ROUGE counts words of any script, and Chinese characters singly, as rouge-score by itself knows Latin letters alone"]


def means(scores):
    return {name: float(values.mean()) for name, values in scores.items()}


def sentences(text):
    return [each for each in SENTENCE.split(text.strip()) if each] or [text]


def lead(text):
    """The first sentence."""
    return sentences(text)[0]


def baselines(data, config):
    """The first sentence, and the one that says most: whose words, weighted by their rarity, are nearest to the whole text's."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    test = data.test.texts
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(data.train.texts.sources)

    def nearest(text):
        parts = sentences(text)
        return parts[int((vectorizer.transform(parts) @ vectorizer.transform([text]).T).toarray().argmax())]

    return {
        "lead sentence": means(rouge(map(lead, test.sources), test.references)),
        "TF-IDF sentence": means(rouge(map(nearest, test.sources), test.references)),
    }


def predict(model, inputs, about, options=PredictOptions()):
    """Each text's summary; a note where the text was too long, or the summary was stopped."""
    from apps.common.reports.writing import write_texts

    coder = coder_of(about)
    written, notes = write_texts(
        model, inputs, coder, about, width=options.beam_width, alpha=options.length_penalty, length=options.max_length
    )
    rows = [{"text": text, "summary": summary} for text, summary in zip(inputs, written, strict=True)]
    for row, note in zip(rows, notes, strict=True):
        if note:
            row["note"] = note
    return rows


if __name__ == "__main__":
    start(__spec__)
