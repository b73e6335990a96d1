"""CLIP's numbers: retrieval by hand, and what a small model learns."""

import numpy as np
from PIL import Image

from apps import image_text as app
from apps.common.data.images.asked import read_asked
from apps.common.options.declare import make_config
from apps.common.reports.retrieval import retrieval


def test_retrieval_counts_pairs_of_one_caption_as_right_for_one_another():
    vectors = np.eye(4)
    ids = np.array([[1], [2], [3], [3]])
    perfect = retrieval(vectors, vectors, ids)
    assert perfect["recall_at_1"] == perfect["text_to_image_recall_at_1"] == 1.0
    swapped = retrieval(vectors, vectors[[1, 0, 3, 2]], ids)
    assert swapped["recall_at_1"] == 0.5, "the last two have the same caption"
    assert swapped["chance"] == (4 + 2) / 16


def test_plain_methods_find_the_colour():
    data = app.load_data(app.Config(image_size=16))
    found = app.baselines(data, app.Config())
    assert found["chance"]["recall_at_1"] < 0.05 < found["ridge on pixels"]["recall_at_1"]


def test_a_folder_with_one_file_of_captions_or_questions_is_read_by_it(tmp_path):
    (tmp_path / "pictures").mkdir()
    for number in range(10):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "pictures" / f"{number}.png")
    lines = [f'pictures/{number}.png,"number {number}, red"' for number in range(10)]
    (tmp_path / "captions.csv").write_text("image,caption\n" + "\n".join(lines))
    _, captions, _ = app.read_pairs(make_config(app.Config, {"data": str(tmp_path)}), None)
    assert captions[3] == "number 3, red"
    _, splits, _ = read_asked(tmp_path, (8, 8, 3))
    assert splits["train"][3].answer == "number 3, red"
