"""What drawing pictures in many steps costs beside the passes through the network that it needs.

`triptych bench sampling` takes about a quarter of an hour on two cores; `--only ddim` a third of it.
"""

import statistics
import time

import numpy as np

from bench.images import images
from bench.prediction import native
from bench.turns import in_turns, ratio

PICTURES, STEPS, TURNS = 64, 50, 3
# Guidance asks the denoiser twice a step, of the same pictures with and without their class.
GUIDANCE = {"ddim": 1.0, "ddim, guided": 3.0}
DETERMINISTIC = False


def subjects():
    return tuple(GUIDANCE)


def measure(name):
    """DDIM of 50 steps on 64 pictures of MNIST's shape by class, beside as many passes of the denoiser alone.

    Returns: `[{subject, backend, pictures, steps, ours_s, raw, raw_s, ratio, spread}]`, seconds of all pictures.
    """
    import keras

    from apps import image_generation as app
    from apps.common.options.declare import make_config
    from apps.common.training import run

    guidance = GUIDANCE[name]
    model = run.make_model(app, make_config(app.Config, {"model": "cdiffusion"}), images(PICTURES))
    noise = np.random.default_rng(0).normal(size=(PICTURES, *model.latent_shape)).astype("float32")
    classes = np.arange(PICTURES) % 10
    called, forward = native(model.denoiser)
    count = PICTURES if guidance == 1.0 else 2 * PICTURES
    inputs = {
        "image": np.resize(noise, (count, *noise.shape[1:])),
        "time": np.full(count, 0.5, "float32"),
        "label": np.resize(classes, count).astype("int32"),
    }

    def ours():
        start = time.perf_counter()
        model.sample(noise, classes, steps=STEPS, guidance=guidance)
        return time.perf_counter() - start

    def passes():
        start = time.perf_counter()
        for _ in range(STEPS):
            forward(inputs)
        return time.perf_counter() - start

    for warm in (ours, passes):
        warm()
    times = in_turns({"ours": ours, "raw": passes}, TURNS)
    against, spread = ratio(times["ours"], times["raw"])
    return [
        {
            "subject": name,
            "backend": keras.backend.backend(),
            "pictures": PICTURES,
            "steps": STEPS,
            "ours_s": round(statistics.median(times["ours"]), 2),
            "raw": called,
            "raw_s": round(statistics.median(times["raw"]), 2),
            "ratio": against,
            "spread": spread,
        }
    ]
