"""Trials side by side, through KerasTuner's own chief and workers: one oracle, asked over gRPC.

The chief's port has no authentication and no encryption: whoever reaches it can steer the search. It is bound to this
machine unless another address is given.
"""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent import futures
from pathlib import Path

import grpc
from keras_tuner.engine.hyperparameters import HyperParameters
from keras_tuner.src import protos
from keras_tuner.src.distribute import oracle_chief, oracle_client
from keras_tuner.src.engine.trial import Trial

from apps.common.app import task_name
from apps.common.data.fingerprint import fingerprint
from apps.common.errors import UserError
from apps.common.output import say
from apps.common.records.facts import describe_machine
from apps.common.records.mlflow import ROOT, Tracker
from apps.common.training.renewal import Grown
from layers import backend
from tuning.addresses import ANSWER, RENEWED, no_chief
from tuning.killed import end_open_trials
from tuning.space import Space
from tuning.trial_loop import run_trials
from tuning.trials import Trainer, nested_runs

BEAT = 1.0  # seconds between two signs of life of a worker
SILENCE = 90.0  # seconds without one after which a trial is given up; a machine may be paused for a while
HOUSE = Path(__file__).resolve().parents[1]


class Servicer(oracle_chief.OracleServicer):
    """KerasTuner's chief, which also tells a worker what is searched, and hears its signs of life.

    A trial travels without the space: KerasTuner prints every condition of it that it packs, and a worker needs only the
    values.
    """

    def __init__(self, oracle, definition):
        super().__init__(oracle)
        self.definition = definition

    def GetSpace(self, request, context):
        answer = HyperParameters()
        answer.Fixed("tuner/definition", json.dumps(self.definition))
        return protos.get_service().GetSpaceResponse(hyperparameters=answer.to_proto())

    def CreateTrial(self, request, context):
        trial = self.oracle.create_trial(request.tuner_id)
        self.stop_triggered = self.stop_triggered or trial.status == "STOPPED"
        return protos.get_service().CreateTrialResponse(trial=_light(trial).to_proto())

    def UpdateTrial(self, request, context):
        trial = self.oracle.update_trial(request.trial_id, dict(request.metrics), step=request.step)
        return protos.get_service().UpdateTrialResponse(trial=_light(trial).to_proto())

    def GetTrial(self, request, context):
        self.oracle.heard[request.trial_id] = time.monotonic()
        return protos.get_service().GetTrialResponse(trial=_light(self.oracle.get_trial(request.trial_id)).to_proto())


def _light(trial):
    values = HyperParameters()
    values.values = dict(trial.hyperparameters.values)
    return Trial(values, trial.trial_id, trial.status)


def lead(search):
    """Be the chief of a search until it is done, with the workers of this machine and those that join."""
    host, port = search.plan.chief or ("127.0.0.1", 0)
    more = {
        "objective": search.objective,
        "parent": search.tracker.run_id,
        "folder": str(search.folder.folder),
        "tags": search.trainer.tags,
    }
    servicer = Servicer(search.oracle, {**search.definition, **more})
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=1), options=(("grpc.so_reuseport", 0),))
    protos.get_service_grpc().add_OracleServicer_to_server(servicer, server)
    try:
        port = server.add_insecure_port(f"{host}:{port}")
    except RuntimeError:
        port = 0
    if not port:
        raise UserError(f"--chief {host}:{search.plan.chief[1]}: this address cannot be bound; the port is in use or not ours")
    server.start()
    if search.plan.chief:
        say(f"workers may join: triptych tune {search.task} --join {host}:{port}")
    workers = LocalWorkers(search, f"{host}:{port}")
    try:
        workers.start()
        _watch(search, servicer, workers)
    finally:
        workers.stop()
        server.stop(grace=1).wait()
        with contextlib.suppress(Exception):  # a store that is away keeps its own opinion of the run
            end_open_trials(search.task, search.tracker.run_id, "KILLED")


