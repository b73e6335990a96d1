"""Learn a language from plain text by guessing words left out (BERT), and fill the gaps of a sentence.

`triptych train masked-language` reads the documentation strings of Python's library for about two minutes on two cores, to a
cross-entropy of 5.5 where counts of neighbours give 5.9;
`triptych predict MODEL 'return the [MASK] of the file.'` then guesses what was left out. A trained model is a beginning for
text-classification, tagging and question-answering, by their `--model bert --pretrained`; and for more of this, on other text.
"""

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import About, Data, Report, find_data
from apps.common.data.text.masking import MaskedTexts
from apps.common.data.text.pieces import has_segments
from apps.common.data.text.plain import decoded, documentation_strings, text_files
from apps.common.data.text.tokenizer import TOKENIZER_FILE, Tokenizer, train_tokenizer
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.training import Transfer, is_missing

KINDS = {"word": "words", "subword": "wordpiece"}
GAP = re.compile(r"\[mask\]", re.IGNORECASE)

METRIC = Metric("cross_entropy", higher_is_better=False, monitor="val_loss")
INPUTS = Inputs("texts")


@dataclass(frozen=True)
class Config(Transfer):
    libraries = ("hf:",)
    bundle_rate = 1.0  # networks of texts trained here are small, and few steps hardly move a slow one

    pretrained: str | None = option(
        None, "a BERT to go on with, and its vocabulary: a bundle (folder, run id, name@alias) of this task, or hf:FOLDER"
    )
    level: Literal["word", "subword"] = option(
        "subword", "what a token is: a word, or a piece of one", needs={"pretrained": is_missing}
    )
    vocabulary_size: int = option(
        4000, "tokens known at most, the commonest", low=16, high=1_000_000, needs={"pretrained": is_missing}
    )
    max_tokens: int = option(64, "tokens of a passage, and of a text at most", low=8, high=65_536, search=(32, 64, 128))
    mask_share: float = option(0.3, "share of the tokens to guess; long runs want 0.15", above=0, high=0.9, search=(0.1, 0.4))
    width: int = option(128, "features of a token", low=2, search=(64, 128, 256), needs={"pretrained": is_missing})
    depth: int = option(2, "transformer blocks", low=1, high=96, search=(1, 2, 4), needs={"pretrained": is_missing})
    num_heads: int = option(4, "attention heads; must divide the width", low=1, needs={"pretrained": is_missing})
    dropout: float = option(0.0, "share of units dropped in training; long runs want 0.1", low=0, high=0.95, search=(0.0, 0.3))
    epochs: int = option(8, "passes over the text, with other tokens to guess in each", low=1, high=100_000)
    batch_size: int = option(16, "passages a step", low=1, high=65_536, search=(16, 32, 64))
    learning_rate: float = option(2e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 1e-2), log=True)
    optimizer: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adagrad", "adadelta"] = option(
        "adamw", "gradient descent rule", search=("adam", "adamw")
    )
    beta2: float = option(
        0.98, "share of the mean squared gradient kept; short runs want less", low=0, high=0.99999,
        needs={"optimizer": ("adam", "adamw")},
    )  # fmt: skip
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "one-cycle", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    clip_norm: float | None = option(1.0, "largest norm of the whole gradient", above=0)
    class_weights: str = refused("none", "every token counts as often as it occurs")

    def check(self):
        super().check()
        if not self.pretrained and self.width % self.num_heads:
            raise UserError(f"--width {self.width}: expected a multiple of --num-heads {self.num_heads}")


RECIPES = {}


def load_data(config, about=None):
    """Passages of the text, split by position: the first twentieth validates, the last tenth tests, the rest trains."""
    notes, source = [], config.data or "documentation-strings"
    if config.data:
        files, notes = text_files(find_data(config.data))
        lines = [line for file in files for line in "".join(decoded(file, "char")).split("\n")]
    else:
        lines = documentation_strings().split("\n")
    lines = [line for line in lines if line.strip()]
    if not lines:
        raise UserError(f"{source}: is empty; expected plain text")
    if about:
        tokenizer = Tokenizer(about.files[TOKENIZER_FILE])
        ids = token_ids(lines, tokenizer)
        return Data(None, None, passages(ids, about, tokenizer, config, most=2000), about, notes, source)
    parts = split_lines(lines, source)
    architecture, tokenizer = begun(config, parts[0])
    length = min(config.max_tokens, architecture["max_tokens"])
    about = About({"max_tokens": length, "architecture": architecture}, {TOKENIZER_FILE: tokenizer.to_bytes()})
    train, validation, test = (token_ids(part, tokenizer) for part in parts)
    unknown = np.mean(train == tokenizer.unknown)
    notes.append(f"{len(train)} tokens to train on, {len(validation)} for validation, {len(test)} for the test")
    of = f"tokens, that of {config.pretrained}" if config.pretrained else f"{config.level}s"
    notes.append(f"a vocabulary of {len(tokenizer)} {of}; {unknown:.1%} of the text is none of them")
    if length < config.max_tokens:
        notes.append(f"passages of {length} tokens, the most that {config.pretrained} sees")
    return Data(
        passages(train, about, tokenizer, config),
        passages(validation, about, tokenizer, config, most=500),
        passages(test, about, tokenizer, config, most=2000),
        about,
        notes,
        source,
        example=f"'{example_of(parts[2])}'",
    )


