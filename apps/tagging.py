"""Tag the words of sentences: names, places, slots.

    triptych train tagging

half a minute on two cores: sentences with made-up people, places, products and dates, none of whose names training had. F1 of the
entities is about 0.99; the tag a word most often had in training gives 0.28, for only neighbours tell what a new name is. A BERT
trained on much text before, by `masked-language` or others, goes on with `--model bert --pretrained BUNDLE`.
`predict` takes texts, and CoNLL files whose words stay as they are; a .txt or .tsv is one if a tag ends each of its lines.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.bundles.answers import check_writable
from apps.common.command import start
from apps.common.data.examples import (
    About,
    Data,
    Examples,
    Report,
    complete_splits,
    evenly_spaced,
    find_data,
    scored_part,
)
from apps.common.data.sequences import bucket_lengths, cut_notes, ragged
from apps.common.data.text.annotated import Annotated, with_room
from apps.common.data.text.invented import invented_sentences
from apps.common.data.text.pieces import joined_words, word_examples, word_tokens
from apps.common.data.text.tagged import conll, has_word_a_line, read_tagged, spans, split_at_blanks, splitting_of
from apps.common.data.text.tokenizer import TOKENIZER_FILE, Tokenizer
from apps.common.data.text.words import WORDS_FILE, Entries, fit_entries, split_words
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe, Splitting, Transfer, check_begins

OWN = ("bilstm-crf", "transformer")  # models with a vocabulary of the training words
LETTERS = 20  # of a word that its characters are seen of
JUDGED = 400  # sentences of the validation split whose entities are counted after each epoch


@dataclass(frozen=True)
class Config(Transfer, Splitting):
    libraries = ("hf:",)
    bundle_rate = 1.0  # networks of texts trained here are small, and few steps hardly move a slow one

    pretrained: str | None = option(
        None, "a BERT to begin with, and its vocabulary: a bundle (folder, run id, name@alias) of masked-language, or hf:FOLDER"
    )
    model: Literal["bilstm-crf", "transformer", "bert"] = option(
        "bilstm-crf", "what reads the sentence, bert with --pretrained; a CRF judges the tags of all",
        search=("bilstm-crf", "transformer"),
    )  # fmt: skip
    epochs: int | None = option(None, "passes over the training sentences; none: by their number, 8 to 60", low=1, high=100_000)
    batch_size: int = option(32, "sentences a step", low=1, high=65_536, search=(8, 16, 32, 64))
    learning_rate: float = option(3e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 1e-2), log=True)
    clip_norm: float | None = option(5.0, "largest norm of the whole gradient", above=0)
    width: int = option(
        100, "features of a word, and units of each LSTM", low=4, search=(48, 100, 200), needs={"model": OWN}
    )
    depth: int = option(2, "transformer blocks", low=1, high=96, needs={"model": "transformer"})
    dropout: float = option(0.3, "share of units dropped in training", low=0, high=0.95, search=(0.1, 0.6))
    word_dropout: float = option(
        0.1, "share of words that become the unknown word in training; their letters stay", low=0, high=0.95,
        search=(0.0, 0.4), needs={"model": OWN},
    )  # fmt: skip
    characters: bool = option(True, "see the letters of a word as well", needs={"model": OWN})
    least: int = option(2, "times a word must occur in training to be known by itself", low=1, needs={"model": OWN})
    max_tokens: int = option(128, "words of a training sentence; longer ones are cut", low=1, high=4096)
    class_weights: str = refused("none", "the tags of a sentence are judged together")

    def check(self):
        super().check()
        if self.model == "bert" and self.pretrained is None:
            raise UserError("--model bert: begins with --pretrained, a bundle of masked-language or hf:FOLDER; add it")
        check_begins(self, "bert")
        if self.model == "transformer" and self.width % 4:
            raise UserError(f"--width {self.width}: expected a multiple of 4 for --model transformer, which has four heads")


@dataclass(frozen=True)
class PredictOptions:
    format: Literal["spans", "conll"] = option("spans", "entities in the answer alone, or in a CoNLL file as well")
    file: str = option("tagged.conll", "the CoNLL file; sentences are added at its end", needs={"format": "conll"})

    @property
    def path(self):
        return Path(self.file).expanduser()

    def check_words(self, words):
        if self.format == "conll":
            check_writable("--file", self.path, words)


METRIC = Metric("f1")
INPUTS = Inputs("texts", has_word_a_line=has_word_a_line)
RECIPES = {
    "wnut17-tagger": Recipe(
        "BiLSTM-CRF with characters on WNUT-17, tested on its development set, against the majority tag of each word",
        data="wnut17",
        options={"model": "bilstm-crf", "epochs": 10, "batch_size": 16, "dropout": 0.5, "word_dropout": 0.25, "least": 1},
        metric="f1", beside="majority tag of each word", minutes=3, seeds=3,
        source="control: majority tag of each word (0.41 to 0.50 on the test set with pretrained vectors, NLP-progress)",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Word ids, letter ids and tags of each sentence, in three splits."""
    source, notes = config.data or "invented-sentences", []
    if config.data:
        splits, notes = read_tagged(find_data(config.data))
    else:
        splits = invented_sentences(config.seed, {"train": 1500, "validation": 200, "test": 300})
    if about:
        sentences = scored_part(splits, notes)
        refuse_unknown(sentences, about["tags"])
        test = examples_of(sentences, about)
        return Data(None, None, test, about, notes + unread_notes(test, about, "sentences"), source)
    flat = [sentence for part in splits.values() for sentence in part]
    ends = np.cumsum([len(part) for part in splits.values()])
    places = dict(zip(splits, np.split(np.arange(len(flat)), ends[:-1]), strict=True))
    if "train" not in places:
        places = {"train": next(iter(places.values()))}
    parts = complete_splits({name: Examples(part) for name, part in places.items()}, config, notes, stratify=False)
    train, validation, test = ([flat[index] for index in part.x] for part in parts)
    kinds = sorted({tag[2:] for _, tags in flat for tag in tags if tag != "O"})
    if not kinds:
        raise UserError(f"--data {source}: every word has the tag O, there is nothing to learn; expected B- and I- tags")
    tags = ["O", *(f"{begin}-{kind}" for kind in kinds for begin in "BI")]
    if config.model == "bert":
        about = begun_about(train, tags, config)
        notes.append(f"a vocabulary of {about['architecture']['sizes']['vocabulary_size']} tokens, that of {config.pretrained}")
    else:
        about = fitted_about(train, tags, config)
        notes.append(f"{len(entries_of(about).names)} words are known, the others by their letters and neighbours")
    about["splitting"] = splitting_of([words for words, _ in train])
    train = examples_of(train, about, cut=True)
    held, tested = examples_of(validation, about), examples_of(test, about)
    notes.append(train.padding_note(config.batch_size))
    for name, part in (("training", train), ("validation", held), ("test", tested)):
        notes += unread_notes(part, about, f"{name} sentences")
    return Data(train, held, tested, about, notes, source, example=typed(test))


