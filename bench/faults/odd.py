"""Odd input that a person, a broken program or a bad wish leaves: refused in one line, or taken and what is done is said.

Each is a function of an empty folder that writes what it needs and returns the words of the command; tried on every backend,
since some of it is met only when a model is built.
"""

import gzip
import json
import os
import socket
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.faults.common import expect, run_folder
from bench.faults.inputs import GRAPH, class_folders, declared_png, png
from bench.faults.models import ROW, sign, write_honest

MEGABYTES, SECONDS = 900, 60


@dataclass(frozen=True)
class Odd:
    """What is written, and what must come of it.

    Args:
        write: Function of a folder that gives the words of the command.
        said: Words of the last line where it is refused, of any line where it is taken; "" for any.
        taken: Whether the command must do its work, or else refuse in one line.
        within: Seconds it may take.
    """

    write: object
    said: str = ""
    taken: bool = False
    within: float = SECONDS


def train(task, data, *more):
    return ("train", task, "--data", data, "--epochs", "1", *more)


def written(name, content, task="tabular", *more):
    """A file of this content and the command that trains on it."""

    def write(folder):
        (folder / name).write_bytes(content() if callable(content) else content)
        return train(task, name, *more)

    return write


def saved(name, task="graph", **arrays):
    def write(folder):
        np.savez(folder / name, **arrays)
        return train(task, name)

    return write


def fifo(folder):
    os.mkfifo(folder / "data.csv")
    return train("tabular", "data.csv")


def folder_of_text(folder):
    (folder / "data").mkdir()
    (folder / "data" / "notes.md").write_text("no table")
    return train("tabular", "data")


def gigabytes(folder):
    """Four gigabytes of rows in four megabytes: the same piece again and again."""
    piece = gzip.compress(b"1,2,3\n" * 10_000_000, 9)
    with open(folder / "data.csv.gz", "wb") as file:
        file.write(gzip.compress(b"a,b,y\n"))
        for _ in range(70):
            file.write(piece)
    return train("tabular", "data.csv.gz")


def parquet_times(folder):
    import pyarrow
    from pyarrow import parquet

    times = pyarrow.array([2**62, 5, 7] * 20, pyarrow.timestamp("ms"))
    parquet.write_table(pyarrow.table({"when": times, "y": ["a", "b", "a"] * 20}), folder / "data.parquet")
    return train("tabular", "data.parquet")


def edited_record(**changes):
    """A bundle whose `about` somebody has edited, with the checksums of what it holds now."""

    def write(folder):
        write_honest(folder / "bundle")
        path = folder / "bundle" / "bundle.json"
        record = json.loads(path.read_text())
        record["about"] |= {name: change(record["about"][name]) for name, change in changes.items()}
        path.write_text(json.dumps(record))
        sign(folder / "bundle")
        return ("predict", "bundle", *ROW)

    return write


def short_record(folder):
    run = folder / "mlruns" / "runs" / "0123456789abcdef0123456789abcdef"
    run.mkdir(parents=True)
    (run / "run.json").write_text('{"task": "tabular", "opti')
    return ("train", "tabular", "--epochs", "1", "--resume", "0123456789abcdef0123456789abcdef")


def undecodable_class(folder):
    class_folders(folder / "data", png())
    os.rename(os.fsencode(folder / "data" / "cat"), os.fsencode(folder / "data") + b"/caf\xe9")
    return train("image-classification", "data")


