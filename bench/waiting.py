"""What a person waits for: whole commands from the prompt back to the prompt, and how long large data take to read.

`triptych bench waiting` takes about ten minutes on two cores; `python -m bench.waiting --only digits --backend jax --out
docs/speed.md` measures a part in under three and puts its rows into that page's table.
"""

import argparse
import contextlib
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HOUSE = Path(__file__).resolve().parents[1]
TABLE_ROWS, PICTURES, SIDE = 1_000_000, 20_000, 64
BEGIN, END = "<!-- waiting: written by python -m bench.waiting -->", "<!-- waiting ends -->"
AIMS = {
    "default digits run, of a thirty-line Keras script": 1.3,
    "its first line, seconds": 2.0,
    "from its result to the prompt, seconds": 0.5,
    "predict of one picture, seconds": 4.0,
    "a table of a million rows read, seconds": 3.0,
    "memory for it, of the file": 3.0,
    "20,000 JPEG files of 64 pixels read, seconds": 6.0,
    "233 street scenes of 360 x 480 evaluated by a U-Net, GB in all": 1.5,
}
# What an engineer writes who wants the same: trained, judged on test, saved.
SCRIPT = """
import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

digits = load_digits()
x = (digits.images[..., None] * 255 / 16).round().astype("uint8")
x, test_x, y, test_y = train_test_split(x, digits.target, test_size=0.15, stratify=digits.target, random_state=0)
x, val_x, y, val_y = train_test_split(x, y, test_size=0.1, stratify=y, random_state=0)
mean, deviation = x.mean() / 255, x.std() / 255
inputs = keras.Input((8, 8, 1))
z = keras.layers.Rescaling(1 / (255 * deviation), -mean / deviation)(inputs)
for filters in (32, 64):
    z = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(z)
    z = keras.layers.BatchNormalization(momentum=0.9)(z)
    z = keras.layers.ReLU()(z)
    z = keras.layers.MaxPooling2D(2)(z)
z = keras.layers.Flatten()(z)
z = keras.layers.Dropout(0.2)(z)
z = keras.layers.Dense(24, activation="relu")(z)
z = keras.layers.Dropout(0.2)(z)
model = keras.Model(inputs, keras.layers.Dense(10)(z))
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(optimizer=keras.optimizers.Adam(RATE), loss=loss, metrics=["accuracy"])
model.fit(x, y, validation_data=(val_x, val_y), epochs=EPOCHS, batch_size=BATCH, verbose=2)
print("test", model.evaluate(test_x, test_y, verbose=0))
model.save("digits.keras")
"""


def subjects():
    return ("digits", "predict", "table", "pictures", "scenes")


def measure(subject, turns=3):
    """`[{what, backend, value, aim, met}]` of one subject, medians of a few turns, on the running backend."""
    import keras

    running = keras.backend.backend()
    with tempfile.TemporaryDirectory() as folder:
        known = {"digits": digits, "predict": prediction, "table": table, "pictures": pictures, "scenes": scenes}
        found = known[subject](Path(folder), running, turns)
    return [
        {"what": what, "backend": running, "value": round(value, 2), "aim": AIMS.get(what), "met": met(what, value)}
        for what, value in found.items()
    ]


def met(what, value):
    return "" if what not in AIMS else "yes" if value <= AIMS[what] else "**no**"


def digits(folder, running, turns):
    """The default run and the script, in turns."""
    from apps import image_classification as app
    from apps.common.options.declare import make_config
    from apps.common.training.fit import settled

    config = make_config(app.Config, {})
    config, _ = settled(app, config, app.load_data(config))
    text = SCRIPT.replace("RATE", str(config.learning_rate)).replace("EPOCHS", str(config.epochs))
    (folder / "script.py").write_text(text.replace("BATCH", str(config.batch_size)))
    ours, theirs = [], []
    for _ in range(turns + 1):  # the first of each fills caches
        ours.append(watched([sys.executable, str(HOUSE / "triptych.py"), "train", "image-classification"], folder, running))
        theirs.append(watched([sys.executable, "script.py"], folder, running)["all"])
    middle = {key: statistics.median(each[key] for each in ours[1:]) for key in ours[0]}
    return {
        "default digits run, seconds": middle["all"],
        "thirty-line Keras script, seconds": statistics.median(theirs[1:]),
        "default digits run, of a thirty-line Keras script": middle["all"] / statistics.median(theirs[1:]),
        "its first line, seconds": middle["first"],
        "from its result to the prompt, seconds": middle["end"],
    }


