"""DETR: a transformer that gives a set of boxes, matched one to one with the true ones; made to learn from few pictures."""

import math

import keras
import numpy as np

from ... import Conv2D, LayerNormalization, TransformerBlock, drawing
from ... import boxes as geometry
from ...matching import assign
from ...vision_losses import class_indicators, giou_loss, mean_over_counted, sigmoid_focal_loss
from ._box_decoder import BoxDecoder, sine_positions
from ._detection import Detector, box_targets, picture_weights
from .feature_pyramid import feature_pyramid

__all__ = ["DETR"]

ops = keras.ops
CLASS, L1, GIOU = 2.0, 5.0, 2.0  # what each part counts, in the matching as in the loss (Zhu et al., 2020)
ALPHA = 0.25  # of the focal loss
SHIFT, FLIP = 0.4, 0.2  # noise of a denoising query: of its box, in half sides; how often its class is another (DN-DETR)


@keras.saving.register_keras_serializable(package="triptych")
class DETR(Detector):
    """Detection transformer: queries become boxes, and each true box has the query the best matching of all gives it.

    Plain, it takes hundreds of epochs on a hundred thousand pictures. Four things make it learn from hundreds: a query is a
    box that each layer corrects and looks about (DAB); a second pass of the decoder is given the true boxes with noise and
    has to restore them, which needs no matching (DN); several groups of queries are matched in training, the first of which
    is kept (Group DETR); classes by the focal loss.

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes; background is none of them.
        width: Features of a token, a multiple of 16.
        sizes: `"depth"` of encoder and decoder (2, 3), `"num_heads"` (4), `"num_queries"` (40; it must not be less than the
            boxes of a picture), `"stride"` of the map, 8, 16 or 32 (16), `"trunk_width"` (16); a dict of those that differ.
        groups: Groups of queries in training; 1 for one-to-one matching alone.
        denoising: Noisy copies of the true boxes in training; 0 for none.
        trunk: As `feature_pyramid`.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. Targets: a dict, `"boxes"` `(batch, n, 4)`, corners as
        fractions of the picture, and `"classes"` `(batch, n)`, -1 for padding.
    Output shape: a dict, `"logits"` `(batch, num_queries, num_classes)` and `"boxes"` `(batch, num_queries, 4)`, corners. In
        training also what the loss needs of all layers and groups.
    Raises:
        ValueError: The width is no multiple of 16, or a size is unknown.
    Reference: Carion et al., 2020, arXiv 2005.12872; DAB: Liu et al., 2022, arXiv 2201.12329; DN: Li et al., 2022, arXiv
        2203.01305; groups: Chen et al., 2022, arXiv 2207.13085.
    """

    def __init__(
        self, image_shape, num_classes, *, width=64, sizes=None, groups=3, denoising=3, trunk=None, **kwargs
    ):
        super().__init__(**kwargs)
        plain = {"num_classes": num_classes, "width": width, "sizes": sizes, "groups": groups, "denoising": denoising}
        self._arguments = {"image_shape": list(image_shape), **plain}
        if width < 16 or width % 16:
            raise ValueError(f"`width` must be a multiple of 16. Received: width={width}")
        known = {"depth": (2, 3), "num_heads": 4, "num_queries": 40, "stride": 16, "trunk_width": 16}
        if unknown := sorted(set(sizes or {}) - set(known)):
            raise ValueError(f"`sizes` can have {', '.join(known)}. Received: {', '.join(unknown)}")
        sizes = {**known, **(sizes or {})}
        self.num_classes, self.groups, self.denoising = num_classes, groups, denoising
        self.num_queries, self.trunk = sizes["num_queries"], trunk
        self.encoder, map_size = picture_encoder(image_shape, width, sizes, trunk)
        self.decoder = BoxDecoder(num_classes, sizes["depth"][1], sizes["num_heads"], 4 * width, map_size, name="decoder")
        self.decoder.build((None, self.num_queries, width))
        self.queries = Queries(self.num_queries, groups, num_classes if denoising else 0, width, name="queries")
        self.queries.build()
        self.seeds = keras.random.SeedGenerator() if denoising else None
        self.watch_losses()
        self.built = True

    def call(self, x, training=None):
        memory = self.encoder(x, training=training)
        groups = self.groups if training else 1
        content, boxes = self.queries.of_groups(groups)
        content, boxes = (ops.repeat(part[None], ops.shape(memory)[0], axis=0) for part in (content, boxes))
        logits, boxes = self.decoder(ops.cast(content, memory.dtype), boxes, memory, groups=groups)
        boxes = geometry.to_corners(boxes)
        last = {"logits": logits[:, -1, : self.num_queries], "boxes": boxes[:, -1, : self.num_queries]}
        return {**last, "all_logits": logits, "all_boxes": boxes, "memory": memory} if training else last

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        boxes, classes, valid = box_targets(y)
        weight = ops.expand_dims(picture_weights(sample_weight, boxes), -1) * ops.cast(valid, boxes.dtype)
        pictures = picture_weights(sample_weight, boxes)
        logits = y_pred["all_logits"] if "all_logits" in y_pred else y_pred["logits"][:, None]
        found = y_pred["all_boxes"] if "all_boxes" in y_pred else y_pred["boxes"][:, None]
        # Every layer and group of queries is a problem of its own, all solved at once.
        count = logits.shape[1] * (logits.shape[2] // self.num_queries)
        logits = ops.reshape(logits, (-1, self.num_queries, self.num_classes))
        found = ops.reshape(found, (-1, self.num_queries, 4))
        truth = [ops.repeat(part, count, axis=0) for part in (boxes, classes, valid, weight, pictures)]
        class_loss, box_loss = self.matched_losses(logits, found, *truth)
        if self.denoising and "memory" in y_pred:
            more = self.denoising_losses(y_pred["memory"], boxes, classes, valid, weight)
            class_loss, box_loss = class_loss + more[0], box_loss + more[1]
        return self.sum_of(class_loss, box_loss)

    def matched_losses(self, logits, found, boxes, classes, valid, weight, pictures):
        """The loss of the classes and of the boxes under the best matching: `(problems, ...)` each."""
        chosen = self.match(logits, found, boxes, classes, valid)
        places = ops.arange(self.num_queries, dtype="int32")
        own = ops.equal(ops.expand_dims(chosen, -1), places) & ops.expand_dims(valid, -1)  # (problems, n, queries)
        indicators = class_indicators(classes, self.num_classes, logits.dtype)
        targets = ops.einsum("pnq,pnc->pqc", ops.cast(own, logits.dtype), indicators)
        count = ops.maximum(ops.sum(weight), 1.0)
        class_loss = ops.sum(sigmoid_focal_loss(targets, logits, alpha=ALPHA), axis=(1, 2))
        class_loss = CLASS * mean_over_counted(class_loss, pictures, count)
        found = ops.take_along_axis(found, ops.expand_dims(chosen, -1), axis=1)
        return class_loss, mean_over_counted(box_losses(boxes, found), weight, count)

    def match(self, logits, found, boxes, classes, valid):
        """The query of each true box, `(problems, n)`."""
        ones, zeros = (sigmoid_focal_loss(ops.full_like(logits, t), logits, alpha=ALPHA) for t in (1.0, 0.0))
        indicators = class_indicators(classes, self.num_classes, logits.dtype)
        costs = CLASS * ops.einsum("pqc,pnc->pnq", ones - zeros, indicators)
        costs = costs + geometry.pairwise(box_losses, boxes, found)
        return assign(ops.where(ops.expand_dims(valid, -1), costs, 0.0))

    def denoising_losses(self, memory, boxes, classes, valid, weight):
        """True boxes with noise, restored by the decoder: the loss of their classes and of their boxes."""
        groups, number = self.denoising, boxes.shape[1]
        boxes, classes, weight = (ops.tile(part, (1, groups, *[1] * (len(part.shape) - 2))) for part in (boxes, classes, weight))
        shape = (ops.shape(memory)[0], groups * number)
        noise = SHIFT * drawing.uniform((*shape, 4), self.seeds, -1.0, 1.0)
        centers = geometry.to_centers(boxes)
        sides = centers[..., 2:]
        noisy = ops.concatenate([centers[..., :2] + noise[..., :2] * sides / 2, sides * (1.0 + noise[..., 2:])], axis=-1)
        noisy = ops.clip(noisy, 1e-3, 1.0 - 1e-3)
        other = ops.cast(drawing.uniform(shape, self.seeds, 0.0, self.num_classes), "int32")
        given = ops.where(drawing.uniform(shape, self.seeds) < FLIP, other, classes)
        content = ops.cast(self.queries.of_classes(given), memory.dtype)
        # Attention to nothing at all is not a number: a picture without boxes keeps its padding, which counts nothing.
        counted = ops.logical_or(valid, ops.logical_not(ops.any(valid, axis=1, keepdims=True)))
        counted = ops.repeat(counted, groups, axis=0)
        logits, found = self.decoder(content, noisy, memory, counted=counted, groups=groups)
        targets = class_indicators(classes, self.num_classes, logits.dtype)[:, None]
        class_loss = ops.sum(sigmoid_focal_loss(ops.broadcast_to(targets, ops.shape(logits)), logits, alpha=ALPHA), axis=-1)
        losses = class_loss, box_losses(boxes[:, None], geometry.to_corners(found))
        count = ops.maximum(ops.sum(weight) * logits.shape[1], 1.0)
        class_loss, box_loss = (mean_over_counted(each, weight[:, None], count) for each in losses)
        return CLASS * class_loss, box_loss

    def boxes_and_scores(self, predictions):
        """Corners `(batch, queries, 4)` and scores `(batch, queries, num_classes)` of the outputs."""
        return predictions["boxes"], ops.sigmoid(predictions["logits"])

    def detect(self, predictions, **options):
        """As any detector's, by default without suppression: the best pairs of query and class."""
        return super().detect(predictions, **{"iou_threshold": 1.0, "max_detections": self.num_queries, **options})


def box_losses(boxes, found):
    """`5 |b - b'|_1 + 2 (1 - GIoU)` of corners, the first by centres and sides: `(..., 4)` to `(...)`."""
    away = ops.abs(geometry.to_centers(boxes) - geometry.to_centers(found))
    return L1 * ops.sum(away, axis=-1) + GIOU * giou_loss(boxes, found)


def picture_encoder(image_shape, width, sizes, trunk):
    """A model from pictures to tokens `(batch, cells, width)`, and the `(height, width)` of the map they come from."""
    levels = int(math.log2(sizes["stride"])) - 2
    pyramid = feature_pyramid(image_shape, width=sizes["trunk_width"], channels=width, num_levels=max(1, levels), trunk=trunk)
    x = Conv2D(width, 1)(pyramid.outputs[-1])
    map_size = x.shape[1:3]
    x = keras.layers.Reshape((map_size[0] * map_size[1], width))(x)
    cells = geometry.grid([map_size])[:, :2]
    positions = keras.ops.convert_to_numpy(sine_positions(keras.ops.convert_to_tensor(cells), width // 2, 1000.0))
    for _ in range(sizes["depth"][0]):
        x = x + positions
        x = TransformerBlock(sizes["num_heads"], 4 * width, activation="relu")(x)
    x = LayerNormalization(epsilon=1e-6)(x)
    return keras.Model(pyramid.inputs, x, name="encoder"), map_size


@keras.saving.register_keras_serializable(package="triptych")
class Queries(keras.layers.Layer):
    """The learned queries: what each asks and its first box, for every group; and what a class asks, for denoising.

    At first the boxes of a group stand in a grid, some 0.2 of the picture large, the groups a little apart.

    Args:
        num_queries: Of each group.
        groups: Number of groups.
        num_classes: Classes that denoising queries have; 0 for no such queries.
        width: Features of a query.
    """

    def __init__(self, num_queries, groups, num_classes, width, **kwargs):
        super().__init__(**kwargs)
        self.shape, self.num_classes = (groups * num_queries, width), num_classes
        self.num_queries = num_queries
        side = math.ceil(math.sqrt(num_queries))
        places = (np.stack(np.meshgrid(*[np.arange(side)] * 2), axis=-1).reshape(-1, 2)[:num_queries] + 0.5) / side
        shifts = np.linspace(-0.25, 0.25, groups)[:, None, None] / side if groups > 1 else np.zeros((1, 1, 1))
        places = np.clip(places + shifts, 0.02, 0.98).reshape(-1, 2)
        boxes = np.concatenate([places, np.full_like(places, 0.2)], axis=-1)
        self.boxes_initializer = keras.initializers.Constant(np.log(boxes / (1 - boxes)).astype("float32"))
        self.content_initializer = keras.initializers.RandomNormal(stddev=0.02)
        self.classes_initializer = keras.initializers.RandomNormal(stddev=0.02)

    def build(self, input_shape=None):
        self.boxes = self.add_weight(name="boxes", shape=(self.shape[0], 4), initializer=self.boxes_initializer)
        self.content = self.add_weight(name="content", shape=self.shape, initializer=self.content_initializer)
        if self.num_classes:
            shape = (self.num_classes, self.shape[1])
            self.classes = self.add_weight(name="classes", shape=shape, initializer=self.classes_initializer)

    def of_groups(self, groups):
        """Content and boxes (x, y, width, height) of the first groups."""
        size = groups * self.num_queries
        return ops.convert_to_tensor(self.content)[:size], ops.sigmoid(ops.convert_to_tensor(self.boxes)[:size])

    def of_classes(self, classes):
        """Content of the queries that are given these classes."""
        table = ops.convert_to_tensor(self.classes)
        return ops.matmul(class_indicators(classes, self.num_classes, table.dtype), table)
