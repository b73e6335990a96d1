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
        exports_torch: The same in torch's own format, of a model that can be written as ONNX.
        predict_options: Further options of `predict`.
    """

    write: Callable
    options: tuple
    inputs: tuple
    rows: int | None = None
    search: str = "learning_rate"
    exports: bool | str = True
    exports_torch: bool | str = True
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


def write_reviews(folder, count=60):
    """Texts of two classes, with a quote, a comma, an emoji and another script; a few are long and have batches of their own."""
    generator = np.random.default_rng(4)
    words = {"good": ["fine", "lovely", "\"great\"", "😀"], "bad": ["dull, dull", "poor", "עצוב", "slow"]}
    with open(folder / "reviews.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for index in range(count):
            label = ("good", "bad")[index % 2]
            said = " and ".join(generator.choice(words[label], 150 if index % 20 < 2 else generator.integers(1, 4)))
            rows.writerow([f"number {index} was {said}", label])


def write_graph(folder):
    """Two groups of nodes, each densely linked within itself."""
    generator = np.random.default_rng(2)
    labels = np.repeat([0, 1], 15)
    near = labels[:, None] == labels
    source, target = np.nonzero(np.triu(generator.random((30, 30)) < np.where(near, 0.4, 0.03), 1))
    features = generator.normal(size=(30, 4)) + labels[:, None]
    np.savez(folder / "groups.npz", features=features.astype("float32"), labels=labels, edges=np.stack([source, target]))


def write_boxes(folder, count=24, size=32):
    """Pictures of bright and dark squares on noise with PASCAL VOC annotations, one a picture."""
    generator = np.random.default_rng(3)
    (folder / "squares").mkdir()
    for index in range(count):
        pixels = generator.integers(100, 140, (size, size, 3), dtype=np.uint8)
        left, top, side = *generator.integers(0, size // 2, 2), size // 2
        pixels[top : top + side, left : left + side] = 250 if index % 2 else 10
        Image.fromarray(pixels).save(folder / "squares" / f"{index}.png")
        corners = zip(("xmin", "ymin", "xmax", "ymax"), (left, top, left + side, top + side), strict=True)
        box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
        thing = f"<object><name>{('dark', 'bright')[index % 2]}</name><bndbox>{box}</bndbox></object>"
        content = f"<annotation><filename>{index}.png</filename>{thing}</annotation>"
        (folder / "squares" / f"{index}.xml").write_text(content)
def write_masks(folder, count=20, size=16):
    """Drawings of shapes and their masks, of labels."""
    from apps.common.data.images.drawn_masks import draw_shapes

    for name in ("images", "masks"):
        (folder / "shapes" / name).mkdir(parents=True)
    for number, (picture, mask) in enumerate(zip(*draw_shapes(count, size, 0), strict=True)):
        Image.fromarray(picture).save(folder / "shapes" / "images" / f"{number}.png")
        Image.fromarray(mask).save(folder / "shapes" / "masks" / f"{number}.png")


def write_drive(folder, count=30):
    """A log without a header, as the simulator writes it, and pictures of a drawn road."""
    from apps.common.data.images.driving import draw_drive

    drive = draw_drive(count, (20, 40), 0)
    (folder / "drive" / "IMG").mkdir(parents=True)
    with open(folder / "drive" / "driving_log.csv", "w", newline="") as file:
        rows = csv.writer(file)
        for number, (picture, angle) in enumerate(zip(drive.images, drive.angles, strict=True)):
            Image.fromarray(picture).save(folder / "drive" / "IMG" / f"center_{number}.png")
            rows.writerow([f"C:\\track\\IMG\\center_{number}.png", "left.png", "right.png", f"{angle:.4f}", 0.5, 0, 20])
def write_coloured_pictures(folder, count=5, size=40):
    """Coloured pictures with edges: two sine waves a picture, each of its own."""
    generator = np.random.default_rng(3)
    (folder / "coloured").mkdir()
    y, x = np.mgrid[0:size, 0 : size + 8] / 3.0
    for number in range(count):
        waves = [np.sin(a * x + b * y) > 0 for a, b in generator.uniform(-1, 1, (3, 2))]
        Image.fromarray((np.stack(waves, -1) * 200 + 20).astype("uint8")).save(folder / "coloured" / f"{number}.png")


def write_lines(folder, name, rows):
    """A JSONL file of these rows."""
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_tagged(folder):
    """Sentences in CoNLL's columns: who goes where, the names of a few letters."""
    lines = []
    for index in range(60):
        person, place = ("Ann", "Bob", "Eve")[index % 3], ("Oslo", "Rome")[index % 2]
        lines += [f"{person}\tB-person", "went\tO", *["very\tO"] * (index % 4), "to\tO", f"{place}\tB-place", ".\tO", ""]
    (folder / "sentences.conll").write_text("\n".join(lines))


def write_asked_stories(folder):
    """Two sentences and a question about the place of one of two people, as in bAbI's first task."""
    lines = []
    for index in range(60):
        places = ("kitchen", "garden") if index % 2 else ("garden", "kitchen")
        lines += [f"1 Ann went to the {places[0]}.", f"2 Bob went to the {places[1]}."]
        lines.append(f"3 Where is Ann?\t{places[0]}\t1" if index % 3 else f"3 Where is Bob?\t{places[1]}\t2")
    (folder / "stories.txt").write_text("\n".join(lines))


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