def fitted_about(sentences, tags, config):
    """The words, letters and lengths of the training sentences."""
    entries = fit_entries([[word.lower() for word in words] for words, _ in sentences], least=config.least)
    letters = fit_entries(word for words, _ in sentences for word in words)
    lengths = [len(words) for words, _ in sentences]
    about = {
        "tags": tags,
        "letters": "".join(letters.names) if config.characters else None,
        "buckets": bucket_lengths(lengths, longest=config.max_tokens).tolist(),
    }
    return About(about, {WORDS_FILE: entries.written()})


def begun_about(sentences, tags, config):
    """The vocabulary and architecture of a BERT trained before, and the lengths of the training sentences in its tokens."""
    from apps.common.bundles.language_networks import ENCODERS, read_network

    brought = read_network(config.pretrained, ENCODERS)
    about = About({"tags": tags, "architecture": brought["architecture"]}, {TOKENIZER_FILE: brought.files[TOKENIZER_FILE]})
    texts = tokens_of(sentences, about)
    lengths = np.array([(len(ids), len(words)) for (ids, _), (words, _) in zip(texts, sentences, strict=True)])
    most = (brought["architecture"]["max_tokens"], config.max_tokens)
    about["buckets"] = bucket_lengths(lengths, longest=most).tolist()
    return about


