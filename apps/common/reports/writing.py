"""What an encoder-decoder writes: greedily or by beams in batches of few shapes, where it looked, and texts side by side."""

import numpy as np

from apps.common import figures
from apps.common.data.examples import evenly_spaced

MOST_ROWS = 128  # texts written at a time, a beam each


def write(model, sources, coder, about, *, width=1, alpha=0.6, length=None):
    """`(ids, ended)`: those written for each source, without the end, and whether it has one or was stopped.

    Args:
        model: From `{"source", "target"}` to logits of the next token.
        sources: An array of ids each; one longer than the longest of `about` is cut there.
        coder: The `PairCoder`.
        about: Of the model: lengths of sources that batches are padded to, and the length of a target.
        width: Beams of each source; 1 takes the likeliest token each time.
        alpha: Strength of the length penalty of beams.
        length: Most tokens written.
    """
    lengths, length = about["source_lengths"], length or about["target_length"]
    which = np.searchsorted(lengths, [min(len(each), lengths[-1]) for each in sources])
    begin, end = coder.target.begin, coder.target.end
    written, ended = [[] for _ in sources], [False for _ in sources]
    for bucket in np.unique(which):
        places = np.flatnonzero(which == bucket)
        # Powers of two, so that few shapes are compiled however many texts there are.
        size = min(max(1, MOST_ROWS // width), 1 << int(np.ceil(np.log2(len(places)))))
        for first in range(0, len(places), size):
            some = places[first : first + size]
            padded = np.zeros((size, lengths[bucket]), "int32")
            for row, place in enumerate(some):
                ids = sources[place][: lengths[bucket]]
                padded[row, : len(ids)] = ids
            padded[len(some) :] = padded[0]
            decoder = decoder_of(model, size * width, lengths[bucket], length)
            decoder.reset(np.repeat(padded, width, axis=0))
            if width == 1:
                found = decoder.generate([[begin]] * size, length, end=end)
            else:
                found = [ranked[0][1] for ranked in decoder.beams([begin], length, end, width, alpha)]
            for place, ids in zip(some, found, strict=False):
                written[place], ended[place] = [each for each in ids if each != end], end in ids
    return written, ended


def decoder_of(model, rows, source_length, length):
    """The model's `Decoder` for these shapes, compiled once and kept with the model."""
    from layers import Decoder

    known = vars(model).setdefault("_decoders", {})  # not an attribute: Keras would look for weights in it
    key = (rows, source_length, length)
    if key not in known:
        known[key] = Decoder(model, rows, length)
    return known[key]


def write_texts(model, texts, coder, about, **options):
    """`(texts written, notes)` for some source texts, a note `""` where all was read and written; options as of `write`."""
    ids, copied = coder.encode_sources(texts)
    longest, notes = about["source_lengths"][-1], []
    written, ended = write(model, ids, coder, about, **options)
    for source, target, whole in zip(ids, written, ended, strict=True):
        said = [f"read up to token {longest} of {len(source)}"] if len(source) > longest else []
        said += [] if whole else [f"stopped after {len(target)} tokens, before an end"]
        notes.append("; ".join(said))
    return [coder.decode(*each) for each in zip(written, copied, strict=True)], notes


def attention_maps(model, coder, texts, about, **options):
    """Where a model looked while it wrote, a panel for each text: of a Transformer the last block, the mean of its heads."""
    from apps.common.training.batches import predict_all

    ids, copied = coder.encode_sources(texts)
    ids = [each[: about["source_lengths"][-1]] for each in ids]
    written, _ = write(model, ids, coder, about, **options)
    x = {
        "source": np.zeros((len(ids), max(map(len, ids))), "int32"),
        "target": np.zeros((len(ids), 1 + max(map(len, written))), "int32"),
    }
    for row, (source, target) in enumerate(zip(ids, written, strict=True)):
        x["source"][row, : len(source)] = source
        x["target"][row, : 1 + len(target)] = [coder.target.begin, *target]
    weights = predict_all(looking(model), x)
    panel = min(20.0, max(5.0, 0.22 * max(map(len, ids))))
    figure, panels = figures.new(panel * len(texts), 5.0, 1, len(texts))
    for row, axis in enumerate(np.atleast_1d(panels)):
        target, source = [*written[row], coder.target.end], ids[row]
        axis.imshow(weights[row, : len(target), : len(source)].astype("float32"), cmap="Greys", vmin=0, vmax=1, aspect="auto")
        names = [source_token(coder, each, copied[row]) for each in source]
        axis.set_xticks(range(len(source)), names, rotation=90, fontsize=8)
        axis.set_yticks(range(len(target)), [coder.spelt(each, copied[row]) or "(end)" for each in target], fontsize=8)
        axis.set(xlabel="read", ylabel="written")
    figure.suptitle("where the model looked for each token it wrote")
    return figure


def looking(model):
    """The model that returns where another one looks, `(batch, target tokens, source tokens)`."""
    import keras

    from layers import DecoderBlock

    blocks = [layer for layer in model.layers if isinstance(layer, DecoderBlock)]
    if not blocks:
        return keras.Model(model.input, model.get_layer("decoder").output[1])
    # The block's inputs are the target so far, the source that was read, and which of its tokens count.
    block = blocks[-1]
    look = keras.layers.Lambda(lambda given: block.attention_weights(*given), (None, None), dtype=block.dtype_policy)
    return keras.Model(model.input, look(block.input))


def source_token(coder, index, copied):
    return coder.spelt(index, copied) if coder.source is coder.target else coder.source.decode([int(index)]).strip()


def side_by_side(pairs, written, most=20, **scores):
    """Rows of a table: the source, a reference and what the model wrote, evenly from all.

    Args:
        pairs: `Pairs`.
        written: A text each.
        most: Rows.
        scores: `name=[a number each]` put beside.
    """
    chosen = evenly_spaced(len(pairs), most)
    return [
        {
            "source": pairs.sources[i], "reference": pairs.references[i][0], "written": written[i],
            **{name: round(float(values[i]), 4) for name, values in scores.items()},
        }
        for i in chosen
    ]  # fmt: skip
