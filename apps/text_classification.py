"""Tell the class of a text: sentiment, topic or intent.

`triptych train text-classification` learns in half a minute to judge short reviews whose words alone do not tell what they
come to. What `masked-language` or others have trained on much text goes on with few labelled ones:

    triptych train text-classification --data FEW_LABELLED --model bert --pretrained BUNDLE

`predict` takes texts, tables and files of a text a line. Where training had a folder of .txt files for each class, a .txt file
is one text, and a folder all of its files.
"""

import itertools
import shlex
import textwrap
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import (
    About,
    Data,
    Examples,
    Report,
    class_weights,
    complete_splits,
    evenly_spaced,
    find_data,
    scored_part,
)
from apps.common.data.sequences import Sequences, bucket_lengths, cut_notes, ragged
from apps.common.data.text.annotated import with_room
from apps.common.data.text.labelled import FASTTEXT, LabelledTexts, read_labelled_texts
from apps.common.data.text.pieces import bert_inputs
from apps.common.data.text.reviews import reviews
from apps.common.data.text.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer
from apps.common.errors import UserError
from apps.common.options.declare import option
from apps.common.options.settle import settled_steps
from apps.common.options.training import Recipe, Splitting, Transfer, check_begins, is_missing

# What differs from model to model where nothing is asked for.
MODELS = {
    "bag": {"width": 128, "dropout": 0.1},
    "cnn": {"width": 300, "dropout": 0.5},
    "wide-cnn": {"width": 128, "dropout": 0.5},
    "simple-rnn": {"width": 128, "depth": 1, "dropout": 0.1},
    "lstm": {"width": 128, "depth": 1, "dropout": 0.1},
    "gru": {"width": 128, "depth": 1, "dropout": 0.1},
    "bilstm": {"width": 128, "depth": 1, "dropout": 0.1},
    "transformer": {"width": 128, "depth": 2, "dropout": 0.1},
    "bert": {"width": 128, "depth": 2, "dropout": 0.1},
}
KINDS = {"word": "words", "subword": "wordpiece"}
CONVOLUTIONAL = ("cnn", "wide-cnn")
RECURRENT = {"simple-rnn": "simple", "lstm": "lstm", "gru": "gru", "bilstm": "lstm"}

MOST_WEIGHTS = 2_000_000  # of the wide part's words, and as many of its pairs
UNKNOWN = 0.1  # share of the tokens of some texts from which on it is said
BATCHES = (1_000, 16), (5_000, 32), (None, 64)  # fewer texts than the first, texts a step

METRIC = Metric("accuracy")
INPUTS = Inputs("texts", column=("text", "sentence", "review", "content", "message"))


@dataclass(frozen=True)
class Config(Transfer, Splitting):
    libraries = ("hf:",)
    bundle_rate = 1.0  # networks of texts trained here are small, and few steps hardly move a slow one

    pretrained: str | None = option(
        None, "a BERT to begin with, and its vocabulary: a bundle (folder, run id, name@alias) of masked-language, or hf:FOLDER"
    )
    epochs: int | None = option(None, "passes over the training texts; none: by their number, 10 to 40", low=1, high=100_000)
    batch_size: int | None = option(
        None, "texts a step; none: by their number, 16 to 64", low=1, high=65_536, search=(16, 32, 64, 128, 256)
    )
    model: Literal[tuple(MODELS)] = option(
        "wide-cnn", "architecture; wide-cnn also weighs words and pairs", search=("wide-cnn", "bag", "gru", "transformer")
    )
    text_column: str | None = option(None, "column of the texts, where its name does not tell")
    label_column: str | None = option(None, "column of the classes, where its name does not tell")
    level: Literal["word", "subword"] = option(
        "word", "what a token is: a word, or a piece of one", search=("word", "subword"),
        needs={"pretrained": is_missing},
    )  # fmt: skip
    vocabulary_size: int = option(
        20_000, "tokens known at most, the commonest", low=16, high=1_000_000, needs={"pretrained": is_missing}
    )
    max_tokens: int = option(256, "longer texts are cut here", low=4, high=65_536, search=(64, 128, 256))
    width: int | None = option(
        None, "features of a token (128; cnn 300)", low=2, search=(64, 128, 256), needs={"pretrained": is_missing}
    )
    depth: int | None = option(
        None, "recurrent layers (1) or transformer blocks (2)", low=1, high=48, search=(1, 2, 4),
        needs={"model": (*RECURRENT, "transformer", "bert"), "pretrained": is_missing},
    )  # fmt: skip
    num_heads: int = option(
        4, "attention heads; must divide the width", low=1,
        needs={"model": ("transformer", "bert"), "pretrained": is_missing},
    )  # fmt: skip
    pooling: Literal["first", "mean"] | None = option(
        None, "a text by its first token (of hf:, where that was learnt), or the mean of all (of others)",
        search=("first", "mean"), needs={"model": "bert"},
    )  # fmt: skip
    filters: int = option(100, "filters of each window", low=1, search=(50, 100, 200), needs={"model": CONVOLUTIONAL})
    windows: tuple[int, ...] = option((3, 4, 5), "words that the filters of each kind see", low=1, needs={"model": CONVOLUTIONAL})
    dropout: float | None = option(
        None, "share of units dropped in training (0.1; cnn, wide-cnn 0.5)", low=0, high=0.95, search=(0.0, 0.5)
    )
    label_smoothing: float = option(0.0, "share of the target spread over all classes", low=0, high=0.9, search=(0.0, 0.2))

    @property
    def shape(self):
        """Width, depth and dropout: as asked for, or the model's own."""
        given = {name: getattr(self, name) for name in ("width", "depth", "dropout")}
        return {**MODELS[self.model], **{name: value for name, value in given.items() if value is not None}}

    @property
    def pooled_by(self):
        """`pooling`; by itself the first token where it was learnt to stand for the text, which a bundle's never was."""
        return self.pooling or ("first" if self.library else "mean")

    def check(self):
        super().check()
        check_begins(self, "bert")
        if self.model in ("transformer", "bert") and not self.pretrained and self.shape["width"] % self.num_heads:
            raise UserError(f"--width {self.shape['width']}: expected a multiple of --num-heads {self.num_heads}")