def write_captioned(folder):
    """Pictures of one colour and the word for it, in rows of a CSV."""
    (folder / "colours").mkdir()
    lines = ["image,text"]
    for number in range(40):
        name, level = (("dark", 40), ("light", 210))[number % 2]
        Image.new("RGB", (8, 8), (level, level, level - number)).save(folder / "colours" / f"{number}.png")
        lines.append(f"{number}.png,a {name} picture")
    (folder / "colours" / "pairs.csv").write_text("\n".join(lines))


APP_CASES = {
    "driving": AppCase(
        write_drive,
        ("--data", "drive", "--image-size", "20,40", "--width", "4", "--epochs", "3", "--batch-size", "8"),
        ("drive/IMG/center_0.png", "drive/IMG/center_29.png"),
    ),
    "autoencoding": AppCase(
        write_pictures,
        ("--data", "pictures", "--latent-dim", "3", "--width", "4", "--epochs", "3", "--batch-size", "8"),
        ("pictures/dark/0.png", "pictures/light/0.png"),
        predict_options=("--folder", "again"),
    ),
    "contrastive": AppCase(
        write_pictures,
        ("--data", "pictures", "--projection-dim", "4", "--epochs", "3", "--batch-size", "8", "--probe-share", "0.3"),
        ("pictures/dark/0.png", "pictures/light/0.png"),
    ),
    "graph": AppCase(
        write_graph,
        ("--data", "groups.npz", "--epochs", "3", "--checkpoint-every", "1", "--hidden-dim", "4"),
        ("0", "29"),
        exports_torch="the number of rows is fixed by sums over edges",
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
    "image-text": AppCase(
        write_captioned,
        ("--data", "colours/pairs.csv", "--image-size", "8", "--width", "8", "--embedding-dim", "4", "--epochs", "2",
         "--batch-size", "8"),
        ("colours/0.png", "colours/1.png"),
        exports="two towers have two outputs",
        predict_options=("--prompts", "a dark picture,a light picture"),
    ),
    "masked-language": AppCase(
        write_words,
        ("--data", "words.txt", "--level", "word", "--max-tokens", "8", "--width", "8", "--depth", "1", "--num-heads", "2",
         "--epochs", "2", "--batch-size", "4"),
        ("to be or [MASK] to be", "that [MASK] the [MASK]", "no gap"),
    ),
    "object-detection": AppCase(
        write_boxes,
        ("--data", "squares", "--image-size", "32", "--width", "4", "--levels", "2", "--epochs", "2", "--batch-size", "8"),
        ("squares/0.png", "squares/1.png"),
        predict_options=("--folder", "drawn", "--threshold", "0.02"),
    ),
    "segmentation": AppCase(
        write_masks,
        ("--data", "shapes", "--width", "4", "--depth", "1", "--epochs", "3", "--batch-size", "8", "--flip", "yes"),
        ("shapes/images/0.png", "shapes/images/1.png"),
        predict_options=("--folder", "drawn"),
    ),
    "style-transfer": AppCase(
        write_coloured_pictures,
        ("--data", "coloured", "--style", "coloured/4.png", "--epochs", "2", "--batch-size", "4", "--patches", "8",
         "--features", "random", "--width", "2", "--depth", "1",
         "--image-size", "16", "--picture-size", "32", "--optimised-steps", "2"),
        ("coloured/0.png", "coloured/1.png"),
        predict_options=("--folder", "restyled"),
    ),
    "super-resolution": AppCase(
        write_coloured_pictures,
        ("--data", "coloured", "--model", "espcn", "--width", "4", "--factor", "2", "--epochs", "2", "--batch-size", "4",
         "--patches", "8", "--patch-size", "6"),
        ("coloured/0.png", "coloured/1.png"),
        predict_options=("--folder", "enlarged"),
    ),
    "question-answering": AppCase(
        write_asked_stories,
        ("--data", "stories.txt", "--width", "8", "--hops", "1", "--epochs", "3", "--batch-size", "16"),
        ("context=Ann went to the garden.", "question=Where is Ann?"),
        rows=1,
    ),
    "summarization": AppCase(
        write_stories,
        ("--data", "stories.jsonl", "--width", "8", "--units", "8", "--vocabulary", "20", "--copied", "3", "--epochs", "2",
         "--batch-size", "8", "--target-length", "8", "--cell", "gru", "--beam-width", "2"),
        ("Ann went to town. Ann bought a boat.", "Bob"),
        exports_torch="the number of rows is fixed by the places that are copied from",
        predict_options=("--beam-width", "2"),
    ),
    "tabular": AppCase(
        write_houses,
        ("--data", "houses.csv", "--epochs", "3", "--batch-size", "16", "--hidden-dims", "8"),
        ("houses.csv",),
        rows=60,
    ),
    "text-classification": AppCase(
        write_reviews,
        ("--data", "reviews.csv", "--width", "8", "--filters", "4", "--epochs", "3", "--batch-size", "8"),
        ("a lovely and fine day", "dull"),
    ),
    "tagging": AppCase(
        write_tagged,
        ("--data", "sentences.conll", "--width", "8", "--epochs", "3", "--batch-size", "16"),
        ("Eve went to Rome.", "It rained."),
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
