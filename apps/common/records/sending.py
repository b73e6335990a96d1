"""Calls to a store that may be away: written to a file first, sent by a thread, kept until they have arrived."""

import collections
import contextlib
import fcntl
import json
import os
import sys
import threading
import time

from apps.common.files import read_json, write_json

UNSENT = "unsent.jsonl"
GATHER, RETRY = 1.0, 10.0  # seconds that metrics wait for others to go with, and after a sending that failed
PATIENCE = 60.0  # for a single call, an upload perhaps, to a store that is there
AT_ONCE, FEW = 900, 100  # metrics in one request, and in one while a run lasts; MLflow takes 1000
SHARE, BREATH = 0.0025, 10.0  # of a processor's time that metrics may take while a run lasts, and the longest wait for it


class Sender:
    """Plays calls on `store` in their order. A call is one line of `unsent.jsonl` until it has arrived.

    A process that is killed between a call's arrival and its leaving the file sends it twice, so calls may be repeated.

    Args:
        store: Has a method for each call, and `run_id`.
        answers: Function that says within a second or so whether the store is there at all.
    """

    def __init__(self, store, answers):
        self.store, self.answers = store, answers
        lock = threading.RLock()
        self.calls, self.changed, self.arrived = collections.deque(), threading.Condition(lock), threading.Condition(lock)
        self.file = self.folder = self.opened = None
        self.away = self.hurried = self.closed = self.said = False
        self.others = False  # whether a call that is not of metrics has arrived and is still in the file
        self.waited, self.pause = 0.0, BREATH
        threading.Thread(target=self._work, name="tracking", daemon=True).start()

    def call(self, name, *arguments):
        """Have `store.name(*arguments)` called, now or later."""
        with self.changed:
            self.calls.append((name, arguments))
            if self.file:
                with contextlib.suppress(OSError, ValueError):
                    self.file.write(json.dumps((name, arguments)) + "\n")
                    self.file.flush()
            self.arrived.notify()

    def keep_in(self, folder):
        """Keep the calls that wait in this folder's file; those found there come first."""
        with self.changed:
            if folder == self.folder:
                return
            self.folder = folder
            self.calls.extendleft(reversed(read_calls(folder)))
            self._rewrite()
            self.arrived.notify_all()

    def when_open(self, function):
        """Call this with the run's id once the store has given one."""
        with self.changed:
            self.opened = function
            if self.store.run_id is not None:
                self._tell()

    def _tell(self):
        if self.opened:
            with contextlib.suppress(OSError):
                self.opened(self.store.run_id)
            self.opened = None

    def settle(self):
        """Wait until all is sent, as long as somebody is at the store's address: two seconds where nobody is."""
        start = moved = time.monotonic()
        again = True  # a call that was under way may have found the store away that is back by now
        with self.changed:
            self.hurried, self.away, left = True, False, len(self.calls)
            self.changed.notify_all()
        while True:
            with self.changed:
                done = self.changed.wait_for(lambda: not self.calls or self.away, timeout=1.0)
            if done and self.calls and again and self.answers():
                again = False
                with self.changed:
                    self.away = False
                    self.changed.notify_all()
                continue
            if done:
                break
            if len(self.calls) != left:
                moved, left = time.monotonic(), len(self.calls)
            if time.monotonic() - moved > PATIENCE or not self.answers():
                self._say("no answer")
                break
        self.hurried = False
        self.waited += time.monotonic() - start

    def close(self):
        """Send no more. What is left stays in the file, for the next run of this folder or the resumed one."""
        with self.changed:
            self.closed = True
            left = len(self.calls)
            with contextlib.suppress(OSError):
                self._rewrite()
            if self.file:
                self.file.close()
                self.file = None
            self.changed.notify_all()
            self.arrived.notify_all()
        if left and self.folder:
            print(
                f"tracking: {left} records wait in {self.folder / UNSENT}, after {self.waited:.1f} s of waiting for the store; "
                "the next run in this folder sends them",
                file=sys.stderr,
            )

    def aside(self, function):
        """Call a function that talks to the store by itself, without waiting for it."""

        def run():
            with contextlib.suppress(Exception):  # a store fails in as many ways as there are stores
                function()

        threading.Thread(target=run, daemon=True).start()

    def _work(self):
        while not self.closed:
            with self.changed:
                self.arrived.wait_for(lambda: self.calls or self.closed)
                if self.away or (self.calls and self.calls[0][0] == "metrics"):
                    pause = RETRY if self.away else self.pause
                    self.changed.wait_for(lambda: (self.hurried and not self.away) or self.closed, timeout=pause)
                self.away = False
            try:
                self._play()
            except Exception as error:  # a store fails in as many ways as there are stores, and none may stop a run
                self._say(" ".join(str(error).strip().splitlines()[:1]))
                with self.changed:
                    self.away = True
                    self.changed.notify_all()
            with self.changed:
                if self.closed:
                    return
                # To write many anew takes longer than to send a few; metrics may stay, since they can be sent again.
                if not (self.calls and self.file) or self.others or self.hurried:
                    with contextlib.suppress(OSError):
                        self._rewrite()
                    self.others = False

    def _play(self):
        """Make the calls that wait, up to a request of metrics while nobody waits for the end.

        Python works for the store while the run's steps would. Metrics of steps of milliseconds come faster than MLflow
        takes them, and without a pause they would have a third of the run's time; what is left over is sent at its end.
        """
        name = None
        while True:
            with self.changed:
                if not self.calls or self.closed or (name == "metrics" and not self.hurried):
                    return
                name, arguments, count = first_call(self.calls, AT_ONCE if self.hurried else FEW)
            start = time.thread_time()
            try:
                getattr(self.store, name)(*arguments)
            except Exception as error:
                if not is_refused(error):
                    raise
                print(f"tracking: the MLflow store refused {name} ({str(error)[:200]})", file=sys.stderr)
            if name == "metrics":
                self.pause = max(GATHER, min(BREATH, (time.thread_time() - start) / SHARE))
            with self.changed:
                for _ in range(count):
                    self.calls.popleft()
                self.others |= name != "metrics"
                if name == "open":
                    self._tell()
                self.changed.notify_all()

    def _rewrite(self):
        """Leave in the file what has not arrived."""
        if self.folder is None:
            return
        if self.calls or not self.file:
            if self.file:
                self.file.close()
            self.file = write_calls(self.folder, self.calls)
        elif self.file.tell():
            self.file.truncate(0)
            self.file.seek(0)
        if self.closed and not self.calls:
            (self.folder / UNSENT).unlink(missing_ok=True)

    def _say(self, reason):
        if not self.said:
            self.said = True
            print(f"tracking: the MLflow store is away ({reason[:200]}); the run goes on", file=sys.stderr)


