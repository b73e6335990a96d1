"""Training of the translation Transformer beside a loop by hand, for `triptych bench translation`.

Two blocks of 128 features and 4 heads a side, 4,000 tokens each way, 32 pairs of up to 24 tokens a step, Adam, clipped.
"""

import numpy as np

from bench.family import Family, Fit
from bench.loops import keras_loop, on_each_backend, shuffled_batches, torch_loop

TOKENS, LENGTH, WIDTH, DEPTH, HEADS, BATCH = 4_000, 24, 128, 2, 4, 32
RATE, CLIP = 1e-3, 1.0
OPTIONS = {
    "model": "transformer", "width": WIDTH, "depth": DEPTH, "num_heads": HEADS, "dropout": 0.0, "batch_size": BATCH,
    "learning_rate": RATE, "clip_norm": CLIP, "schedule": "constant",
}  # fmt: skip


def setting():
    """`(app, options, data)`: pairs of random words, a fourth of each batch padding."""
    from apps import translation as app
    from apps.common.data.examples import Data, Examples
    from apps.common.data.text.encoded_pairs import PairCoder, about_pairs
    from apps.common.data.text.tokenizer import train_tokenizer

    tokenizer = train_tokenizer([" ".join(f"w{index}" for index in range(TOKENS))], "words", TOKENS)
    generator = np.random.default_rng(0)
    lengths = generator.integers(LENGTH // 2, LENGTH + 1, (64 * BATCH, 2))
    ids = generator.integers(4, len(tokenizer), (2, 64 * BATCH, LENGTH + 1), dtype="int32")
    source, target = (np.where(np.arange(LENGTH + 1) < size[:, None], each, 0) for size, each in zip(lengths.T, ids, strict=True))
    y = target[:, 1:]
    train = Examples({"source": source[:, :LENGTH], "target": target[:, :LENGTH]}, y, np.float32(y > 0))
    coder = PairCoder(tokenizer, tokenizer)
    buckets = np.full((1, 3), LENGTH)
    about = about_pairs(coder, _WithBuckets(buckets), (LENGTH, LENGTH))
    return app, OPTIONS, Data(train, None, None, about)


class _WithBuckets:
    def __init__(self, buckets):
        self.buckets = buckets


def torch_network():
    """The same network in `torch.nn`."""
    import torch
    from torch import nn
    from torch.nn import functional

    places = torch.arange(LENGTH)[:, None] / 10_000 ** (torch.arange(0, WIDTH, 2) / WIDTH)
    shape = {"d_model": WIDTH, "nhead": HEADS, "dim_feedforward": 4 * WIDTH, "dropout": 0.0, "batch_first": True}

    class Transformer(nn.Module):
        def __init__(self):
            super().__init__()
            self.source, self.target = nn.Embedding(TOKENS, WIDTH), nn.Embedding(TOKENS, WIDTH)
            reads = nn.TransformerEncoderLayer(**shape, norm_first=True)
            writes = nn.TransformerDecoderLayer(**shape, norm_first=True)
            self.encoder = nn.TransformerEncoder(reads, DEPTH, nn.LayerNorm(WIDTH), enable_nested_tensor=False)
            self.decoder = nn.TransformerDecoder(writes, DEPTH, nn.LayerNorm(WIDTH))
            self.register_buffer("places", torch.cat([places.sin(), places.cos()], 1))
            self.register_buffer("later", torch.triu(torch.ones(LENGTH, LENGTH, dtype=torch.bool), 1))

        def forward(self, x):
            padding = x["source"] == 0
            memory = self.encoder(self.source(x["source"]) * WIDTH**0.5 + self.places, src_key_padding_mask=padding)
            y = self.target(x["target"]) * WIDTH**0.5 + self.places
            y = self.decoder(y, memory, tgt_mask=self.later, tgt_is_causal=True, memory_key_padding_mask=padding)
            return functional.linear(y, self.target.weight)

    return Transformer()


def loops(backend, data):
    """The loop of one backend; on torch over `torch.nn`, elsewhere over our own network."""
    batches = shuffled_batches(data.train, BATCH)
    if backend == "torch":
        from torch.nn.functional import cross_entropy

        def loss_of(network, x, y, weight):  # which is zero where the padding is, as `ignore_index` says
            return cross_entropy(network(x).reshape(-1, TOKENS), y.reshape(-1), ignore_index=0)

        return torch_loop(torch_network(), loss_of, batches, RATE, CLIP)
    return keras_loop(backend, Fit(*setting()).model, batches, RATE, CLIP)


FAMILIES = {
    "translator": Family(
        setting,
        on_each_backend(loops),
        usual_steps=227,  # Multi30k's 29,000 pairs in batches of 128
        measured_by=("speed",),
    )
}
