"""The machine around a run: full disks, folders that may not be written, odd names, ports in use, changed data."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from bench.faults.common import TRAIN, Lost, expect, run_folder, wait_for_checkpoint
from bench.faults.resume import finish
from bench.faults.server import HOUSE


@contextlib.contextmanager
def small_disk(folder, size):
    """A tmpfs of so many bytes over an empty folder, where this process may mount one; yields whether it is there."""
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "triptych-faults", str(folder)], capture_output=True, check=False
    )
    try:
        yield done.returncode == 0
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def full_disk(place, number):
    """The disk fills up in the run: one line, nothing half-written; with room again it goes on to the very same weights."""
    folder = place.folder(store=False)
    generator = np.random.default_rng(number)
    with small_disk(folder, "24m") as mounted:
        shutil.copytree(place.empty_store() / "mlruns", folder / "mlruns")
        if not mounted:
            limit = int(generator.integers(20_000, 120_000))
            ended = place.run(limit, *TRAIN, cwd=folder, call="bench.faults.inside:with_small_files", code=None)
        else:
            free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize
            filler, left = folder / "filler", int(generator.integers(40_000, 700_000))
            filler.write_bytes(bytes(max(0, free - left)))
            ended = place.run(*TRAIN, cwd=folder, code=None)
            filler.unlink()
        lines = ended.err.strip().splitlines()
        expect(ended.code == 2, f"exit code {ended.code}: {lines[-1][:200] if lines else ''}")
        expect("space" in lines[-1] or "too large" in lines[-1], f"the line does not say why: {lines[-1][:200]}")
        finish(place, folder)
    return "tmpfs" if mounted else "RLIMIT_FSIZE"


def read_only_folder(place, number):
    """A folder that may not be written: one line before anything is trained."""
    folder = place.folder(store=False)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m,ro", "triptych-faults", str(folder)], check=False)
    if done.returncode:
        if os.getuid() == 0:
            raise Lost("neither a mount nor a user whom a mode keeps out: nothing can be said")
        folder.chmod(0o500)
    try:
        ended = place.run("train", "tabular", "--epochs", 1, cwd=folder, code=2)
        expect("mlruns" in ended.err.strip().splitlines()[-1], "the line does not name the folder")
    finally:
        if done.returncode == 0:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def odd_names(place, number):
    """Spaces, quotes and other scripts in the names of folders and columns."""
    folder = place.folder() / ("Ünïcode 数据 & 'more' #%20", " two  spaces ", "-x;$(touch y)")[number % 3]
    folder.mkdir()
    rows = "\n".join(f"{i % 7},{i % 3 + i / 100},{'äß'[i % 2]}" for i in range(60))
    (folder / "mes données.csv").write_text("größe (cm),数,étiquette\n" + rows + "\n", encoding="utf-8")
    place.run("train", "tabular", "--data", "mes données.csv", "--epochs", 1, cwd=folder)
    ended = place.run("predict", run_folder(folder) / "bundle", "größe (cm)=3", "数=1.5", "--json", cwd=folder)
    expect(json.loads(ended.out)["predictions"][0]["étiquette" if "étiquette" in ended.out else "class"] in "äß", ended.out[:200])


def changed_data(place, number):
    """One value of the data changes between a kill and the resume: refused in one line."""
    folder = place.folder()
    lines = [f"{i % 7},{i % 3 + i / 100},{'ab'[i % 2]}" for i in range(90)]
    (folder / "data.csv").write_text("u,v,y\n" + "\n".join(lines) + "\n")
    run = place.start("train", "tabular", "--data", "data.csv", "--epochs", 5000, cwd=folder)
    wait_for_checkpoint(folder, run.over)
    run.kill()
    run.wait()
    for row in range(number % 3, 90, 3):  # wherever the split puts them, some are trained on
        lines[row] = lines[row].replace(",a", ",b")
    (folder / "data.csv").write_text("u,v,y\n" + "\n".join(lines) + "\n")
    ended = place.run("train", "tabular", "--data", "data.csv", "--epochs", 5000, "--resume", "last", cwd=folder, code=2)
    expect("the data have changed" in ended.err, "the change was not seen")


def port_in_use(place, number):
    """`ui` on a port that is taken: one line."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = place.run("ui", "--port", port, cwd=place.folder(store=False), code=2)
    expect(str(port) in ended.err, "the line does not name the port")


def stopped_early(place, number):
    """SIGTERM while Python and Keras are still being imported, in a process of its own: exit code 143, or the signal's."""
    folder = place.folder(store=False)
    environment = {**os.environ, "PYTHONPATH": str(HOUSE), "KERAS_BACKEND": place.backend}
    code = "import triptych; print('open', flush=True); raise SystemExit(triptych.main())"
    child = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, TRAIN)], cwd=folder, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    child.stdout.readline()
    time.sleep(np.random.default_rng(number).uniform(0.05, 1.5))
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=120)
    expect(child.returncode == 143, f"exit code {child.returncode}: {err.strip()[-200:]}")
    expect("Traceback" not in err, "a traceback")
    expect(not list(Path(folder).rglob("*.tmp")), "half-written files are left")


