"""Data that are damaged, mean harm or are enormous: refused in one line before a run is opened, memory bounded."""

import gzip
import io
import struct
import tarfile
import zipfile
import zlib

import numpy as np
from PIL import Image

from bench.faults.common import expect
from bench.faults.models import MARK, MEGABYTES, _Pickled


def png(size=(8, 8)):
    held = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype="uint8")).save(held, "PNG")
    return held.getvalue()


def declared_png(width, height):
    """The header of an image of this size, and a few bytes."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")


def class_folders(root, bad):
    """Two classes of four images; the first of each class is this content."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for index in range(4):
            (root / name / f"{index}.png").write_bytes(png() if index else bad)


def images(bad):
    return "image-classification", lambda path: class_folders(path, bad), ""


def table(content):
    return "tabular", lambda path: path.write_bytes(content), ".csv"


def archive(ending, write):
    return "image-classification", write, ending


def tar_with(*members):
    def write(path):
        with tarfile.open(path, "w:gz") as made:
            for member, content in members:
                member.size = len(content)
                made.addfile(member, io.BytesIO(content))

    return write


def link(name, target):
    member = tarfile.TarInfo(name)
    member.type = tarfile.SYMTYPE
    member.linkname = target
    return member


def declared_tar(path):
    member = tarfile.TarInfo("cat/0.png")
    member.size = 10**15
    with gzip.open(path, "wb") as file:
        file.write(member.tobuf())


def zip_with(members):
    def write(path):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, content in members.items():
                made.writestr(name, content)

    return write


def zip_of_zeros(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made, made.open("cat/0.png", "w", force_zip64=True) as member:
        for _ in range(40):
            member.write(bytes(10_000_000))


def npz(**arrays):
    def write(path):
        np.savez(path, **arrays)

    return write


def npz_declaring(name, shape, **arrays):
    """An .npz one of whose arrays declares a shape it does not hold."""

    def write(path):
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
        held = io.BytesIO()
        np.savez(held, **arrays)
        with zipfile.ZipFile(held) as old, zipfile.ZipFile(path, "w") as new:
            for member in old.namelist():
                if member != f"{name}.npy":
                    new.writestr(member, old.read(member))
            new.writestr(f"{name}.npy", header.getvalue())

    return write


def linked_images(path):
    """Images that are links to a file of the system."""
    class_folders(path, png())
    for image in path.rglob("*.png"):
        image.unlink()
        image.symlink_to("/etc/passwd")


def manifest(path):
    """A CSV that names files of the system as images."""
    path.write_text("path,label\n" + "/etc/passwd,a\n../../../etc/passwd,b\n" * 4)


def text(content):
    return "text-generation", lambda path: path.write_bytes(content), ".txt"


GRAPH = {"features": np.ones((6, 2), "float32"), "labels": np.array([0, 0, 0, 1, 1, 1]), "edges": np.array([[0, 1], [1, 2]])}
EVIL = np.array([_Pickled()], dtype=object)
HOSTILE = {
    "images cut short": images(png((64, 64))[:-40]),
    "images of no bytes": images(b""),
    "text called .png": images(b"no image"),
    "images that declare 100,000 x 100,000": images(declared_png(100_000, 100_000)),
    "EPS called .png": images(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(" + MARK.encode() + b") (w) file\n"),
    "images that are links to /etc/passwd": ("image-classification", linked_images, ""),
    "manifest that names /etc/passwd": ("image-classification", manifest, ".csv"),
    "text of no bytes": text(b""),
    "text of NUL bytes": text(bytes(5000)),
    "text that is no UTF-8": text(b"words \xff\xfe " * 500),
    "CSV of no bytes": table(b""),
    "CSV with other numbers of cells": table(b"a,b,y\n" + b"1,2,x\n1,2,z,4,5\n" * 20),
    "CSV of NUL bytes": table(b"a,b,y\n" + bytes(5000)),
    "CSV that is a line of 200 MB": table(b"a" * 200_000_000),
    "CSV of 20,000 columns": table((b"1," * 20_000 + b"x\n") * 3),
    "CSV with an open quote": table(b'a,b,y\n1,"2,x\n' + b"1,2,x\n" * 50_000),
    "Parquet cut short": ("tabular", lambda path: path.write_bytes(b"PAR1" + bytes(500)), ".parquet"),
    "IDX that declares 10^12 pixels": (
        "image-classification",
        lambda path: (
            path.mkdir(),
            (path / "train-images-idx3-ubyte").write_bytes(struct.pack(">I3I", 0x803, 10**6, 1000, 1000) + bytes(99)),
            (path / "train-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 10**6) + bytes(99)),
        ),
        "",
    ),
    "NPZ with pickled objects": ("image-classification", npz(x_train=EVIL, y_train=np.zeros(1, int)), ".npz"),
    "NPZ that declares 10^14 numbers": (
        "image-classification", npz_declaring("x_train", (10**8, 1000, 1000), y_train=np.zeros(4, int)), ".npz"
    ),
    "graph with an edge to a node that is not there": (
        "graph", npz(**{**GRAPH, "edges": np.array([[0, 9], [1, 2]])}), ".npz"
    ),
    "graph with pickled features": ("graph", npz(**{**GRAPH, "features": EVIL}), ".npz"),
    "graph that declares 10^14 features": ("graph", npz_declaring("features", (10**8, 10**6), **GRAPH), ".npz"),
    "graph that is text": ("graph", lambda path: path.write_text("no graph"), ".npz"),
    "tar with a member called ../": archive(".tar.gz", tar_with((tarfile.TarInfo(f"../{MARK}"), b"x"))),
    "tar with a link to /etc/passwd": archive(".tar.gz", tar_with((link("cat/0.png", "/etc/passwd"), b""))),
    "tar that declares 10^15 bytes": archive(".tar.gz", declared_tar),
    "tar cut short": archive(".tar.gz", lambda path: path.write_bytes(gzip.compress(bytes(4000))[:20])),
    "zip with a member called ../": archive(".zip", zip_with({f"../{MARK}": b"x", "cat/0.png": b"x"})),
    "zip of an image of 400 MB of zeros": archive(".zip", zip_of_zeros),
    "zip that is text": archive(".zip", lambda path: path.write_text("no archive")),
}  # fmt: skip


def refused(name):
    """The fault of these data."""
    task, write, ending = HOSTILE[name]

    def fault(place, number):
        folder = place.folder(store=False)
        write(folder / f"data{ending}")
        before = set(folder.rglob("*"))
        ended = place.run("train", task, "--data", folder / f"data{ending}", "--epochs", 1, cwd=folder, code=2)
        written = [path.name for path in folder.rglob("*") if path not in before]
        expect(not written, f"files were written: {written[:3]}")
        lines = ended.err.strip().splitlines()
        expect(lines and lines[-1].startswith("triptych: "), "the last line is no error of ours")
        taken = place.beyond_idle(ended)
        expect(taken < MEGABYTES, f"it took {taken:.0f} MB")
        return f"{taken:.0f} MB"

    return fault
