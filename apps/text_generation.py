"""Model a text character by character (or byte by byte) and continue prompts in its manner."""

import itertools
import math
import sys
from dataclasses import dataclass
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import Data, Report, find_data
from apps.common.data.text.plain import (
    Vocabulary,
    Windows,
    documentation_strings,
    encode_pieces,
    evenly,
    read_text,
    split_by_position,
)
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Training


@dataclass(frozen=True)
class Config(Training):
    model: Literal["gpt", "lstm"] = option("gpt", "architecture", search=("gpt", "lstm"))
    level: Literal["char", "byte"] = option("char", "what a token is; bytes take any encoding and language")
    block_size: int = option(32, "tokens the model sees at most", low=2, high=65_536, search=(32, 64, 128, 256))
    steps: int = option(250, "steps in an epoch, each on windows drawn anew from the whole text", low=1)
    epochs: int = option(4, "epochs of --steps", low=1, high=100_000)
    batch_size: int = option(32, "windows a step", low=1, high=65_536, search=(8, 16, 32, 64))
    learning_rate: float = option(2e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 1e-2), log=True)
    optimizer: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adagrad", "adadelta"] = option(
        "adamw", "gradient descent rule", search=("adam", "adamw")
    )
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "one-cycle", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    clip_norm: float | None = option(1.0, "largest norm of the whole gradient", above=0)
    width: int = option(128, "features of a token; units of an LSTM", low=2, search=(64, 128, 256))
    depth: int | None = option(None, "transformer blocks (4) or LSTMs (2)", low=1, high=96, search=(1, 2, 4, 6))
    num_heads: int = option(4, "attention heads; must divide the width", low=1, needs={"model": "gpt"})
    positions: Literal["learned", "rotary"] = option(
        "rotary", "how a token's place is told", search=("learned", "rotary"), needs={"model": "gpt"}
    )
    dropout: float = option(0.0, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.3))
    class_weights: str = refused("none", "every character counts as often as it occurs")

    def check(self):
        super().check()
        if self.model == "gpt" and self.width % self.num_heads:
            raise UserError(f"--width {self.width}: expected a multiple of --num-heads {self.num_heads}")


@dataclass(frozen=True)
class PredictOptions:
    length: int = option(300, "tokens to add to each prompt", low=1, high=10_000_000)
    temperature: float = option(0.8, "below 1 is safer, above is bolder, 0 always takes the likeliest", low=0, high=100)
    top_k: int | None = option(None, "draw from this many likeliest tokens only", low=1)
    top_p: float = option(1.0, "draw from the likeliest tokens that together have this probability", above=0, high=1)
    seed: int = option(0, "seed of the draws", low=0, high=2**31 - 1)
    stream: bool = option(True, "show the text on standard error while it is written")


INPUTS = Inputs("texts")
METRIC = Metric("cross_entropy", higher_is_better=False, monitor="val_loss")
NANOGPT = "github.com/karpathy/nanoGPT, README, \"I only have a macbook\""
SHAKESPEARE = {"epochs": 4, "steps": 500, "batch_size": 12, "block_size": 64, "width": 128, "learning_rate": 1e-3,
               "schedule": "cosine", "warmup": 0.05, "final_rate": 0.1, "weight_decay": 0.1,
               "beta2": 0.99}  # fmt: skip