def _watch(search, servicer, workers):
    """Until the oracle has no more trials and none is running: give up those whose worker is gone."""
    oracle, stopped_at = search.oracle, None
    while True:
        time.sleep(0.1)
        if search.impossible:
            raise UserError(f"no configuration can be trained: {search.impossible}")
        workers.look_after()
        now = time.monotonic()
        for name, trial in list(oracle.ongoing_trials.items()):
            if now - oracle.heard.get(trial.trial_id, now) > SILENCE:
                give_up(search, name, trial)
        if servicer.stop_triggered and not oracle.ongoing_trials:
            stopped_at = stopped_at or now
            if not oracle.tuner_ids or now - stopped_at > 3:  # the others hear of the end when they next ask
                return


def give_up(search, name, trial):
    """The trial of a worker that is silent is given to another one; the trial that silences two has failed."""
    reason = f"its worker {name} was silent for {SILENCE:.0f} s"
    if not search.oracle.give_up(name):
        return lose(search, name, reason)
    search.oracle.tuner_ids.discard(name)
    say(f"trial {trial.trial_id}: {reason}; another worker runs it again")
    with contextlib.suppress(Exception):  # a store that is away keeps its own opinion of the run
        _record_lost(search, trial, "KILLED", {"lost": reason})


def lose(search, name, reason):
    """The trial of a worker that is gone is a failed one."""
    trial = search.oracle.ongoing_trials.get(name)
    search.oracle.tuner_ids.discard(name)
    if trial is not None:
        gone = Trial(HyperParameters(), trial.trial_id, "FAILED", reason)
        gone.hyperparameters.values["tuner/report"] = json.dumps({"reason": reason})
        search.oracle.end_trial(gone)
        with contextlib.suppress(Exception):  # a store that is away keeps its own opinion of the run
            _record_lost(search, trial, "FAILED", {"reason": reason})


def _record_lost(search, trial, status, tags):
    """Close the MLflow run of a trial whose worker is gone; one that died at once had opened none."""
    found = [run for run in nested_runs(search.task, search.tracker.run_id) if run.data.tags.get("trial") == trial.trial_id]
    folder = search.folder.folder / "trials" / trial.trial_id
    folder.mkdir(parents=True, exist_ok=True)
    tracker = Tracker(
        search.task,
        folder,
        run_id=found[0].info.run_id if found else None,
        name=f"trial {trial.trial_id}",
        tags={**search.trainer.tags, "trial": trial.trial_id},
        parent=search.tracker.run_id,
    )
    tracker.tags(tags)
    tracker.end(status)


