"""Model a text by characters, bytes or pieces of words and go on with prompts in its manner; or converse, from dialogues.

triptych train text-generation --data book.txt

`--pretrained hf:FOLDER` goes on with a GPT-2, `--pretrained BUNDLE` with an earlier run, in its vocabulary.
A JSONL of dialogues, or a JSON with a list of them, trains on the answers alone; `triptych chat MODEL` then talks. The default,
the documentation strings of Python, takes two minutes on two cores and ends at 1.77 nats a character; counts of five reach 1.81.
"""

import math
import shlex
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from apps.common.app import Inputs, Metric
from apps.common.command import start
from apps.common.data.examples import About, Data, Report, evenly_spaced, find_data, split_indices
from apps.common.data.text.dialogues import (
    ASKED,
    BLOCK,
    ENDED,
    MOST_BLOCK,
    asking_ids,
    clean,
    cut_note,
    dialogue_block,
    dialogue_examples,
    in_buckets,
    is_dialogues,
    limits_of,
    read_dialogues,
    turn_ids,
    written,
)
from apps.common.data.text.plain import (
    Vocabulary,
    Windows,
    documentation_strings,
    encode_pieces,
    evenly,
    pieces_of,
    prompt_of,
    split_by_position,
)
from apps.common.data.text.subwords import Subwords, learn_subwords, vocabulary_of
from apps.common.data.text.tokenizer import TOKENIZER_FILE
from apps.common.errors import UserError
from apps.common.options.declare import option, refused
from apps.common.options.training import Recipe, Transfer, is_missing

SHOWN = 8  # prompts at most whose text is shown while it is written, one after the other


@dataclass(frozen=True)
class Config(Transfer):
    libraries = ("hf:",)
    bundle_rate = 1.0  # networks of texts trained here are small, and few steps hardly move a slow one

    pretrained: str | None = option(
        None, "a network to go on with, and its vocabulary: a bundle (folder, run id, name@alias) of this task, or hf:FOLDER"
    )
    model: Literal["gpt", "lstm"] = option("gpt", "architecture", search=("gpt", "lstm"), needs={"pretrained": is_missing})
    level: Literal["char", "byte", "subword"] = option(
        "char", "what a token is; bytes take any encoding and language, pieces of words are learnt from the text",
        needs={"pretrained": is_missing},
    )  # fmt: skip
    vocabulary_size: int = option(
        2000, "pieces of words at most", low=300, high=65_000, needs={"level": "subword", "pretrained": is_missing}
    )
    block_size: int | None = option(
        None, f"tokens the model sees at most; without it {BLOCK}, of dialogues what nearly all of them have, up to {MOST_BLOCK}",
        low=2, high=65_536, search=(32, 64, 128, 256),
    )  # fmt: skip
    steps: int = option(250, "steps in an epoch, each on windows drawn anew from the whole text (of dialogues: at least)", low=1)
    epochs: int = option(5, "epochs of --steps", low=1, high=100_000)
    batch_size: int = option(32, "windows a step", low=1, high=65_536, search=(8, 16, 32, 64))
    learning_rate: float = option(2e-3, "step size (its peak, with a schedule)", above=0, high=100, search=(3e-4, 1e-2), log=True)
    optimizer: Literal["sgd", "momentum", "nesterov", "rmsprop", "adam", "adamw", "adagrad", "adadelta"] = option(
        "adamw", "gradient descent rule", search=("adam", "adamw")
    )
    schedule: Literal["constant", "cosine", "step", "exponential", "one-cycle", "plateau"] = option(
        "one-cycle", "how the learning rate changes over the run", search=("constant", "cosine", "one-cycle")
    )
    clip_norm: float | None = option(1.0, "largest norm of the whole gradient", above=0)
    width: int = option(
        128, "features of a token; units of an LSTM", low=2, search=(64, 128, 256), needs={"pretrained": is_missing}
    )
    depth: int | None = option(
        None, "transformer blocks (4) or LSTMs (2)", low=1, high=96, search=(1, 2, 4, 6), needs={"pretrained": is_missing}
    )
    num_heads: int = option(
        4, "attention heads; must divide the width", low=1, needs={"model": "gpt", "pretrained": is_missing}
    )
    positions: Literal["learned", "rotary"] = option(
        "rotary", "how a token's place is told", search=("learned", "rotary"),
        needs={"model": "gpt", "pretrained": is_missing},
    )
    dropout: float = option(0.0, "share of units dropped in training", low=0, high=0.95, search=(0.0, 0.3))
    class_weights: str = refused("none", "every character counts as often as it occurs")

    def check(self):
        super().check()
        if not self.pretrained and self.model == "gpt" and self.width % self.num_heads:
            raise UserError(f"--width {self.width}: expected a multiple of --num-heads {self.num_heads}")


