"""Translate texts from one language into another, learnt from pairs of sentences.

    triptych train translation

learns a small made-up language in about a minute on two cores (BLEU 100 is a faultless translation) and
`triptych predict translation@newest "the old cook saw every bird"` translates into it. With data of your own:
`--data pairs.tsv`, `--data pairs.jsonl`, or a folder with `train.de train.en val.de val.en`.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Report, complete_splits, evenly_spaced, find_data, scored_part
from apps.common.data.text.encoded_pairs import PairCoder, about_pairs, coder_of
from apps.common.data.text.made_pairs import additions, made_up_language
from apps.common.data.text.pairs import read_pairs
from apps.common.data.text.tokenizer import KINDS, train_tokenizer
from apps.common.errors import UserError
from apps.common.options.declare import option
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe
from apps.common.options.writing import Writing, WritingOptions

MADE = {"made-up-language": made_up_language, "addition": additions}
RECURRENT = ("gru", "lstm")
VALIDATED = 200  # sentences of the validation part translated after each epoch
DICTIONARY = 5_000  # sentences from which the plain dictionary is learnt


@dataclass(frozen=True)
class Config(Writing):
    source_language: str | None = option(None, "ending, key or column of the source, such as de (default: found out)")
    target_language: str | None = option(None, "of the target, such as en")
    model: Literal["gru", "lstm", "transformer"] = option("gru", "architecture", search=("gru", "transformer"))
    attention: Literal["additive", "multiplicative"] = option(
        "additive", "how the decoder looks back", search=("additive", "multiplicative"), needs={"model": RECURRENT}
    )
    tokens: Literal[KINDS] = option("byte-bpe", "what a token is: pieces of words, words or characters")
    vocabulary: int = option(4_000, "tokens of each side at most", low=8, high=500_000, search=(1_000, 4_000, 8_000, 16_000))
    max_length: int = option(100, "tokens of a sentence at most; what is longer is cut", low=2, high=10_000)
    width: int = option(128, "features of a token; units of a recurrent network", low=2, search=(64, 128, 256))
    depth: int = option(1, "layers that read; blocks of a transformer on each side", low=1, high=24, search=(1, 2, 3))
    label_smoothing: float = option(0.0, "share of the target spread over all tokens", low=0, high=0.9, search=(0.0, 0.2))
    bleu_tokenize: Literal["13a", "intl", "zh", "char"] = option("13a", "sacrebleu's tokenizer; char where no spaces are")
    epochs: int | None = option(None, "passes over the training pairs; none: by their number, 6 to 60", low=1, high=100_000)
    learning_rate: float = option(3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 1e-2), log=True)


@dataclass(frozen=True)
class PredictOptions(WritingOptions):
    """How to translate."""


INPUTS = Inputs("texts", column=("source", "text"))
METRIC = Metric("bleu")
BENTREVETT = "github.com/bentrevett/pytorch-seq2seq, notebooks 3 and 6: lower-case words of spaCy"
MULTI30K = {"source_language": "de", "target_language": "en", "lowercase": True, "epochs": 10, "batch_size": 128, "width": 256}
RECIPES = {
    "multi30k-de-en": Recipe(
        "Transformer of 3 blocks of 256 a side on Multi30k, German to English",
        data="multi30k", metric="bleu", published=36.5, tolerance=2.0, source=BENTREVETT, minutes=60,
        options={**MULTI30K, "model": "transformer", "depth": 3, "num_heads": 8, "learning_rate": 1e-3, "warmup": 0.1,
                 "schedule": "cosine", "label_smoothing": 0.1},
    ),
    "multi30k-de-en-gru": Recipe(
        "GRU with additive attention on Multi30k, German to English",
        data="multi30k", metric="bleu", published=28.3, tolerance=2.0, source=BENTREVETT, minutes=60,
        options={**MULTI30K, "model": "gru", "dropout": 0.4},
    ),
    "addition": Recipe(
        "LSTM of 128 units with attention on sums such as 535+61, characters",
        data="addition", metric="exact_match", published=0.99, tolerance=0.01, source="keras.io/examples/nlp/addition_rnn",
        options={"model": "lstm", "tokens": "characters", "bleu_tokenize": "char", "epochs": 30, "batch_size": 128,
                 "dropout": 0.0, "beam_width": 1, "max_length": 8},
        minutes=6, seeds=3,
    ),
}  # fmt: skip


def check_data(name):
    """Nothing to refuse of the sets made here."""
    if name not in MADE:
        find_data(name)


def load_data(config, about=None):
    """Pairs as ids in buckets; the subwords of each side are those of the training part."""
    name = config.data or "made-up-language"
    notes, longest = [], (config.max_length, config.max_length)
    if name in MADE:
        splits = {"train": MADE[name]()}
    else:
        splits, notes = (read_others if about else read_pairs)(find_data(name), config.source_language, config.target_language)
    if about:
        test = coder_of(about).sequences(scored_part(splits, notes), np.array(about["buckets"]))
        return Data(None, None, test, about, notes + test.notes(config.batch_size), name)
    parts = complete_splits(splits, config, notes, stratify=False, validation=0.05, test=0.1)
    source, target = (
        train_tokenizer(texts, config.tokens, config.vocabulary, lowercase=config.lowercase)
        for texts in (parts[0].sources, parts[0].targets)
    )
    coder = PairCoder(source, target)
    train = coder.sequences(parts[0], longest=longest)
    validation, test = (coder.sequences(part, train.buckets) for part in parts[1:])
    notes.append(f"{len(source)} tokens to read, {len(target)} to write")
    about = about_pairs(coder, train, longest)
    example = "'" + parts[2].sources[0].replace("'", "'\\''") + "'"
    return Data(train, validation, test, about, notes + train.notes(config.batch_size), name, example=example)


def read_others(path, source, target):
    """As `read_pairs`, of data to judge a trained model by, which need not call the languages as those of its training do."""
    try:
        return read_pairs(path, source, target)
    except UserError:
        if not (source or target):
            raise
    splits, notes = read_pairs(path)
    said = " and ".join(filter(None, (source, target)))
    return splits, [f"nothing in {path} is called {said}, as in training: source and target are found by looking", *notes]


def settle(config, data):
    """Many passes over few pairs."""
    return settled_steps(config, len(data.train), steps=640, epochs=(6, 60))


def build_model(config, data):
    """Ids of the source and of the target so far -> encoder and decoder -> logits of the target's next token."""
    from apps.common.training.losses import OneHotLoss, TokenCrossEntropy
    from apps.common.training.optimizers import compile_model
    from layers import models

    coder = coder_of(data.about)
    sizes = (len(coder.source), len(coder.target))
    if config.model == "transformer":
        model = models.transformer(
            *sizes, width=config.width, depth=config.depth, num_heads=config.num_heads, dropout=config.dropout
        )
    else:
        model = models.seq2seq(
            *sizes, cell=config.model, attention=config.attention, width=config.width, depth=config.depth, dropout=config.dropout
        )
    loss = OneHotLoss("cross-entropy", sizes[1], config.label_smoothing) if config.label_smoothing else TokenCrossEntropy()
    return compile_model(model, config, data.train, loss=loss)


