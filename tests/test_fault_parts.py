"""The parts that rescue a run, by themselves: calls that wait for a store, hostile data and models, interrupts."""

import contextlib
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time

import pytest
from runs import HOUSE

from apps.common.bundles.model_file import check_classes
from apps.common.errors import UserError
from apps.common.files import read_json, remove_left
from apps.common.records import sending
from apps.common.records.mlflow import sqlite_uri, store_answers
from apps.common.records.sending import Sender, read_calls, send_left
from apps.common.training.interrupts import Interrupts
from bench.faults.record import Record

pytestmark = pytest.mark.once  # nothing in it depends on the backend


class Store:
    """A store that can be away, and remembers what arrived."""

    away, kept = False, None

    def __init__(self, run_id=None):
        self.run_id, Store.kept = run_id, Store.kept or []

    def __getattr__(self, name):
        def call(*arguments):
            if Store.away:
                raise OSError("connection refused")
            if name == "open":
                self.run_id = "opened"
            Store.kept.append((name, *arguments))

        return call


@pytest.fixture
def sender(monkeypatch):
    monkeypatch.setattr(sending, "GATHER", 0.05)
    monkeypatch.setattr(sending, "RETRY", 0.05)
    monkeypatch.setattr(sending, "BREATH", 0.05)
    Store.away, Store.kept = False, []
    made = Sender(Store(), lambda: not Store.away)
    yield made
    made.close()


def rows(step):
    return [[step, 0, {"loss": 1.0}]]


def test_calls_arrive_in_order_and_neighbouring_metrics_together(sender, tmp_path):
    Store.away = True
    sender.keep_in(tmp_path)
    sender.call("open")
    for step in range(3):
        sender.call("metrics", rows(step))
    sender.call("end", "FINISHED")
    assert [name for name, _ in read_calls(tmp_path)] == ["open", *3 * ["metrics"], "end"]
    Store.away = False
    sender.settle()
    assert Store.kept == [("open",), ("metrics", rows(0) + rows(1) + rows(2)), ("end", "FINISHED")]
    sender.close()
    assert not (tmp_path / "unsent.jsonl").exists()


def test_metrics_that_come_faster_than_a_store_takes_them_leave_the_run_its_time(sender, monkeypatch):
    monkeypatch.setattr(sending, "SHARE", 1e-9)
    monkeypatch.setattr(sending, "BREATH", 0.4)
    monkeypatch.setattr(sending, "FEW", 2)
    sender.call("open")
    for step in range(9):
        sender.call("metrics", rows(step))
    time.sleep(0.6)
    assert 2 <= len(Store.kept) <= 3  # a request, at most one more, then the longest pause
    sender.settle()
    sent = [row for name, *arguments in Store.kept if name == "metrics" for row in arguments[0]]
    assert sent == [row for step in range(9) for row in rows(step)]


def test_a_store_that_is_away_is_given_up_at_once_and_its_calls_are_kept(sender, tmp_path, capsys):
    Store.away = True
    (tmp_path / "run").mkdir()
    sender.keep_in(tmp_path / "run")
    sender.call("open")
    sender.call("metrics", rows(0))
    start = time.monotonic()
    sender.settle()
    sender.close()
    assert time.monotonic() - start < 2.5
    said = capsys.readouterr().err
    assert said.count("is away") == 1 and "2 records wait in" in said
    (tmp_path / "run" / "run.json").write_text("{}")
    Store.away = False
    send_left(tmp_path, Store)
    assert Store.kept == [("open",), ("metrics", rows(0))]
    assert not (tmp_path / "run" / "unsent.jsonl").exists()
    assert '"mlflow_run_id": "opened"' in (tmp_path / "run" / "run.json").read_text()


def test_a_line_cut_short_by_a_kill_is_left_out(tmp_path):
    (tmp_path / "unsent.jsonl").write_text('["metrics", [[[1, 0, {"loss": 1.0}]]]]\n["met')
    assert read_calls(tmp_path) == [("metrics", (rows(1),))]