@dataclass(frozen=True)
class PredictOptions:
    length: int = option(300, "tokens to add to each prompt", low=1, high=10_000_000)
    temperature: float = option(0.8, "below 1 is safer, above is bolder, 0 always takes the likeliest", low=0, high=100)
    top_k: int | None = option(None, "draw from this many likeliest tokens only", low=1)
    top_p: float = option(1.0, "draw from the likeliest tokens that together have this probability", above=0, high=1)
    repetition_penalty: float = option(1.0, "above 1, tokens seen already become less likely", above=0, high=10)
    seed: int = option(0, "seed of the draws", low=0, high=2**31 - 1)
    stream: bool = option(True, f"show the text on standard error while it is written, of up to {SHOWN} prompts")


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
    "shakespeare-char": Recipe(
        "GPT of 10.6M weights on tinyshakespeare's characters, 5000 steps, for an accelerator",
        data="tinyshakespeare",
        options={"model": "gpt", "positions": "learned", "epochs": 20, "steps": 250, "batch_size": 64, "block_size": 256,
                 "width": 384, "depth": 6, "num_heads": 6, "dropout": 0.2, "learning_rate": 1e-3, "schedule": "cosine",
                 "warmup": 0.02, "final_rate": 0.1, "weight_decay": 0.1, "beta2": 0.99, "precision": "mixed_bfloat16"},
        metric="cross_entropy", lower_is_better=True, published=1.4697, tolerance=0.02, minutes=5, seeds=1,
        source="github.com/karpathy/nanoGPT, README, quick start on a GPU",
    ),
}  # fmt: skip


def load_data(config, about=None):
    """Windows of the text, split by position: the first twentieth validates, the last tenth tests, the rest trains."""
    path = find_data(config.data) if config.data else None
    conversing = bool(path and is_dialogues(path))
    if about:
        refuse_other_kind(config.data, conversing, about)
    if conversing:
        return load_dialogues(config, path, about)
    config = replace(config, block_size=config.block_size or BLOCK)
    brought = about or begun(config)
    vocabulary = vocabulary_of(brought) if brought else None
    level = level_of(config, brought)
    if path:
        pieces, notes = pieces_of(path, "byte" if level == "byte" else "char")
    else:
        text, notes = documentation_strings(), ["Python's documentation strings"]
        pieces = lambda: [text.encode() if level == "byte" else text]  # noqa: E731
    if vocabulary is None and level == "subword":
        vocabulary = learn_subwords(pieces, config.vocabulary_size)
    ids, vocabulary, notes = encode_pieces(pieces, level, vocabulary, notes)
    block, source = config.block_size, config.data or "documentation-strings"
    if about:
        return Data(None, None, evenly(ids, block, 20_000), about, notes, source)
    train, validation, test = split_by_position(ids, block)
    return Data(
        Windows(train, block, per_epoch=config.steps * config.batch_size),
        evenly(validation, block, 1_000),
        evenly(test, block, 20_000),
        about_of(vocabulary, config, brought),
        notes,
        source,
        example=shlex.quote(prompt_of(pieces())),
    )


def load_dialogues(config, path, about=None):
    """Dialogues as rows of tokens of which only the answers count, split by the seed."""
    dialogues, notes = read_dialogues(path)
    if about:
        test, cut = dialogue_examples(dialogues, vocabulary_of(about), config.block_size)
        test = replace(test, buckets=np.array(about.get("buckets", [config.block_size])))  # bundles before 2026-12 have none
        return Data(None, None, test, about, notes + cut_note(cut, len(dialogues), config.block_size), config.data)
    brought = begun(config)
    if brought:
        vocabulary = vocabulary_of(brought)
        if brought["characters"] and ASKED not in brought["characters"]:
            raise UserError(
                f"--pretrained {config.pretrained}: knows the characters of its plain text, and no signs for turns; begin with "
                "a model of dialogues, or of --level byte or subword"
            )
    elif config.level == "subword":
        # Learnt without the marks of the turns: a piece that held one with other characters could not be cut at it.
        vocabulary = learn_subwords(lambda: (clean(text) for turns in dialogues for _, text in turns), config.vocabulary_size)
    else:
        characters = set().union(*map(written, dialogues))
        vocabulary = Vocabulary() if config.level == "byte" else Vocabulary("".join(sorted(characters)))
    if config.block_size is None:
        lengths = [sum(len(turn_ids(turn, vocabulary)) for turn in turns) for turns in dialogues]
        config = replace(config, block_size=dialogue_block(lengths, brought, config.library))
        notes.append(f"blocks of {config.block_size} tokens, by the length of the dialogues")
    examples, cut = dialogue_examples(dialogues, vocabulary, config.block_size)
    notes += cut_note(cut, len(dialogues), config.block_size)
    few = len(examples) < 30  # so few are learnt by heart, and there is nothing to hold out
    parts = [np.arange(len(examples))] * 3 if few else split_indices(np.zeros(len(examples)), (0.1, 0.1), config.seed, False)
    if few:
        notes.append(f"{len(examples)} dialogues are too few to hold some out: the test is on what was trained on")
    times = max(1, round(config.steps * config.batch_size / len(parts[0])))
    if times > 1:
        notes.append(f"an epoch goes {times} times through the {len(parts[0])} dialogues to train on, for it has --steps")
    parts = [examples.subset(part) for part in (np.tile(parts[0], times), *parts[1:])]
    train, validation, test = in_buckets(parts, config.block_size)
    notes.append(train.padding_note(config.batch_size))
    asked = next((text for turns in dialogues for is_answer, text in turns if not is_answer), "Hello")
    described = about_of(vocabulary, config, brought)
    described |= {"dialogue": True, "buckets": train.buckets[:, 0].tolist(), **limits_of(dialogues, vocabulary)}
    return Data(train, validation, test, described, notes, config.data, example=shlex.quote(" ".join(asked.split())[:60]))


