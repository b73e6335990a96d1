"""Small pictures with boxes for the tests, as VOC, COCO and YOLO keep them."""

import json

import pytest
from image_samples import save

from apps.common.data.images.boxes import read_boxed_images
from apps.common.errors import UserError

WIDTH, HEIGHT = 40, 24
# Of each picture its boxes in pixels; the last has none.
PICTURES = {
    "a": [("cat", (4, 2, 20, 12)), ("dog", (10, 6, 40, 24))],
    "b": [("dog", (0, 0, 8, 12))],
    "c": [("cat", (20, 4, 30, 20))],
    "d": [],
}


def write_voc(folder, pictures=PICTURES, size=(WIDTH, HEIGHT), lists=None):
    for name, boxes in pictures.items():
        save(folder / "JPEGImages" / f"{name}.png", (WIDTH, HEIGHT))
        things = []
        for label, corners in boxes:
            sides = zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True)
            box = "".join(f"<{side}>{value}</{side}>" for side, value in sides)
            things.append(f"<object><name>{label}</name><bndbox>{box}</bndbox></object>")
        top = f"<filename>{name}.png</filename><size><width>{size[0]}</width><height>{size[1]}</height></size>"
        (folder / "Annotations").mkdir(exist_ok=True)
        (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{top}{''.join(things)}</annotation>")
    for split, names in (lists or {}).items():
        (folder / "ImageSets" / "Main").mkdir(parents=True, exist_ok=True)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text("\n".join(names))
    return folder


def coco(pictures, classes=("cat", "dog")):
    images = [{"id": i, "file_name": f"{name}.png", "width": WIDTH, "height": HEIGHT} for i, name in enumerate(pictures)]
    rows = []
    for image, boxes in enumerate(pictures.values()):
        for label, (left, top, right, bottom) in boxes:
            box = [left, top, right - left, bottom - top]
            rows.append({"id": len(rows), "image_id": image, "category_id": 7 + classes.index(label), "bbox": box})
    categories = [{"id": 7 + index, "name": name} for index, name in enumerate(classes)]
    return {"images": images, "annotations": rows, "categories": categories}


def write_coco(folder, pictures=PICTURES):
    for name in pictures:
        save(folder / "images" / f"{name}.png", (WIDTH, HEIGHT))
    (folder / "annotations.json").write_text(json.dumps(coco(pictures)))
    return folder


def write_yolo(folder, pictures=PICTURES, split="train"):
    for name, boxes in pictures.items():
        save(folder / "images" / split / f"{name}.png", (WIDTH, HEIGHT))
        lines = []
        for label, (left, top, right, bottom) in boxes:
            numbers = [(left + right) / 2 / WIDTH, (top + bottom) / 2 / HEIGHT, (right - left) / WIDTH, (bottom - top) / HEIGHT]
            lines.append(" ".join(map(str, [("cat", "dog").index(label), *numbers])))
        (folder / "labels" / split).mkdir(parents=True, exist_ok=True)
        (folder / "labels" / split / f"{name}.txt").write_text("\n".join(lines))
    (folder / "data.yaml").write_text("train: images/train\nnames:\n  0: cat\n  1: dog\n")
    return folder


def refuses(path, *words, **options):
    with pytest.raises(UserError) as error:
        read_boxed_images(path, **options)
    assert all(word in str(error.value) for word in words), str(error.value)
