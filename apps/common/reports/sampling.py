"""The next token drawn from logits, by NumPy from a seed: the same on every backend; and a text continued with it."""

from dataclasses import dataclass

import numpy as np


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
        """The distribution drawn from, of the shape of `logits`, `(entries,)`."""
        logits = np.asarray(logits, "float64")
        order = np.argsort(-logits, kind="stable")
        with np.errstate(divide="ignore", over="ignore"):
            scaled = (logits[order] - logits[order[0]]) / self.temperature if self.temperature else None
        sorted_p = np.exp(scaled) if scaled is not None else (np.arange(len(order)) == 0).astype("float64")
        if self.top_k is not None:
            sorted_p[self.top_k :] = 0.0
        sorted_p /= sorted_p.sum()
        before = np.cumsum(sorted_p) - sorted_p
        sorted_p[before >= self.top_p] = 0.0
        probabilities = np.empty_like(sorted_p)
        probabilities[order] = sorted_p / sorted_p.sum()
        return probabilities

    def draw(self, logits, generator, seen=()):
        """One token: the first whose cumulated probability exceeds a uniform number; `seen` are those before it."""
        if self.repetition_penalty != 1.0 and len(seen):
            logits, seen = np.array(logits, "float64"), np.unique(seen)
            penalty = np.where(logits[seen] > 0, 1 / self.repetition_penalty, self.repetition_penalty)
            logits[seen] *= penalty
        cumulated = np.cumsum(self.probabilities(logits))
        return int(min(np.searchsorted(cumulated, generator.random() * cumulated[-1], "right"), len(cumulated) - 1))


class Uncached:
    """A `layers.Decoder` that computes everything anew for each token: slow, and what the other is held against."""

    def __init__(self, model):
        self.model, self.block_size = model, model.inputs[0].shape[1]
        self.reset()

    def reset(self):
        self.tokens = []

    @property
    def position(self):
        return len(self.tokens)

    def __call__(self, token):
        self.tokens.append(token)
        padded = np.zeros((1, self.block_size), "int32")
        padded[0, : len(self.tokens)] = self.tokens
        return np.asarray(self.model.predict_on_batch(padded))[0, len(self.tokens) - 1]


def continuation(decoder, prompt, sampler, generator):
    """Tokens that follow the prompt, without end.

    A full window is begun anew with its later half, so the model always sees between half a block and a whole one, and
    a token costs two steps on average however long the text has become.

    Args:
        decoder: A `layers.Decoder`, or `Uncached`.
        prompt: One token or more.
        sampler: A `Sampler`.
        generator: A `np.random.Generator`.
    """
    decoder.reset()
    tokens, waiting = [], list(prompt)[-decoder.block_size :]
    while True:
        for token in waiting:
            tokens.append(token)
            logits = decoder(token)
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
        place = first + decoder.position
        logits = decoder(np.array([text[place] if place < len(text) else 0 for text in texts]))
        for number in np.flatnonzero(going):
            text = texts[number]
            if place == len(text) - 1:
                text.append(sampler.draw(logits[number], generators[number], text[first:]))
                going[number] = goes_on(number, text[-1])
        if decoder.position == decoder.block_size:
            first = place + 2 - decoder.block_size // 2
            decoder.reset()
