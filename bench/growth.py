"""How time and memory grow over an eight-fold range of examples, tokens, nodes and edges: the slopes of log against log.

`triptych bench growth` takes about fifteen minutes on two cores; `--only gcn-edges --backend jax` under one.
A slope of 1 is linear, 0 does not grow at all. Memory is the most the process held up to this size, beyond what it held
after a first use on very little.
"""

import gc
import statistics

import numpy as np

from bench import raw
from bench.turns import WIDE

FACTORS = (1, 2, 4, 8)
MEGABYTE = 1e6


def subjects():
    return tuple(raw.growths())


def measure(subject, largest=None):
    """The readings of one subject at each size and their slopes, on the running backend.

    Args:
        subject: One of `subjects()`.
        largest: The largest size; the subject's own when `None`.
    Returns: `[{subject, backend, along, from_size, to_size, from_ms, to_ms, time_slope, to_megabytes, memory_slope, spread,
        readings}]`; `spread` is the widest of the slowest to the fastest reading of a size, `readings` those of
        each size: `{size, milliseconds, megabytes}`.
    """
    import keras

    from layers import backend

    growth = raw.growths()[subject]
    sizes = [(largest or growth.largest) * factor // FACTORS[-1] for factor in FACTORS]
    growth.prepare(max(16, sizes[0] // 16))()
    held, readings, spread = backend.peak_memory_bytes(), [], 1.0
    for size in sizes:
        gc.collect()
        run = growth.prepare(size)
        if growth.readings > 1:
            run()
        seconds = [run() for _ in range(growth.readings)]
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
            "along": growth.along,
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