def test_a_call_the_store_refuses_does_not_hold_up_the_rest(sender, tmp_path, capsys):
    class Refused(Exception):
        def get_http_status_code(self):
            return 400

    def params(values):
        raise Refused("too long")

    sender.store.params = params
    sender.call("params", {})
    sender.call("end", "FINISHED")
    sender.settle()
    assert Store.kept == [("end", "FINISHED")] and "refused params" in capsys.readouterr().err


def test_a_transaction_that_failed_is_tried_again(sender):
    class Failed(Exception):
        error_code = "BAD_REQUEST"

        def get_http_status_code(self):
            return 400

    def metrics(rows, failing=[True]):  # noqa: B006  the first call fails
        if failing.pop() if failing else False:
            raise Failed("two writers of one metric")
        Store.kept.append(("metrics", rows))

    sender.store.metrics = metrics
    sender.call("metrics", rows(0))
    deadline = time.monotonic() + 5
    while not Store.kept and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Store.kept == [("metrics", rows(0))]


def test_a_store_that_is_no_database_is_seen_at_once_and_a_new_or_busy_one_is_there(tmp_path, monkeypatch):
    store = tmp_path / "a b%.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", sqlite_uri(store))
    assert store_answers()
    store.write_bytes(b"no database" * 1000)
    assert not store_answers()
    store.unlink()
    with contextlib.closing(sqlite3.connect(store)) as writer:
        writer.execute("CREATE TABLE t (x)")
        writer.execute("BEGIN EXCLUSIVE")
        assert store_answers()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"postgresql://u@127.0.0.1:{taken.getsockname()[1]}/mlflow")
        assert not store_answers()
        taken.listen()
        assert store_answers()


def test_json_that_is_too_deep_or_too_long_is_no_json(tmp_path):
    (tmp_path / "deep").write_text("[" * 100_000)
    (tmp_path / "long").write_text("[1, 2, 3]")
    with pytest.raises(ValueError, match="too deep"):
        read_json(tmp_path / "deep")
    with pytest.raises(ValueError, match="larger than"):
        read_json(tmp_path / "long", largest=8)


def test_tries_are_counted_up_over_calls_and_shown(tmp_path):
    order, page = ["kill", "data: odd"], tmp_path / "faults.md"
    for backend, lost in (("torch", None), ("jax", "other weights")):
        for _ in range(2):
            record = Record(order, page)
            record.add("kill", backend, "ours", {"lost": lost, "notes": ["inside"], "kills": 3, "seconds": 1.0})
    Record(order, page).add("data: odd", "any", "ours", {"lost": None, "notes": [], "kills": 0, "seconds": 1.0})
    record.add("kill", "jax", "stock", {"lost": "other weights", "notes": [], "kills": 1, "seconds": 1.0})
    assert Record(order, page).tries("kill", "torch", "ours") == 2
    shown = page.read_text()
    assert "| kill | - / 2 / 2 | - / 6 / 6 | - / 0 / 2 | - / 2 / 0 | - / 1 / - | - / 0 / - | 2 x other weights; stock:" in shown
    assert "| odd | 1 | 1 | 0 |  |" in shown
    assert [row["lost"] for row in record.table(["kill"], ["jax", "torch"])] == [2, 0]
    record.forget("kill", "jax")
    assert Record(order, page).tries("kill", "jax", "ours") == 0


def test_the_first_signal_waits_for_a_near_end_of_the_epoch_and_the_second_does_not():
    with Interrupts() as interrupts:
        interrupts.epochs(lambda: 3.0)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(SystemExit) as left:
            interrupts.stop_if_asked()
        assert left.value.code == 143
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("remaining", [None, 60.0])
def test_a_signal_between_epochs_or_far_from_the_end_stops_at_once(remaining):
    with Interrupts() as interrupts, pytest.raises(SystemExit):
        interrupts.epochs(lambda: remaining)
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_into_an_import_comes_after_it(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "slow_to_import.py").write_text("import signal\nsignal.raise_signal(signal.SIGTERM)\nWHOLE = True\n")
    with pytest.raises(SystemExit), Interrupts():
        import slow_to_import

        assert slow_to_import.WHOLE
        time.sleep(5)