def begun(config, texts):
    """The architecture and the tokenizer: those the run begins with, or as asked for and made from these texts."""
    from apps.common.bundles.language_networks import ENCODERS, read_network

    if config.pretrained:
        brought = read_network(config.pretrained, ENCODERS)
        return brought["architecture"], Tokenizer(brought.files[TOKENIZER_FILE])
    tokenizer = train_tokenizer(
        texts, KINDS[config.level], config.vocabulary_size, specials=("begin", "end", "mask"), lowercase=True
    )
    sizes = {name: getattr(config, name) for name in ("max_tokens", "width", "depth", "num_heads")}
    sizes = {"vocabulary_size": len(tokenizer), **sizes}
    return {"network": "bert", "sizes": sizes, "max_tokens": config.max_tokens}, tokenizer


def split_lines(lines, source):
    """`(train, validation, test)` of whole lines by position, or of words where there are few lines."""
    if len(lines) < 20:
        lines = " ".join(lines).split()
    if len(lines) < 20:
        raise UserError(f"{source}: {len(lines)} words; expected thousands, twenty at least")
    ends = np.cumsum([len(line) for line in lines])
    first = int(np.clip(np.searchsorted(ends, 0.05 * ends[-1]), 1, len(lines) - 2))
    last = int(np.clip(np.searchsorted(ends, 0.9 * ends[-1]), first + 1, len(lines) - 1))
    return lines[first:last], lines[:first], lines[last:]


def token_ids(lines, tokenizer):
    """The ids of all the lines, one after the other."""
    return np.concatenate([np.empty(0, "int32"), *tokenizer.encode(lines)])


