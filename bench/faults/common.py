"""What the faults share: a folder a try, an undisturbed run to compare with, and the words for what was lost."""

import io
import json
import shutil
import signal
import tempfile
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import h5py
import numpy as np

from bench.faults.server import Server

EPOCHS = 16
# Dropout, a schedule and early stopping are there so that a resumed run has something to forget.
TRAIN = (
    "train", "tabular", "--epochs", EPOCHS, "--dropout", "0.3", "--batch-size", "16", "--schedule", "cosine",
    "--early-stopping", "30",
)  # fmt: skip
STOCK = (EPOCHS, 1e-3)


class Lost(Exception):
    """A try that was not survived; its message says what was lost."""


def expect(condition, words):
    if not condition:
        raise Lost(words)


@dataclass
class Place:
    """Where the tries of one backend happen; one try kills a run at most so often."""

    backend: str
    most_kills: int = 10
    root: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="faults-")))

    def __post_init__(self):
        self.server = Server(self.backend, self.root)
        self.count = 0
        self.kills = None
        self._known = {}

    def folder(self, *, store=True):
        """An empty folder for a try, with an empty MLflow store in it unless that is to be made by the run."""
        self.count += 1
        made = self.root / f"try-{self.count}"
        made.mkdir()
        if store:
            shutil.copytree(self.empty_store() / "mlruns", made / "mlruns")
        return made

    def empty_store(self):
        if "store" not in self._known:
            self._known["store"] = self.root / "store"
            self._known["store"].mkdir()
            self.run(cwd=self._known["store"], call="bench.faults.inside:prepare_store")
        return self._known["store"]

    def run(self, *arguments, code=0, **options):
        """A run to its end, which must be this exit code (`None`: any)."""
        return ended_as(self.server.run(*arguments, **options), code)

    def start(self, *arguments, **options):
        return self.server.start(*arguments, **options)

    def kill_again_and_again(self, start, until):
        """Kill a run, and each that goes on with it, until one is over before its moment comes; where the kills fell.

        Args:
            start: Function that starts the run, or goes on with it.
            until: Function of a run that waits for the moment of its kill; it may return a function that tells where it fell.
        """
        self.kills, words = 0, []
        while self.kills < self.most_kills:
            run = start()
            where = until(run)
            run.kill()
            if run.wait().code != -signal.SIGKILL:
                break
            self.kills += 1
            words += [where()] if where else []
        return words

    def beyond_idle(self, ended):
        """Megabytes a run took beyond one that only prints its version."""
        if "idle" not in self._known:
            self._known["idle"] = self.run("--version", cwd=self.root).megabytes
        return max(0.0, ended.megabytes - self._known["idle"])

    def undisturbed(self, *options):
        """`(weights of the bundle, seconds)` of a run that nobody disturbs, made once for these options."""
        if options not in self._known:
            folder = self.folder()
            seconds = self.run(*TRAIN, *options, cwd=folder).seconds  # the first also fills the compilation cache
            self._known[options] = bundle_weights(run_folder(folder) / "bundle"), seconds
            again = self.folder()
            seconds = self.run(*TRAIN, *options, cwd=again).seconds
            same = equal(bundle_weights(run_folder(again) / "bundle"), self._known[options][0])
            expect(same, "two undisturbed runs differ: nothing can be compared here")
            self._known[options] = self._known[options][0], seconds
        return self._known[options]

    def undisturbed_stock(self):
        """The same for Keras as it comes."""
        if "stock" not in self._known:
            for _ in range(2):
                folder = self.folder(store=False)
                seconds = self.run(*STOCK, cwd=folder, call="bench.faults.inside:stock").seconds
            self._known["stock"] = arrays(folder / "final.npz"), seconds
        return self._known["stock"]

    def store_of(self, folder, uri=None):
        """What the MLflow store in this folder, or at this address, knows of its runs."""
        environment = {"MLFLOW_TRACKING_URI": uri, "MLFLOW_HTTP_REQUEST_TIMEOUT": "120"} if uri else None
        asked = self.run(cwd=folder, call="bench.faults.inside:ask_store", environment=environment)
        return json.loads(asked.out.strip().splitlines()[-1])

    def clear(self):
        """Remove the tries so far, whose files are many, and what still runs of them."""
        self.server.end_runs()
        for made in self.root.glob("try-*"):
            shutil.rmtree(made, ignore_errors=True)

    def close(self):
        self.server.close()
        shutil.rmtree(self.root, ignore_errors=True)


def ended_as(ended, code):
    """The end of a run, if that is its exit code and no traceback was shown."""
    last = (ended.err.strip().splitlines() or [""])[-1][:300]
    expect(code is None or ended.code == code, f"exit code {ended.code}, expected {code}: {last}")
    expect("Traceback" not in ended.err, f"a traceback: {last}")
    return ended


def wait_for_checkpoint(folder, is_over, epoch=None, seconds=120):
    """Wait until the run in this folder has the checkpoint of this epoch (of any); its path, as soon as it stands."""
    pattern, deadline = f"runs/*/checkpoints/epoch-{'*' if epoch is None else f'{epoch:05d}'}", time.monotonic() + seconds
    while not (found := next((Path(folder) / "mlruns").glob(pattern), None)):
        expect(not is_over(), "the run ended before it had the checkpoint")
        expect(time.monotonic() < deadline, f"no checkpoint within {seconds} seconds")
        time.sleep(0.002)
    return found


def run_folder(folder):
    """The only run in a folder; `None` where no run was opened."""
    found = [path.parent for path in (Path(folder) / "mlruns" / "runs").glob("*/run.json")]
    expect(len(found) < 2, f"{len(found)} runs where one was started")
    return found[0] if found else None


def bundle_weights(folder):
    """Every weight of a bundle's model, by its path in the file."""
    weights = {}
    with zipfile.ZipFile(Path(folder) / "model.keras") as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored) as file:

        def keep(name, item):
            if isinstance(item, h5py.Dataset) and "seed_generator" not in name:
                weights[name] = np.array(item)

        file.visititems(keep)
    return weights


def arrays(path):
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def equal(found, expected):
    """Whether two sets of weights are the same to the last bit."""
    return found.keys() == expected.keys() and all(np.array_equal(found[name], expected[name]) for name in expected)