def first_call(calls, most):
    """The first call, neighbouring metrics joined up to `most` numbers: `(name, arguments, how many calls it is)`."""
    name, arguments = calls[0]
    if name != "metrics":
        return name, arguments, 1
    epochs, numbers, count = [], 0, 0
    for each, (more, *_) in calls:
        if each != "metrics":
            break
        numbers += sum(len(values) for _, _, values in more)
        if epochs and numbers > most:
            break
        epochs += more
        count += 1
    return name, (epochs,), count


def is_refused(error):
    """Whether the store is there and will never take this call, however often it is tried.

    A transaction that failed, as one does beside another of the same metrics, is a `BAD_REQUEST` to MLflow too; the next
    time it may succeed.
    """
    code = getattr(error, "get_http_status_code", None)
    return code is not None and code() == 400 and getattr(error, "error_code", None) != "BAD_REQUEST"


def read_calls(folder):
    """The calls in a folder's file; a last line cut short by a kill is left out."""
    calls = []
    with contextlib.suppress(OSError):
        for line in (folder / UNSENT).read_text(encoding="utf-8").splitlines():
            with contextlib.suppress(ValueError):
                name, arguments = json.loads(line)
                calls.append((name, tuple(arguments)))
    return calls


def write_calls(folder, calls):
    """Replace a folder's file by these calls; returns it open at its end."""
    path = folder / UNSENT
    made = path.with_name(f".{UNSENT}.{os.getpid()}.tmp")
    try:
        file = open(made, "w", encoding="utf-8")  # noqa: SIM115  stays open as long as calls are added
        file.writelines(json.dumps(call) + "\n" for call in calls)
        file.flush()
        os.replace(made, path)
    except OSError:
        made.unlink(missing_ok=True)
        raise
    return file


def send_left(runs, store_class):
    """Send what ended runs have left behind; a run that still lives holds its lock and sends its own."""
    for path in runs.glob(f"*/{UNSENT}"):
        with contextlib.suppress(OSError, ValueError), open(path.parent / "lock", "a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _send_left_of(path.parent, store_class):
                return


def _send_left_of(folder, store_class):
    """Whether the store took (or refused) all that one folder keeps."""
    record = read_json(folder / "run.json")
    store, calls = store_class(record.get("mlflow_run_id")), collections.deque(read_calls(folder))
    while calls:
        name, arguments, count = first_call(calls, AT_ONCE)
        try:
            if name != "left":
                getattr(store, name)(*arguments)
        except Exception as error:
            if not is_refused(error):
                write_calls(folder, calls).close()
                return False
        for _ in range(count):
            calls.popleft()
        if name == "open":
            write_json(folder / "run.json", {**record, "mlflow_run_id": store.run_id})
    (folder / UNSENT).unlink()
    return True
