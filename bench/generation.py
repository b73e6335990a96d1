"""Texts that are continued side by side, beside one after the other: tokens a second of both.

`triptych bench generation` takes about two minutes on two cores.
"""

import itertools
import statistics

import numpy as np

from bench.turns import in_turns, ratio, timed

PROMPTS, PROMPT, ADDED, TURNS = 32, 8, 56, 5
DETERMINISTIC = False


def subjects():
    return ("gpt", "lstm")


def measure(subject, prompts=PROMPTS, added=ADDED, turns=TURNS):
    """A network of `bench.raw.text_generation`'s size, untrained, continues random prompts within its block.

    Args:
        subject: One of `subjects()`.
        prompts: Number of prompts.
        added: Tokens added to each.
        turns: Readings of both ways, in turns.
    Returns: `[{subject, backend, prompts, added, alike, one_by_one, side_by_side, ratio, spread}]`: texts that are the same both
        ways, tokens a second of each way, and how many times those of one after the other those side by side are.
    """
    import keras

    from apps.common.options.declare import make_config
    from apps.common.reports.sampling import Sampler, continuation, continuations
    from apps.common.training.fit import make_model
    from bench.raw.text_generation import TOKENS, setting
    from layers import Decoder

    app, options, data = setting(subject)
    model = make_model(app, make_config(app.Config, options), data)
    given = np.random.default_rng(0).integers(0, TOKENS, (prompts, PROMPT)).tolist()
    single, batched = Decoder(model), Decoder(model, prompts)

    def generators():
        return [np.random.default_rng(seed) for seed in range(prompts)]

    def one_by_one():
        return [
            list(itertools.islice(continuation(single, prompt, Sampler(), generator), added))
            for prompt, generator in zip(given, generators(), strict=True)
        ]

    def side_by_side():
        written = [[] for _ in given]

        def goes_on(number, token):
            written[number].append(token)
            return len(written[number]) < added

        continuations(batched, given, Sampler(), generators(), goes_on)
        return written

    alike = sum(one == other for one, other in zip(one_by_one(), side_by_side(), strict=True))
    one, side = timed(one_by_one), timed(side_by_side)
    times = in_turns({"one": lambda: one(1), "side": lambda: side(1)}, turns)
    against, spread = ratio(times["one"], times["side"])
    return [
        {
            "subject": subject,
            "backend": keras.backend.backend(),
            "prompts": prompts,
            "added": added,
            "alike": alike,
            "one_by_one": round(prompts * added / statistics.median(times["one"])),
            "side_by_side": round(prompts * added / statistics.median(times["side"])),
            "ratio": against,
            "spread": spread,
        }
    ]
