"""The next token drawn from logits, by NumPy from a seed: the same on every backend; and texts continued with it."""

import itertools
import sys
from dataclasses import dataclass

import numpy as np

AT_ONCE = 32  # texts that are written side by side


@dataclass(frozen=True)
class Sampler:
    """Draws from softmax(logits / temperature), cut to the likeliest.

    Args:
        temperature: Below one sharpens, above flattens; 0 takes the likeliest token.
        top_k: Number of likeliest tokens kept; `None` for all.
        top_p: The smallest set of likeliest tokens with at least this probability together is kept
            (Holtzman et al., 2019, arXiv 1904.09751).
        repetition_penalty: What the logits of tokens seen already are divided by, or multiplied with where they are negative
            (Keskar et al., 2019, arXiv 1909.05858); 1 for none.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0

    def probabilities(self, logits):
        """The distribution drawn from, of the shape of `logits`, `(..., entries)`."""
        logits = np.asarray(logits, "float64")
        order = np.argsort(-logits, axis=-1, kind="stable")
        ranked = np.take_along_axis(logits, order, -1)
        if self.temperature:
            with np.errstate(divide="ignore", over="ignore"):
                ranked_p = np.exp((ranked - ranked[..., :1]) / self.temperature)
        else:
            ranked_p = np.zeros_like(ranked)
            ranked_p[..., 0] = 1.0
        if self.top_k is not None:
            ranked_p[..., self.top_k :] = 0.0
        ranked_p /= ranked_p.sum(-1, keepdims=True)
        before = np.cumsum(ranked_p, -1) - ranked_p
        ranked_p[before >= self.top_p] = 0.0
        probabilities = np.empty_like(ranked_p)
        np.put_along_axis(probabilities, order, ranked_p / ranked_p.sum(-1, keepdims=True), -1)
        return probabilities

    def draw(self, logits, generator, seen=()):
        """One token: the first whose cumulated probability exceeds a uniform number; `seen` are those before it."""
        return self.draws(np.asarray(logits)[None], [generator], [seen])[0]

    def draws(self, logits, generators, seen):
        """A token for each of several texts, from logits `(texts, entries)`, a generator each and the tokens before it each."""
        if self.repetition_penalty != 1.0:
            logits = np.array(logits, "float64")
            for row, tokens in zip(logits, map(np.unique, seen), strict=True):
                tokens = tokens.astype("int64")
                row[tokens] *= np.where(row[tokens] > 0, 1 / self.repetition_penalty, self.repetition_penalty)
        cumulated = np.cumsum(self.probabilities(logits), -1)
        uniform = [generator.random() for generator in generators]
        drawn = [np.searchsorted(row, number * row[-1], "right") for row, number in zip(cumulated, uniform, strict=True)]
        return [int(min(token, cumulated.shape[-1] - 1)) for token in drawn]


def continuation(decoder, prompt, sampler, generator):
    """Tokens that follow the prompt, without end.

    A full window is begun anew with its later half, so the model always sees between half a block and a whole one, and
    a token costs two steps at most on average however long the text has become.

    Args:
        decoder: A `layers.Decoder`.
        prompt: One token or more.
        sampler: A `Sampler`.
        generator: A `np.random.Generator`.
    """
    decoder.reset()
    tokens, waiting = [], list(prompt)[-decoder.block_size :]
    while True:
        while waiting:
            count = decoder.many if len(waiting) >= decoder.many else 1
            logits = decoder([waiting[:count]])[0] if count > 1 else decoder(waiting[0])
            tokens += waiting[:count]
            waiting = waiting[count:]
        following = sampler.draw(logits, generator, tokens)
        yield following
        waiting = [following]
        if decoder.position == decoder.block_size:
            kept = decoder.block_size // 2
            waiting = [*tokens[len(tokens) - kept + 1 :], following]
            decoder.reset()
            tokens = []


def continuations(decoder, prompts, sampler, generators, goes_on):
    """Continue several texts at once, each as `continuation` would by itself.

    All have taken as many tokens at any time, so their windows are full, and are begun anew, at the same moment.

    Args:
        decoder: A `layers.Decoder` for as many texts.
        prompts: One token or more of each.
        sampler: A `Sampler`.
        generators: A `np.random.Generator` for each.
        goes_on: `goes_on(number, token)` hears the token added to text `number` and says whether it wants another.
    """
    decoder.reset()
    texts = [list(prompt)[-decoder.block_size :] for prompt in prompts]
    going, first = np.ones(len(texts), bool), 0  # the windows begin at token `first`
    while going.any():
        place, logits = decoder.take(texts, np.flatnonzero(going), first)
        ready = [number for number in np.flatnonzero(going).tolist() if place == len(texts[number]) - 1]
        seen = [texts[number][first:] for number in ready]
        drawn = sampler.draws(logits[ready], [generators[number] for number in ready], seen) if ready else []
        for number, token in zip(ready, drawn, strict=True):
            texts[number].append(token)
            going[number] = goes_on(number, token)
        if decoder.position == decoder.block_size:
            first = place + 2 - decoder.block_size // 2
            decoder.reset()


@dataclass(frozen=True)
class Generation:
    """How a text is continued.

    Args:
        sampler: A `Sampler`.
        length: Most tokens added.
        seed: Of the draws; the same for each text.
        end: What a piece of text holds that ends it, such as the mark behind an answer; `None` for no such mark.
        block_size: Tokens that the model sees at once; by default what it was built for.
    """

    sampler: Sampler
    length: int
    seed: int = 0
    end: str | None = None
    block_size: int | None = None

    def to_end(self, piece):
        """`(what of a piece belongs to the text, whether the text ends there)`: a piece can hold letters before the mark."""
        if self.end is None:
            return piece, False
        text, mark, _ = piece.partition(self.end)
        return text, bool(mark)


def pieces_after(decoder, ids, vocabulary, generation):
    """What the model writes after a prompt of these tokens, piece by piece, to its end or `generation.length` tokens."""
    following = continuation(decoder, ids, generation.sampler, np.random.default_rng(generation.seed))
    spell = vocabulary.decoder()
    for token in itertools.islice(following, generation.length):
        piece, ended = generation.to_end(spell(token))
        yield piece
        if ended:
            return


def stream_texts(model, prompts, vocabulary, generation, names):
    """The text written after each prompt, shown on standard error behind its name while it is written."""
    from layers import Decoder

    decoder, made = Decoder(model, length=generation.block_size), []
    for name, ids in zip(names, prompts, strict=True):
        print(name, end="", file=sys.stderr)
        pieces = []
        for piece in pieces_after(decoder, ids, vocabulary, generation):
            print(piece, end="", file=sys.stderr, flush=True)
            pieces.append(piece)
        print("\n", file=sys.stderr)
        made.append("".join(pieces))
    return made


def generate_texts(model, prompts, vocabulary, generation):
    """The text written after each prompt, those of a batch side by side; the same as one by one."""
    from layers import Decoder

    size = min(AT_ONCE, 1 << (len(prompts) - 1).bit_length()) if prompts else 1
    decoder, made = Decoder(model, size, generation.block_size), []
    for first in range(0, len(prompts), size):
        some = prompts[first : first + size]
        spell, pieces = [vocabulary.decoder() for _ in some], [[] for _ in some]

        def goes_on(number, token, spell=spell, pieces=pieces):
            if number >= len(spell):  # one that fills up
                return False
            piece, ended = generation.to_end(spell[number](token))
            pieces[number].append(piece)
            return not ended and len(pieces[number]) < generation.length

        filled = [*some, *(some[:1] * (size - len(some)))]
        generators = [np.random.default_rng(generation.seed) for _ in filled]
        continuations(decoder, filled, generation.sampler, generators, goes_on)
        made += map("".join, pieces)
    return made
