"""`fit` against raw native loops: the same network, in one process a backend, in turns, medians.

`triptych bench image-classification` takes about ten minutes on two cores; `--only mlp --backend jax` under one.
"""

import importlib
import statistics
import time

from bench.families import BATCH_SIZE, EXAMPLES, FAMILIES, TASKS, Fit, setting
from bench.instruments import in_turns, ratio

SUBJECTS = FAMILIES
TURNS, MOST = 5, 15


def measure(family, turns=None):
    """Median step times in milliseconds and the ratio of our `fit` to each raw loop, on the running backend.

    Returns: Rows `{family, backend, ours_ms, raw, raw_ms, ratio, spread, turns, stock_keras_ms, stock_ratio, first_step_s,
        megabytes}`.
    """
    import keras

    from layers import backend

    name = keras.backend.backend()
    contenders, first = _contenders(name, family), {}
    for contender, runs in contenders.items():
        start = time.perf_counter()
        runs(1)
        first[contender] = time.perf_counter() - start
    steps = {contender: _steps(runs) for contender, runs in contenders.items()}
    timed = {each: lambda each=each: 1000 * contenders[each](steps[each]) / steps[each] for each in contenders}
    times = in_turns(timed, min(TURNS, turns or TURNS), turns or MOST)
    medians = {contender: round(statistics.median(values), 3) for contender, values in times.items()}
    rows = []
    for raw in contenders:
        if raw in ("ours", "stock"):
            continue
        against, spread = ratio(times["ours"], times[raw])
        rows.append(
            {
                "family": family,
                "backend": name,
                "ours_ms": medians["ours"],
                "raw": raw,
                "raw_ms": medians[raw],
                "ratio": against,
                "spread": spread,
                "turns": len(times["ours"]),
                "stock_keras_ms": medians.get("stock"),
                "stock_ratio": ratio(times["stock"], times[raw])[0] if "stock" in medians else None,
                "first_step_s": round(first["ours"], 1),
                "megabytes": round(backend.peak_memory_bytes() / 1e6),
            }
        )
    return rows


def finish(rows):
    """Adds `of_best`: how many times the fastest backend's step ours takes, where there are several."""
    if len({row["backend"] for row in rows}) > 1:
        for row in rows:
            best = min(each["ours_ms"] for each in rows if each["family"] == row["family"])
            row["of_best"] = round(row["ours_ms"] / best, 2)


def _contenders(name, family):
    """What is timed, as `{name: function from a number of steps to seconds}`; `stock` where Keras has such a network."""
    from bench import stock

    app, options, data = setting(family)
    ours = {"ours": Fit(app, options, data).run}
    if family in TASKS["image-classification"]:
        ours["stock"] = stock.ImageFit(app, options, data).run
        return ours | {raw: loop.run for raw, loop in _raw_loops(name, family, data).items()}
    if family in TASKS["image-generation"]:
        from bench import raw_gan

        return ours | raw_gan.loops(name, family, data, BATCH_SIZE)
    if family in TASKS["graph"]:
        from bench import raw_gcn

        return ours | raw_gcn.loops(name)
    from bench import raw_text

    return ours | {"stock": stock.TextFit(family).run} | raw_text.loops(name, family)


def _steps(runs, seconds=1.0):
    """Steps that take about a second, at most one pass over the examples."""
    runs(3)
    each = runs(8) / 8
    return int(min(EXAMPLES // BATCH_SIZE, max(8, seconds / each)))


def _raw_loops(name, family, data):
    """The native loops of a backend, by what they are called in the table."""
    raw = importlib.import_module(f"bench.raw_{name}")
    images, labels = data.train.x, data.train.y
    if name == "torch":
        eager = raw.Loop(family, images, labels, BATCH_SIZE)
        return {"torch eager": eager, "torch.compile": raw.Loop(family, images, labels, BATCH_SIZE, compiled=True)}
    loop = raw.Loop(Fit(*setting(family)).model, images, labels.astype("int32"), BATCH_SIZE)
    return {"jax.jit, donated": loop} if name == "jax" else {"tf.function": loop}