def passages(ids, about, tokenizer, config, most=None):
    """All passages of a text, or about `most` of them evenly apart."""
    length = about["max_tokens"]
    if not len(ids):
        raise UserError("the text has too few words for a training, a validation and a test part; give a longer one")
    count = -(-len(ids) // (length - 2))
    stride = 1 if most is None else -(-count // most)
    segments = has_segments(about["architecture"])
    return MaskedTexts(ids, length, tokenizer, config.mask_share, config.seed, stride, segments)


def example_of(lines):
    """A line of the test with a word of it left out."""
    line = next((line for line in lines if 4 <= len(line.split()) <= 12), "the name of the file")
    words = GAP.sub("", line).replace("'", "").split()
    words[len(words) // 2] = "[MASK]"
    return " ".join(words)


def build_model(config, data):
    """Token ids -> BERT -> logits of the tokens that belong in the hidden places."""
    from apps.common.bundles.language_networks import ENCODERS, take_network
    from apps.common.training.losses import TokenCrossEntropy, accuracy
    from apps.common.training.optimizers import compile_model
    from layers import models

    model = models.masked_language_model(**data.about["architecture"]["sizes"], dropout=config.dropout)
    trunk = take_network(model, config.pretrained, ENCODERS)
    return compile_model(model, config, data.train, loss=TokenCrossEntropy(), metrics=[accuracy()], trunk=trunk)


def baselines(data, config):
    """The commonest token everywhere, and what the tokens on both sides of a gap say by how often they stood beside it."""
    from apps.common.reports.gaps import NeighbourCounts, gap_scores

    size = len(data.train.tokenizer)
    counts = NeighbourCounts(data.train.ids[:2_000_000], size)
    sample = data.test.take(np.arange(min(len(data.test), 200)))
    return {
        "commonest token": gap_scores(sample, lambda left, right: counts.alone),
        "neighbours": gap_scores(sample, counts.between),
    }


def evaluate(model, data, config):
    """Cross-entropy and accuracy of the hidden tokens, accuracy by how common they are, and gaps with guesses."""
    from apps.common import figures
    from apps.common.training.batches import predict_all

    losses, ranks, tokens, rows = [], [], [], []
    for first in range(0, len(data.test), 32):
        # The last batch is filled up, so that nothing compiles a second time.
        indices = np.minimum(np.arange(first, first + 32), len(data.test) - 1)
        x, y, weight = data.test.take(indices)
        weight[len(data.test) - first :] = 0
        where = np.nonzero(weight)
        found = log_softmax(predict_all(model, x, 32)[where])
        right = np.take_along_axis(found, y[where][:, None], 1)
        losses.append(-right[:, 0])
        ranks.append((found > right).sum(1))
        tokens.append(y[where])
        if len(rows) < 12:
            rows += gap_rows(x, y, where, found, data.test.tokenizer)
    losses, ranks, tokens = (np.concatenate(parts) for parts in (losses, ranks, tokens))
    if not len(losses):
        raise UserError("the test has no token to guess: all its words are unknown to the model")
    metrics = {
        "cross_entropy": losses.mean(),
        "accuracy": np.mean(ranks == 0),
        "top_5_accuracy": np.mean(ranks < 5),
        "perplexity": np.exp(losses.mean()),
    }
    common = np.bincount(tokens)[tokens]
    names = {"once in the test": (1, 1), "2 to 9 times": (2, 9), "10 to 99 times": (10, 99), "more often": (100, np.inf)}
    chosen = {name: (common >= low) & (common <= high) for name, (low, high) in names.items()}
    shown = {f"{name} ({part.sum()})": np.mean(ranks[part] == 0) for name, part in chosen.items() if part.any()}
    title = "accuracy by how common the hidden token is"
    drawn = {"accuracy-by-frequency": figures.bars(list(shown), list(shown.values()), title=title, xlabel="accuracy")}
    return Report(metrics, drawn, {"gaps": rows[:12]})


def log_softmax(logits):
    """Log-probabilities, in float64."""
    logits = logits.astype("float64")
    logits -= logits.max(-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def gap_rows(x, y, where, found, tokenizer):
    """The first gap of each passage: what stands around it as the model sees it, what was there, and the guesses."""
    rows, seen = [], set()
    for row, place, likely in zip(*where, found, strict=True):
        position, tokens = x["places"][row, place], x["tokens"][row]
        if row in seen or tokens[position] != tokenizer.mask:
            continue
        seen.add(row)
        words = [tokenizer.token(token) for token in tokens[max(1, position - 10) : position]]
        words += ["<gap>", *(tokenizer.token(token) for token in tokens[position + 1 : position + 10] if token)]
        guesses = likeliest(np.exp(likely), tokenizer)
        rows.append({"text": " ".join(words), "token": tokenizer.token(y[row, place]), "guesses": guesses})
    return rows


def likeliest(probabilities, tokenizer, count=5):
    """`{token: probability}` of the likeliest tokens, the special ones left out."""
    best = [index for index in np.argsort(-probabilities)[: count + 5] if index > tokenizer.mask][:count]
    return {tokenizer.token(index): round(float(probabilities[index]), 6) for index in best}


def predict(model, inputs, about):
    """Each text with its gaps filled, and the five likeliest tokens of each gap."""
    from apps.common.training.batches import predict_all

    tokenizer, length = Tokenizer(about.files[TOKENIZER_FILE]), about["max_tokens"]
    texts = [GAP.sub("[MASK]", text) for text in inputs]
    ids = tokenizer.encode(texts, before=[tokenizer.begin], after=[tokenizer.end], gaps=True)
    x, places, reasons = np.zeros((len(texts), length), "int32"), np.zeros((len(texts), length), "int32"), []
    for row, tokens in enumerate(ids):
        gaps = np.flatnonzero(tokens == tokenizer.mask)
        x[row, : min(length, len(tokens))] = tokens[:length]
        places[row, : min(length, len(gaps))] = gaps[:length]
        late = f"a gap beyond the {length} tokens that the model reads" if len(gaps) and gaps[-1] >= length else ""
        reasons.append(late if len(gaps) else "no [MASK] in it: write [MASK] in the place of each word to guess")
    most = max(1, int((places > 0).sum(1).max()))
    asked = {"tokens": x, "places": np.minimum(places[:, :most], length - 1)}
    if has_segments(about["architecture"]):
        asked["segments"] = np.zeros_like(x)
    rows = []
    guessed, sizes = predict_all(model, asked, 32), map(len, ids)
    for text, found, counts, reason, size in zip(texts, guessed, places > 0, reasons, sizes, strict=True):
        if reason:
            rows.append({"reason": reason})
            continue
        gaps = [likeliest(np.exp(log_softmax(logits)), tokenizer) for logits in found[: counts.sum()]]
        best = iter([next(iter(gap), "").removeprefix("##").removeprefix("Ġ") for gap in gaps])
        row = {"filled": GAP.sub(lambda _, best=best: next(best), text), "gaps": gaps}
        rows.append(row if size <= length else {**row, "note": f"read up to token {length} of {size}"})
    return rows


if __name__ == "__main__":
    start(__spec__)