RECIPES = {
    "shakespeare-char-cpu": Recipe(
        "GPT of 0.8M weights on tinyshakespeare's characters, 2000 steps, two LSTMs beside it",
        data="tinyshakespeare", options={"keep": "last", "model": "gpt", "positions": "learned", **SHAKESPEARE},
        metric="cross_entropy", lower_is_better=True,
        published=1.88, tolerance=0.03, source=NANOGPT, minutes=3, control={"model": "lstm"},
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Windows of the text, split by position: the first twentieth validates, the last tenth tests, the rest trains."""
    vocabulary = Vocabulary(about["characters"]) if about else None
    if config.data:
        ids, vocabulary, notes = read_text(find_data(config.data), config.level, vocabulary)
    else:
        text = documentation_strings()
        pieces = [text.encode() if config.level == "byte" else text]
        ids, vocabulary, notes = encode_pieces(lambda: pieces, config.level, vocabulary, ["Python's documentation strings"])
    block, source = config.block_size, config.data or "documentation-strings"
    if about:
        return Data(None, None, evenly(ids, block, 20_000), about, notes, source)
    train, validation, test = split_by_position(ids, block)
    return Data(
        Windows(train, block, per_epoch=config.steps * config.batch_size),
        evenly(validation, block, 1_000),
        evenly(test, block, 20_000),
        {"characters": vocabulary.characters},
        notes,
        source,
    )


def build_model(config, data):
    """Token ids -> GPT or LSTM -> logits of the next token at every position."""
    from apps.common.training.losses import TokenCrossEntropy
    from apps.common.training.optimizers import compile_model
    from layers import models

    tokens = len(Vocabulary(data.about["characters"]))
    if config.model == "gpt":
        model = models.gpt(
            tokens, config.block_size, width=config.width, depth=config.depth or 4, num_heads=config.num_heads,
            dropout=config.dropout, positions=config.positions,
        )  # fmt: skip
    else:
        model = models.lstm_language_model(
            tokens, config.block_size, width=config.width, depth=config.depth or 2, dropout=config.dropout
        )
    return compile_model(model, config, data.train, loss=TokenCrossEntropy())


def baselines(data, config):
    """How often each token occurs; counts of up to five tokens, smoothed, from at most two million tokens."""
    from apps.common.reports.baselines import back_off

    tokens = len(Vocabulary(data.about["characters"]))
    ids = data.train.ids.windows([0], min(len(data.train.ids), 2_000_000))[0]
    longest = min(5, config.block_size + 1, int(62 / math.log2(max(2, tokens))))  # a run of tokens is one number of 63 bits
    spread = np.unique(np.linspace(0, len(data.test) - 1, min(2000, len(data.test))).astype(int))
    x, y = data.test.take(spread)
    windows, found = np.concatenate([x, y[:, -1:]], axis=1), {}
    for name, length in (("unigram", 1), (f"{longest}-gram with back-off", longest)):
        nats = float(-np.log(back_off(ids, tokens, longest=length)(windows)).mean())
        found[name] = {"cross_entropy": nats, "bits_per_token": nats / math.log(2), "perplexity": math.exp(nats)}
    return found


def evaluate(model, data, config):
    """Cross-entropy of the next token in nats and bits, perplexity, the loss by position, and how the model writes."""
    from apps.common import figures

    losses = next_token_losses(model, data.test)
    nats = losses.mean()
    metrics = {"cross_entropy": nats, "bits_per_token": nats / math.log(2), "perplexity": math.exp(nats)}
    by_position = losses.mean(0)
    drawn = {
        "loss-by-position": figures.line(
            range(1, len(by_position) + 1), by_position, "tokens seen", "cross-entropy (nats)", "loss by position"
        )
    }
    vocabulary, spread = Vocabulary(data.about["characters"]), np.linspace(0, len(data.test) - 1, 3).astype(int)
    spell = [vocabulary.decoder() for _ in spread]
    prompts = ["".join(map(say, row[:32])) for say, row in zip(spell, data.test.take(spread)[0], strict=True)]
    options = PredictOptions(length=200, stream=False)
    return Report(metrics, drawn, {"samples": predict(model, prompts, data.about, options)})


def next_token_losses(model, windows, batch_size=128):
    """-log p(next token) at every position of every window, `(windows, block_size)`."""
    from apps.common.training.batches import predict_all

    losses = []
    for first in range(0, len(windows), batch_size):
        indices = np.minimum(np.arange(first, first + batch_size), len(windows) - 1)
        x, y = windows.take(indices)
        logits = predict_all(model, x, batch_size).astype("float64")
        logits -= logits.max(-1, keepdims=True)
        right = np.take_along_axis(logits, y[:, :, None], -1)[:, :, 0]
        losses.append((np.log(np.exp(logits).sum(-1)) - right)[: len(windows) - first])
    return np.concatenate(losses)


def predict(model, inputs, about, options=PredictOptions()):
    """Each prompt and the text that the model writes after it."""
    from apps.common.reports.sampling import Sampler, continuation
    from layers import Decoder

    vocabulary = Vocabulary(about["characters"])
    decoder, sampler = Decoder(model), Sampler(options.temperature, options.top_k, options.top_p)
    rows = []
    for prompt in inputs:
        try:
            ids = vocabulary.encode(prompt, f"prompt {prompt[:40]!r}")
        except UserError as error:
            rows.append({"prompt": prompt, "reason": str(error)})
            continue
        if not len(ids):
            rows.append({"prompt": prompt, "reason": "an empty prompt: expected at least one character to go on from"})
            continue
        spell, text = vocabulary.decoder(), ""
        following = continuation(decoder, ids.tolist(), sampler, np.random.default_rng(options.seed))
        for index, token in enumerate(itertools.islice(following, options.length)):
            text += (piece := spell(token))
            if options.stream:
                print(piece if index else prompt + piece, end="", file=sys.stderr, flush=True)
        rows.append({"prompt": prompt, "text": text})
        if options.stream:
            print("\n", file=sys.stderr)
    return rows


if __name__ == "__main__":
    start(__spec__)
