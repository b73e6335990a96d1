"""An MLflow server on PostgreSQL, its artifacts elsewhere, as the store of parallel workers."""

import contextlib
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from runs import triptych

from apps.common.options.backends import installed

PROGRAMS = next((path.parent for path in sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)), None)
if PROGRAMS is None and shutil.which("initdb"):
    PROGRAMS = Path(shutil.which("initdb")).resolve().parent

pytestmark = [
    pytest.mark.skipif(PROGRAMS is None, reason="PostgreSQL is not installed (Debian: apt-get install postgresql)"),
    pytest.mark.skipif(importlib.util.find_spec("psycopg2") is None, reason="psycopg2 is not installed (extra: postgres)"),
]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def server(tmp_path):
    """`(URL of an MLflow server on a new PostgreSQL, folder of its artifacts)`."""
    as_user = {"user": "postgres"} if os.geteuid() == 0 else {}  # PostgreSQL refuses to run as root
    place = Path("/tmp") / f"triptych-postgres-{os.getpid()}"  # short: a socket's path has at most 107 characters
    place.mkdir()
    if as_user:
        try:
            shutil.chown(place, "postgres")
        except LookupError:
            place.rmdir()
            pytest.skip("PostgreSQL cannot run as root, and there is no user postgres")
    port, web, artifacts = free_port(), free_port(), tmp_path / "artifacts"

    def run(program, *arguments):
        subprocess.run([PROGRAMS / program, *arguments], check=True, cwd=place, stdout=subprocess.DEVNULL, **as_user)

    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
    store = f"postgresql+psycopg2://triptych@127.0.0.1:{port}/postgres"
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store, "--host", "127.0.0.1", "--port", str(web)]
    command += ["--artifacts-destination", artifacts.as_uri(), "--workers", "1"]
    mlflow = None
    try:
        run("initdb", "-D", place / "data", "-U", "triptych", "--auth=trust", "--no-sync")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -k {place} -c fsync=off"
        run("pg_ctl", "-D", place / "data", "-o", options, "-l", place / "log", "-w", "start")
        log = open(tmp_path / "mlflow.log", "w")  # noqa: SIM115
        mlflow = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        deadline = time.monotonic() + 90
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{web}/health", timeout=2)
                break
            except OSError:
                assert mlflow.poll() is None and time.monotonic() < deadline, (tmp_path / "mlflow.log").read_text()[-2000:]
                time.sleep(0.3)
        yield f"http://127.0.0.1:{web}", artifacts
    finally:
        if mlflow:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(mlflow.pid, signal.SIGTERM)
            mlflow.wait(30)
        if (place / "data" / "postmaster.pid").exists():
            run("pg_ctl", "-D", place / "data", "-m", "immediate", "stop")
        shutil.rmtree(place, ignore_errors=True)


@pytest.mark.once
def test_parallel_workers_share_an_mlflow_server_on_postgresql(server, tmp_path, monkeypatch):
    url, artifacts = server
    monkeypatch.setenv("MLFLOW_TRACKING_URI", url)
    backend = "jax" if "jax" in installed() else installed()[0]
    small = ("--hidden-dims", "8", "--epochs", "2", "--only", "learning_rate,dropout", "--model", "mlp")
    done = triptych("tune", "tabular", *small, "--trials", 4, "--workers", 2, "--json", cwd=tmp_path, backend=backend)
    result = json.loads(done.stdout)
    assert [row["status"] for row in result["rows"]] == ["completed"] * 4 and "store is away" not in done.stderr
    wanted = json.dumps({"experiment_ids": ["1"], "filter": f"tags.`mlflow.parentRunId` = '{result['run_id']}'"}).encode()
    request = urllib.request.Request(f"{url}/api/2.0/mlflow/runs/search", wanted, {"Content-Type": "application/json"})
    nested = json.load(urllib.request.urlopen(request))["runs"]
    assert len(nested) == 5 and {run["info"]["status"] for run in nested} == {"FINISHED"}  # the trials and the final model
    assert list(artifacts.rglob("parallel-coordinates.png")) and list(artifacts.rglob("model.keras"))
