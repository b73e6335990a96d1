"""Drives: a log of pictures from a camera in a car and of how far its wheel was turned."""

import csv
import math
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath

import numpy as np

from apps.common.data.images.decoding import Unreadable, dark_notes, decode
from apps.common.data.images.gathering import gathered, stamp
from apps.common.data.reading import common_end, visible_files
from apps.common.errors import UserError, count_skipped

LOG = "driving_log.csv"
FORMAT = f"a folder with {LOG} (centre, left and right picture, steering, ...; or columns called center and steering)"
PICTURE_COLUMNS = ("center", "centre", "image", "filename", "file", "path", "frame")
ANGLE_COLUMNS = ("steering", "angle", "steering_angle")
CAMERA_COLUMNS = ("camera", "frame_id")  # the second in the logs of Udacity's car: center_camera, left_camera, right_camera
CENTER = ("center", "centre")
FEWEST = 10


@dataclass(frozen=True)
class Drive:
    """Pictures uint8 `(n, height, width, 3)`, memory-mapped where they are large, angles float32 `(n,)`, in time, and files."""

    images: np.ndarray
    angles: np.ndarray
    notes: list = field(default_factory=list)
    paths: list = field(default_factory=list)


def read_drive(path, shape, cut):
    """The pictures and angles of a log, in its order.

    Args:
        path: The log, or a folder that holds it.
        shape: `(height, width)` of the pictures that are made.
        cut: `(top, bottom)`, shares of the height that are cut away first.
    Raises:
        UserError: Nothing that can be trained on, saying what was expected and what to do.
    """
    log = find_log(Path(path))
    rows, notes = read_log(log)
    folder, by_name = log.parent, {}
    for file in visible_files(folder):
        by_name.setdefault(file.name, []).append(file)
    skipped, found = [], []
    for line, name, text in rows:
        angle, files = _angle(text), _pictures(folder, name, by_name)
        if angle is None:
            skipped.append(f"line {line} (the angle is {text or 'missing'})")
        elif not files:
            skipped.append(f"line {line} ({PureWindowsPath(name).name} is not there)")
        elif len(files) > 1:
            places = " or ".join(str(file.relative_to(folder)) for file in files[:2])
            skipped.append(f"line {line} ({name} may be {places}: name its folder as well)")
        else:
            found.append((line, files[0], angle))
    if not found:
        raise UserError(f"{log}: no row with a picture that is there and an angle: {skipped[0] if skipped else 'it is empty'}")
    count_skipped(skipped, len(rows), "rows")
    made_of = repr(([(str(file.resolve()), *stamp(file)) for _, file, _ in found], tuple(shape), tuple(cut)))
    files, size = [file for _, file, _ in found], 3 * shape[0] * shape[1]
    arrays = gathered(log, found, files, lambda row: {"images": decode_cut(row[1], shape, cut)}, size, made_of)
    kept = set(arrays["index"].tolist())
    skipped += [f"line {row[0]} ({row[1].name} cannot be read)" for place, row in enumerate(found) if place not in kept]
    note = count_skipped(skipped, len(rows), "rows")
    angles = np.array([found[place][2] for place in arrays["index"]], "float32")
    paths = [found[place][1] for place in arrays["index"]]
    notes += dark_notes(paths) + ([note] if note else [])
    return Drive(arrays["images"], angles, notes, paths)


def find_log(path):
    """The log that a path is or has in it."""
    if path.is_file():
        return path
    logs = [file for file in visible_files(path) if file.name == LOG] or [f for f in path.iterdir() if f.suffix == ".csv"]
    if len(logs) != 1:
        names = ", ".join(str(each.relative_to(path)) for each in logs[:3])
        raise UserError(f"{path}: {f'several logs ({names}). Give one of them' if logs else f'no log. Expected {FORMAT}'}")
    return logs[0]