def entries_of(about):
    """The words that a trained model knows by themselves."""
    return Entries.read(about.files[WORDS_FILE])


def tokens_of(sentences, about):
    """Of each sentence the ids of its tokens, and where the first of each word stands."""
    tokenizer, most = Tokenizer(about.files[TOKENIZER_FILE]), about["architecture"]["max_tokens"]
    words = word_tokens(tokenizer, [words for words, _ in sentences])
    return [joined_words(each, tokenizer, most) for each in words]


def examples_of(sentences, about, cut=False):
    """The examples that the model takes; those that are not `cut` have as much room as the longest needs."""
    tags = {tag: place for place, tag in enumerate(about["tags"])}
    y = ragged([[tags[tag] for tag in found] for _, found in sentences], "int32")
    if "architecture" in about:
        return word_examples(tokens_of(sentences, about), about, y, sentences, cut=cut)
    entries = entries_of(about)
    x = {"tokens": ragged([entries.ids([word.lower() for word in words]) for words, _ in sentences])}
    if about["letters"] is not None:
        letters = Entries(tuple(about["letters"]))
        x["characters"] = ragged([spelled(words, letters) for words, _ in sentences])
    longest = max(len(words) for words, _ in sentences)
    buckets = about["buckets"] if cut else with_room(about["buckets"], longest)
    return Annotated(x, y, None, buckets, tuple(sentences))


def words_read(examples):
    """How many words of each sentence the network reads."""
    words = examples.x.get("places", examples.x["tokens"]).lengths
    return np.minimum(words, examples.buckets[-1, -1])


def unread_notes(examples, about, what):
    """A line that counts the sentences that are not read to their end, if any."""
    most = f"{examples.buckets[-1, -1]} words"
    if "architecture" in about:
        most = f"{about['architecture']['max_tokens']} tokens or {most}"
    return cut_notes(words_read(examples) < examples.y.lengths, what, most)


def words_of(given, about):
    """The words of an input, `[(word, start, end)]`: split as those of training were; a list of words is as it is."""
    if not isinstance(given, str):
        ends = np.cumsum([len(word) + 1 for word in given]) - 1
        return [(word, int(end) - len(word), int(end)) for word, end in zip(given, ends, strict=True)]
    splitting = about.get("splitting")  # bundles before 2026-11 have none
    return split_at_blanks(given, splitting["endings"], set(splitting["whole"])) if splitting else split_words(given)


def spelled(words, letters):
    """Ids of the letters of each word, `(words, LETTERS)`, 0 behind its end."""
    made = np.zeros((len(words), LETTERS), "int32")
    for row, word in zip(made, words, strict=True):
        ids = letters.ids(word[:LETTERS])
        row[: len(ids)] = ids
    return made


def refuse_unknown(sentences, known):
    """Raises a UserError that names the tags a trained model does not have."""
    unknown = sorted({tag for _, tags in sentences for tag in tags} - set(known))
    if unknown:
        shown = ", ".join(unknown[:5])
        raise UserError(f"the data have tags that the model does not know: {shown}. It knows {', '.join(known[:13])}")


def typed(sentences):
    """A sentence with an entity or two, as one types it in a shell."""
    fits = [words for words, tags in sentences if len(spans(tags)) > 1 and len(words) < 15] or [sentences[0][0][:15]]
    return "'" + " ".join(fits[0]).replace("'", "’") + "'"


def settle(config, data):
    """Many passes over few sentences."""
    return settled_steps(config, len(data.train), steps=370, epochs=(8, 60))


