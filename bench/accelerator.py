"""GPT-2 small in bfloat16 on an accelerator: tokens a second, and the share of the device's peak that the model's arithmetic is.

`triptych bench accelerator` takes some minutes on one GPU or TPU; on a processor it says that there is none.
"""

import statistics

import numpy as np

from apps.common.errors import UserError

GPT2 = {"tokens": 50_304, "block_size": 1024, "batch_size": 16, "width": 768, "depth": 12, "num_heads": 12}
STEPS, TURNS = 10, 5
DETERMINISTIC = False
# Dense bfloat16 operations a second, from the makers' data sheets.
PEAKS = {
    "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12, "A10": 125e12, "RTX 4090": 165e12,
    "TPU v4": 275e12, "TPU v5 lite": 197e12, "TPU v5p": 459e12, "TPU v6": 918e12,
}  # fmt: skip


def subjects():
    return ("gpt-124m", "gpt-124m-compiled")


def measure(subject, size=GPT2, peak=None):
    """Steps of our `fit` on random tokens, on the running backend.

    Args:
        subject: One of `subjects()`; the second is compiled by torch.compile or XLA, and is left out where `fit` always is.
        size: The network, a step's tokens and the vocabulary.
        peak: The device's operations a second; found by its name when `None`.
    Returns: `[{subject, backend, device, parameters, step_ms, spread, tokens_per_second, utilisation, megabytes}]`.
    Raises:
        UserError: There is no accelerator, or its peak is not known here.
    """
    import keras

    from bench.family import Fit
    from layers import backend

    device, compiled = backend.device_kind(), subject.endswith("compiled")
    peak = peak or next((number for name, number in PEAKS.items() if name.lower() in device.lower()), None)
    if peak is None:
        raise UserError(f"bench accelerator: expected a GPU or TPU, one of {', '.join(PEAKS)}. This machine has: {device}")
    if compiled and not backend.compiles_when_asked():
        return []
    fit = Fit(*setting(size, "on" if compiled else "auto"))
    fit.run(STEPS)
    times = [fit.run(STEPS) / STEPS for _ in range(TURNS)]
    step, tokens = statistics.median(times), size["batch_size"] * size["block_size"]
    return [
        {
            "subject": subject,
            "backend": keras.backend.backend(),
            "device": device,
            "parameters": fit.model.count_params(),
            "step_ms": round(1000 * step, 2),
            "spread": f"{1000 * min(times):.1f}-{1000 * max(times):.1f}",
            "tokens_per_second": round(tokens / step),
            "utilisation": round(operations(fit.model.count_params(), size) * tokens / step / peak, 4),
            "megabytes": round(backend.peak_memory_bytes() / 1e6),
        }
    ]


def operations(parameters, size):
    """Operations that training on one token takes, forwards and backwards: `6 N + 12 L H Q T`.

    N is the number of weights without those of the positions, which multiply nothing; L blocks of H heads of Q features look
    at T tokens. Reference: Chowdhery et al., 2022, arXiv 2204.02311, appendix B.
    """
    weights = parameters - size["block_size"] * size["width"]
    return 6 * weights + 12 * size["depth"] * size["width"] * size["block_size"]


def setting(size, compiled):
    """`(app, options, data)` under which the app trains this network."""
    from apps import text_generation as app
    from bench.raw.text_generation import windows

    network = {name: size[name] for name in ("block_size", "batch_size", "width", "depth", "num_heads")}
    options = {"model": "gpt", "positions": "learned", "schedule": "constant", "precision": "mixed_bfloat16",
               "weight_decay": 0.1, "compile": compiled, **network}  # fmt: skip
    ids = np.random.default_rng(0).integers(0, size["tokens"], 1_000_000).astype("uint16")
    return app, options, windows(options, ids, size["tokens"], STEPS * size["batch_size"])
