"""DETR: a transformer that gives a set of boxes, matched one to one with the true ones; made to learn from few pictures."""

import math

import keras

from ... import Dense, LayerNormalization, TransformerBlock, backend, drawing
from ... import boxes as geometry
from ...matching import assign
from ...vision_losses import class_indicators, giou_loss, mean_over_counted, quality_focal_loss, sigmoid_focal_loss
from ._box_decoder import BoxDecoder, sine_positions
from ._dense_boxes import DenseBoxes
from ._detection import Detector, box_targets, picture_weights, pyramid_heads
from .feature_pyramid import enlarged, feature_pyramid, normalised

__all__ = ["DETR"]

ops = keras.ops
CLASS, L1, GIOU = 2.0, 5.0, 2.0  # what each part counts, in the matching as in the loss (Zhu et al., 2020)
SHIFT, FLIP = 0.4, 0.2  # noise of a denoising query: of its box, in half sides; how often its class is another (DN-DETR)


@keras.saving.register_keras_serializable(package="triptych")
class DETR(Detector):
    """Detection transformer: queries become boxes, and each true box has the query the best matching of all gives it.

    Plain, it takes hundreds of epochs on a hundred thousand pictures. Four things make it learn from hundreds: every cell of
    the encoder's maps says a box, several cells to each true one, and the best of these boxes are the queries (two stages);
    a query is a box that each layer corrects and looks about (DAB); a second pass of the decoder is given the true boxes with
    noise and has to restore them, which needs no matching (DN); the target of a class is how well its box fits. The tokens
    are those of maps at several strides, of which the coarsest looks at all of itself and tells the finer ones (RT-DETR).

    Args:
        image_shape: `(height, width, channels)`.
        num_classes: Number of classes; background is none of them.
        width: Features of a token, a multiple of 16.
        sizes: `"depth"` of encoder and decoder (1, 3), `"num_heads"` (4), `"num_queries"` (40, but at most one a cell; it must
            not be less than the boxes of a picture), `"stride"` of the coarsest map, 8, 16 or 32 (16), `"trunk_width"` (16); a
            dict of those that differ.
        denoising: Noisy copies of the true boxes in training; 0 for none.
        trunk: As `feature_pyramid`.
    Input shape: `(batch, height, width, channels)`, pixels in 0..255. Targets: a dict, `"boxes"` `(batch, n, 4)`, corners as
        fractions of the picture, and `"classes"` `(batch, n)`, -1 for padding.
    Output shape: a dict, `"logits"` `(batch, num_queries, num_classes)` and `"boxes"` `(batch, num_queries, 4)`, corners. In
        training also what the loss needs of all layers and of the cells.
    Raises:
        ValueError: The width is no multiple of 16, or a size is unknown.
    Reference: Carion et al., 2020, arXiv 2005.12872; two stages: Zhu et al., 2020, arXiv 2010.04159; DAB: Liu et al., 2022,
        arXiv 2201.12329; DN: Li et al., 2022, arXiv 2203.01305; RT-DETR: Zhao et al., 2023, arXiv 2304.08069.
    """

    def __init__(self, image_shape, num_classes, *, width=64, sizes=None, denoising=3, trunk=None, **kwargs):
        super().__init__(**kwargs)
        plain = {"num_classes": num_classes, "width": width, "sizes": sizes, "denoising": denoising}
        self._arguments = {"image_shape": list(image_shape), **plain}
        if width < 16 or width % 16:
            raise ValueError(f"`width` must be a multiple of 16. Received: width={width}")
        known = {"depth": (1, 3), "num_heads": 4, "num_queries": 40, "stride": 16, "trunk_width": 16}
        if unknown := sorted(set(sizes or {}) - set(known)):
            raise ValueError(f"`sizes` can have {', '.join(known)}. Received: {', '.join(unknown)}")
        sizes = {**known, **(sizes or {})}
        self.num_classes, self.denoising = num_classes, denoising
        self.encoder, maps = picture_encoder(image_shape, num_classes, width, sizes, trunk)
        self.dense, self.trunk = DenseBoxes(maps, num_classes), trunk
        self.num_queries = min(sizes["num_queries"], len(self.dense.cells))
        self.decoder = BoxDecoder(num_classes, sizes["depth"][1], sizes["num_heads"], 4 * width, maps, name="decoder")
        self.decoder.build((None, self.num_queries, width))
        self.queries = Queries(num_classes if denoising else 0, name="queries")
        self.queries.build((None, None, width))
        self.seeds = keras.random.SeedGenerator() if denoising else None
        self.watch_losses()
        self.built = True

    def call(self, x, training=None):
        encoded = self.encoder(x, training=training)
        tokens = encoded["tokens"]
        said = {part: ops.stop_gradient(encoded[part]) for part in ("logits", "codes")}
        chosen = self.dense.best(said, self.num_queries)
        boxes = backend.take_places(self.dense.decode(said["codes"]), chosen)
        boxes = geometry.to_centers(geometry.clip(boxes))
        content = self.queries(backend.take_places(tokens, chosen))
        logits, boxes = self.decoder(content, boxes, tokens)
        boxes = geometry.to_corners(boxes)
        last = {"logits": logits[:, -1], "boxes": boxes[:, -1]}
        return {**last, "all_logits": logits, "all_boxes": boxes, "encoded": encoded} if training else last

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        boxes, classes, valid = box_targets(y)
        pictures = picture_weights(sample_weight, boxes)
        weight = ops.expand_dims(pictures, -1) * ops.cast(valid, boxes.dtype)
        logits = y_pred["all_logits"] if "all_logits" in y_pred else y_pred["logits"][:, None]
        found = y_pred["all_boxes"] if "all_boxes" in y_pred else y_pred["boxes"][:, None]
        depth = logits.shape[1]  # every layer is a problem of its own, all solved at once
        logits = ops.reshape(logits, (-1, self.num_queries, self.num_classes))
        found = ops.reshape(found, (-1, self.num_queries, 4))
        truth = [ops.repeat(part, depth, axis=0) for part in (boxes, classes, valid, weight, pictures)]
        losses = [self.matched_losses(logits, found, *truth)]
        if "encoded" in y_pred:
            losses.append(self.dense.losses(y_pred["encoded"], (boxes, classes, valid), pictures))
            if self.denoising:
                losses.append(self.denoising_losses(y_pred["encoded"]["tokens"], boxes, classes, valid, weight))
        return self.sum_of(*(sum(parts) for parts in zip(*losses, strict=True)))

    def matched_losses(self, logits, found, boxes, classes, valid, weight, pictures):
        """The loss of the classes and of the boxes under the best matching: `(problems, ...)` each."""
        chosen = self.match(logits, found, boxes, classes, valid)
        places = ops.arange(self.num_queries, dtype="int32")
        own = ops.equal(ops.expand_dims(chosen, -1), places) & ops.expand_dims(valid, -1)  # (problems, n, queries)
        indicators = class_indicators(classes, self.num_classes, logits.dtype)
        found = backend.take_places(found, chosen)
        fit = ops.stop_gradient(geometry.iou(found, boxes))
        targets = ops.einsum("pnq,pnc->pqc", ops.cast(own, logits.dtype), indicators * ops.expand_dims(fit, -1))
        count = ops.maximum(ops.sum(weight), 1.0)
        class_loss = ops.sum(quality_focal_loss(targets, logits), axis=(1, 2))
        class_loss = CLASS * mean_over_counted(class_loss, pictures, count)
        return class_loss, mean_over_counted(box_losses(boxes, found), weight, count)

    def match(self, logits, found, boxes, classes, valid):
        """The query of each true box, `(problems, n)`."""
        ones, zeros = (sigmoid_focal_loss(ops.full_like(logits, t), logits) for t in (1.0, 0.0))
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
        found = geometry.to_corners(found)
        fit = ops.stop_gradient(geometry.iou(boxes[:, None], found))
        targets = class_indicators(classes, self.num_classes, logits.dtype)[:, None] * ops.expand_dims(fit, -1)
        losses = ops.sum(quality_focal_loss(targets, logits), axis=-1), box_losses(boxes[:, None], found)
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


