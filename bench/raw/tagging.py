"""Training of the BiLSTM-CRF beside a loop by hand, for `triptych bench tagging`.

The recipe wnut17-tagger's network: 100 features a word, 30 filters over 20 letters, 13 tags; 16 sentences of up to 24 words a
step, Adam, clipped.
"""

import numpy as np

from bench.family import Family, Fit
from bench.loops import keras_loop, on_each_backend, shuffled_batches, torch_loop

WORDS, LETTERS, TAGS, LENGTH, WIDTH, FILTERS, BATCH = 10_000, 80, 13, 24, 100, 30, 16
RATE, CLIP = 3e-3, 5.0
OPTIONS = {
    "model": "bilstm-crf", "width": WIDTH, "dropout": 0.0, "word_dropout": 0.0, "batch_size": BATCH, "learning_rate": RATE,
    "clip_norm": CLIP,
}  # fmt: skip


def setting():
    """`(app, options, data)`: sentences of random words and letters, a fourth of each batch padding."""
    from apps import tagging as app
    from apps.common.data.examples import About, Data, Examples
    from apps.common.data.text.words import RESERVED, WORDS_FILE, Entries

    generator = np.random.default_rng(0)
    shape = (64 * BATCH, LENGTH)
    inside = np.arange(LENGTH) < generator.integers(LENGTH // 2, LENGTH + 1, (shape[0], 1))
    spelt = np.arange(app.LETTERS) < generator.integers(1, 12, (*shape, 1))
    tokens = generator.integers(RESERVED, WORDS, shape, dtype="int32") * inside
    letters = generator.integers(RESERVED, LETTERS, (*shape, app.LETTERS), dtype="int32") * (spelt & inside[..., None])
    tags = generator.integers(0, TAGS, shape, dtype="int32") * inside
    train = Examples({"tokens": tokens, "characters": letters}, tags)
    words = Entries(tuple(f"w{index}" for index in range(WORDS - RESERVED)))
    about = {"tags": list(map(str, range(TAGS))), "letters": "a" * (LETTERS - RESERVED), "buckets": [LENGTH]}
    return app, OPTIONS, Data(train, None, None, About(about, {WORDS_FILE: words.written()}))


def torch_network():
    """The same network in `torch.nn`; `network(x, y)` is the mean of `-log p(tags)`."""
    import torch
    from torch import nn
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    class Tagger(nn.Module):
        def __init__(self):
            super().__init__()
            self.words, self.letters = nn.Embedding(WORDS, WIDTH), nn.Embedding(LETTERS, FILTERS)
            self.filters = nn.Conv1d(FILTERS, FILTERS, 3, padding=1)
            self.lstm = nn.LSTM(WIDTH + FILTERS, WIDTH, bidirectional=True, batch_first=True)
            self.emissions = nn.Linear(2 * WIDTH, TAGS)
            self.transitions = nn.Parameter(torch.zeros(TAGS, TAGS))
            self.first, self.last = nn.Parameter(torch.zeros(TAGS)), nn.Parameter(torch.zeros(TAGS))

        def forward(self, x, y):
            tokens, letters = x["tokens"], x["characters"]
            batch, length, count = letters.shape
            seen = self.filters(self.letters(letters.view(-1, count)).transpose(1, 2))
            seen = seen.masked_fill((letters.view(-1, 1, count) == 0), -1e9).amax(-1)
            seen = torch.where((letters.view(-1, count) > 0).any(-1, keepdim=True), seen, 0.0)
            sizes = (tokens > 0).sum(1)
            packed = torch.cat([self.words(tokens), seen.view(batch, length, -1)], -1)
            packed = pack_padded_sequence(packed, sizes.cpu(), batch_first=True, enforce_sorted=False)
            states, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=length)
            return -self.log_likelihood(self.emissions(states), y, tokens > 0, sizes).mean()

        def log_likelihood(self, emissions, y, mask, sizes):
            rows = torch.arange(len(y))
            score = self.first[y[:, 0]] + emissions[rows, 0, y[:, 0]]
            ways = self.first + emissions[:, 0]
            for place in range(1, y.shape[1]):
                move = self.transitions[y[:, place - 1], y[:, place]] + emissions[rows, place, y[:, place]]
                score = score + torch.where(mask[:, place], move, 0.0)
                onward = torch.logsumexp(ways[:, :, None] + self.transitions, 1) + emissions[:, place]
                ways = torch.where(mask[:, place, None], onward, ways)
            score = score + self.last[y[rows, sizes - 1]]
            return score - torch.logsumexp(ways + self.last, 1)

    return Tagger()


def loops(backend, data):
    """The loop of one backend; on torch over `torch.nn`, elsewhere over our own network."""
    batches = shuffled_batches(data.train, BATCH)
    if backend == "torch":
        return torch_loop(torch_network(), lambda network, x, y: network(x, y), batches, RATE, CLIP)
    return keras_loop(backend, Fit(*setting()).model, batches, RATE, CLIP)


FAMILIES = {
    "crf-tagger": Family(
        setting,
        on_each_backend(loops),
        usual_steps=212,  # WNUT-17's 3,394 sentences in batches of 16
        measured_by=("speed",),
    )
}
