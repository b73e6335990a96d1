"""Pictures and texts found by one another: how often the right one is nearest, and what regression on pixels finds."""

import numpy as np


def retrieval(pictures, texts, ids):
    """How often the right text is the nearest of a picture, the right picture of a text, and among the nearest five.

    Args:
        pictures, texts: Vectors `(pairs, features)`.
        ids: Token ids `(pairs, length)`; pairs with the same caption are right for one another.
    """
    same = (ids[:, None] == ids[None]).all(-1)
    cosines = pictures @ texts.T
    order = np.argsort(-cosines, axis=1)[:, :5]
    right = np.take_along_axis(same, order, 1)
    return {
        "recall_at_1": float(right[:, 0].mean()),
        "recall_at_5": float(right.any(1).mean()),
        "text_to_image_recall_at_1": float(same[cosines.argmax(0), np.arange(len(ids))].mean()),
        "chance": float(same.mean()),
    }


def ridge_on_pixels(train, test, num_tokens):
    """Chance, and retrieval by ridge regression from shrunken pixels to the words of the caption: `{name: metrics}`.

    Args:
        train, test: `{"image": uint8 (pairs, height, width, channels), "text": ids (pairs, length)}`.
        num_tokens: Different ids, the two that are no words among them.
    """
    from sklearn.linear_model import Ridge

    def bag(ids):
        return np.stack([np.bincount(row, minlength=num_tokens)[2:] for row in ids]).astype("float32")

    def shrunk(images):
        step = max(1, images.shape[1] // 12)
        return images[:, ::step, ::step].reshape(len(images), -1) / 255.0

    model = Ridge(alpha=10.0).fit(shrunk(train["image"]), bag(train["text"]))
    guessed, words = model.predict(shrunk(test["image"])), bag(test["text"])
    units = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) for part in (guessed, words)]
    found = retrieval(*units, test["text"])
    ridge = {name: found[name] for name in ("recall_at_1", "recall_at_5")}
    return {"chance": {"recall_at_1": found["chance"]}, "ridge on pixels": ridge}
