"""CLIP's numbers: retrieval by hand, and what a small model learns."""

import numpy as np

from apps import image_text as app
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
