"""The report of a class for every pixel, and masks of pictures of any size, in tiles where they are large."""

import keras
import numpy as np

from apps.common import figures
from apps.common.reports.classification import softmax
from apps.common.reports.drawn_files import made_folder, write_png
from apps.common.training.batches import planned, taken
from layers import backend

# Pixels that a network sees at once: Keras holds the output of every layer until it is through, on torch.
AT_ONCE = 200_000


def at_once(shape, batch_size=8):
    """How many pictures of this shape a network sees at once where nothing but memory speaks for a number."""
    return max(1, min(batch_size, AT_ONCE // (shape[0] * shape[1])))


def confusion_of(model, examples, num_classes, batch_size=8):
    """Pixels by true (rows) and predicted class, int64 `(classes, classes)`, batch by batch: no more is held than one."""
    matrix = np.zeros(num_classes * num_classes, "int64")
    batch_size = at_once(examples.take(np.zeros(1, int))[0].shape[1:], batch_size)
    for indices in planned(examples, min(batch_size, len(examples))):
        pictures, masks, weights = taken(examples, indices)
        counted = (weights > 0) & (indices >= 0)[:, None, None]
        predicted = classes_of(model, pictures)
        matrix += np.bincount(num_classes * masks[counted].astype("int64") + predicted[counted], minlength=len(matrix))
    return matrix.reshape(num_classes, num_classes)


def classes_of(model, pictures):
    """The likeliest class of each pixel, int32 `(batch, height, width)`, of as many pictures at a time as memory bears."""
    size, forward, found = min(len(pictures), at_once(pictures.shape[1:])), backend.forward(model), []
    for first in range(0, len(pictures), size):
        some = pictures[np.minimum(np.arange(first, first + size), len(pictures) - 1)]
        found.append(keras.ops.convert_to_numpy(keras.ops.argmax(forward(some), axis=-1)))
    return np.concatenate(found)[: len(pictures)]


def scores(matrix):
    """Numbers of a confusion matrix: means over the classes that are there or predicted, and over all pixels."""
    iou, recall = _shares(matrix)
    share = matrix.sum(1) / max(1, matrix.sum())
    there = share > 0
    return {
        "mean_iou": float(np.nanmean(iou)),
        "pixel_accuracy": float(np.trace(matrix) / max(1, matrix.sum())),
        "class_accuracy": float(np.nanmean(recall)),
        "frequency_weighted_iou": float((share[there] * iou[there]).sum()),
    }


def _shares(matrix):
    """`(intersection over union, recall)` of each class; NaN where there is nothing to divide by."""
    both, true, predicted = np.diag(matrix), matrix.sum(1), matrix.sum(0)
    with np.errstate(invalid="ignore"):
        return both / (true + predicted - both), both / true


def segmentation_report(matrix, names):
    """`(metrics, tables, figures)` of a confusion matrix."""
    iou, recall = _shares(matrix)
    share = matrix.sum(1) / max(1, matrix.sum())
    keys = ("class", "iou", "accuracy", "share_of_pixels")
    columns = (names, *(map(_or_none, each) for each in (iou, recall, share)))
    rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
    there = [place for place in range(len(names)) if np.isfinite(iou[place])]
    bars = figures.bars([names[place] for place in there], iou[there], title="intersection over union", xlabel="IoU")
    return scores(matrix), {"per-class": rows}, {"confusion": figures.confusion(matrix, names), "iou": bars}


def _or_none(value):
    return float(value) if np.isfinite(value) else None


def sheet(pictures, truths, predictions, about, counted):
    """Figure of pictures, their truth, what was predicted, and both boundaries: white the truth's, red ours.

    Args:
        pictures: uint8 `(n, height, width, 3)`.
        truths, predictions: Classes `(n, height, width)`.
        about: Has `class_names` and `colors`.
        counted: bool `(n, height, width)`; what is ignored is grey.
    """
    from matplotlib.patches import Patch

    colors = np.array(about["colors"], "uint8")
    figure, axes = figures.new(10.5, 2.1 * len(pictures) * pictures.shape[1] / pictures.shape[2] + 0.8, len(pictures), 4)
    axes = np.atleast_2d(axes)
    for title, axis in zip(("picture", "truth", "prediction", "boundaries"), axes[0], strict=True):
        axis.set_title(title, fontsize=8)
    for row, picture, truth, predicted, counts in zip(axes, pictures, truths, predictions, counted, strict=True):
        lines = (picture * 0.6).astype("uint8")
        lines[boundary(truth) & counts] = 255
        lines[boundary(predicted)] = (255, 40, 40)
        shown = np.where(counts[..., None], colors[truth], np.uint8(128))
        for axis, image in zip(row, (picture, shown, colors[predicted], lines), strict=True):
            axis.imshow(image)
            axis.axis("off")
    present = np.unique(np.concatenate([truths[counted], predictions.reshape(-1)]))
    patches = [Patch(facecolor=colors[place] / 255, edgecolor="0.5", label=about["class_names"][place]) for place in present[:20]]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(6, len(patches)), fontsize=7, frameon=False)
    return figure


def boundary(mask):
    """Whether a pixel's neighbour to the right or below is of another class."""
    edge = np.zeros(mask.shape, bool)
    edge[:, :-1] |= mask[:, 1:] != mask[:, :-1]
    edge[:-1] |= mask[1:] != mask[:-1]
    return edge


def mask_of(model, picture, about, tiles="auto"):
    """The class of each pixel of one picture of any size, uint8 `(height, width)`.

    A model of pictures that had their size by nature sees a larger one in overlapping tiles, a smaller one with its border
    continued; one of pictures that were resized sees the picture resized, and its answer is grown back.

    Args:
        model: From pictures of one size to logits.
        picture: uint8 `(height, width, 3)`.
        about: Has `image_shape` and `resized`.
        tiles: `"auto"`, `"yes"` or `"no"`.
    """
    shape = tuple(about["image_shape"][:2])
    if picture.shape[:2] == shape:
        return classes_of(model, picture[None])[0].astype("uint8")
    if tiles == "yes" or (tiles == "auto" and not about["resized"]):
        return tiled_mask(model, picture, shape)
    return resized_mask(model, picture, shape)


def tiled_mask(model, picture, tile, batch_size=4):
    """The classes of a picture from overlapping tiles, whose probabilities count less towards their borders: no seams.

    Only a band as high as a tile is held at a time.
    """
    rows, columns = picture.shape[:2]
    height, width = tile
    padded = np.pad(picture, ((0, max(0, height - rows)), (0, max(0, width - columns)), (0, 0)), mode="edge")
    tops, lefts = _places(padded.shape[0], height), _places(padded.shape[1], width)
    window = _hill(height)[:, None] * _hill(width)
    mask, band = np.empty(padded.shape[:2], "uint8"), None
    for top, after in zip(tops, [*tops[1:], padded.shape[0]], strict=True):
        for start in range(0, len(lefts), batch_size):
            some = [lefts[min(place, len(lefts) - 1)] for place in range(start, start + batch_size)]
            batch = np.stack([padded[top : top + height, left : left + width] for left in some])
            found = softmax(keras.ops.convert_to_numpy(backend.forward(model)(batch))).astype("float32")
            band = np.zeros((height, padded.shape[1], found.shape[-1]), "float32") if band is None else band
            for left, part in list(zip(some, found, strict=True))[: len(lefts) - start]:
                band[:, left : left + width] += part * window[..., None]
        done = after - top
        mask[top:after] = band[:done].argmax(-1)
        band = np.concatenate([band[done:], np.zeros_like(band[:done])])
    return mask[:rows, :columns]


def _places(size, tile):
    """Where tiles begin that cover an axis, half of each or more under the next: with less, corners of tiles show."""
    count = 1 + -(-(size - tile) // max(1, tile // 2))
    return np.rint(np.linspace(0, size - tile, count)).astype(int).tolist()


def _hill(size):
    """What the pixels of a tile count along an axis: the square of how far its border is."""
    return np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype("float32") ** 2


def resized_mask(model, picture, shape):
    """The classes of a picture that the model sees in its own size; probabilities are grown back, one class at a time."""
    from PIL import Image

    size = picture.shape[1], picture.shape[0]
    small = np.asarray(Image.fromarray(picture).resize(shape[::-1], Image.Resampling.BILINEAR))
    found = softmax(keras.ops.convert_to_numpy(backend.forward(model)(small[None]))[0]).astype("float32")
    mask, best = np.zeros(picture.shape[:2], "uint8"), np.full(picture.shape[:2], -1.0, "float32")
    for place in range(found.shape[-1]):
        grown = np.asarray(Image.fromarray(found[..., place]).resize(size, Image.Resampling.BILINEAR))
        mask[grown > best] = place
        best = np.maximum(best, grown)
    return mask


def write_mask(folder, name, picture, mask, about):
    """`NAME-mask.png`, in the labels of the training masks, and `NAME-overlay.png`; their paths."""
    from PIL import Image

    folder = made_folder(folder)
    colors, values = np.array(about["colors"], "uint8"), np.array(about["values"])
    if about["coloured"] or values.max() > 255:
        image = Image.fromarray(colors[mask] if about["coloured"] else values[mask].astype("uint16"))
    else:
        image = Image.fromarray(values[mask].astype("uint8"))
        table = np.zeros((256, 3), "uint8")
        table[values] = colors
        image.putpalette(table.tobytes())
    blended = (0.5 * picture + 0.5 * colors[mask]).astype("uint8")
    blended[boundary(mask)] = 255
    paths = folder / f"{name}-mask.png", folder / f"{name}-overlay.png"
    for path, each in zip(paths, (image, Image.fromarray(blended)), strict=True):
        write_png(path, each)
    return paths
