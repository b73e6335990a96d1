"""What each hand-made piece buys: the same steps with and without it, in turns. A piece that buys under 5 % goes.

`triptych bench machinery` takes about six minutes on two cores. It measures Adam's single kernel (torch, TensorFlow), random
numbers made in place (torch) and memory that the C library keeps (JAX, torch).
"""

import contextlib
import statistics
import subprocess
import sys

from bench import raw
from bench.apart import UNTOUCHED
from bench.family import Fit
from bench.instruments import environment
from bench.turns import in_turns, ratio

ADAM, RANDOM, MEMORY = "adam", "random-numbers", "kept-memory"
# The networks on which a piece was made: small ones, whose step is mostly an update; dropout; large temporaries.
FAMILIES = {ADAM: ("mlp", "tabular", "gpt"), RANDOM: ("mlp", "tabular"), MEMORY: ("mlp", "resnet20", "gpt", "gcn")}
STEPS, TURNS = 32, 7


def subjects():
    return (ADAM, RANDOM, MEMORY)


def measure(subject):
    """The steps of some networks with and without one piece, on the running backend.

    Returns: Rows `{subject, family, backend, with_ms, without_ms, ratio, spread}`; `ratio` is with to without, the median over
        turns. None where the backend has no such piece.
    """
    import keras

    running = keras.backend.backend()
    has = {ADAM: ("tensorflow", "torch"), RANDOM: ("torch",), MEMORY: ("jax", "torch")}[subject]
    if running not in has:
        return []
    rows = []
    for name in FAMILIES[subject]:
        if name not in raw.families():
            continue
        contenders = memory(running, name) if subject == MEMORY else steps(subject, name)
        times = in_turns(contenders, 3 if subject == MEMORY else TURNS)
        against, spread = ratio(times["with"], times["without"])
        medians = {f"{each}_ms": round(statistics.median(values), 3) for each, values in times.items()}
        rows.append({"subject": subject, "family": name, "backend": running, **medians, "ratio": against, "spread": spread})
    return rows


def steps(subject, name):
    """`{with, without: function}`, each the milliseconds of a step of a fit that was built and recorded its own way."""
    fits = {}
    for each in ("with", "without"):
        with without(subject) if each == "without" else contextlib.nullcontext():
            fits[each] = Fit(*raw.families()[name].setting())
            fits[each].run(3)  # what is recorded or traced is so from here on
    return {each: lambda fit=fit: 1000 * fit.run(STEPS) / STEPS for each, fit in fits.items()}


@contextlib.contextmanager
def without(subject):
    """The layers as if the piece had not been made."""
    from layers import backend
    from layers.backend.arithmetic import plain

    name, instead = {ADAM: ("fused", lambda optimizer: optimizer), RANDOM: ("random_bits", plain.random_bits)}[subject]
    made = getattr(backend, name)
    setattr(backend, name, instead)
    try:
        yield
    finally:
        setattr(backend, name, made)


def memory(running, name):
    """The same of processes of their own, since the C library is told at their start."""

    def read(own):
        command = [sys.executable, "-m", "bench.machinery", running, name]
        done = subprocess.run(command, env=environment(own), capture_output=True, text=True, check=True)
        return float(done.stdout.split()[-1])

    return {"with": lambda: read({}), "without": lambda: read(UNTOUCHED)}


def child(running, name):
    """Print the milliseconds of a step, in a process of its own."""
    from apps.common.options import backends

    backends.prepare(running)
    fit = Fit(*raw.families()[name].setting())
    fit.run(8)
    print(1000 * statistics.median(fit.run(STEPS) / STEPS for _ in range(3)))


if __name__ == "__main__":
    child(*sys.argv[1:])
