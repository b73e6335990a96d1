"""Pictures and texts found by one another: how often the right one is nearest, and what regression on pixels finds."""

import keras
import numpy as np

from apps.common.data.examples import evenly_spaced
from apps.common.data.fingerprint import row_digests
from apps.common.data.images.captioned import encode
from apps.common.reports.classification import class_prediction, softmax
from apps.common.training.batches import predict_all


def embed_pairs(model, examples, most):
    """At most so many `Pairs` evenly apart, and the vectors of their pictures and of their texts."""
    chosen = examples.subset(evenly_spaced(len(examples), most))
    return chosen, *predict_all(model, chosen.x)


def embed_captions(model, captions, about):
    """Unit vectors of some texts, so many at a time that thousands of them take little memory."""
    ids = encode(captions, about["words"], about["length"])
    pieces = (ids[first : first + 500] for first in range(0, len(ids), 500))
    return np.concatenate([keras.ops.convert_to_numpy(model.embed_texts(piece)) for piece in pieces])


def right_pairs(pairs):
    """Which text is right for which picture, booleans `(pairs, pairs)`: that of the same words, and any of the same picture.

    Args:
        pairs: `Pairs`.
    """
    texts, pictures = pairs.spelt, row_digests(pairs.x["image"])
    return (texts[:, None] == texts[None]) | (pictures[:, None] == pictures[None])


def retrieval(pictures, texts, right):
    """How often a right text is the nearest of a picture, a right picture of a text, and among the nearest five.

    Args:
        pictures, texts: Vectors `(pairs, features)`.
        right: What `right_pairs` says of them.
    """
    cosines = pictures @ texts.T
    order = np.argsort(-cosines, axis=1)[:, :5]
    found = np.take_along_axis(right, order, 1)
    return {
        "recall_at_1": float(found[:, 0].mean()),
        "recall_at_5": float(found.any(1).mean()),
        "text_to_image_recall_at_1": float(right[cosines.argmax(0), np.arange(len(right))].mean()),
        "chance": float(right.mean()),
    }


def ridge_on_pixels(train, test, num_tokens):
    """Chance, and retrieval by ridge regression from shrunken pixels to the words of the caption: `{name: metrics}`.

    Args:
        train, test: `Pairs`.
        num_tokens: Different ids, the two that are no words among them.
    """
    from sklearn.linear_model import Ridge

    def bag(ids):
        return np.stack([np.bincount(row, minlength=num_tokens)[2:] for row in ids]).astype("float32")

    def shrunk(images):
        step = max(1, images.shape[1] // 12)
        return images[:, ::step, ::step].reshape(len(images), -1) / 255.0

    model = Ridge(alpha=10.0).fit(shrunk(train.x["image"]), bag(train.x["text"]))
    guessed, words = model.predict(shrunk(test.x["image"])), bag(test.x["text"])
    units = [part / np.maximum(np.linalg.norm(part, axis=1, keepdims=True), 1e-9) for part in (guessed, words)]
    found = retrieval(*units, right_pairs(test))
    ridge = {name: found[name] for name in ("recall_at_1", "recall_at_5")}
    return {"chance": {"recall_at_1": found["chance"]}, "ridge on pixels": ridge}


def text_rows(cosines, texts, scale, each):
    """A row a picture: the nearest text, how like it is, and the probability of each text among them where there are several.

    Args:
        cosines: Of the pictures and the texts, `(pictures, texts)`.
        texts: What they are.
        scale: Factor of the cosines in the softmax.
        each: Whether a row has the similarity of every text.
    """
    for row, likely in zip(cosines, class_prediction(softmax(scale * cosines), texts), strict=True):
        found = {"text": likely.pop("class"), "similarity": round(float(row.max()), 6)}
        found |= likely if len(texts) > 1 else {}  # among one its probability is 1, whatever the picture shows
        if each:
            found["similarities"] = {text: round(float(cosine), 6) for text, cosine in zip(texts, row, strict=True)}
        yield found


def nearest_pictures(rows):
    """`{text: position of the row whose picture is the most like it}` of rows with similarities."""
    found = {}
    for position, row in enumerate(rows):
        for text, cosine in row.get("similarities", {}).items():
            if text not in found or cosine > found[text][0]:
                found[text] = cosine, position
    return {text: position for text, (_, position) in found.items()}