def prediction(folder, running, turns):
    """`predict` of one picture, from the prompt back to it."""
    from PIL import Image
    from sklearn.datasets import load_digits

    watched([sys.executable, str(HOUSE / "triptych.py"), "train", "image-classification", "--epochs", "1"], folder, running)
    bundle = next((folder / "mlruns" / "runs").glob("*/bundle"))
    Image.fromarray((load_digits().images[0] * 15).astype("uint8")).save(folder / "digit.png")
    command = [sys.executable, str(HOUSE / "triptych.py"), "predict", str(bundle), "digit.png"]
    readings = [watched(command, folder, running)["all"] for _ in range(turns + 1)]
    return {"predict of one picture, seconds": statistics.median(readings[1:])}


def table(folder, running, turns):
    """A table of a million rows and eight columns, read in a process that has its libraries already."""
    import numpy as np
    import pandas

    draw = np.random.default_rng(0)
    columns = {
        "age": draw.integers(18, 90, TABLE_ROWS),
        "income": draw.lognormal(10, 1, TABLE_ROWS).round(2),
        "height": draw.normal(170, 10, TABLE_ROWS).round(1),
        "score": draw.normal(size=TABLE_ROWS).round(6),
        "city": draw.choice(["Berlin", "Paris", "Rome", "Oslo", "Wien"], TABLE_ROWS),
        "job": draw.choice([f"job {number}" for number in range(60)], TABLE_ROWS),
        "when": pandas.to_datetime(draw.integers(1_500_000_000, 1_700_000_000, TABLE_ROWS), unit="s").strftime("%Y-%m-%d %H:%M"),
        "bought": draw.choice(["yes", "no"], TABLE_ROWS),
    }
    pandas.DataFrame(columns).to_csv(folder / "million.csv", index=False)
    del columns
    readings = [in_process("bench.waiting:read_table", folder / "million.csv", running) for _ in range(turns)]
    size = (folder / "million.csv").stat().st_size
    return {
        "a table of a million rows read, seconds": statistics.median(each["seconds"] for each in readings),
        "memory for it, of the file": statistics.median(each["bytes"] for each in readings) / size,
    }


def pictures(folder, running, turns):
    """Small JPEG files in ten class folders, read in a process that has its libraries already."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    kinds = [Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), "uint8")).resize((SIDE, SIDE)) for _ in range(20)]
    for number in range(PICTURES):
        place = folder / "pictures" / f"class-{number % 10}"
        place.mkdir(parents=True, exist_ok=True)
        kinds[number % 20].save(place / f"{number}.jpg", quality=85)
    readings = [in_process("bench.waiting:read_pictures", folder / "pictures", running) for _ in range(turns)]
    return {"20,000 JPEG files of 64 pixels read, seconds": statistics.median(each["seconds"] for each in readings)}


def scenes(folder, running, turns):
    """The most memory that `evaluate` takes on as many masked pictures as CamVid's test split has, of their size, once."""
    import numpy as np
    from PIL import Image

    draw = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 8), ("test", 233)):
        for name, channels in ((split, (3,)), (f"{split}annot", ())):
            (folder / "scenes" / name).mkdir(parents=True)
            for number in range(count):
                small = draw.integers(0, 256 if channels else 11, (9, 12, *channels), "uint8")
                picture = Image.fromarray(small).resize((480, 360), Image.Resampling.NEAREST)
                picture.save(folder / "scenes" / name / f"{number}.png")
    program = [sys.executable, str(HOUSE / "triptych.py")]
    options = ["--image-size", "360,480", "--width", "16", "--depth", "4", "--epochs", "1", "--batch-size", "4"]
    watched([*program, "train", "segmentation", "--data", "scenes", *options], folder, running)
    bundle = next((folder / "mlruns" / "runs").glob("*/bundle"))
    found = watched([*program, "evaluate", str(bundle), "--data", "scenes"], folder, running)
    return {"233 street scenes of 360 x 480 evaluated by a U-Net, GB in all": found["bytes"] / 1e9}


