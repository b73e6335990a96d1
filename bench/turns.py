"""Times taken in turns: medians, the ratio turn by turn, and how widely it is spread."""

import statistics
import time

WIDE = 1.25  # of the upper quartile to the lower one, of the ratios of single turns


def timed(step, synchronize=lambda: None):
    """`run(steps)`: the seconds of so many calls of `step()`, until `synchronize()` says that their work is done."""

    def run(steps):
        start = time.perf_counter()
        for _ in range(steps):
            step()
        synchronize()
        return time.perf_counter() - start

    return run


def in_turns(contenders, turns=5, most=None):
    """The readings of each contender, `{name: function}`, which take turns so that a slow moment meets all of them.

    While the first one's ratio to another is wide there are more turns, up to `most` (by default no more).
    """
    readings = {name: [] for name in contenders}
    first, *others = readings.values()
    while len(first) < turns or (len(first) < (most or turns) and any(wide(first, other) for other in others)):
        for name, measured in contenders.items():
            readings[name].append(measured())
    return readings


def ratio(ours, theirs):
    """`(median, quartiles)` of the ratios of single turns, whose readings share their moment; wide ones say so."""
    low, middle, high = quartiles(ours, theirs)
    note = " wide" if wide(ours, theirs) else ""
    return round(middle, 3), f"{low:.2f}-{high:.2f}{note}"


def quartiles(ours, theirs):
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return statistics.quantiles(ratios * 2 if len(ratios) == 1 else ratios, n=4, method="inclusive")


def wide(ours, theirs):
    low, _, high = quartiles(ours, theirs)
    return high > WIDE * low