KIM = "Kim, 2014, arXiv 1408.5882, table 2, CNN-rand"
KIM_OPTIONS = {"keep": "best", "model": "cnn", "epochs": 8, "batch_size": 50}
RECIPES = {
    "mr-cnn-rand": Recipe(
        "Kim's CNN, random vectors, on movie reviews, 10-fold", data="text_cls/data/rt-polarity.all", folds=10,
        options=KIM_OPTIONS, metric="accuracy", published=0.761, tolerance=0.01, source=KIM, minutes=45,
    ),
    "sst2-cnn-rand": Recipe(
        "Kim's CNN, random vectors, on the whole sentences of SST-2", data="text_cls/data/stsa.binary.train",
        options=KIM_OPTIONS, metric="accuracy", published=0.835, tolerance=0.02, source=f"{KIM}, sst2", minutes=2, seeds=3,
    ),
    "trec-cnn-rand": Recipe(
        "Kim's CNN, random vectors, on the questions of TREC", data="text_cls/data/TREC.train.all",
        options=KIM_OPTIONS, metric="accuracy", published=0.882, tolerance=0.02, source=f"{KIM}, trec", minutes=1, seeds=3,
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Token ids of each text and the index of its class, in three splits; the vocabulary is that of the training texts."""
    if config.data:
        found = read_labelled_texts(find_data(config.data), config.text_column, config.label_column)
    else:
        found = LabelledTexts({"train": reviews()}, [])
    splits, notes = found.splits, list(found.notes)
    source = config.data or "reviews"
    if about:
        texts, labels = scored_part(splits, notes)
        examples = encoded(texts, about, class_indices(labels, about["class_names"]))
        notes += unread_notes(examples, tokenizer_of(about), "texts")
        return Data(None, None, examples, about, notes, source)
    names = class_names_of(splits["train"][1], source)
    rows = {
        split: Examples(np.array(texts, object), class_indices(labels, names)) for split, (texts, labels) in splits.items()
    }
    parts = complete_splits(rows, config, notes)
    architecture, tokenizer = begun(config, parts[0].x.tolist())
    longest = min(config.max_tokens, architecture["max_tokens"]) if architecture else config.max_tokens
    ids = [token_ids(part.x.tolist(), tokenizer, bool(architecture)) for part in parts]
    buckets = bucket_lengths(np.array([len(each) for each in ids[0]]), longest=longest)
    # Positions of a BERT made here that no training text has are never learnt; other networks take longer texts as they are.
    room = longest if config.pretrained or not architecture else int(buckets[-1])
    about = {"class_names": names, "model": config.model, "buckets": buckets.tolist(), "max_tokens": room}
    about = About(about, {TOKENIZER_FILE: tokenizer.to_bytes()})
    if found.column:
        about["column"] = found.column  # where `predict` finds the texts of a table like this one
    if found.whole_files:
        about["whole_files"] = True  # as `predict` reads .txt files then
    if architecture:
        about["architecture"] = architecture
    train, validation, test = (
        sequences(each, about, part.y) for each, part in zip(ids, parts, strict=True)
    )  # fmt: skip
    of = f"tokens, that of {config.pretrained}" if config.pretrained else f"{config.level}s"
    batch_size = settle(config, Data(train, validation, test, about))[0].batch_size
    notes += [f"a vocabulary of {len(tokenizer)} {of}", *train.notes(batch_size)]
    notes += unread_notes(validation, tokenizer, "validation texts") + unread_notes(test, tokenizer, "test texts")
    if config.class_weights == "balanced":
        train = replace(train, weight=class_weights(train.y, len(names)))
    example = shlex.quote(textwrap.shorten(str(parts[2].x[0]), 100, placeholder=""))
    return Data(train, validation, test, about, notes, source, example=example)


def begun(config, texts):
    """The architecture of a BERT, `None` of other models, and the tokenizer: those it begins with, or made from these texts."""
    from apps.common.bundles.language_networks import ENCODERS, read_network

    if config.pretrained:
        brought = read_network(config.pretrained, ENCODERS)
        return brought["architecture"], tokenizer_of(brought)
    bert = config.model == "bert"
    specials = ("begin", "end", "mask") if bert else ()
    tokenizer = train_tokenizer(texts, KINDS[config.level], config.vocabulary_size, specials=specials, lowercase=True)
    if not bert:
        return None, tokenizer
    sizes = {"vocabulary_size": len(tokenizer), "max_tokens": config.max_tokens, "num_heads": config.num_heads}
    sizes |= {name: config.shape[name] for name in ("width", "depth")}
    return {"network": "bert", "sizes": sizes, "max_tokens": config.max_tokens}, tokenizer


def tokenizer_of(about):
    """The tokenizer of a trained model."""
    return Tokenizer(about.files[TOKENIZER_FILE])


def token_ids(texts, tokenizer, ends):
    """The ids of each text, one at least; with `ends` between the tokens for its beginning and its end."""
    around = {"before": [tokenizer.begin], "after": [tokenizer.end]} if ends else {}
    return [ids if len(ids) else np.array([tokenizer.unknown], "int32") for ids in tokenizer.encode(texts, **around)]


def sequences(ids, about, y=None):
    """Texts as the model takes them, in batches of the lengths it was trained with, and of one more where they are longer."""
    tokens, architecture = ragged(ids, "int32"), about.get("architecture")
    x = bert_inputs(tokens, architecture) if architecture else tokens
    buckets = np.array(about["buckets"])
    most = about.get("max_tokens", buckets[-1])  # bundles before 2026-11 have none
    buckets = np.minimum(with_room(buckets, min(most, tokens.lengths.max())), most)
    return Sequences(x, y, buckets=buckets[:, None])


def unread_notes(examples, tokenizer, what):
    """Lines about what the model does not get to read of some texts: their ends, and words that it does not know."""
    made = cut_notes(examples.is_cut(), what, f"{examples.buckets[-1, 0]} tokens")
    unknown = np.mean(tokens_of(examples).values == tokenizer.unknown)
    if unknown >= UNKNOWN:
        made.append(f"{unknown:.0%} of the tokens of the {what} are none of the vocabulary's")
    return made


def encoded(texts, about, y=None):
    """New texts for a trained model."""
    return sequences(token_ids(list(texts), tokenizer_of(about), "architecture" in about), about, y)


def tokens_of(examples):
    """The token ids of some texts, as a `Ragged`."""
    return examples.x["tokens"] if isinstance(examples.x, dict) else examples.x


def class_names_of(labels, source):
    """The classes in order: numbers by their size, words by the alphabet."""
    names = sorted(set(labels))
    if all(name.isdecimal() for name in names):
        names.sort(key=int)
    if len(names) < 2:
        raise UserError(f"{source}: every text is of class {names[0]!r}; expected two classes at least")
    if len(names) > max(20, len(labels) // 2):
        raise UserError(
            f"{source}: {len(names)} different labels for {len(labels)} texts, such as {names[0][:40]!r}; expected classes. "
            "Name their column by --label-column, or write each line as a label and its text"
        )
    return names


def class_indices(labels, names):
    """The position of each label among the classes."""
    names = [name.removeprefix(FASTTEXT) for name in names]  # bundles before 2026-11 have the prefix
    unknown = sorted(set(labels) - set(names))
    if unknown:
        shown = ", ".join(repr(name[:40]) for name in unknown[:5])
        raise UserError(f"labels the model does not know: {shown}. It knows {', '.join(names[:20])}")
    places = {name: index for index, name in enumerate(names)}
    return np.array([places[label] for label in labels], "int32")


def settle(config, data):
    """Many passes over few texts."""
    return settled_steps(config, len(data.train), batches=BATCHES, steps=1_000, epochs=(10, 40))


def build_model(config, data):
    """Token ids -> the network -> logits."""
    from apps.common.bundles.language_networks import ENCODERS, network_of, take_network
    from apps.common.training.losses import OneHotLoss, accuracy
    from apps.common.training.optimizers import compile_model
    from layers import models

    num_classes, dropout = len(data.about["class_names"]), config.shape["dropout"]
    if config.model == "bert":
        encoder = network_of(data.about, dropout=dropout)
        model = models.bert_head(encoder, num_classes, pooling=config.pooled_by, dropout=dropout)
    else:
        model = network(config, len(tokenizer_of(data.about)), num_classes)
    trunk = take_network(model, config.pretrained, ENCODERS)
    loss = OneHotLoss("cross-entropy", num_classes, config.label_smoothing)
    return compile_model(model, config, data.train, loss=loss, metrics=[accuracy()], trunk=trunk)


def network(config, vocabulary_size, num_classes):
    """The architecture that `--model` names, but for BERT's, from token ids to logits."""
    from layers import models

    sizes, shape = (vocabulary_size, num_classes), config.shape
    if config.model == "bag":
        return models.text_bag(*sizes, **shape)
    if config.model == "cnn":
        return models.text_cnn(*sizes, windows=config.windows, filters=config.filters, **shape)
    if config.model == "wide-cnn":
        num_rows = min(65_521, max(1_021, MOST_WEIGHTS // num_classes))
        return models.wide_text_cnn(*sizes, windows=config.windows, filters=config.filters, num_rows=num_rows, **shape)
    if config.model in RECURRENT:
        return models.text_rnn(
            *sizes, cell=RECURRENT[config.model], bidirectional=config.model == "bilstm", **shape
        )  # fmt: skip
    return models.text_transformer(*sizes, num_heads=config.num_heads, **shape)


def baselines(data, config):
    """The commonest class, and logistic regression on the TF-IDF of words and pairs of them."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import f1_score

    def scores(predicted):
        return {
            "accuracy": float(np.mean(predicted == data.test.y)),
            "macro_f1": float(f1_score(data.test.y, predicted, average="macro", zero_division=0)),
        }

    def words_and_pairs(ids):
        words = ids.astype(str).tolist()
        return [*words, *map(" ".join, itertools.pairwise(words))]

    train, test = (data.train.subset(np.arange(min(len(data.train), 20_000))), data.test)
    documents = [[tokens[index] for index in range(len(tokens))] for tokens in map(tokens_of, (train, test))]
    commonest = np.bincount(data.train.y).argmax()
    found = {"majority": scores(np.full(len(test), commonest))}
    if len(np.unique(train.y)) > 1:
        vectorizer = TfidfVectorizer(analyzer=words_and_pairs, sublinear_tf=True)
        regression = LogisticRegression(C=10, max_iter=300).fit(vectorizer.fit_transform(documents[0]), train.y)
        found["tf-idf and logistic regression"] = scores(regression.predict(vectorizer.transform(documents[1])))
    return found


def evaluate(model, data, config):
    """Accuracy, F1 and calibration on test; confusion, the worst mistakes and the words that mattered."""
    from apps.common.reports.classification import classification_report, softmax
    from apps.common.reports.words import important_words, words_figure
    from apps.common.training.batches import predict_examples

    names, labels = data.about["class_names"], data.test.y
    probabilities = softmax(predict_examples(model, data.test))
    metrics, tables, drawn = classification_report(probabilities, labels, names)
    predicted = probabilities.argmax(1)
    # Four texts of the test evenly apart, and the four that were got wrong with the most confidence.
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]], kind="stable")]
    spread = evenly_spaced(len(labels), 4)
    chosen = np.array(list(dict.fromkeys([*spread.tolist(), *worst[:4].tolist()])))
    tokenizer, tokens = tokenizer_of(data.about), tokens_of(data.test)
    scores = important_words(model, data.test.subset(chosen), predicted[chosen])
    words = [[tokenizer.token(token) for token in tokens[index]] for index in chosen]
    titles = [f"{names[predicted[i]]} {probabilities[i].max():.0%}, is {names[labels[i]]}" for i in chosen]
    drawn["words-that-mattered"] = words_figure(words, scores, titles)
    tables["mistakes"] = [
        {"text": tokenizer.decode(tokens[i]), "class": names[labels[i]], "predicted": names[predicted[i]],
         "probability": float(probabilities[i].max())}
        for i in worst[:20]
    ]  # fmt: skip
    return Report(metrics, drawn, tables)


def predict(model, inputs, about):
    """The class and the probabilities of each text, and how much of it was read where it is too long."""
    from apps.common.reports.classification import class_prediction, softmax
    from apps.common.training.batches import predict_examples

    examples = encoded(inputs, about)
    longest = int(examples.buckets[-1, 0])
    rows = class_prediction(softmax(predict_examples(model, examples)), about["class_names"])
    for row, length in zip(rows, examples.lengths()[:, 0].tolist(), strict=True):
        if length > longest:
            row["note"] = f"read up to token {longest} of {length}"
    return rows


if __name__ == "__main__":
    start(__spec__)
