"""Ten thousand predictions of one row each, with a bundle's model as a user has it: their time, and that memory stays.

`triptych bench prediction` takes about ten minutes on two cores; `--only mlp --backend jax` under one.
"""

import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np

from bench import raw
from bench.turns import in_turns, ratio

ROWS, WARM, TURN_SECONDS = 10_000, 200, 0.5


def subjects():
    return tuple(raw.families("prediction"))


def measure(name, rows=ROWS, seconds=TURN_SECONDS):
    """Microseconds a row through `predict_all`, beside the network called directly and beside `model.predict`.

    Returns: `[{subject, backend, ours_us, raw, raw_us, ratio, spread, keras_predict_us, app_us, rows, megabytes,
        grown_megabytes, difference}]`: `app_us` is the app's whole `predict` of a row of `name=value` pairs, where it takes
        such; the memory is that of the process after `WARM` rows and what it grew by over `rows` of them;
        `difference` the largest of a row predicted alone from the same row predicted among others.
    """
    import keras

    from apps.common.training.batches import predict_all

    family = raw.families()[name]
    model, x, app_call = loaded(family)
    several = len(_arrays(x)[0]) > 1
    singles = [rows_of(x, slice(index, index + 1)) for index in range(min(64, len(_arrays(x)[0])))]

    def loop(count, call):
        start = time.perf_counter()
        for index in range(count):
            call(singles[index % len(singles)])
        return 1e6 * (time.perf_counter() - start) / count

    def ours(row):
        return predict_all(model, row)

    loop(WARM, ours)
    before = resident_bytes()
    each = loop(rows, ours)
    grown = resident_bytes() - before
    native_name, direct = native(model, family.torch_network)
    calls = {"ours": ours, "raw": direct, "predict": lambda row: model.predict(row, verbose=0)}
    counts = {}
    for caller, call in calls.items():
        loop(5, call)
        counts[caller] = int(min(2000, max(5, 1e6 * seconds / loop(5, call))))
    times = in_turns({each: lambda each=each: loop(counts[each], calls[each]) for each in calls})
    against, spread = ratio(times["ours"], times["raw"])
    answers = [keras.tree.flatten(ours(row)) for row in singles]
    alone = [np.concatenate(part) for part in zip(*answers, strict=True)]
    among = keras.tree.flatten(predict_all(model, rows_of(x, slice(len(singles)))) if several else ours(x))
    difference = max(float(np.abs(a - b).max() / np.abs(b).max()) for a, b in zip(alone, among, strict=True))
    return [
        {
            "subject": name,
            "backend": keras.backend.backend(),
            "ours_us": round(each, 1),
            "raw": native_name,
            "raw_us": round(statistics.median(times["raw"]), 1),
            "ratio": against,
            "spread": spread,
            "keras_predict_us": round(statistics.median(times["predict"]), 1),
            "app_us": app_call and round(loop(min(rows, 200), lambda row: app_call()), 1),
            "rows": rows,
            "megabytes": round(before / 1e6),
            "grown_megabytes": round(grown / 1e6, 1),
            "difference": difference,
        }
    ]


def loaded(family):
    """The model of a bundle just written, the inputs of training examples, and the app's prediction of a row of pairs."""
    from apps.common.bundles.bundle import load_model, open_bundle, save_bundle
    from apps.common.options.declare import make_config, to_plain
    from apps.common.training import run

    app, options, data = family.setting()
    config = make_config(app.Config, options)
    with tempfile.TemporaryDirectory() as folder:
        record = {"task": run.task_name(app), "options": to_plain(config), "about": data.about, "metrics": {}, "versions": {}}
        save_bundle(Path(folder, "bundle"), run.make_model(app, config, data), record, {})
        model = load_model(open_bundle(Path(folder, "bundle")))
    pairs = [f"{column['name']}=1.5" for column in data.about.get("numeric", ())]
    call = (lambda: app.predict(model, pairs, data.about)) if pairs else None
    return model, data.train.take(np.arange(min(64, len(data.train))))[0], call


def _arrays(x):
    return list(x.values()) if isinstance(x, dict) else [x]


def rows_of(x, rows):
    return {name: array[rows] for name, array in x.items()} if isinstance(x, dict) else x[rows]


def resident_bytes():
    """Memory of this process now."""
    import psutil

    return psutil.Process(os.getpid()).memory_info().rss


def native(model, torch_network=None):
    """`(what it is called, function of a row)`: the network in the backend's own language, or called in its own way."""
    import keras

    return {"tensorflow": tensorflow_call, "jax": jax_call, "torch": torch_call}[keras.backend.backend()](model, torch_network)


def tensorflow_call(model, _):
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=False))
    return "tf.function", lambda row: tf.nest.map_structure(lambda x: x.numpy(), function(row))


def jax_call(model, _):
    import jax

    # Copies: `model.predict` gives the model's own arrays away.
    trainable = [jax.numpy.array(each.value) for each in model.trainable_variables]
    others = [jax.numpy.array(each.value) for each in model.non_trainable_variables]
    function = jax.jit(lambda trainable, others, x: model.stateless_call(trainable, others, x, training=False)[0])
    return "jax.jit", lambda row: jax.tree.map(np.asarray, function(trainable, others, row))


def torch_call(model, torch_network):
    """`torch.nn` where there is such a network by hand; else the Keras model called."""
    import torch

    if torch_network:
        network = torch_network().eval()

        def call(row):
            x = torch.from_numpy(row)
            x = x.permute(0, 3, 1, 2).float() / 255 if x.ndim == 4 else x
            with torch.inference_mode():
                return network(x).numpy()

        return "torch eager", call

    def keras_call(row):
        x = torch.utils._pytree.tree_map(torch.from_numpy, row)
        with torch.inference_mode():
            return torch.utils._pytree.tree_map(lambda y: y.numpy(), model(x, training=False))

    return "Keras model called", keras_call
