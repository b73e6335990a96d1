"""MLflow, held at arm's length: what it keeps is a record, and its being down never stops a run.

A call that fails is put in a file beside the run and played again at the next epoch and at the end.
"""

import contextlib
import fcntl
import json
import logging
import os
import sys
import time
from pathlib import Path

from apps.common.errors import UserError

ROOT = Path("mlruns")


def store_uri():
    """The tracking store: `MLFLOW_TRACKING_URI`, or SQLite under `mlruns/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{(ROOT / 'mlflow.db').resolve()}"


def client():
    """An MLflow client of the store; a server that is away is given up after seconds, not minutes."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    import mlflow

    # Importing MLflow sets levels of its own, so ours come after.
    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri, given = store_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    mlflow.set_tracking_uri(uri)
    if given is None:  # MLflow writes it into the environment, where it would outlive a change of folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


def experiment_id(api, name):
    """The experiment of this name, made under a lock: cold SQLite stores break when several processes open them."""
    ROOT.mkdir(parents=True, exist_ok=True)
    with open(ROOT / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = api.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        local = store_uri().startswith("sqlite")
        place = (ROOT / "artifacts" / name).resolve().as_uri() if local else None
        return api.create_experiment(name, artifact_location=place)


class Tracker:
    """One MLflow run: parameters, metrics, tags, figures, files. Each method returns at once when the store is away.

    Args:
        task: Name of the experiment.
        folder: Where calls that failed wait, as `unsent.jsonl`; `None` until the run has one.
        run_id: An MLflow run to go on with; otherwise one is opened.
        name: Its name in the UI.
        tags: Tags of a new run.
        parent: The MLflow run it is nested under.
    """

    def __init__(self, task, folder, *, run_id=None, name=None, tags=None, parent=None):
        self.task, self.folder, self.run_id, self.api = task, folder and Path(folder), run_id, None
        self.opening = {"name": name, "tags": {**(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}}
        self.waiting, self.retry_at, self.sent_at, self.monitor = [], 0.0, 0.0, None
        with contextlib.suppress(OSError, TypeError):
            lines = (self.folder / "unsent.jsonl").read_text().splitlines()
            self.waiting = [json.loads(line) for line in lines]
        self._send()

    def _connect(self):
        if self.api is not None:
            return
        api = client()
        if self.run_id is None:
            experiment = experiment_id(api, self.task)
            tags = {key: str(value)[:4000] for key, value in self.opening["tags"].items()}
            self.run_id = api.create_run(experiment, tags=tags, run_name=self.opening["name"]).info.run_id
        else:
            api.update_run(self.run_id, status="RUNNING")
        self.api = api

    def _send(self, final=False):
        """Play what waits, in order; on the first failure keep the rest and try again in a while."""
        if time.monotonic() < self.retry_at and not final:
            return self._keep()
        self.sent_at = time.monotonic()
        try:
            self._connect()
            while self.waiting:
                name, arguments = self.waiting[0]
                getattr(self, "_" + name)(*arguments)
                self.waiting.pop(0)
        except Exception as error:  # a store fails in as many ways as there are stores, and none may stop a run
            if self.retry_at == 0.0:
                reason = str(error).strip().splitlines()[:1]
                print(f"tracking: the MLflow store is away ({' '.join(reason)[:200]}); the run goes on", file=sys.stderr)
            self.retry_at = time.monotonic() + 20
        return self._keep()

    def _keep(self):
        if self.folder is None:
            return
        with contextlib.suppress(OSError):
            file = self.folder / "unsent.jsonl"
            if self.waiting:
                file.write_text("".join(json.dumps(call) + "\n" for call in self.waiting))
            else:
                file.unlink(missing_ok=True)

    def _call(self, name, *arguments):
        self.waiting.append((name, arguments))
        self._send()

    def params(self, values):
        self._call("send_params", {key: str(value)[:6000] for key, value in values.items()})

    def metrics(self, values, step=0):
        """Log numbers of one epoch; those of epochs shorter than a second are gathered, since a write takes 30 ms."""
        rows = [[key, float(value), int(time.time() * 1000), step] for key, value in values.items()]
        if self.waiting and self.waiting[-1][0] == "send_metrics" and len(self.waiting[-1][1][0]) < 900:
            self.waiting[-1][1][0].extend(rows)
        else:
            self.waiting.append(("send_metrics", [rows]))
        if time.monotonic() - self.sent_at >= 1:
            self._send()
        else:
            self._keep()

    def tags(self, values):
        self._call("send_tags", {key: str(value)[:4000] for key, value in values.items()})

    def files(self, path, place=""):
        """Log a file or a folder under `place` of the run's artifacts."""
        self._call("send_files", str(path), place)

    def figure(self, figure, place):
        """Log a matplotlib figure as a PNG named `place`; it is lost, not kept, when the store is away."""
        path = self.folder / "figures" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=110, bbox_inches="tight")
        self.files(path, str(Path("figures") / Path(place).parent))

    def register(self, name, place, aliases=(), tags=None):
        """Make the artifact folder `place` a version of the registered model `name`."""
        self._call("send_version", name, place, list(aliases), tags or {})

    def _send_params(self, values):
        from mlflow.entities import Param

        self.api.log_batch(self.run_id, params=[Param(key, value) for key, value in values.items()])

    def _send_metrics(self, rows):
        from mlflow.entities import Metric

        self.api.log_batch(self.run_id, [Metric(*row) for row in rows])

    def _send_tags(self, values):
        from mlflow.entities import RunTag

        self.api.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def _send_files(self, path, place):
        send = self.api.log_artifacts if Path(path).is_dir() else self.api.log_artifact
        send(self.run_id, path, place or None)

    def _send_version(self, name, place, aliases, tags):
        if not any(found.name == name for found in self.api.search_registered_models(f"name = '{name}'")):
            with contextlib.suppress(Exception):  # another process may have made it since
                self.api.create_registered_model(name)
        source = f"{self.api.get_run(self.run_id).info.artifact_uri}/{place}"
        version = self.api.create_model_version(name, source, run_id=self.run_id, tags=tags).version
        for alias in aliases:
            self.api.set_registered_model_alias(name, alias, version)

    def watch_system(self):
        """Sample CPU, memory and accelerator while the run lasts."""
        with contextlib.suppress(Exception):  # a measurement beside the run
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
            self.monitor = SystemMetricsMonitor(self.run_id, sampling_interval=2, samples_before_logging=5)
            self.monitor.start()

    def end(self, status):
        """Close the run as FINISHED, FAILED or KILLED, sending what waits."""
        if self.monitor:
            with contextlib.suppress(Exception):
                self.monitor.finish()
        self.waiting.append(("send_end", (status,)))
        self._send(final=True)

    def _send_end(self, status):
        self.api.set_terminated(self.run_id, status)


def serve_ui(port):
    """MLflow's UI over the store, on loopback, until Ctrl-C.

    Raises:
        UserError: The port is taken.
    """
    import socket
    import subprocess

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            raise UserError(f"--port {port}: in use already; choose another with --port") from None
    ROOT.mkdir(parents=True, exist_ok=True)
    print(f"http://127.0.0.1:{port}  (Ctrl-C ends it)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri(), "--host", "127.0.0.1"]
    place = (ROOT / "artifacts").resolve().as_uri()
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    command += ["--port", str(port), "--workers", "1", "--default-artifact-root", place]
    subprocess.run(command, env=environment, check=False)