def picture_encoder(image_shape, num_classes, width, sizes, trunk):
    """From pictures to tokens `(batch, cells, width)` and what each cell says, and the `(height, width)` of their maps.

    The tokens of the coarsest map look at one another; then each finer map takes in the next coarser one.

    Returns: A model, `{"tokens", "logits", "codes"}`, and the sizes of the maps, the finest first.
    """
    levels = max(1, int(math.log2(sizes["stride"])) - 2)
    pyramid = feature_pyramid(image_shape, width=sizes["trunk_width"], channels=width, num_levels=levels, trunk=trunk)
    maps = list(pyramid.outputs)
    sides = [tuple(each.shape[1:3]) for each in maps]
    counts = [rows * columns for rows, columns in sides]
    x = keras.layers.Reshape((counts[-1], width))(maps[-1])
    positions = positions_of(geometry.grid(sides[-1:]), width)
    for _ in range(sizes["depth"][0]):
        x = TransformerBlock(sizes["num_heads"], 4 * width, activation="relu")(x + positions)
    maps[-1] = keras.layers.Reshape((*sides[-1], width))(LayerNormalization(epsilon=1e-6)(x))
    for index in reversed(range(levels - 1)):
        x = keras.layers.Add()([maps[index], enlarged(maps[index + 1], sides[index])])
        maps[index] = keras.layers.ReLU()(normalised(x, width, 3))
    tokens = [keras.layers.Reshape((count, width))(each) for count, each in zip(counts, maps, strict=True)]
    tokens = keras.layers.Concatenate(axis=1)(tokens) if levels > 1 else tokens[0]
    outputs = {"tokens": LayerNormalization(epsilon=1e-6)(tokens), **pyramid_heads(maps, num_classes)}
    return keras.Model(pyramid.inputs, outputs, name="encoder"), sides


def positions_of(cells, width):
    """Sines and cosines of where cells are, `(cells, width)`, as constant numbers."""
    return ops.convert_to_numpy(sine_positions(ops.convert_to_tensor(cells[:, :2]), width // 2, 1000.0))


@keras.saving.register_keras_serializable(package="triptych")
class Queries(keras.layers.Layer):
    """What each query asks: of a token that was chosen, a projection; of a denoising query, what its class asks.

    Args:
        num_classes: Classes that denoising queries have; 0 for no such queries.
    """

    def __init__(self, num_classes, **kwargs):
        super().__init__(**kwargs)
        self.num_classes = num_classes
        self.classes_initializer = keras.initializers.RandomNormal(stddev=0.02)

    def build(self, input_shape):
        width = input_shape[-1]
        self.content = Dense(width, name="content", dtype=self.dtype_policy)
        self.content.build(input_shape)
        if self.num_classes:
            shape = (self.num_classes, width)
            self.classes = self.add_weight(name="classes", shape=shape, initializer=self.classes_initializer)

    def call(self, tokens):
        return self.content(tokens)

    def of_classes(self, classes):
        """Content of the queries that are given these classes."""
        table = ops.convert_to_tensor(self.classes)
        return ops.matmul(class_indicators(classes, self.num_classes, table.dtype), table)