def read_log(path):
    """`([(line, picture, angle as text)], notes)` of a log with or without a header."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            separator = _separator(file)
            reader = csv.reader(file, delimiter=separator)
            rows = [(reader.line_num, [cell.strip() for cell in cells]) for cells in reader if any(map(str.strip, cells))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: not a CSV file ({error}). Expected {FORMAT}") from None
    if not rows:
        raise UserError(f"{path}: the log is empty. Expected {FORMAT}")
    first, notes = [cell.lower() for cell in rows[0][1]], []
    picture = next((first.index(name) for name in PICTURE_COLUMNS if name in first), None)
    angle = next((first.index(name) for name in ANGLE_COLUMNS if name in first), None)
    if picture is not None and angle is not None:
        rows, notes = of_center(rows[1:], next((first.index(name) for name in CAMERA_COLUMNS if name in first), None))
    elif picture is not None or angle is not None:
        missing = " or ".join(ANGLE_COLUMNS if angle is None else PICTURE_COLUMNS)
        raise UserError(f"{path}: no column called {missing}. It has {', '.join(rows[0][1])}")
    else:
        width = len(first)
        picture, angle = 0, 3 if width > 3 else 1
        if width < 2:
            raise UserError(f"{path}: a single column, without a comma, semicolon or tab. Expected {FORMAT}")
        if _angle(first[angle].replace(",", ".")) is None:
            raise UserError(f"{path}: column {angle + 1} of the first row is no angle. Expected {FORMAT}")
    rows = [(line, cells[picture], cells[angle] if angle < len(cells) else "") for line, cells in rows if picture < len(cells)]
    if separator != ",":  # a decimal comma then
        rows = [(line, name, text.replace(",", ".")) for line, name, text in rows]
    return rows, notes


def _separator(file):
    """What stands most often in the first line that is not blank: a comma, a semicolon or a tab."""
    line = next((line for line in file if line.strip()), "")
    file.seek(0)
    return max(",;\t", key=line.count)


def of_center(rows, column):
    """`(rows, notes)`: where a column names cameras, the rows of the centre's, since the angle is that of its view."""
    kept, others = [], {}
    for row in rows:
        camera = row[1][column] if column is not None and column < len(row[1]) else ""
        if any(word in camera.lower() for word in CENTER):
            kept.append(row)
        else:
            others[camera] = None
    if not kept or not others:
        return rows, []
    counted = f"{len(rows) - len(kept)} of {len(rows)} rows are left out, of other cameras than the centre's"
    return kept, [f"{counted}: {', '.join(list(others)[:5])}"]


def _angle(text):
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _pictures(folder, name, by_name):
    """The files that a row may mean: the one where the log says, or those below it whose paths end most alike.

    Of several one counts that lies beside the log as its own end of the path says.
    """
    if not name:
        return []
    for path in (folder / name, folder / PureWindowsPath(name).as_posix()):
        if path.is_file():
            return [path]
    parts = PureWindowsPath(name).parts
    alike = {path: common_end(path.parts, parts) for path in by_name.get(PureWindowsPath(name).name, ())}
    likeliest = [path for path, common in alike.items() if common == max(alike.values())]
    beside = [path for path in likeliest if len(path.relative_to(folder).parts) <= alike[path]]
    return beside if len(beside) == 1 else likeliest


def decode_cut(path, shape, cut):
    """A picture without its top and bottom (sky, bonnet), uint8 `(height, width, 3)`."""
    top, bottom = cut
    height, width = shape
    whole = max(height, round(height / (1 - top - bottom)))
    start = min(whole - height, round(top * whole))
    return decode(path, (whole, width, 3))[start : start + height]


def read_views(paths, shape, cut):
    """Pictures for prediction, cut as in training: `(those that can be read, reason or "" of each path)`."""
    images, reasons = [], []
    for path in paths:
        try:
            images.append(decode_cut(Path(path).expanduser(), shape, cut))
            reasons.append("")
        except Unreadable as reason:
            reasons.append(f"not a readable image: {reason}")
    return np.array(images, "uint8").reshape(-1, *shape, 3), reasons


def draw_drive(count, shape, seed):
    """A seeded drive along a drawn road: pictures and angles, which follow from the bend and from where the car is.

    The bend and the place in the lane change smoothly, as sums of a few slow waves.
    """
    generator = np.random.default_rng([seed, 60])
    time = np.arange(count)

    def wander(periods):
        waves = [np.sin(2 * np.pi * time / period + generator.uniform(0, 2 * np.pi)) for period in periods]
        return np.sum(waves, axis=0) / len(periods)

    bend, place = 1.3 * wander((37, 61, 23)), 0.5 * wander((41, 17))
    angles = 0.6 * bend - 0.4 * place
    images = [_road(generator, shape, *each) for each in zip(bend, place, time, strict=True)]
    return Drive(np.stack(images), angles.astype("float32"))


def _road(generator, shape, bend, place, time):
    height, width = shape
    rows = np.arange(height)[:, None] / height
    columns = (np.arange(width)[None] / width - 0.5) * 2
    near = np.clip((rows - 0.2) / 0.8, 0, None)  # 0 at the horizon, 1 at the car
    middle = 0.6 * bend * (1 - near) ** 2 - place * near
    half = 0.05 + 0.75 * near
    across = (columns - middle) / half
    distance = 1 / np.maximum(near, 0.02)
    stripe = (distance * 1.5 + time * 0.7) % 2 < 1
    light = generator.uniform(0.8, 1.2)
    sky, grass, road, line = (np.array(color) for color in ((130, 170, 215), (80, 130, 60), (105, 105, 110), (230, 230, 220)))
    picture = np.where((np.abs(across) < 1)[..., None], road, grass + 12 * np.sin(distance * 4)[..., None])
    marked = (np.abs(np.abs(across) - 0.93) < 0.05) | ((np.abs(across) < 0.04) & stripe)
    picture = np.where(marked[..., None], line, picture)
    picture = np.where((near > 0)[..., None], picture, sky)
    noisy = light * picture + generator.normal(0, 5, (height, width, 3))
    return np.clip(np.rint(noisy), 0, 255).astype("uint8")