def read_table(path):
    import pandas  # noqa: F401  libraries are no part of the reading
    import pyarrow.compute
    import pyarrow.csv  # noqa: F401

    from apps.common.data.tables.reading import read_splits

    return lambda: read_splits(path)


def read_pictures(path):
    from apps.common.data.images.labelled import read_labelled_images

    return lambda: read_labelled_images(path)


def in_process(name, path, running):
    """Seconds and bytes of memory, at most, of what a function of this module prepares, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.waiting", "--inside", name.partition(":")[2], str(path)],
        env=environment(running), cwd=HOUSE, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.strip().splitlines()[-1])


def inside(name, path):
    work = globals()[name](Path(path))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew: a child's is at first that of its parent
    before = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    start = time.perf_counter()
    work()
    seconds = time.perf_counter() - start
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    print(json.dumps({"seconds": seconds, "bytes": 1024 * int(peak[1]) - before}))


def environment(running):
    return {**os.environ, "KERAS_BACKEND": running, "PYTHONPATH": str(HOUSE), "MLFLOW_TRACKING_URI": "", "TRIPTYCH_DATA": ""}


def watched(command, folder, running):
    """`{all, first, end, bytes}`: seconds of a command, until its first line, and from its last to its end; its most memory."""
    start, times = time.perf_counter(), []
    child = subprocess.Popen(command, cwd=folder, env=environment(running), stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def listen(stream):
        for _ in stream:
            times.append(time.perf_counter())

    listeners = [threading.Thread(target=listen, args=(stream,)) for stream in (child.stdout, child.stderr)]
    for each in listeners:
        each.start()
    _, status, usage = os.wait4(child.pid, 0)
    end = time.perf_counter()
    code = child.returncode = os.waitstatus_to_exitcode(status)
    for each in listeners:
        each.join()
    if code:
        raise RuntimeError(f"{' '.join(command[1:])}: exit code {code}")
    return {"all": end - start, "first": min(times) - start, "end": end - max(times), "bytes": 1024 * usage.ru_maxrss}


def page(text, rows):
    """The page `text` with these rows in its table of waiting, in the place of those of the same thing and backend."""
    before, _, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in old.splitlines() if line.startswith("| ")]
    kept = {(row[0], row[1]): row for row in cells[1:]}
    for row in rows:
        aim = "" if row["aim"] is None else f"{row['aim']:g}"
        kept[row["what"], row["backend"]] = [row["what"], row["backend"], f"{row['value']:g}", aim, row["met"]]
    order = list(dict.fromkeys(what for what, _ in kept))
    lines = ["| what a person waits for | backend | measured | at most | met |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in sorted(kept.values(), key=lambda row: (order.index(row[0]), row[1]))]
    table = "\n".join([BEGIN, *lines, END])
    return f"{before}{table}{after}" if rest else f"{text.rstrip()}\n\n## What a person waits for\n\n{table}\n"


def main():
    parser = argparse.ArgumentParser(prog="bench.waiting")
    parser.add_argument("--only", default=",".join(subjects()))
    parser.add_argument("--backend", default=os.environ.get("KERAS_BACKEND", "jax"))
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    words = parser.parse_args()
    if words.inside:
        return inside(*words.inside)
    if words.out and not words.out.is_file():
        parser.error(f"--out {words.out}: no such page; name one whose table these rows go into, such as docs/speed.md")
    os.environ["KERAS_BACKEND"] = words.backend
    rows = []
    for subject in words.only.split(","):
        with contextlib.redirect_stdout(sys.stderr):
            rows += measure(subject, words.turns)
    for row in rows:
        print(f"{row['what']:55} {row['backend']:10} {row['value']:8.2f}  {row['aim'] or ''} {row['met']}")
    if words.out:
        from apps.common.files import write_text

        write_text(words.out, page(words.out.read_text(encoding="utf-8"), rows))


if __name__ == "__main__":
    sys.exit(main())
