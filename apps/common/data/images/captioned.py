"""Pictures with captions: from a CSV or JSONL of picture and text, or drawn, "a red circle left of a blue square"."""

import csv
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np

from apps.common.data.images.labelled import read_images
from apps.common.errors import UserError, count_skipped

PICTURES, TEXTS = ("image", "path", "file", "filename", "file_name", "picture"), ("text", "caption", "captions", "prompt")
COLORS = {"red": (220, 40, 40), "green": (40, 170, 60), "blue": (50, 80, 220)}
SHAPES = ("circle", "square", "triangle")
RELATIONS = ("left of", "above")
PADDING, UNKNOWN = 0, 1


def words_of(text):
    """The words of a caption, small letters."""
    return re.findall(r"\w+", text.lower())


def vocabulary_of(captions):
    """The words of some captions in the order of the alphabet; ids begin at 2."""
    return sorted({word for text in captions for word in words_of(text)})


def encode(captions, vocabulary, length):
    """Ids `(captions, length)`, 0 behind the end, 1 for a word that is not known; longer captions are cut."""
    position = {word: index for index, word in enumerate(vocabulary, 2)}
    ids = np.full((len(captions), length), PADDING, "int32")
    for row, text in enumerate(captions):
        found = [position.get(word, UNKNOWN) for word in words_of(text)][:length]
        ids[row, : len(found)] = found
    return ids


def unknown_words(text, vocabulary):
    """The words of a prompt that the model has never seen."""
    return [word for word in words_of(text) if word not in set(vocabulary)]


def read_captioned(path, image_size):
    """`(pictures uint8, captions, notes)` of a CSV, TSV or JSONL file whose rows name a picture and its text.

    Raises:
        UserError: No such columns, or too many pictures that cannot be read or have no caption.
    """
    path = Path(path)
    rows, picture, text = picture_rows(path, TEXTS)
    side = image_size or 32
    told = [row for row in rows if words_of(row[text])]
    missing = [f"{row[picture]} (no caption)" for row in rows if not words_of(row[text])]
    images, reasons = read_images([path.parent / row[picture] for row in told], (side, side, 3))
    skipped = [f"{row[picture]} ({reason})" for row, reason in zip(told, reasons, strict=True) if reason]
    notes = [count_skipped(missing, len(rows), "captions"), count_skipped(skipped, len(rows), "pictures")]
    captions = [row[text] for row, reason in zip(told, reasons, strict=True) if not reason]
    return images, captions, [f"pictures made {side} x {side}", *filter(None, notes)]


def picture_rows(path, texts):
    """`(rows, picture column, text column)` of a CSV, TSV or JSONL file, every cell a text.

    Args:
        path: The file.
        texts: Names that the column of the text may have.
    Raises:
        UserError: No rows, a line that is not JSON, or no such columns.
    """
    rows = [{str(name): "" if cell is None else str(cell) for name, cell in row.items()} for row in _rows(path)]
    if not rows:
        raise UserError(f"{path}: empty; expected rows of a picture and its {texts[0]}")
    picture, text = (next((name for name in names if name in rows[0]), None) for names in (PICTURES, texts))
    if picture is None or text is None:
        wanted = f"a column {' or '.join(PICTURES[:3])} and one {' or '.join(texts[:2])}"
        raise UserError(f"{path}: expected {wanted}. Received: {', '.join(rows[0])}")
    short = next((number for number, row in enumerate(rows, 1) if picture not in row or text not in row), None)
    if short:
        raise UserError(f"{path}: row {short} has no {picture} or no {text}; give each row both")
    return rows, picture, text


def _rows(path):
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            if path.suffix.lower() in (".csv", ".tsv"):
                yield from csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
                return
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield _object(line, f"{path}: line {number}")
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 text") from None


def _object(line, where):
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UserError(f"{where}: not JSON ({error}); expected an object a line") from None
    if not isinstance(row, dict):
        raise UserError(f"{where}: expected an object, such as {{\"image\": ..., \"text\": ...}}. Received: {line[:40].strip()}")
    return row


def said_twice(captions):
    """A line that counts the captions which stand more than once and names the commonest; nothing where all differ."""
    common, count = Counter(captions).most_common(1)[0]
    repeated = len(captions) - len(set(captions))
    return f"{repeated} captions repeat another, most often {common!r} ({count} times)" if repeated else ""


def draw_captioned(count, side, seed, pairs=True):
    """Drawn shapes and their captions: one of nine, or two of them side by side or one above the other.

    Args:
        count: Pictures.
        side: Pixels a side.
        seed: Of the drawing.
        pairs: Whether there are pictures of two shapes.
    Returns: `(uint8 (count, side, side, 3), captions)`.
    """
    generator = np.random.default_rng([seed, 60])
    images, captions = np.full((count, side, side, 3), 245, np.uint8), []
    kinds = [(color, shape) for color in COLORS for shape in SHAPES]
    for image in images:
        first, second = (kinds[index] for index in generator.choice(len(kinds), 2, replace=False))
        caption = f"a {first[0]} {first[1]}"
        if not pairs or generator.random() < 0.4:
            _draw(image, first, generator.uniform(0.35, 0.65, 2) * side, generator.uniform(0.18, 0.28) * side)
        else:
            relation, near = RELATIONS[generator.integers(2)], generator.uniform(0.24, 0.3)
            along = np.array([near, 1 - near]) * side
            across = generator.uniform(0.35, 0.65, 2) * side
            places = list(zip(along, across, strict=True)) if relation == "above" else list(zip(across, along, strict=True))
            for kind, place in zip((first, second), places, strict=True):
                _draw(image, kind, np.array(place), 0.17 * side)
            caption = f"{caption} {relation} a {second[0]} {second[1]}"
        captions.append(caption)
    return images, captions


def _draw(image, kind, centre, radius):
    color, shape = kind
    rows, columns = np.mgrid[: len(image), : len(image)] + 0.5
    y, x = rows - centre[0], columns - centre[1]
    if shape == "circle":
        inside = y**2 + x**2 <= radius**2
    elif shape == "square":
        inside = np.maximum(abs(y), abs(x)) <= 0.9 * radius
    else:
        inside = (y <= 0.8 * radius) & (y >= 2.2 * abs(x) - radius)
    image[inside] = COLORS[color]