def refuse_other_kind(name, conversing, about):
    """Raises a UserError where a model of dialogues is given plain text, or one of plain text dialogues."""
    if conversing and not about.get("dialogue"):
        raise UserError(f"--data {name}: dialogues, but the model was trained on plain text; give a .txt or a folder of them")
    if about.get("dialogue") and not conversing:
        raise UserError(f"--data {name}: plain text, but the model was trained on dialogues; give a .jsonl or .json of them")


def settle(config, data):
    """The block that the data were cut into, where none was asked for."""
    if config.block_size is not None:
        return config, ""
    return replace(config, block_size=data.about["buckets"][-1] if "buckets" in data.about else data.train.block_size), ""


def begun(config):
    """What the run begins with, or `None`."""
    from apps.common.bundles.language_networks import DECODERS, read_network

    if not config.pretrained:
        return None
    brought = read_network(config.pretrained, DECODERS)
    block, most = config.block_size, brought["architecture"]["max_tokens"]
    # Of a larger table the first positions are taken, as it was trained for texts of any length.
    if most is not None and block is not None and block != most and not (config.library and block < most):
        raise UserError(f"--block-size {block}: {config.pretrained} has positions for {most} tokens; give --block-size {most}")
    return brought


def level_of(config, brought):
    """What a token is: as asked for, or as in what the run begins with."""
    if brought is None:
        return config.level
    return "char" if brought["characters"] else "subword" if TOKENIZER_FILE in brought.files else "byte"


def about_of(vocabulary, config, brought):
    """The plain JSON of a vocabulary and of the network, and the vocabulary's file where it is one of pieces."""
    files = {TOKENIZER_FILE: vocabulary.content} if isinstance(vocabulary, Subwords) else {}
    architecture = dict(brought["architecture"]) if brought else asked_for(config, len(vocabulary))
    if architecture["max_tokens"] is not None:
        architecture["max_tokens"] = config.block_size
    return About({"characters": vocabulary.characters, "architecture": architecture}, files)


def asked_for(config, tokens):
    """The network as the options say; an LSTM, or one of rotary positions, can see any number of tokens."""
    gpt = config.model == "gpt"
    sizes = {"vocabulary_size": tokens, "width": config.width, "depth": config.depth or (4 if gpt else 2)}
    if gpt:
        sizes |= {"num_heads": config.num_heads, "positions": config.positions}
    network = "gpt" if gpt else "lstm_language_model"
    return {"network": network, "sizes": sizes, "max_tokens": config.block_size if sizes.get("positions") == "learned" else None}


def build_model(config, data):
    """Token ids -> GPT or LSTM -> logits of the next token at every position."""
    from apps.common.bundles.language_networks import DECODERS, network_of, take_network
    from apps.common.training.losses import TokenCrossEntropy
    from apps.common.training.optimizers import compile_model
    from layers.decoding import of_any_length

    model = network_of(data.about, dropout=config.dropout, block_size=config.block_size)
    model = of_any_length(model) if "buckets" in data.about else model
    trunk = take_network(model, config.pretrained, DECODERS)
    return compile_model(model, config, data.train, loss=TokenCrossEntropy(), trunk=trunk)


def baselines(data, config):
    """How often each token occurs; counts of up to five tokens, smoothed, from at most two million tokens."""
    from apps.common.reports.baselines import back_off

    tokens = len(vocabulary_of(data.about))
    if data.about.get("dialogue"):
        return {}
    ids = data.train.ids.windows([0], min(len(data.train.ids), 2_000_000))[0]
    longest = min(5, config.block_size + 1, int(62 / math.log2(max(2, tokens))))  # a run of tokens is one number of 63 bits
    spread = evenly_spaced(len(data.test), 2000)
    x, y = data.test.take(spread)
    windows, found = np.concatenate([x, y[:, -1:]], axis=1), {}
    for name, length in (("unigram", 1), (f"{longest}-gram with back-off", longest)):
        nats = float(-np.log(back_off(ids, tokens, longest=length)(windows)).mean())
        found[name] = {"cross_entropy": nats, "bits_per_token": nats / math.log(2), "perplexity": math.exp(nats)}
    return found


