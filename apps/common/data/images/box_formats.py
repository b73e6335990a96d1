"""Boxes as people keep them beside their pictures: PASCAL VOC, COCO JSON, YOLO text and LabelMe JSON, found by looking."""

from pathlib import Path

from apps.common.data.archives import refuse_archive
from apps.common.data.images.annotations import Pictures
from apps.common.data.images.coco_boxes import coco_content, read_coco
from apps.common.data.images.decoding import is_image_name
from apps.common.data.images.labelme import find_labelme, read_labelme
from apps.common.data.images.voc_boxes import read_voc, voc_root
from apps.common.data.images.yolo_boxes import YAML, is_yolo, read_yolo
from apps.common.data.reading import visible_files
from apps.common.errors import UserError

FORMATS = (
    "PASCAL VOC (an .xml file a picture, ImageSets or split folders), COCO (.json with images, annotations and categories), "
    "YOLO (a .txt file a picture, classes.txt or data.yaml) or LabelMe (a .json file a picture, with shapes)"
)


def find_annotations(path):
    """The annotated pictures under a folder, or of one COCO file or one `data.yaml`.

    Raises:
        UserError: There are none, or they contradict one another.
    """
    path = Path(path)
    refuse_archive(path)
    if ".." in path.parts:  # so that a picture has one path, whatever leads to it
        path = path.resolve()
    root = path if path.is_dir() else path.parent
    if not path.is_dir() and root.name.lower() in ("annotations", "labels"):  # the pictures lie beside this folder
        root = root.parent
    files = visible_files(root)
    if not files:
        raise UserError(f"{path}: the folder is empty. Expected {FORMATS}")
    pictures = Pictures(root, [file for file in files if is_image_name(file.name)])
    if path.is_file():
        if path.suffix.lower() == ".json":
            contents = {path: coco_content(path)}
            if not contents[path]:
                raise UserError(f"{path}: not COCO: expected an object with images, annotations and categories")
            return read_coco(contents, pictures)
        if path.suffix.lower() not in YAML:
            raise UserError(f"{path}: not a set of annotated pictures. Expected a folder with {FORMATS}")
    contents = {file: coco_content(file) for file in files if file.suffix.lower() == ".json"}
    contents = {file: content for file, content in contents.items() if content}
    if contents:
        return read_coco(contents, pictures)
    found = [file for file in files if file.suffix.lower() == ".xml" and voc_root(file) is not None]
    if found:
        lists = [file for file in files if "ImageSets" in file.parts and file.suffix.lower() == ".txt"]
        return read_voc(found, [file for file in lists if file.parent.name == "Main"] or lists, pictures)
    labels = [file for file in files if file.suffix.lower() == ".txt" and is_yolo(file)]
    if labels:
        return read_yolo(labels, files, pictures, path)
    drawn = find_labelme(files)
    if drawn:
        return read_labelme(drawn, pictures)
    for file in files:
        refuse_archive(file)
    seen = f"{len(pictures.paths)} pictures" if pictures.paths else "no pictures either"
    raise UserError(f"{path}: no annotation found ({seen}). Expected {FORMATS}")
