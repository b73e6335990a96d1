"""What a detector found: COCO's metrics, pictures with boxes drawn into them, COCO JSON."""

import contextlib
import io
import json
from pathlib import Path

import keras
import numpy as np

from apps.common import figures
from apps.common.data.examples import evenly_spaced
from apps.common.data.images.decoding import decode, read_header
from apps.common.data.images.threads import without_warnings
from apps.common.errors import UserError
from apps.common.files import write_json
from apps.common.reports.drawn_files import made_folder, write_png
from layers import backend

AT_ONCE = 64 * 320 * 320  # pixels that a detector sees at a time: 16 maps of half their sides are .4 GB
MOST = 100  # detections of a picture, as COCO counts them
LOWEST = 0.02  # score of one that counts in the metrics
JSON_NAME = "detections.json"
LONGEST = 1600  # pixels of a side of a drawn picture
COLORS = (
    (230, 60, 50), (50, 110, 235), (40, 170, 80), (240, 160, 20), (150, 70, 200), (0, 170, 190), (200, 80, 140), (120, 120, 30),
)  # fmt: skip


def detect_all(model, images, batch_size=64):
    """`{"boxes", "scores", "classes"}` of every picture as NumPy, compiled once and kept with the model.

    Args:
        model: A detector: `detect` makes boxes of its output.
        images: uint8 `(n, height, width, channels)`.
        batch_size: Pictures at once; fewer where they are large, and no more than the next power of two of what there is:
            each number compiles anew.
    """
    batch_size = max(1, min(batch_size, AT_ONCE // (images.shape[1] * images.shape[2]), 1 << (len(images) - 1).bit_length()))
    if "_detect" not in vars(model):  # not an attribute: Keras would look for weights in it
        options = {"score_threshold": LOWEST, "max_detections": MOST}

        def found(x):
            return model.detect(model(x, training=False), **options)

        vars(model)["_detect"] = backend.compiled(found, model)
    parts = []
    for first in range(0, len(images), batch_size):
        places = np.minimum(np.arange(first, first + batch_size), len(images) - 1)
        found = vars(model)["_detect"](images[places])
        parts.append({key: keras.ops.convert_to_numpy(value) for key, value in found.items()})
    return {key: np.concatenate([part[key] for part in parts])[: len(images)] for key in parts[0]}


def coco_evaluation(found, truth, names, shape):
    """COCO's average precision by pycocotools: `(metrics, rows a class, precision (recalls, classes) at IoU 0.5)`.

    Args:
        found: `{"boxes": (n, m, 4), "scores": (n, m), "classes": (n, m)}`, class -1 where there is none.
        truth: `{"boxes": (n, k, 4), "classes": (n, k)}`, likewise; `-2 - class` for what counts neither for nor against.
        names: Of the classes.
        shape: Height and width of the pictures in pixels.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    true = coco_rows(truth, shape)
    counts = np.bincount([row["category_id"] for row in true if not row["iscrowd"]], minlength=len(names))
    predicted = coco_rows(found, shape)
    precision = np.where(counts > 0, 0.0, -1.0) * np.ones((10, 101, len(names)))
    recall = np.zeros((10, len(names)))
    if predicted and true:
        with contextlib.redirect_stdout(io.StringIO()):
            whole = COCO()
            whole.dataset = {
                "images": [{"id": index} for index in range(len(truth["boxes"]))],
                "annotations": true,
                "categories": [{"id": index, "name": name} for index, name in enumerate(names)],
            }
            whole.createIndex()
            rules = COCOeval(whole, whole.loadRes(predicted), "bbox")
            rules.params.areaRng, rules.params.areaRngLbl, rules.params.maxDets = [[0, 1e10]], ["all"], [MOST]
            rules.evaluate()
            rules.accumulate()
        precision, recall = rules.eval["precision"][..., 0, 0], rules.eval["recall"][..., 0, 0]
    there = [index for index in range(len(names)) if counts[index]]
    of_class = {index: precision[:, :, index].mean(1) for index in there}  # an average precision for each IoU
    rows = [
        {
            "class": names[index],
            "boxes": int(counts[index]),
            "map50": float(of_class[index][0]),
            "map": float(of_class[index].mean()),
            "recall50": float(max(0.0, recall[0, index])),
        }
        for index in there
    ]
    mean = {key: float(np.mean([row[key] for row in rows])) if rows else 0.0 for key in ("map50", "map")}
    mean["map75"] = float(np.mean([of_class[index][5] for index in there])) if there else 0.0
    return mean, rows, precision[0]


def coco_rows(boxes, shape):
    """Boxes as COCO's annotations, scores with them where there are any; what is aside as its crowds, which it ignores."""
    sides = np.array([shape[1], shape[0]] * 2, "float64")
    rows = []
    for image, place in zip(*np.nonzero(boxes["classes"] != -1), strict=True):
        index = int(boxes["classes"][image, place])
        left, top, right, bottom = (boxes["boxes"][image, place] * sides).tolist()
        row = {
            "id": len(rows) + 1,  # from one: pycocotools takes 0 for no match
            "image_id": int(image),
            "category_id": index if index >= 0 else -2 - index,
            "bbox": [left, top, right - left, bottom - top],
            "area": (right - left) * (bottom - top),
            "iscrowd": int(index < 0),
        }
        rows.append(row | ({"score": float(boxes["scores"][image, place])} if "scores" in boxes else {}))
    return rows


def detection_report(found, test, names):
    """Metrics, figures and tables of what was found in test examples."""
    metrics, rows, precision = coco_evaluation(found, test.y, names, test.x.shape[1:3])
    drawn = {
        "predictions": beside_truth(test, found, names),
        "precision-recall": precision_recall(precision, rows, names),
    }
    return metrics, drawn, {"classes": rows}


def precision_recall(precision, rows, names):
    """Precision over recall at IoU 0.5, a line a class."""
    figure, axis = figures.new(5.5, 4.5)
    for row in rows:
        values = np.maximum(precision[:, names.index(row["class"])], 0)
        axis.plot(np.linspace(0, 1, len(values)), values, label=f"{row['class']} {row['map50']:.2f}")
    axis.set(xlabel="recall", ylabel="precision", title="precision and recall at IoU 0.5", xlim=(0, 1), ylim=(0, 1.02))
    if 0 < len(rows) <= 20:
        axis.legend(frameon=False, fontsize=8)
    axis.grid(alpha=0.3)
    return figure


def beside_truth(test, found, names, count=10, threshold=0.3):
    """Test pictures twice: with their true boxes, and below with those that were found."""
    columns = min(5, len(test))
    chosen = evenly_spaced(len(test), count)
    chosen = chosen[: len(chosen) // columns * columns]
    shown, titles = [], []
    for first in range(0, len(chosen), columns):
        group = chosen[first : first + columns]
        for index in group:
            image = enlarged(test.x[index])
            boxes, classes = (test.y[key][index] for key in ("boxes", "classes"))
            shown.append(draw_boxes(image, boxes, classes, [names[each] if each >= 0 else "" for each in classes]))
            titles.append("true")
        for index in group:
            own = {key: value[index] for key, value in found.items()}
            shown.append(draw_found(enlarged(test.x[index]), own, names, threshold))
            titles.append(f"found above {threshold}")
    return figures.image_grid([np.asarray(each) for each in shown], titles, columns)


def enlarged(pixels, side=200):
    """A small picture large enough that one can read what is written into it."""
    from PIL import Image

    image = Image.fromarray(pixels)
    factor = max(1, side // max(image.size))
    return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)


def draw_found(image, found, names, threshold):
    """A Pillow image with what was found above the threshold, the best on top."""
    best = np.flatnonzero((found["classes"] >= 0) & (found["scores"] >= threshold))[::-1]
    texts = [f"{names[found['classes'][each]]} {found['scores'][each]:.2f}" for each in best]
    return draw_boxes(image, found["boxes"][best], found["classes"][best], texts)


def draw_boxes(image, boxes, classes, texts):
    """A Pillow image with boxes and a word at each; those of class -1 are left out.

    Args:
        image: Pillow's, RGB.
        boxes: `(n, 4)` as fractions.
        classes: `(n,)`, by which boxes are coloured.
        texts: A word each.
    """
    from PIL import ImageDraw

    image = image.copy()
    pen, line = ImageDraw.Draw(image), max(2, round(max(image.size) / 250))
    font = figures.pillow_font(max(13, max(image.size) / 45))
    for box, index, text in zip(boxes, classes, texts, strict=True):
        if index < 0:
            continue
        left, top, right, bottom = scaled(box, image.size)
        color = COLORS[int(index) % len(COLORS)]
        pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=color, width=line)
        under = pen.textbbox((left + line, top), text, font=font)
        pen.rectangle(under, fill=color)
        pen.text((left + line, top), text, fill="white", font=font)
    return image


def scaled(box, size):
    return tuple(float(value) * side for value, side in zip(box, (*size, *size), strict=True))


def upright_picture(path):
    """A Pillow RGB image turned upright, none of its sides longer than `LONGEST`, and its own `(width, height)`.

    Raises:
        Unreadable: It cannot be read.
    """
    from PIL import Image

    with without_warnings():
        (height, width), _ = read_header(path)
        factor = min(1.0, LONGEST / max(height, width))
        pixels = decode(path, (max(1, round(height * factor)), max(1, round(width * factor)), 3))
    return Image.fromarray(pixels), (width, height)


class Folder:
    """A folder of pictures with boxes and the COCO JSON that lists them; pictures of earlier calls stay in it.

    Raises:
        UserError: It cannot be made, or holds another file of that name.
    """

    def __init__(self, path, names):
        self.path, self.names = made_folder(path), names
        self.images, self.boxes = {}, {}
        if (self.path / JSON_NAME).is_file():
            self.read()

    def read(self):
        """What an earlier call found, as long as the classes are the same."""
        try:
            content = json.loads((self.path / JSON_NAME).read_bytes())
            classes = [each["name"] for each in sorted(content["categories"], key=lambda each: each["id"])]
            if not all("drawn" in image for image in content["images"]):
                raise KeyError("drawn")  # which a user's own annotations do not have
            if classes != list(self.names):
                return
            self.images = {image["file_name"]: image for image in content["images"]}
            by_id = {image["id"]: image["file_name"] for image in content["images"]}
            for each in content["annotations"]:
                self.boxes.setdefault(by_id[each["image_id"]], []).append(each)
        except (ValueError, KeyError, TypeError):
            raise UserError(f"{self.path / JSON_NAME}: not written by this command; name another --folder") from None

    def add(self, source, image, size, rows):
        """Keep a drawn picture and its boxes; returns the path of the picture."""
        name = str(source)
        taken = {each["drawn"] for key, each in self.images.items() if key != name}
        stem, number = Path(source).stem, 1
        while (drawn := f"{stem}{'' if number == 1 else f'-{number}'}.png") in taken:
            number += 1
        write_png(self.path / drawn, image)
        self.images[name] = {"file_name": name, "width": size[0], "height": size[1], "drawn": drawn}
        self.boxes[name] = rows
        return self.path / drawn

    def write(self):
        """The COCO JSON of all pictures in the folder."""
        images = [{**image, "id": index} for index, image in enumerate(self.images.values(), 1)]
        rows = [{**row, "image_id": image["id"]} for image in images for row in self.boxes.get(image["file_name"], ())]
        content = {
            "images": images,
            "annotations": [{**row, "id": index} for index, row in enumerate(rows, 1)],
            "categories": [{"id": index, "name": name} for index, name in enumerate(self.names, 1)],
        }
        write_json(self.path / JSON_NAME, content)


def found_rows(found, names, size, threshold):
    """What was found in one picture: rows for the user and COCO's annotations, in pixels of the picture.

    Args:
        found: `{"boxes": (m, 4), "scores": (m,), "classes": (m,)}`.
        names: Of the classes.
        size: `(width, height)` of the picture.
        threshold: Least score.
    """
    rows, annotations = [], []
    for box, score, index in zip(found["boxes"], found["scores"], found["classes"], strict=True):
        if index < 0 or score < threshold:
            continue
        left, top, right, bottom = (round(value, 1) for value in scaled(box, size))
        rows.append({"class": names[index], "score": round(float(score), 4), "box": [left, top, right, bottom]})
        width, height = round(right - left, 1), round(bottom - top, 1)
        annotations.append(
            {
                "category_id": int(index) + 1,
                "bbox": [left, top, width, height],
                "area": width * height,
                "iscrowd": 0,
                "score": round(float(score), 4),
            }
        )
    return rows, annotations