def test_signals_are_left_alone_outside_of_the_main_thread():
    seen = []
    thread = threading.Thread(target=lambda: Interrupts().__enter__() and seen.append(True))
    thread.start()
    thread.join()
    assert seen == [True] and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    "value",
    [
        {"class_name": "Lambda", "module": "keras.layers"},
        {"class_name": "system", "module": "os"},
        {"class_name": "function", "module": "keras.utils", "config": "get_file"},
        {"class_name": "Dense", "module": "kerasy.layers"},
        {"class_name": "Dense", "module": "layers.dense", "registered_name": "other>Dense"},
        {"class_name": "__lambda__", "config": {"value": "..."}},
    ],
)
def test_a_class_from_elsewhere_is_refused_however_deep_it_stands(value):
    with pytest.raises(ValueError, match=r"it (holds|names)"):
        check_classes({"config": {"layers": [{"config": {"inner": [value]}}]}})


def test_classes_of_keras_and_of_this_package_are_taken():
    ours = {"class_name": "Dense", "module": "layers.dense", "registered_name": "triptych>Dense", "config": {"class_name": 3}}
    check_classes([ours, {"class_name": "function", "module": "builtins", "config": "relu"}, {"class_name": "__slice__"}])


HOSTILE = [
    "images that declare 100,000 x 100,000", "CSV of NUL bytes", "CSV with an open quote", "text of NUL bytes",
    "images that are links to /etc/passwd", "IDX that declares 10^12 pixels",
    "NPZ that declares 10^14 numbers", "graph that declares 10^14 features",
]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_data_are_refused_in_one_line(tmp_path, monkeypatch, name):
    import importlib

    from apps.common.options.declare import make_config
    from bench.faults import inputs

    monkeypatch.chdir(tmp_path)
    task, write, ending = inputs.HOSTILE[name]
    write(tmp_path / f"data{ending}")
    app = importlib.import_module("apps." + task.replace("-", "_"))
    config = make_config(app.Config, {"data": str(tmp_path / f"data{ending}")})
    with pytest.raises(UserError) as refused:
        app.load_data(config)
    assert "\n" not in str(refused.value)


def test_a_signal_that_falls_into_a_finaliser_is_not_lost(capsys):
    from apps.common.command import terminable

    class Held:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(SystemExit) as stopped, terminable():
        held = Held()
        del held
        time.sleep(5)
    assert stopped.value.code == 143
    assert "Traceback" not in capsys.readouterr().err


def test_a_store_half_made_when_the_program_ends_is_removed(tmp_path):
    code = """
import sys, threading, time, types
made = threading.Event()

def half_made(uri, artifacts):
    open("mlruns/.mlflow.db.tmp", "w").close()
    open("mlruns/.mlflow.db.tmp-journal", "w").close()
    made.set()
    time.sleep(60)

sys.modules["mlflow.store.tracking.sqlalchemy_store"] = types.SimpleNamespace(SqlAlchemyStore=half_made)
from pathlib import Path
from apps.common.records import mlflow as tracking
threading.Thread(target=tracking._make_store, args=[Path("mlruns/mlflow.db")], daemon=True).start()
made.wait()
assert Path("mlruns/.mlflow.db.tmp").exists()
raise SystemExit(143)
"""
    environment = {**os.environ, "PYTHONPATH": str(HOUSE)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, check=False)
    assert done.returncode == 143, done.stderr
    assert sorted(path.name for path in (tmp_path / "mlruns").iterdir()) == [".lock"]


def test_what_a_killed_command_left_is_removed_and_what_lives_is_not(tmp_path):
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    dead, path = gone.stdout.strip(), tmp_path / "answers.csv"
    left = [tmp_path / f".answers.csv.{dead}.tmp", tmp_path / f".answers.{dead}.onnx"]
    stays = [tmp_path / f".answers.csv.{os.getpid()}.tmp", tmp_path / f".others.csv.{dead}.tmp", tmp_path / ".answers.csv.tmp"]
    for each in [*left, *stays]:
        each.write_text("half")
    (tmp_path / f".answers.{dead}.tmp").mkdir()
    remove_left(path)
    assert sorted(tmp_path.iterdir()) == sorted(stays)