def evaluate(model, data, config):
    """Cross-entropy of the next token in nats and bits, perplexity, the loss by position, and how the model writes."""
    from apps.common import figures
    from apps.common.reports.next_tokens import next_token_losses

    losses, weight = next_token_losses(model, data.test)
    nats = (losses * weight).sum() / weight.sum()
    metrics = {"cross_entropy": nats, "bits_per_token": nats / math.log(2), "perplexity": math.exp(nats)}
    by_position = (losses * weight).sum(0) / np.maximum(weight.sum(0), 1)
    drawn = {
        "loss-by-position": figures.line(
            range(1, len(by_position) + 1), by_position, "tokens seen", "cross-entropy (nats)", "loss by position"
        )
    }
    vocabulary, spread = vocabulary_of(data.about), evenly_spaced(len(data.test), 3)
    spell = [vocabulary.decoder() for _ in spread]
    prompts = ["".join(map(say, row[:32])) for say, row in zip(spell, data.test.take(spread)[0], strict=True)]
    if data.about.get("dialogue"):
        prompts = [prompt.partition(ASKED)[2].partition(ENDED)[0] or "Hello" for prompt in prompts]
    options = PredictOptions(length=200, stream=False)
    return Report(metrics, drawn, {"samples": predict(model, prompts, data.about, options)})


def predict(model, inputs, about, options=PredictOptions()):
    """Each prompt and the text that the model writes after it, or its answer where it was trained on dialogues."""
    from apps.common.reports.sampling import generate_texts, stream_texts

    rows, given, block = [{"prompt": prompt} for prompt in inputs], {}, block_of(model, about)
    for number, row in enumerate(rows):
        try:
            given[number] = ids_of(row["prompt"], about, block)
        except UserError as error:
            row["reason"] = str(error)
    prompts, vocabulary, generation = list(given.values()), vocabulary_of(about), generation_of(about, options, block)
    if options.stream and len(given) <= SHOWN:
        arrow = " -> " if about.get("dialogue") else ""
        made = stream_texts(model, prompts, vocabulary, generation, [inputs[number] + arrow for number in given])
    else:
        made = generate_texts(model, prompts, vocabulary, generation)
    for (number, ids), text in zip(given.items(), made, strict=True):
        rows[number]["text"] = text
        if len(ids) > block:
            rows[number]["note"] = f"read from its end, {block} tokens of {len(ids)}"
    return rows


def reply(model, turns, about, options=PredictOptions()):
    """The answer to a dialogue `[(whether it is an answer, text)]`, piece by piece, as `triptych chat` shows it."""
    from apps.common.reports.sampling import pieces_after
    from layers import Decoder

    if not about.get("dialogue"):
        raise UserError("this model was trained on plain text; train on a JSONL of dialogues to converse")
    generation = generation_of(about, options, block := block_of(model, about))
    return pieces_after(Decoder(model, length=block), ids_in_dialogue(turns, about, block), vocabulary_of(about), generation)


def block_of(model, about):
    """Tokens that the model sees at most; one of dialogues takes any number, and was trained on so many."""
    return about["buckets"][-1] if "buckets" in about else model.inputs[0].shape[1]


def generation_of(about, options, block_size):
    """How long the model writes and how it draws, from the options of `predict`; an answer ends where it says so."""
    from apps.common.reports.sampling import Generation, Sampler

    sampler = Sampler(options.temperature, options.top_k, options.top_p, options.repetition_penalty)
    return Generation(sampler, options.length, options.seed, ENDED if about.get("dialogue") else None, block_size)


def ids_of(text, about, block_size):
    """The tokens of a prompt.

    Raises:
        UserError: The text is empty or has characters that the model has never seen.
    """
    if about.get("dialogue"):
        return ids_in_dialogue([(False, text)], about, block_size)
    ids = vocabulary_of(about).encode(text, f"prompt {text[:40]!r}").tolist()
    if not ids:
        raise UserError("an empty prompt: expected at least one character to go on from")
    return ids


def ids_in_dialogue(turns, about, block_size):
    """The tokens that the answer to the last of some turns comes after, of as many turns as the model knows dialogues of."""
    limits = {name: about[name] for name in ("most_turns", "answer_tokens") if name in about}
    return asking_ids(turns, vocabulary_of(about), block_size, **limits)


if __name__ == "__main__":
    start(__spec__)
