"""How time and memory grow over an eight-fold range of examples, tokens, nodes and edges: the slopes of log against log.

`triptych bench growth` takes about fifteen minutes on two cores; `--only gcn-edges --backend jax` under one.
A slope of 1 is linear, 0 does not grow at all. Memory is the most the process held up to this size, beyond what it held
after a first use on very little.
"""

import gc
import itertools
import statistics
import tempfile
import time

import numpy as np

from bench.instruments import WIDE

FACTORS, READINGS = (1, 2, 4, 8), 5
GRAPHS = ("gcn", "graphsage", "gat", "gin")
FEATURES, CLASSES, DEGREE = 16, 4, 8
MEGABYTE = 1e6


def measure(subject, largest=None):
    """The readings of one subject at each size and their slopes, on the running backend.

    Args:
        subject: One of `SUBJECTS`.
        largest: The largest size; the subject's own when `None`.
    Returns: `[{subject, backend, along, from_size, to_size, from_ms, to_ms, time_slope, to_megabytes, memory_slope, spread,
        readings}]`; `spread` is the widest of the slowest to the fastest reading of a size, `readings` those of
        each size: `{size, milliseconds, megabytes}`.
    """
    import keras

    from layers import backend

    prepare, along, own, count = SUBJECTS[subject]
    sizes = [(largest or own) * factor // FACTORS[-1] for factor in FACTORS]
    prepare(max(16, sizes[0] // 16))()
    held, readings, spread = backend.peak_memory_bytes(), [], 1.0
    for size in sizes:
        gc.collect()
        run = prepare(size)
        if count > 1:
            run()
        seconds = [run() for _ in range(count)]
        spread = max(spread, max(seconds) / min(seconds))
        grown = (backend.peak_memory_bytes() - held) / MEGABYTE
        readings.append({"size": size, "milliseconds": 1000 * statistics.median(seconds), "megabytes": grown})
        del run
        keras.backend.clear_session()
    first, last = readings[0], readings[-1]
    return [
        {
            "subject": subject,
            "backend": keras.backend.backend(),
            "along": along,
            "from_size": first["size"],
            "to_size": last["size"],
            "from_ms": round(first["milliseconds"], 2),
            "to_ms": round(last["milliseconds"], 2),
            "time_slope": slope(sizes, [each["milliseconds"] for each in readings]),
            "to_megabytes": round(last["megabytes"]),
            "memory_slope": slope(sizes, [each["megabytes"] for each in readings], least=1.0),
            "spread": f"{spread:.2f}" + (" wide" if spread > WIDE else ""),
            "readings": readings,
        }
    ]


def slope(sizes, values, least=None):
    """Of the straight line through the logarithms; where nothing exceeds eight times `least`, there is `None` to see."""
    if least is not None:
        values = np.maximum(values, least)
        if values.max() < 8 * least:
            return None
    return round(float(np.polyfit(np.log(sizes), np.log(values), 1)[0]), 2)


def examples(size):
    """An epoch of the MLP over so many images."""
    from bench.families import BATCH_SIZE, Fit, images, setting

    app, options, _ = setting("mlp")
    fit = Fit(app, options, images(size))
    return lambda: fit.run(max(1, size // BATCH_SIZE))


def tokens(family):
    """A step on windows of so many tokens."""

    def prepare(size):
        from bench import raw_text
        from bench.families import Fit

        fit = Fit(*raw_text.setting(family, block_size=size))
        return lambda: fit.run(4) / 4

    return prepare


def generation(size):
    """So many tokens written by a GPT that sees 32 and keeps what it has computed; every size lies beyond what it sees."""
    from apps.common.options.declare import make_config
    from apps.common.reports.sampling import Sampler, continuation
    from apps.common.training import run
    from bench import raw_text
    from layers import Decoder

    app, options, data = raw_text.setting("gpt", block_size=32)
    decoder = Decoder(run.make_model(app, make_config(app.Config, options), data))

    def generate():
        start = time.perf_counter()
        for _ in itertools.islice(continuation(decoder, [0], Sampler(), np.random.default_rng(0)), size):
            pass
        return time.perf_counter() - start

    return generate


def text_file(size):
    """Reading a text file of so many characters and a few steps on it."""
    from apps import text_generation as app
    from apps.common.options.declare import make_config
    from bench.families import Fit

    file = tempfile.NamedTemporaryFile(suffix=".txt")  # noqa: SIM115  goes with the function that reads it
    piece = np.random.default_rng(0).integers(97, 123, 1 << 20, "uint8").tobytes()
    for start in range(0, size, len(piece)):
        file.write(piece[: size - start])
    file.flush()
    options = {"data": file.name, "width": 16, "depth": 1, "block_size": 16, "steps": 4}

    def read():
        start = time.perf_counter()
        data = app.load_data(make_config(app.Config, options))
        Fit(app, options, data).run(4)
        file.tell()
        return time.perf_counter() - start

    return read


def graph(model, along):
    """A step on a graph of so many nodes with `DEGREE` edges each, or of so many edges among 16,384 nodes."""

    def prepare(size):
        from apps import graph as app
        from apps.common.data.examples import Data
        from apps.common.data.graphs.nodes import Graph, GraphNodes
        from bench.families import Fit

        nodes, edges = (size, DEGREE * size) if along == "nodes" else (16_384, size)
        generator = np.random.default_rng(0)
        features = generator.normal(size=(nodes, FEATURES)).astype("float32")
        ends = generator.integers(0, nodes, (2, edges)).astype("int32")
        ends[1].sort()
        labels, names = generator.integers(0, CLASSES, nodes), [str(index) for index in range(CLASSES)]
        train = GraphNodes(Graph(features, ends, labels, names, [], {}), np.arange(nodes) % 2 == 0, None)
        options = {"model": model, "hidden_dim": 16} if model != "gat" else {"model": model, "hidden_dim": 8, "num_heads": 2}
        about = {"class_names": names, "num_features": FEATURES, "entries": None}
        fit = Fit(app, options, Data(train, None, None, about))
        return lambda: fit.run(2) / 2

    return prepare


# What prepares a reading, the size, the largest one, and the readings of each.
SUBJECTS = {
    "examples": (examples, "examples", 131_072, READINGS),
    "gpt-tokens": (tokens("gpt"), "tokens", 512, READINGS),
    "lstm-tokens": (tokens("lstm"), "tokens", 512, READINGS),
    "generation": (generation, "tokens", 1024, READINGS),
    "text-file": (text_file, "characters", 1 << 30, 1),
    **{f"{model}-nodes": (graph(model, "nodes"), "nodes", 131_072, READINGS) for model in GRAPHS},
    **{f"{model}-edges": (graph(model, "edges"), "edges", 1_048_576, READINGS) for model in GRAPHS},
}


def figure(rows):
    """Time and memory against size, both on logarithmic axes: two panels a subject, a line a backend."""
    from apps.common import figures

    subjects = list(dict.fromkeys(row["subject"] for row in rows))
    across = min(5, len(subjects))
    drawn, panels = figures.new(3.0 * across, 4.6 * -(-len(subjects) // across), 2 * -(-len(subjects) // across), across)
    panels = np.reshape(panels, (-1, across))
    for axis in panels.flat:
        axis.set_visible(False)
    for index, subject in enumerate(subjects):
        place, column = divmod(index, across)
        for axis, quantity in zip(panels[2 * place : 2 * place + 2, column], ("milliseconds", "megabytes"), strict=True):
            axis.set_visible(True)
            for row in rows:
                if row["subject"] == subject:
                    found = row[{"milliseconds": "time_slope", "megabytes": "memory_slope"}[quantity]]
                    sizes, values = zip(*((each["size"], max(1e-3, each[quantity])) for each in row["readings"]), strict=True)
                    axis.loglog(sizes, values, marker=".", label=f"{row['backend']} {'' if found is None else found}")
            axis.set(title=subject, xlabel=row["along"], ylabel=quantity)
            axis.legend(frameon=False, fontsize=7)
            axis.grid(alpha=0.3)
    return drawn
