"""Pictures with captions: from a CSV or JSONL of picture and text, or drawn, "a red circle left of a blue square"."""

import csv
import re
from collections import Counter
from pathlib import Path

import numpy as np

from apps.common.data.examples import find_data, split_indices
from apps.common.data.fingerprint import row_digests
from apps.common.data.images.labelled import read_images
from apps.common.data.reading import PATH_COLUMNS, json_objects, split_of
from apps.common.errors import UserError, count_skipped

ENDINGS = (".csv", ".tsv", ".jsonl", ".ndjson")
TEXTS = ("text", "caption", "captions", "prompt")
CAPTIONS = "a CSV, TSV or JSONL of picture and caption, or its folder"  # what is expected, for a message
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


def unreadable(prompt, vocabulary, length):
    """Why a model of this vocabulary cannot take a text as it stands: more words than `length`, or none that it knows; or ""."""
    words, unknown = words_of(prompt), unknown_words(prompt, vocabulary)
    if unknown or not words:
        strange, known = ", ".join(unknown[:30]) or "none at all", ", ".join(vocabulary[:30])
        return f"words this model has never seen: {strange}. It knows: {known}"
    return f"{len(words)} words; this model reads {length} at most" if len(words) > length else ""


def partly_read(captions, vocabulary, length):
    """Lines that count the captions a model does not read as they stand: those of unknown words, and those that are too long."""
    texts, known = [words_of(text) for text in captions], set(vocabulary)
    strange = Counter(word for words in texts for word in dict.fromkeys(words) if word not in known)
    unknown = sum(not strange.keys().isdisjoint(words) for words in texts)
    cut = sum(len(words) > length for words in texts)
    lines = []
    if unknown:
        named, more = ", ".join(word for word, _ in strange.most_common(5)), ", ..." if len(strange) > 5 else ""
        lines.append(f"{unknown} of {len(texts)} captions have words that no training caption has: {named}{more}")
    if cut:
        lines.append(f"{cut} of {len(texts)} captions are read to their word {length}, the most that is trained on")
    return lines


def refuse_unreadable(prompt, vocabulary, length):
    """Refuses a text that a model of this vocabulary cannot take as it stands.

    Raises:
        UserError: It has more words than `length`, one that is not known, or none.
    """
    reason = unreadable(prompt, vocabulary, length)
    if reason:
        raise UserError(f"{prompt[:60]}: {reason}")


def caption_file(name):
    """The file of pictures and texts that `--data` names, or the only one in the folder it names; else `None`."""
    path = find_data(name)
    if path.is_file():
        return path if path.suffix.lower() in ENDINGS else None
    found = [each for each in sorted(path.iterdir()) if each.suffix.lower() in ENDINGS and each.is_file()]
    captioned = [each for each in found if _columns(next(_rows(each), {}))[1]]
    if len(captioned) > 1:
        raise UserError(f"{path}: several files of captions. Give one of {', '.join(each.name for each in captioned)}")
    return captioned[0] if captioned else None


def read_captioned(path, image_size):
    """`(pictures uint8, captions, split names, notes)` of a CSV, TSV or JSONL file whose rows name a picture and its text.

    The split of a pair is what the row's column `split` says, else train.

    A row that says what another one says counts once; one without a picture or a text is left out, counted and named.

    Raises:
        UserError: No such columns, or too many pictures that cannot be read or have no caption.
    """
    path = Path(path)
    rows, picture, text = picture_rows(path, TEXTS)
    side = image_size or 32
    found = len(rows)
    rows = [{**row, "split": split} for row, split in zip(rows, splits_of(path, rows), strict=True)]
    rows = list({(row[picture], row[text]): row for row in rows}.values())
    captioned = [row for row in rows if words_of(row[text])]
    missing = [f"{row[picture]} (no caption)" for row in rows if not words_of(row[text])]
    images, reasons = read_images([path.parent / row[picture] for row in captioned], (side, side, 3), what="pictures read")
    skipped = [f"{row[picture]} ({reason})" for row, reason in zip(captioned, reasons, strict=True) if reason]
    notes = [count_skipped(missing, len(rows), "captions"), count_skipped(skipped, len(rows), "pictures")]
    good = [row for row, reason in zip(captioned, reasons, strict=True) if not reason]
    if len(rows) < found:
        notes.append(f"{found - len(rows)} rows say what another row says and count once")
    notes = [f"pictures made {side} x {side}", *filter(None, notes)]
    return images, [row[text] for row in good], [row["split"] for row in good], notes


def splits_of(path, rows):
    """The split that each row of a table names; train where it names none.

    Raises:
        UserError: Another word stands there.
    """
    cells = [row.get("split", "").strip() for row in rows]
    found = [split_of(cell or "train") for cell in cells]
    if None in found:
        number = found.index(None)
        expected = "expected train, validation or test in column split"
        raise UserError(f"{path}: row {number + 1}: {expected}. Received: {cells[number][:60]}")
    return found


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
    picture, text = (next((name for name in names if name in rows[0]), None) for names in (PATH_COLUMNS, texts))
    if picture is None or text is None:
        wanted = f"a column {' or '.join(PATH_COLUMNS[:3])} and one {' or '.join(texts[:2])}"
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
            for number, row, reason in json_objects(file):
                if reason:
                    raise UserError(f"{path}: line {number}: {reason}; expected such as {{\"image\": ..., \"text\": ...}}")
                yield row
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read ({error}); expected UTF-8 text") from None


def said_twice(captions):
    """A line that counts the captions which stand more than once and names the commonest; nothing where all differ."""
    common, count = Counter(captions).most_common(1)[0]
    repeated = len(captions) - len(set(captions))
    return f"{repeated} captions repeat another, most often {common!r} ({count} times)" if repeated else ""


def _columns(row):
    """The columns of the picture and of the text, `None` where there is none."""
    return tuple(next((name for name in names if name in row), None) for names in (PATH_COLUMNS, TEXTS))


def split_pairs(images, seed, shares=(0.1, 0.15)):
    """Positions of the pairs to train, validate and test on; those of one picture, which may have several texts, stay together.

    Args:
        images: The picture of each pair.
        seed: Of the split.
        shares: Of the pictures in each part but the first.
    Raises:
        UserError: There are too few pictures.
    """
    digests = row_digests(images)
    _, first, picture = np.unique(digests, return_index=True, return_inverse=True)
    place = np.argsort(np.argsort(first))[picture]  # the pictures in the order in which they come
    parts = split_indices(np.zeros(len(first)), shares, seed, False)
    if min(map(len, parts)) < 1:
        raise UserError(f"{len(first)} different pictures with captions; at least 10 are needed to train, validate and test")
    return [np.flatnonzero(np.isin(place, part)) for part in parts]


def text_of(name):
    """The caption of a class: its name, of a number that of the digit."""
    return f"the digit {name}" if name.isdecimal() else name.replace("_", " ")


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
