"""MLflow away, slow or shared: training goes on, and every number arrives in the end."""

import contextlib
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request

from bench.faults.common import Lost, ended_as, expect, run_folder, wait_for_checkpoint

RUN = ("train", "tabular", "--epochs", 60, "--batch-size", "8")
STEPS = list(range(1, 61))


def free_port():
    """A port below those that the system gives to clients, one of which might take it while the server is down."""
    while True:
        port = random.randrange(20_000, 32_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


class MlflowServer:
    """An MLflow server over a store of its own, on loopback, that can be stopped, frozen and started again."""

    def __init__(self, folder, port):
        self.folder = folder
        self.port = port
        self.process = None
        self.uri = f"http://127.0.0.1:{port}"

    def start(self):
        store = ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--workers", "1"]
        place = ["--artifacts-destination", str(self.folder / "artifacts"), "--host", "127.0.0.1", "--port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", *store, *place],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self.folder, start_new_session=True,
            env={**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"},
        )  # fmt: skip
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                return self
            time.sleep(0.1)
        raise Lost("the MLflow server does not start: nothing can be said")

    def stop(self, number=signal.SIGKILL):
        if self.process:  # its workers too
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            self.process.wait()
            self.process = None

    def freeze(self):
        """It keeps its port and answers nothing."""
        os.killpg(self.process.pid, signal.SIGSTOP)


@contextlib.contextmanager
def mlflow_server(folder):
    server = MlflowServer(folder, free_port())
    try:
        yield server
    finally:
        server.stop()


def away(uri):
    return {"environment": {"MLFLOW_TRACKING_URI": uri}}


def arrived(place, folder, uri):
    """Whether the store at `uri` has every loss of the only run in `folder`, and its end."""
    runs = [run for run in place.store_of(folder, uri) if run["tags"].get("task") == "tabular"]
    expect(runs, "MLflow knows of no run")
    for run in runs:
        expect(run["steps"] == STEPS, f"MLflow has {len(run['steps'])} of {len(STEPS)} losses")
        expect(run["status"] == "FINISHED", f"MLflow says {run['status']}")
    return runs


def stalled(ended):
    """Seconds for which a run says that it waited for its store."""
    said = re.search(r"after ([\d.]+) s of waiting", ended.err)
    expect(said, "it is not said that records wait")
    expect(float(said[1]) < 5, f"it waited {said[1]} s for the store")
    return f"waited {said[1]} s"


def down_for_good(place, number):
    """Nobody at the address, ever: the run ends, its calls wait; a later run with a server sends them."""
    folder = place.folder(store=False)
    with mlflow_server(folder) as server:
        ended = place.run(*RUN, cwd=folder, **away(server.uri))
        expect("is away" in ended.err, "it is not said that the store is away")
        waited = stalled(ended)
        server.start()
        place.run(*RUN, cwd=folder, **away(server.uri))
        expect(len(arrived(place, folder, server.uri)) == 2, "the first run never arrived")
    return waited


def frozen(place, number):
    """A server that takes connections and never answers: the wait is bounded."""
    folder = place.folder(store=False)
    with mlflow_server(folder) as server:
        server.start()
        server.freeze()
        ended = place.run(*RUN, cwd=folder, **away(server.uri))
    return stalled(ended)


def damaged_store(place, number):
    """The SQLite file is cut short or is none: the run ends, its calls wait; with the file restored a later run sends them."""
    folder = place.folder()
    store = folder / "mlruns" / "mlflow.db"
    whole = store.read_bytes()
    store.write_bytes(whole[:5000] if number % 2 else b"no database" * 1000)
    ended = place.run(*RUN, cwd=folder)
    expect("is away" in ended.err, "it is not said that the store is away")
    waited = stalled(ended)
    store.write_bytes(whole)
    place.run(*RUN, cwd=folder)
    expect(len(arrived(place, folder, None)) == 2, "the first run never arrived")
    return waited


def down_at_the_start(place, number):
    """The server comes when the run has long begun: everything arrives."""
    folder = place.folder(store=False)
    with mlflow_server(folder) as server:
        run = start_long(place, folder, server.uri)
        wait_for_checkpoint(folder, run.over)
        server.start()
        finish_long(run, folder)
        arrived_long(place, folder, server)


def down_in_the_middle(place, number):
    """The server dies in the run and comes back: everything arrives."""
    folder = place.folder(store=False)
    with mlflow_server(folder) as server:
        server.start()
        run = start_long(place, folder, server.uri)
        wait_for_checkpoint(folder, run.over)
        server.stop()
        time.sleep(1 + number % 3)
        server.start()
        finish_long(run, folder)
        arrived_long(place, folder, server)


def start_long(place, folder, uri):
    """A run that lasts until it is told to end, by SIGTERM: a server takes a while to start."""
    options = ("train", "tabular", "--epochs", 100_000)
    return place.start(*options, cwd=folder, call="bench.faults.inside:unhurried", **away(uri))


def finish_long(run, folder):
    time.sleep(2)
    run.kill(signal.SIGTERM)
    ended_as(run.wait(), 143)


def arrived_long(place, folder, server):
    found = run_folder(folder)
    epochs = json.loads((found / "run.json").read_text())["epoch"]
    for _ in range(3):  # where it ended while the server was still away, or slow, the next run sends the rest
        if (found / "unsent.jsonl").exists():
            place.run("train", "tabular", "--epochs", 1, cwd=folder, **away(server.uri))
    runs = [run for run in place.store_of(folder, server.uri) if run["status"] == "KILLED"]
    left = "; it waits to be sent" if (found / "unsent.jsonl").exists() else ""
    expect(len(runs) == 1, f"MLflow has {len(runs)} killed runs{left}")
    missing = set(range(1, epochs + 1)) - set(runs[0]["steps"])
    expect(not missing, f"{len(missing)} of {epochs} losses are lost")


def two_runs_in_one_folder(place, number):
    """Two at once, which also make the store: both finish, and each has its own record."""
    together(place, place.folder(store=False), 2)


def eight_runs_on_one_store(place, number):
    together(place, place.folder(), 8)


def together(place, folder, count):
    started = [place.start(*RUN, "--seed", seed, cwd=folder) for seed in range(count)]
    for run in started:
        ended_as(run.wait(600), 0)
    runs = place.store_of(folder)
    expect(len(runs) == count, f"MLflow has {len(runs)} of {count} runs")
    for run in runs:
        expect(run["steps"] == STEPS and run["status"] == "FINISHED", f"{len(run['steps'])} losses, {run['status']}")