class LocalWorkers:
    """The worker processes of this machine; one that dies is replaced."""

    def __init__(self, search, address):
        self.search = search
        self.address = address
        self.processes = {}
        self.idle_deaths = 0
        self.folder = search.folder.folder / "workers"

    def start(self):
        self.folder.mkdir(exist_ok=True)
        for number in range(self.search.plan.workers):
            self._start(f"worker-{number}")

    def _start(self, name):
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(HOUSE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "KERASTUNER_TUNER_ID": name,
            "TRIPTYCH_CHIEF_PID": str(os.getpid()),
            # Several processes share an accelerator only when none takes all of its memory at once.
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        }
        command = [sys.executable, "-m", "triptych", "tune", self.search.task, "--join", self.address]
        data = self.search.plan.space.fixed.get("data")
        command += ["--backend", self.search.facts["backend"], *(["--data", data] if data else [])]
        with open(self.folder / f"{name}.log", "ab") as log:
            # A session of its own: Ctrl-C is for the chief, who then ends its workers.
            self.processes[name] = subprocess.Popen(command, env=variables, stdout=log, stderr=log, start_new_session=True)

    def look_after(self):
        for name, process in list(self.processes.items()):
            code = process.poll()
            if code is None:
                continue
            del self.processes[name]
            if code == 0:
                continue
            had_trial = name in self.search.oracle.ongoing_trials
            what = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            lose(self.search, name, f"its worker died ({what})")
            self.idle_deaths = 0 if had_trial else self.idle_deaths + 1
            if self.idle_deaths > 2:
                lines = (self.folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
                raise UserError(f"--workers: they die before their first trial: {lines[-1] if lines else what}")
            self._start(name)

    def stop(self):
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def join(app, address, data_name):
    """Work for the chief at `(host, port)` until it has no more trials; returns how many were run.

    Raises:
        UserError: Nobody answers there, or it searches another task, backend or data.
    """
    (host, port), count = address, int(os.environ.get(RENEWED, 0))
    where = f"{host}:{port}"
    try:
        with grpc.insecure_channel(where) as channel:
            grpc.channel_ready_future(channel).result(timeout=ANSWER)
    except grpc.FutureTimeoutError:
        if count:
            return {"trials": count}  # the chief has ended while this worker began anew
        raise UserError(no_chief(where)) from None
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # the trial's MLflow run is closed
    os.environ["KERASTUNER_ORACLE_IP"] = host
    os.environ["KERASTUNER_ORACLE_PORT"] = str(port)
    name = os.environ.setdefault("KERASTUNER_TUNER_ID", f"{socket.gethostname()}-{os.getpid()}")
    oracle_client.TIMEOUT = SILENCE  # KerasTuner waits an hour for a chief that is gone
    oracle = oracle_client.OracleClient(None)
    try:
        definition = json.loads(oracle.get_space().space[0].value)
        trainer = _trainer(app, definition, data_name)
        with _Heartbeat(oracle) as heartbeat:
            run = trainer.run

            def counted(trial):
                nonlocal count
                count += 1
                heartbeat.trial_id = trial.trial_id
                try:
                    return run(trial)
                finally:
                    heartbeat.trial_id = None

            trainer.run = counted
            run_trials(oracle, trainer, name, definition["objective"])
    except Grown:
        os.environ[RENEWED] = str(count)
        raise
    except grpc.RpcError as error:
        raise UserError(f"--join {where}: the chief is gone ({error.code().name}); start it again with its own command") from None
    return {"trials": count}


def _trainer(app, definition, data_name):
    """What trains here as the chief's own process would, checked to be on the same data."""
    task, running = task_name(app), describe_machine()["backend"]
    for what, here, there in (("task", task, definition["task"]), ("backend", running, definition["backend"])):
        if here != there:
            raise UserError(f"--join: the chief searches for {what} {there}, not {here}; give that one")
    fixed = {name: tuple(value) if isinstance(value, list) else value for name, value in definition["fixed"].items()}
    if data_name is not None:
        fixed["data"] = data_name
    only = tuple(dict.fromkeys(name.partition(".")[0] for name, _ in definition["space"]))
    space = Space(app.Config, fixed, only)
    config = space.check()
    backend.configure(deterministic=config.compile != "on")
    folder = Path(definition["folder"])
    if not folder.is_dir():  # another machine, or another folder of this one
        folder = ROOT / "searches" / folder.name
    trainer = Trainer(app, space, folder, epochs=definition["epochs"], parent=definition["parent"], tags=definition["tags"])
    if fingerprint(trainer.data.get(config)) != definition["data_fingerprint"]:
        raise UserError(f"--data {config.data or 'default'}: not the data the chief has (their digests differ); give the same")
    return trainer


class _Heartbeat:
    """A thread that tells the chief that this worker lives, and ends it when the chief is gone."""

    def __init__(self, oracle):
        self.oracle = oracle
        self.trial_id = None
        self.done = threading.Event()
        self.chief = int(os.environ.get("TRIPTYCH_CHIEF_PID", 0))

    def __enter__(self):
        threading.Thread(target=self._beat, daemon=True).start()
        return self

    def __exit__(self, *error):
        self.done.set()

    def _beat(self):
        silent_since = None
        while not self.done.wait(BEAT):
            if self.chief and os.getppid() != self.chief:
                os._exit(3)  # a worker of this machine does not outlive its chief
            if self.trial_id is None:
                continue
            try:
                request = protos.get_service().GetTrialRequest(trial_id=self.trial_id)
                self.oracle.stub.GetTrial(request, timeout=ANSWER)
                silent_since = None
            except grpc.RpcError:
                silent_since = silent_since or time.monotonic()
                if time.monotonic() - silent_since > SILENCE:
                    print("the chief is gone; this worker ends", file=sys.stderr, flush=True)
                    os._exit(3)