def deep_pixels(mode, ending, largest):
    """Pictures whose values go up to 12 bits, in files that hold more."""

    def write(folder):
        draw = np.random.default_rng(0)
        for name, low in (("dark", 0), ("light", largest // 2)):
            (folder / "data" / name).mkdir(parents=True)
            for index in range(12):
                values = draw.integers(low, low + largest // 2, (12, 12)).astype("int32" if mode == "I" else "uint16")
                Image.fromarray(values).save(folder / "data" / name / f"{index}{ending}")
        # Black pictures would leave one in two wrong.
        return ("train", "image-classification", "--data", "data", "--epochs", "30", "--batch-size", "4")

    return write


def many_classes(folder):
    for number in range(2000):
        place = folder / "data" / f"class-{number:04d}"
        place.mkdir(parents=True)
        for index in range(2):
            Image.new("L", (8, 8), (number + index) % 256).save(place / f"{index}.png")
    return train("image-classification", "data")


def declared_pictures(folder):
    class_folders(folder / "data", png())
    for number in range(24):
        (folder / "data" / "cat" / f"big-{number}.png").write_bytes(declared_png(7000, 7000))
    return train("image-classification", "data")


def empty_files(folder):
    for name in ("cat", "dog"):
        (folder / "data" / name).mkdir(parents=True)
        for index in range(50_000):
            (folder / "data" / name / f"{index}.png").touch()
    return train("image-classification", "data")


def linked_folders(folder):
    """One class folder is a link to a folder elsewhere, another begins with two dots."""
    class_folders(folder / "data", png())
    class_folders(folder / "other", png())
    (folder / "data" / "linked").symlink_to(folder / "other" / "cat")
    os.rename(folder / "other" / "dog", folder / "data" / "..x")
    return train("image-classification", "data")


def many_edges(folder):
    """Two million edges: attention over all of them at once would take many gigabytes."""
    draw, nodes = np.random.default_rng(0), 100_000
    np.savez(
        folder / "data.npz", features=draw.normal(size=(nodes, 8)).astype("float32"), labels=draw.integers(0, 3, nodes),
        edges=draw.integers(0, nodes, (2_000_000, 2)),
    )  # fmt: skip
    return train("graph", "data.npz", "--model", "gat")


ZERO_DEVIATION = {"numeric": lambda columns: [{**column, "std": 0.0} for column in columns]}
ODD = {
    "--hidden-dims 1000000000": Odd(lambda folder: ("train", "tabular", "--hidden-dims", "1000000000"), "memory"),
    "/dev/zero as data": Odd(lambda folder: train("tabular", "/dev/zero"), "/dev/zero", within=20),
    "a FIFO as data": Odd(fifo, "data.csv", within=20),
    "a folder where a table is meant": Odd(folder_of_text, "no table"),
    "a CSV of a million columns": Odd(written("data.csv", lambda: b",".join([b"1"] * 1_000_000) + b"\n" + b"1," * 10), "columns"),
    "a gzip of 4 GB": Odd(gigabytes, "memory"),
    "Parquet times out of range": Odd(parquet_times, "when"),
    "~nosuchuser as data": Odd(lambda folder: train("tabular", "~nosuchuser/data.csv"), "nosuchuser", within=20),
    "a name of 5,000 characters": Odd(lambda folder: train("tabular", "n" * 5000), "path", within=20),
    "a graph with one number for labels": Odd(saved("data.npz", **{**GRAPH, "labels": np.array(3)}), "labels"),
    "a graph whose names have two columns": Odd(saved("data.npz", **GRAPH, names=np.array([["a", "b"]] * 6)), "names"),
    "labels of 1e300": Odd(
        written("data.csv", b"a,y\n" + b"".join(b"%d,%se300\n" % (n, b"1.5" if n % 2 else b"2") for n in range(60)))
    ),
    "a record whose about has other types": Odd(edited_record(numeric=lambda columns: "columns"), "bundle"),
    "a record with a deviation of zero": Odd(edited_record(**ZERO_DEVIATION), "bundle"),
    "a run.json cut short": Odd(short_record, "0123456789abcdef"),
    "a class folder that is not UTF-8": Odd(undecodable_class, taken=True),
    "32-bit integer TIFF pictures": Odd(deep_pixels("I", ".tif", 4096), taken=True),
    "12-bit values in 16-bit PNG pictures": Odd(deep_pixels("I;16", ".png", 4096), taken=True),
    "2,000 classes of two pictures": Odd(many_classes, taken=True, within=300),
    "24 PNG that declare 7000 x 7000": Odd(declared_pictures, "image"),
    "100,000 empty files": Odd(empty_files, "image", within=30),
    "a linked class folder and one named ..x": Odd(linked_folders, "ignored", taken=True),
    "a graph of two million edges under gat": Odd(many_edges, within=300),
}  # fmt: skip
# What may take more megabytes than the others: it is trained, and its report drawn.
LARGE = {"a graph of two million edges under gat": 10_000, "2,000 classes of two pictures": 1500}
EITHER = ("a graph of two million edges under gat",)  # trained, or refused where the machine cannot hold it


def met(name):
    """The fault of this odd input."""
    odd = ODD[name]

    def fault(place, number):
        folder = place.folder()
        ended = place.run(*odd.write(folder), cwd=folder, code=None)
        lines = ended.err.strip().splitlines()
        last = lines[-1] if lines else ""
        expect("Traceback" not in ended.err, f"a traceback: {last[:200]}")
        wanted = (0, 2) if name in EITHER else (0,) if odd.taken else (2,)
        expect(ended.code in wanted, f"exit code {ended.code}: {last[:200]}")
        if ended.code == 2:
            expect(last.startswith("triptych: "), f"the last line is no error of ours: {last[:200]}")
        where = ended.err if odd.taken else last
        expect(odd.said in where, f"{odd.said!r} is not said: {last[:200]}")
        expect(ended.seconds < odd.within, f"it took {ended.seconds:.0f} s")
        taken = place.beyond_idle(ended)
        expect(taken < LARGE.get(name, MEGABYTES), f"it took {taken:.0f} MB")
        if name.startswith(("32-bit", "12-bit")):
            metrics = json.loads((run_folder(folder) / "run.json").read_text())["result"]["metrics"]
            expect(metrics["accuracy"] > 0.9, f"accuracy {metrics['accuracy']:.2f}: the pictures were not seen")
        return f"{taken:.0f} MB"

    return fault


def malformed_message(place, number):
    """Bytes that are no message on the port of a search's chief: the search ends as it would have."""
    folder = place.folder()
    port = free_port()
    words = ("tune", "tabular", "--trials", 2, "--trial-epochs", 1, "--workers", 1, "--chief", f"127.0.0.1:{port}", "--no-final")
    run = place.start(*words, cwd=folder)
    deadline = time.monotonic() + 60
    while not run.over() and time.monotonic() < deadline:
        try:
            with socket.create_connection(("127.0.0.1", port), 0.2) as sent:
                sent.sendall(struct.pack(">I", 2**31 - 1) + os.urandom(200))
                sent.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + os.urandom(500))
        except OSError:
            time.sleep(0.05)
    ended = run.wait(120)
    expect(ended.code == 0, f"exit code {ended.code}: {(ended.err.strip().splitlines() or [''])[-1][:200]}")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def killed_predict(place, number):
    """`predict` is killed while it writes; the next command removes what it left."""
    folder = place.folder(store=False)
    write = subprocess.run(
        [sys.executable, "-c", "import sys; from pathlib import Path; from bench.faults.models import write_honest; "
         "write_honest(Path(sys.argv[1]))", str(folder / "bundle")],
        env={**os.environ, "KERAS_BACKEND": place.backend, "PYTHONPATH": str(Path(__file__).resolve().parents[2])}, check=False,
    )  # fmt: skip
    expect(write.returncode == 0, "no bundle to predict with")
    names = ",".join(word.partition("=")[0] for word in ROW)
    (folder / "rows.csv").write_text(names + "\n" + "5.1,3.5,1.4,0.2\n" * 100_000)
    run = place.start("predict", "bundle", "rows.csv", "--output", "answers.csv", cwd=folder)
    deadline = time.monotonic() + 60
    while not run.over() and time.monotonic() < deadline and not list(folder.glob(".*.tmp")):
        time.sleep(0.002)
    run.kill()
    run.wait()
    left = list(folder.glob(".*.tmp"))
    place.run("predict", "bundle", *ROW, "--output", "answers.csv", cwd=folder)
    expect(not list(folder.glob(".*.tmp")), f"{left[0].name if left else 'a file'} is still there")
    return "inside" if left else "just after"
