"""Examples whose target is a class for every pixel: what is ignored counts nothing, rare classes as much as is asked for."""

import numpy as np

from apps.common.data.fingerprint import digest, example_digests
from apps.common.data.images.mask_classes import IGNORED


class Pixels:
    """Examples `(pictures, masks)` as `(pictures, masks, weights)`: an ignored pixel has the class 0 and the weight 0.

    Args:
        examples: Any examples of pictures and masks; moved ones may have new ignored pixels.
        weights: What a pixel of each class counts, `(classes,)`.
    """

    def __init__(self, examples, weights):
        self.examples, self.weights = examples, np.asarray(weights, "float32")
        self.table = np.zeros(256, "float32")
        self.table[: len(self.weights)] = self.weights
        self.ahead = getattr(examples, "ahead", 0)

    def __len__(self):
        return len(self.examples)

    def set_epoch(self, epoch):
        if hasattr(self.examples, "set_epoch"):
            self.examples.set_epoch(epoch)

    def take(self, indices):
        pictures, masks = self.examples.take(indices)
        return pictures, np.where(masks == IGNORED, 0, masks), self.table[masks]

    def subset(self, indices):
        return Pixels(self.examples.subset(indices), self.weights)

    def example_digests(self, targets=True):
        return example_digests(self.examples, targets)

    def fingerprint(self):
        return digest(self.example_digests())


def count_pixels(examples, num_classes, at_once=32):
    """`(pixels of each class, pixels of the pictures that have any of it)`, two int64 arrays `(classes,)`."""
    pixels, around = np.zeros((2, num_classes), "int64")
    for start in range(0, len(examples), at_once):
        masks = examples.take(np.arange(start, min(start + at_once, len(examples))))[1]
        for mask in masks:
            counts = np.bincount(mask.reshape(-1), minlength=256)[:num_classes]
            pixels += counts
            around += np.where(counts > 0, counts.sum(), 0)
    return pixels, around


def median_frequency_weights(examples, num_classes):
    """Weights of classes, their median frequency divided by their own; a class that is nowhere has the weight 1.

    A frequency is a class's pixels divided by those of the pictures it is in (Eigen & Fergus, 2015, arXiv 1411.4734).
    """
    pixels, around = count_pixels(examples, num_classes)
    frequency = pixels / np.maximum(around, 1)
    seen = frequency > 0
    median = np.median(frequency[seen]) if seen.any() else 1.0
    return np.where(seen, median / np.maximum(frequency, 1e-12), 1.0).astype("float32")
