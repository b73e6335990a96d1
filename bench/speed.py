"""`fit` against raw native loops: the same network, in one process a backend, in turns, medians.

`triptych bench image-classification` takes about ten minutes on two cores; `--only mlp --backend jax` under one.
"""

import contextlib
import statistics
import time

from apps.common.options.backends import WITHOUT_A_POOL
from bench import raw
from bench.apart import Apart
from bench.family import Fit
from bench.turns import in_turns, ratio

TURNS, MOST = 5, 15
SYSTEM = ", memory by the system"  # behind the name of a loop that runs where we did not tell the C library what to keep
STEPS = 256  # of a turn at most: one pass over the images


def subjects():
    return tuple(raw.families("speed"))


def measure(name, turns=None):
    """Median step times in milliseconds and the ratio of our `fit` to each raw loop, on the running backend.

    Returns: Rows `{family, backend, ours_ms, raw, raw_ms, ratio, spread, system_ms, system_ratio, turns, stock_keras_ms,
        stock_ratio, first_step_s, megabytes}`. A raw loop is measured in our process, where the C library keeps freed memory,
        and in one of its own where it does as the system has it (`system`), on backends where that differs.
    """
    import keras

    running = keras.backend.backend()
    with Apart(running, name) if running in WITHOUT_A_POOL else contextlib.nullcontext() as apart:
        contenders = _contenders(running, name)
        if apart:
            contenders.update({loop + SYSTEM: run for loop, run in apart.loops.items()})
        return _measured(running, name, contenders, turns)


def _measured(running, name, contenders, turns):
    from layers import backend

    first = {}
    for contender, runs in contenders.items():
        start = time.perf_counter()
        runs(1)
        first[contender] = time.perf_counter() - start
    steps = {contender: _steps(runs) for contender, runs in contenders.items()}
    timed = {each: lambda each=each: 1000 * contenders[each](steps[each]) / steps[each] for each in contenders}
    times = in_turns(timed, min(TURNS, turns or TURNS), turns or MOST)
    medians = {contender: round(statistics.median(values), 3) for contender, values in times.items()}
    rows = []
    for native in contenders:
        if native in ("ours", "stock") or native.endswith(SYSTEM):
            continue
        against, spread = ratio(times["ours"], times[native])
        system = times.get(native + SYSTEM)
        rows.append(
            {
                "family": name,
                "backend": running,
                "ours_ms": medians["ours"],
                "raw": native,
                "raw_ms": medians[native],
                "ratio": against,
                "spread": spread,
                "system_ms": medians.get(native + SYSTEM),
                "system_ratio": ratio(times["ours"], system)[0] if system else None,
                "turns": len(times["ours"]),
                "stock_keras_ms": medians.get("stock"),
                "stock_ratio": ratio(times["stock"], times[native])[0] if "stock" in medians else None,
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


def _contenders(backend, name):
    """What is timed, as `{name: function from a number of steps to seconds}`; `stock` where Keras has such a network."""
    family = raw.families()[name]
    app, options, data = family.setting()
    ours = {"ours": Fit(app, options, data).run}
    stock = {"stock": family.stock(data)} if family.stock else {}
    return {**ours, **stock, **family.loops[backend](data)}


def _steps(runs, seconds=1.0):
    """Steps that take about a second, at most one pass over the examples."""
    runs(3)
    each = runs(8) / 8
    return int(min(STEPS, max(8, seconds / each)))
