"""Every app, one entry each: tiny data, options and inputs to predict with.

`tests/test_contract.py` takes each entry through training, kill and resume, evaluation, prediction, export, a search of two
trials, half precision and its help. A new app adds one entry to `APP_CASES`.
"""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image


@dataclass(frozen=True)
class AppCase:
    """One app at its smallest.

    Args:
        write: Function of a folder that writes the data there, and the files to predict with.
        options: Of `triptych train`, two or three epochs of a small network.
        inputs: Words of `triptych predict` after MODEL, one row of the answer each.
        rows: Rows that `predict` gives for them; as many as there are inputs by default.
        search: Options that two trials search, comma-separated.
        exports: Whether the model can be written as ONNX; a reason in words where it cannot.
        predict_options: Further options of `predict`.
    """

    write: Callable
    options: tuple
    inputs: tuple
    rows: int | None = None
    search: str = "learning_rate"
    exports: bool | str = True
    predict_options: tuple = ()


def write_pictures(folder, names=("dark", "light"), count=20, size=8):
    """Noisy grey pictures, each class of a brightness of its own, in a folder a class."""
    generator = np.random.default_rng(0)
    for index, name in enumerate(names):
        level = 60 + 130 * index // max(1, len(names) - 1)
        (folder / "pictures" / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(level - 40, level + 40, (size, size), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / "pictures" / name / f"{number}.png")


def write_houses(folder, count=60):
    """A table with numbers, text and a missing value, whose price follows from the others."""
    generator = np.random.default_rng(1)
    with open(folder / "houses.csv", "w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["size", "town", "price"])
        for index in range(count):
            size, town = generator.uniform(30, 150), ["north", "south"][index % 2]
            rows.writerow(["" if index == 7 else f"{size:.1f}", town, f"{2.5 * size + 40 * (index % 2):.2f}"])


def write_words(folder):
    (folder / "words.txt").write_text("to be or not to be, that is the question " * 20)


def write_graph(folder):
    """Two groups of nodes, each densely linked within itself."""
    generator = np.random.default_rng(2)
    labels = np.repeat([0, 1], 15)
    near = labels[:, None] == labels
    source, target = np.nonzero(np.triu(generator.random((30, 30)) < np.where(near, 0.4, 0.03), 1))
    features = generator.normal(size=(30, 4)) + labels[:, None]
    np.savez(folder / "groups.npz", features=features.astype("float32"), labels=labels, edges=np.stack([source, target]))


def write_lines(folder, name, rows):
    """A JSONL file of these rows."""
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_stories(folder):
    """Short texts and their summaries, some of which have two."""
    texts = [f"{name} went to town. It was cold. {name} bought a {thing}." for name in ("Ann", "Bob") for thing in ("hat", "pie")]
    rows = [{"text": text, "summary": [text.split(". ")[2], text[:8]][: 1 + index % 2]} for index, text in enumerate(texts)]
    write_lines(folder, "stories.jsonl", rows * 6)


def write_phrases(folder):
    """Two parallel files, a line each."""
    words = {"one": "eins", "two": "zwei", "red": "rot", "dog": "hund"}
    phrases = [(first, second, third) for first in words for second in words for third in words][:48]
    (folder / "phrases").mkdir()
    (folder / "phrases" / "train.en").write_text("".join(" ".join(each) + "\n" for each in phrases))
    (folder / "phrases" / "train.de").write_text("".join(" ".join(map(words.get, each)) + "\n" for each in phrases))


APP_CASES = {
    "graph": AppCase(
        write_graph,
        ("--data", "groups.npz", "--epochs", "3", "--checkpoint-every", "1", "--hidden-dim", "4"),
        ("0", "29"),
    ),
    "image-classification": AppCase(
        write_pictures,
        ("--data", "pictures", "--model", "mlp", "--hidden-dims", "8", "--epochs", "3", "--batch-size", "8"),
        ("pictures/dark/0.png", "pictures/light/0.png"),
    ),
    "image-generation": AppCase(
        write_pictures,
        ("--data", "pictures", "--model", "cvae", "--width", "4", "--latent-dim", "3", "--epochs", "2", "--batch-size", "8"),
        ("dark", "any"),
        predict_options=("--seeds", "0", "--folder", "drawn"),
    ),
    "summarization": AppCase(
        write_stories,
        ("--data", "stories.jsonl", "--width", "8", "--units", "8", "--vocabulary", "20", "--copied", "3", "--epochs", "2",
         "--batch-size", "8", "--target-length", "8", "--cell", "gru", "--beam-width", "2"),
        ("Ann went to town. Ann bought a boat.", "Bob"),
        predict_options=("--beam-width", "2"),
    ),
    "tabular": AppCase(
        write_houses,
        ("--data", "houses.csv", "--epochs", "3", "--batch-size", "16", "--hidden-dims", "8"),
        ("houses.csv",),
        rows=60,
    ),
    "text-generation": AppCase(
        write_words,
        ("--data", "words.txt", "--block-size", "8", "--width", "16", "--depth", "1", "--steps", "4", "--epochs", "2",
         "--batch-size", "4"),
        ("to be", "or"),
        predict_options=("--length", "5"),
    ),
    "translation": AppCase(
        write_phrases,
        ("--data", "phrases", "--source-language", "en", "--width", "8", "--epochs", "2", "--batch-size", "8",
         "--tokens", "words", "--beam-width", "2", "--max-length", "6"),
        ("two red dog", "one"),
        predict_options=("--beam-width", "2"),
    ),
}  # fmt: skip