def build_model(config, data):
    """Words and letters, or pieces of words -> the network -> emissions of a CRF, which is the model's own loss."""
    from apps.common.bundles.language_networks import ENCODERS, network_of, take_network
    from apps.common.training.optimizers import compile_model
    from layers import models

    about = data.about
    if config.model == "bert":
        model = models.bert_tagger(network_of(about, dropout=config.dropout), len(about["tags"]), dropout=config.dropout)
        return compile_model(model, config, data.train, trunk=take_network(model, config.pretrained, ENCODERS))
    sizes = (len(entries_of(about)), len(about["tags"]))
    letters = 0 if about["letters"] is None else len(about["letters"]) + 2
    options = {"characters": letters, "width": config.width, "dropout": config.dropout, "word_dropout": config.word_dropout}
    if config.model == "transformer":
        model = models.transformer_tagger(*sizes, depth=config.depth, **options)
    else:
        model = models.tagger(*sizes, **options)
    return compile_model(model, config, data.train)


def decode(model, examples, names):
    """The tags of each sentence, by name; words beyond the longest bucket are O."""
    from apps.common.training.batches import predict_examples

    emissions, lengths = predict_examples(model, examples), examples.y.lengths
    seen = examples.x.get("places", examples.x["tokens"]).lengths
    found = []
    for first in range(0, len(examples), 256):
        part, sizes = emissions[first : first + 256], seen[first : first + 256]
        table = np.zeros((len(part), max(map(len, part)), len(names)), "float32")
        for row, emission in zip(table, part, strict=True):
            row[: len(emission)] = emission
        tags = model.decode(table, np.arange(table.shape[1]) < sizes[:, None])
        for row, size, length in zip(tags, sizes, lengths[first : first + 256], strict=True):
            known = [names[tag] for tag in row[:size]]
            found.append(known + ["O"] * (length - len(known)))
    return found


def on_epoch(model, epoch, tracker, data, config):
    """F1 of the entities of some validation sentences."""
    from apps.common.reports.tagging import entity_scores

    held = data.validation
    if len(held) > JUDGED:
        held = held.subset(evenly_spaced(len(held), JUDGED))
    scores = entity_scores([tags for _, tags in held.records], decode(model, held, data.about["tags"]))
    return {"val_f1": scores["f1"]}


def baselines(data, config):
    """The most frequent tag of each word, and a logistic regression of what a word and its neighbours look like."""
    from apps.common.reports.tagging import entity_scores, linear_tags, majority_tags

    words, tags = zip(*data.test.records, strict=True)
    return {
        "majority tag of each word": entity_scores(tags, majority_tags(data.train.records, words)),
        "logistic regression of each word": entity_scores(tags, linear_tags(data.train.records, words, config.seed)),
    }


def evaluate(model, data, config):
    """F1, precision and recall of the entities on test, and of each type."""
    from apps.common.reports.tagging import entity_report

    words, tags = zip(*data.test.records, strict=True)
    found = decode(model, data.test, data.about["tags"])
    metrics, tables, drawn = entity_report(words, tags, found)
    return Report(metrics, drawn, tables)


def predict(model, inputs, about, options=PredictOptions()):
    """The words of each sentence, a text or a list of words, with their tags, and the entities they spell."""
    texts = [given if isinstance(given, str) else " ".join(given) for given in inputs]
    split = [words_of(given, about) for given in inputs]
    sentences = [([word for word, _, _ in words], ["O"] * len(words)) for words in split if words]
    examples = examples_of(sentences, about) if sentences else None
    found = iter(zip(decode(model, examples, about["tags"]), words_read(examples).tolist(), strict=True) if sentences else ())
    rows, lines = [], []
    for text, words in zip(texts, split, strict=True):
        if not words:
            rows.append({"reason": "no word in it"})
            continue
        names, (tags, read) = [word for word, _, _ in words], next(found)
        places = [(kind, words[first][1], words[last - 1][2]) for kind, first, last in spans(tags)]
        entities = [{"type": kind, "text": text[a:b], "start": a, "end": b} for kind, a, b in places]
        rows.append({"entities": entities, "words": names, "tags": tags})
        if read < len(names):
            rows[-1]["note"] = f"read up to word {read} of {len(names)}"
        lines.append(conll(names, tags))
    if options.format == "conll":
        with open(options.path, "a", encoding="utf-8") as file:
            file.writelines(lines)
    return rows


if __name__ == "__main__":
    start(__spec__)