def on_epoch(model, epoch, tracker, data, config):
    """BLEU of greedy translations of some validation sentences, by which the best epoch is chosen."""
    from apps.common.reports.writing import write_texts

    some = data.validation.texts.subset(evenly_spaced(len(data.validation), VALIDATED))
    written, _ = write_texts(model, some.sources, coder_of(data.about), data.about)
    return {"val_bleu": scores(written, some.references, config)[0]["bleu"]}


def evaluate(model, data, config):
    """BLEU and chrF by sacrebleu with their signatures, exact matches, BLEU by length, and where the model looked."""
    from apps.common import figures
    from apps.common.reports.writing import attention_maps, side_by_side, write_texts

    coder, pairs = coder_of(data.about), data.test.texts
    options = {"width": config.beam_width, "alpha": config.length_penalty}
    written, _ = write_texts(model, pairs.sources, coder, data.about, **options)
    metrics, signatures = scores(written, pairs.references, config)
    drawn, lengths = {}, np.array([len(text.split()) for text in pairs.sources])
    groups = [each for each in np.array_split(np.argsort(lengths, kind="stable"), min(5, len(pairs))) if len(each)]
    names = [f"{lengths[each].min()} to {lengths[each].max()} words" for each in groups]
    values = [
        scores([written[i] for i in each], pairs.subset(each).references, config)[0]["bleu"] for each in groups
    ]
    drawn["bleu-by-length"] = figures.bars(names, values, title="BLEU by the length of the source", xlabel="BLEU")
    shown = evenly_spaced(len(pairs), 3)
    drawn["attention"] = attention_maps(model, coder, [pairs.sources[i] for i in shown], data.about)
    tables = {"translations": side_by_side(pairs, written), "signatures": signatures}
    return Report(metrics, drawn, tables, [f"{each['metric']} by sacrebleu: {each['signature']}" for each in signatures])


def scores(written, references, config):
    """`(metrics, signatures)` of some translations: BLEU and chrF in percent, and the share that is right to the letter."""
    from sacrebleu.metrics import BLEU, CHRF

    most = max(map(len, references))
    sets = [[each[i] if i < len(each) else None for each in references] for i in range(most)]
    # Answers of a few characters have no four in a row.
    bleu = BLEU(tokenize=config.bleu_tokenize, lowercase=config.lowercase, effective_order=config.bleu_tokenize == "char")
    metrics, signatures = {}, []
    for name, measure in (("bleu", bleu), ("chrf", CHRF(lowercase=config.lowercase))):
        metrics[name] = measure.corpus_score(written, sets).score
        signatures.append({"metric": name, "value": metrics[name], "signature": str(measure.get_signature())})

    def same(text):
        return text.lower().strip() if config.lowercase else text.strip()

    right = [same(text) in map(same, each) for text, each in zip(written, references, strict=True)]
    return {**metrics, "exact_match": float(np.mean(right))}, signatures


def baselines(data, config):
    """The source as it is, and each word by its translation of a dictionary that co-occurrence gives."""
    from apps.common.reports.dictionary import word_dictionary, word_for_word

    train, test = data.train.texts, data.test.texts
    some = train.subset(evenly_spaced(len(train), DICTIONARY))

    def cased(text):
        return text.lower() if config.lowercase else text

    dictionary = word_dictionary(map(cased, some.sources), map(cased, some.targets))
    translated = [word_for_word(cased(text), dictionary) for text in test.sources]
    return {
        "the source as it is": scores(test.sources, test.references, config)[0],
        "word for word by co-occurrence": scores(translated, test.references, config)[0],
    }


def predict(model, inputs, about, options=PredictOptions()):
    """Each text and its translation; a note where the text was too long, or the translation was stopped."""
    from apps.common.reports.writing import write_texts

    coder = coder_of(about)
    written, notes = write_texts(
        model, inputs, coder, about, width=options.beam_width, alpha=options.length_penalty, length=options.max_length
    )
    rows = []
    for text, translation, note in zip(inputs, written, notes, strict=True):
        row = {"source": text, "translation": translation}
        rows.append({**row, "note": note} if note else row)
    return rows


if __name__ == "__main__":
    start(__spec__)
