"""What a fault needs inside of the process that suffers it: calls for `Server.start`."""

import importlib
import json
import os
import resource
import sys
import time
from pathlib import Path

import numpy as np


def command_line(arguments):
    """`triptych ...`; the door stands above this package, which must not import it."""
    return importlib.import_module("triptych").main(arguments)


def without_memory(arguments):
    """The command line on a device that takes a training step of so many examples and no more: the first argument."""
    import keras

    from layers import backend

    limit, original = int(arguments[0]), keras.Model.compute_loss

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        if training and y.shape[0] > limit:
            raise backend.out_of_memory()
        return original(self, x, y, y_pred, sample_weight, training)

    keras.Model.compute_loss = compute_loss
    return command_line(arguments[1:])


def with_small_files(arguments):
    """The command line where no file may grow beyond the bytes of the first argument."""
    import signal

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(arguments[0]), resource.RLIM_INFINITY))
    return command_line(arguments[1:])


def unhurried(arguments):
    """The command line, with a twentieth of a second more an epoch: tens of thousands of records take long to send."""
    from apps.common.training.callbacks import EpochRecorder

    original = EpochRecorder.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.05)
        original(self, epoch, logs)

    EpochRecorder.on_epoch_end = on_epoch_end
    return command_line(arguments)


def stock(arguments):
    """Keras as it comes: `fit` with `BackupAndRestore`, its final weights in `final.npz` of the current folder.

    The arguments are the number of epochs and the learning rate.
    """
    import keras
    from sklearn.datasets import load_iris

    epochs, rate = int(arguments[0]), float(arguments[1])
    keras.utils.set_random_seed(0)
    x, y = load_iris(return_X_y=True)
    dense = [keras.layers.Dense(width, activation="relu") for width in (128, 64)]
    model = keras.Sequential([keras.Input((4,)), dense[0], keras.layers.Dropout(0.3), dense[1], keras.layers.Dense(3)])
    model.compile(keras.optimizers.Adam(rate), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x, y = x.astype("float32"), y.astype("int32")
    model.fit(x, y, batch_size=16, epochs=epochs, verbose=0, callbacks=[keras.callbacks.BackupAndRestore("backup")])
    np.savez("final.tmp.npz", *model.get_weights())
    os.replace("final.tmp.npz", "final.npz")
    return 0


def prepare_store(arguments):
    """An empty MLflow store under `mlruns/` of the current folder."""
    from apps.common.records.mlflow import client

    client()
    return 0


def ask_store(arguments):
    """Print what the store of the current folder knows of its runs: `[{"id", "status", "steps": [with a loss]}]`."""
    from apps.common.records.mlflow import client

    api, found = client(), []
    for experiment in api.search_experiments():
        for run in api.search_runs([experiment.experiment_id]):
            steps = sorted({metric.step for metric in api.get_metric_history(run.info.run_id, "loss")})
            found.append({"id": run.info.run_id, "status": run.info.status, "steps": steps, "tags": run.data.tags})
    print(json.dumps(found), file=sys.stdout)
    return 0


def hostile_bundle(arguments):
    """Write the bundle that the first argument names into the folder that the second names."""
    from bench.faults.models import HOSTILE, UNSIGNED, sign, write_honest

    folder = Path(arguments[1])
    write_honest(folder)
    HOSTILE[arguments[0]](folder)
    if arguments[0] not in UNSIGNED:
        sign(folder)
    return 0
