"""Runs of the command line by fork: everything is imported once, so that a run costs a second and not five.

Nothing is computed before a fork, so no thread of a backend is running yet. The parent writes one line of JSON a run
(`{"cwd", "output", "call", "arguments", "environment"}`); the server answers with one line when it has started and one
when it has ended.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[2]
IMPORTS = (
    "apps.tabular", "apps.image_classification", "apps.common.training.run", "apps.common.training.rescue",
    "apps.common.bundles.model_file", "apps.common.bundles.export", "apps.common.figures", "bench.faults.inside",
    "matplotlib.pyplot", "pandas", "sklearn.datasets", "sklearn.ensemble", "sklearn.metrics", "layers.models", "mlflow",
    "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store",
)  # fmt: skip


@dataclass
class Ended:
    """How a run ended: exit code (negative: the signal), what it wrote, seconds, megabytes at its largest."""

    code: int
    out: str
    err: str
    seconds: float
    megabytes: float


class Run:
    """One run that has been started; `wait` for its end, or `kill` it before."""

    def __init__(self, server, pid, output):
        self.server = server
        self.pid = pid
        self.output = output
        self.started = time.monotonic()

    def kill(self, number=signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):  # it ended by itself, and nobody has told us yet
            if self.pid not in self.server.ended:
                os.kill(self.pid, number)

    def over(self):
        self.server.listen(0)
        return self.pid in self.server.ended

    def wait(self, seconds=300):
        deadline = time.monotonic() + seconds
        while self.pid not in self.server.ended:
            self.server.listen(0.5)
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                deadline += 30
        end = self.server.ended[self.pid]
        files = [Path(f"{self.output}.{name}") for name in ("out", "err")]
        texts = [file.read_text(errors="replace") if file.exists() else "" for file in files]  # none before its first step
        return Ended(end["code"], *texts, end["seconds"], end["megabytes"])


class Server:
    """A process of the given backend that forks a run whenever it is asked to."""

    def __init__(self, backend, folder):
        self.backend = backend
        self.folder = Path(folder)
        self.started = []
        self.ended = {}
        self.count = 0
        path = os.pathsep.join(filter(None, [str(HOUSE), os.environ.get("PYTHONPATH")]))
        environment = {**os.environ, "PYTHONPATH": path, "KERAS_BACKEND": backend, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment |= {"OMP_NUM_THREADS": "1", "MPLBACKEND": "agg", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "bench.faults.server", backend]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, cwd=folder)
        self.buffer = b""
        self.answers = []

    def start(self, *arguments, cwd, call="triptych:main", environment=None):
        """Start `call(arguments)` in the folder `cwd`; returns the `Run`."""
        self.count += 1
        output = self.folder / f"output-{self.count}"
        order = {"cwd": str(cwd), "output": str(output), "call": call, "arguments": list(map(str, arguments))}
        self.process.stdin.write(json.dumps({**order, "environment": environment or {}}).encode() + b"\n")
        self.process.stdin.flush()
        while not self.answers:
            self.listen(1.0)
        self.started.append(Run(self, self.answers.pop(0)["started"], output))
        return self.started[-1]

    def run(self, *arguments, cwd, **options):
        return self.start(*arguments, cwd=cwd, **options).wait()

    def listen(self, seconds):
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return
        read = os.read(self.process.stdout.fileno(), 65536)
        if not read:
            raise RuntimeError(f"the server of {self.backend} ended with {self.process.wait()}")
        *lines, self.buffer = (self.buffer + read).split(b"\n")
        for line in map(json.loads, lines):
            if "started" in line:
                self.answers.append(line)
            else:
                self.ended[line["pid"]] = line

    def end_runs(self):
        """Kill what a try that was lost has left running."""
        for run in self.started:
            if not run.over():
                run.kill()
                run.wait()
        self.started.clear()

    def close(self):
        self.end_runs()
        self.process.stdin.close()
        self.process.wait()


def serve(backend):
    from apps.common.options import backends

    backends.prepare(backend)
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()  # what is imported is no garbage, and a child that looks for some would copy its pages
    children, buffer = {}, b""
    output = os.dup(1)
    os.dup2(2, 1)
    while True:
        if select.select([0], [], [], 0.01 if children else 1.0)[0]:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, buffer = (buffer + read).split(b"\n")
            for order in map(json.loads, lines):
                pid = os.fork()
                if pid == 0:
                    _child(order)
                children[pid] = time.monotonic()
                os.write(output, json.dumps({"started": pid}).encode() + b"\n")
        for pid in list(children):
            done, status, used = os.wait4(pid, os.WNOHANG)
            if done:
                end = {"pid": pid, "code": os.waitstatus_to_exitcode(status), "seconds": time.monotonic() - children.pop(pid)}
                os.write(output, json.dumps({**end, "megabytes": used.ru_maxrss / 1024}).encode() + b"\n")


def _child(order):
    code = 1
    try:
        os.chdir(order["cwd"])
        os.environ.update(order["environment"])
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{order['output']}.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        module, _, function = order["call"].partition(":")
        code = getattr(importlib.import_module(module), function)(order["arguments"]) or 0
    except SystemExit as stopped:
        code = stopped.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1])
