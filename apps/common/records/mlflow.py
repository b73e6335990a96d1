"""MLflow, held at arm's length: what it keeps is a record, and its being down never stops or delays a run.

Every call is written to a file beside the run and sent by a thread of its own (`sending.py`); what could not be sent
waits there, is tried again while the run lasts, and by the next run in the same folder.
"""

import atexit
import contextlib
import fcntl
import json
import logging
import os
import signal
import socket
import sqlite3
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from apps.common.figures import save as save_figure
from apps.common.options.ports import refuse_taken
from apps.common.records.sending import Sender, read_calls, send_left

ROOT = Path("mlruns")


def store_uri():
    """The tracking store: `MLFLOW_TRACKING_URI`, or SQLite under `mlruns/`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or sqlite_uri(ROOT / "mlflow.db")


def sqlite_uri(path):
    """The address of a SQLite file, whatever its folders are called: SQLAlchemy unquotes what it is given."""
    return "sqlite:///" + str(path.resolve()).replace("%", "%25").replace("?", "%3F")


def client():
    """An MLflow client of the store; what fails is not tried again by MLflow, which would wait minutes.

    Raises:
        OSError: There is no such database.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    os.environ.setdefault("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    import mlflow

    # Importing MLflow sets levels of its own, so ours come after.
    for name in ("mlflow", "alembic", "alembic.runtime.migration"):
        logging.getLogger(name).setLevel(logging.ERROR)
    uri, given = store_uri(), os.environ.get("MLFLOW_TRACKING_URI")
    if given is None:
        _make_store(ROOT / "mlflow.db")
    if not uri.startswith("http") and not store_answers():
        raise OSError(f"{uri} cannot be opened")
    mlflow.set_tracking_uri(uri)
    if given is None:  # MLflow writes it into the environment, where it would outlive a change of folder
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    mlflow.set_registry_uri(uri)
    return mlflow.MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextlib.contextmanager
def _locked():
    ROOT.mkdir(parents=True, exist_ok=True)
    with open(ROOT / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _make_store(path):
    """A new SQLite store, whole or not at all: MLflow makes its tables in many steps and opens no half-made store."""
    if path.exists():
        return
    with _locked():
        if path.exists():
            return
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        made = path.resolve().with_name(f".{path.name}.tmp")

        def remove():
            for half in (made, made.with_name(f"{made.name}-journal")):
                half.unlink(missing_ok=True)

        remove()  # of a process that was killed: the lock is ours
        atexit.register(remove)  # this is a thread's work, and a signal may end the program in the middle of it
        store = SqlAlchemyStore(sqlite_uri(made), (ROOT / "artifacts").resolve().as_uri())
        store.engine.dispose()
        os.replace(made, path)
        atexit.unregister(remove)


def experiment_id(api, name):
    """The experiment of this name, made under a lock so that several processes make it once."""
    with _locked():
        found = api.get_experiment_by_name(name)
        if found is not None:
            return found.experiment_id
        local = store_uri().startswith("sqlite")
        place = (ROOT / "artifacts" / name).resolve().as_uri() if local else None
        return api.create_experiment(name, artifact_location=place)


def store_answers():
    """Whether there is anybody at the store's address; a second is waited for it."""
    uri = store_uri()
    address = urlsplit(uri)
    if uri.startswith("http"):
        import requests

        with contextlib.suppress(requests.RequestException):
            requests.get(f"{uri.rstrip('/')}/health", timeout=1)
            return True
        return False
    if address.scheme.startswith("sqlite"):
        return _is_database(Path(unquote(uri.partition(":///")[2].partition("?")[0])))
    port = address.port or {"postgresql": 5432, "mysql": 3306, "mssql": 1433}.get(address.scheme.partition("+")[0])
    if address.hostname is None or port is None:
        return True
    with contextlib.suppress(OSError), socket.create_connection((address.hostname, port), timeout=1):
        return True
    return False


def _is_database(path):
    """Whether SQLite can open the file, or MLflow can make it."""
    if not path.exists():
        return os.access(next(parent for parent in path.absolute().parents if parent.exists()), os.W_OK)
    try:
        with contextlib.closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=rw", uri=True, timeout=1)) as store:
            store.execute("SELECT name FROM sqlite_master").fetchall()
    except sqlite3.Error as error:
        return getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY"  # it is there, and somebody writes to it
    return True


def link(path, place):
    """Put a file, or the files of a folder, into a folder of this disk without a copy; whether that could be done."""
    try:
        for file in [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]:
            target = place / (file.name if path.is_file() else file.relative_to(path))
            target.parent.mkdir(parents=True, exist_ok=True)
            target.unlink(missing_ok=True)
            os.link(file, target)
    except OSError:  # another disk, or one that knows no links
        return False
    return True


class Store:
    """What can be asked of an MLflow run: the calls that a `Sender` plays. Each may fail and be played again.

    Args:
        run_id: The MLflow run; `None` until `open` has made one.
    """

    def __init__(self, run_id=None):
        self.run_id, self._api = run_id, None

    @property
    def api(self):
        self._api = self._api or client()
        return self._api

    def open(self, task, name, tags, started):
        if self.run_id is None:
            run = self.api.create_run(experiment_id(self.api, task), started, tags, name)
            self.run_id = run.info.run_id
        else:
            self.api.update_run(self.run_id, status="RUNNING")

    def params(self, values):
        from mlflow.entities import Param

        self.api.log_batch(self.run_id, params=[Param(key, value) for key, value in values.items()])

    def metrics(self, epochs):
        from mlflow.entities import Metric

        numbers = [Metric(key, value, when, step) for step, when, values in epochs for key, value in values.items()]
        self.api.log_batch(self.run_id, numbers)

    def tags(self, values):
        from mlflow.entities import RunTag

        self.api.log_batch(self.run_id, tags=[RunTag(key, value) for key, value in values.items()])

    def files(self, path, place):
        if not Path(path).exists():  # removed since by the user
            return
        uri = self.api.get_run(self.run_id).info.artifact_uri
        if uri.startswith("file:") and link(Path(path), Path(unquote(urlsplit(uri).path)) / place):
            return
        send = self.api.log_artifacts if Path(path).is_dir() else self.api.log_artifact
        send(self.run_id, path, place or None)

    def dataset(self, name, digest, counts):
        from mlflow.entities import Dataset, DatasetInput, InputTag

        described = Dataset(name[:500], digest, "local", json.dumps({"uri": name})[:1000], None, json.dumps(counts))
        self.api.log_inputs(self.run_id, [DatasetInput(described, [InputTag("mlflow.data.context", "training")])])

    def version(self, name, place, aliases, tags):
        if not any(found.name == name for found in self.api.search_registered_models(f"name = '{name}'")):
            with contextlib.suppress(Exception):  # another process may have made it since
                self.api.create_registered_model(name)
        known = self.api.search_model_versions(f"run_id = '{self.run_id}'")
        source = f"{self.api.get_run(self.run_id).info.artifact_uri}/{place}"
        version = next((each.version for each in known if each.name == name), None)
        version = version or self.api.create_model_version(name, source, run_id=self.run_id, tags=tags).version
        for alias in aliases:
            self.api.set_registered_model_alias(name, alias, version)

    def end(self, status, ended):
        self.api.set_terminated(self.run_id, status, ended)

    def left(self):
        send_left(ROOT / "runs", Store)


class Tracker:
    """One MLflow run: parameters, metrics, tags, figures, files. Each method returns at once, the store there or not.

    Args:
        task: Name of the experiment.
        folder: Where calls wait until they are sent, as `unsent.jsonl`; `None` until the run has one (see `attach`).
        run_id: An MLflow run to go on with; otherwise one is opened.
        name: Its name in the UI.
        tags: Tags of a new run.
        parent: The MLflow run it is nested under.
    """

    def __init__(self, task, folder, *, run_id=None, name=None, tags=None, parent=None):
        tags = {**(tags or {}), **({"mlflow.parentRunId": parent} if parent else {})}
        tags = {key: str(value)[:4000] for key, value in tags.items()}
        self.folder, self.monitor = folder and Path(folder), None
        with contextlib.suppress(Exception):  # imported here, so that the wait below is for the store alone
            client()
        self.sender = Sender(Store(run_id), store_answers)
        if folder:
            self.sender.keep_in(self.folder)
        self.sender.call("open", task, name, tags, int(time.time() * 1000))
        self.sender.settle()

    @property
    def run_id(self):
        return self.sender.store.run_id

    def attach(self, run):
        """From now on calls wait in the folder of this `Run`, whose record learns the MLflow run as soon as it is open."""
        self.folder = run.folder
        self.sender.keep_in(run.folder)
        self.sender.when_open(lambda run_id: run.update(mlflow_run_id=run_id))

    def params(self, values):
        self.sender.call("params", {key: str(value)[:6000] for key, value in values.items()})

    def metrics(self, values, step=0):
        """Log numbers of one epoch; what the thread finds waiting it sends together, since a request takes 30 ms."""
        self.epochs([[step, int(time.time() * 1000), {key: float(value) for key, value in values.items()}]])

    def epochs(self, ended):
        """Log several epochs: `[[step, milliseconds since 1970, {metric: number}]]`."""
        self.sender.call("metrics", ended)

    def dataset(self, name, digest, counts):
        """Name the data of the run, with their digest and the number of examples of each split."""
        self.sender.call("dataset", str(name), digest, counts)

    def tags(self, values):
        self.sender.call("tags", {key: str(value)[:4000] for key, value in values.items()})

    def files(self, path, place=""):
        """Log a file or a folder under `place` of the run's artifacts."""
        self.sender.call("files", str(Path(path).resolve()), place)

    def figure(self, figure, place):
        """Log a matplotlib figure as a PNG named `place`."""
        path = self.folder / "figures" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        save_figure(figure, path, {"Run": self.folder.name})
        self.files(path, str(Path("figures") / Path(place).parent))

    def register(self, name, place, aliases=(), tags=None):
        """Make the artifact folder `place` a version of the registered model `name`."""
        self.sender.call("version", name, place, list(aliases), tags or {})

    def send_left(self):
        """Send what earlier runs in this folder could not."""
        self.sender.call("left")

    def watch_system(self):
        """Sample CPU, memory and accelerator while the run lasts."""
        if self.run_id is None:
            return
        with contextlib.suppress(Exception):  # a measurement beside the run
            from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

            logging.getLogger("mlflow.system_metrics").setLevel(logging.CRITICAL)
            self.monitor = SystemMetricsMonitor(self.run_id, sampling_interval=2, samples_before_logging=5)
            self.monitor.start()

    def end(self, status):
        """Close the run as FINISHED, FAILED or KILLED, sending what waits."""
        if self.monitor:
            self.sender.aside(self.monitor.finish)
        self.sender.call("end", status, int(time.time() * 1000))
        self.sender.settle()
        self.sender.close()


def send_rest(run):
    """Send what a `Run` that has ended could not."""
    if read_calls(run.folder):
        with contextlib.suppress(Exception):
            client()
        sender = Sender(Store(run.record.get("mlflow_run_id")), store_answers)
        sender.when_open(lambda run_id: run.update(mlflow_run_id=run_id))
        sender.keep_in(run.folder)
        sender.settle()
        sender.close()


def serve_ui(port):
    """MLflow's UI over the store, on loopback, until Ctrl-C.

    Raises:
        UserError: The port is taken.
    """
    import subprocess

    refuse_taken(port)
    ROOT.mkdir(parents=True, exist_ok=True)
    # MLflow opens among language models' traces, whatever an experiment says of its kind, unless the address says which.
    page = f"http://127.0.0.1:{port}/#/experiments?workflowType=machine_learning"
    print(f"{page}  (Model training at the top left; Ctrl-C ends it)", file=sys.stderr, flush=True)
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store_uri(), "--host", "127.0.0.1"]
    place = (ROOT / "artifacts").resolve().as_uri()
    # The runner of jobs is for judging language models: seven processes for nothing here.
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    command += ["--port", str(port), "--workers", "1", "--default-artifact-root", place]
    server = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        server.wait()
    finally:  # its own children outlive it, and would keep the port
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        server.wait()
