"""The decoder of DETR: queries that are boxes look at a picture's tokens and move, layer after layer."""

import math

import keras
import numpy as np

from ... import Dense, LayerNormalization, backend
from ... import boxes as geometry
from .feature_pyramid import PRIOR

ops = keras.ops


def sine_positions(places, features, temperature):
    """Sines and cosines of numbers in 0..1 at `features / 2` wavelengths each: `(..., n)` to `(..., n * features)`."""
    rates = 2 * math.pi / temperature ** (np.arange(features // 2) / (features // 2))
    places = ops.cast(places, keras.config.floatx())
    angles = ops.expand_dims(places, -1) * ops.convert_to_tensor(rates.astype(keras.config.floatx()))
    found = ops.concatenate([ops.sin(angles), ops.cos(angles)], axis=-1)
    return ops.reshape(found, (*ops.shape(places)[:-1], places.shape[-1] * features))


@keras.saving.register_keras_serializable(package="triptych")
class BoxDecoderLayer(keras.layers.Layer):
    """Queries of one group look at one another, then at the tokens of the picture, the more the nearer to their box.

    The attention of a query with the box (x, y, w, h) to a token at (s, t) has `-g ((s - x)^2 / w^2 + (t - y)^2 / h^2)` added
    before the softmax, g learned for each head; w and h are at least those of the token's cell.

    Args:
        num_heads: Number of heads; it must divide the width.
        hidden_dim: Width of the hidden layer of the perceptron on each query.
    Reference: Carion et al., 2020, arXiv 2005.12872; attention about the box: Gao et al., 2021, arXiv 2101.07448.
    """

    def __init__(self, num_heads, hidden_dim, **kwargs):
        super().__init__(autocast=False, **kwargs)  # boxes stay in single precision
        self.num_heads, self.hidden_dim = num_heads, hidden_dim
        nearness = np.linspace(0.5, 4.0, num_heads)  # some heads look about, some at the place alone
        self.nearness_initializer = keras.initializers.Constant(np.log(np.expm1(nearness)).astype("float32"))

    def build(self, input_shape):
        width = input_shape[-1]
        self.nearness = self.add_weight(name="nearness", shape=(self.num_heads,), initializer=self.nearness_initializer)
        widths = dict.fromkeys(["query_key", "value", "joined", "look", "keys", "values", "seen", "output"], width)
        self.parts = {
            name: Dense(size, name=name, dtype=self.dtype_policy)
            for name, size in {**widths, "query_key": 2 * width, "hidden": self.hidden_dim}.items()
        }
        for name, part in self.parts.items():
            part.build((*input_shape[:-1], self.hidden_dim if name == "output" else width))
        self.norms = [LayerNormalization(epsilon=1e-6, name=f"norm{i}", dtype=self.dtype_policy) for i in range(3)]
        for norm in self.norms:
            norm.build(input_shape)

    def call(self, x, place, boxes, memory, positions, cells, counted=None, groups=1):
        x = x + self.among_queries(self.norms[0](x), place, counted, groups)
        x = x + self.from_picture(self.norms[1](x) + place, boxes, memory, positions, cells)
        return x + self.parts["output"](ops.relu(self.parts["hidden"](self.norms[2](x))))

    def among_queries(self, x, place, counted, groups):
        _, queries, width = x.shape
        shape = (-1, queries // groups, self.num_heads, width // self.num_heads)
        query, key = ops.split(self.parts["query_key"](x + place), 2, axis=-1)
        query, key, value = (ops.reshape(part, shape) for part in (query, key, self.parts["value"](x)))
        return self.parts["joined"](ops.reshape(backend.attention(query, key, value, False, counted), (-1, queries, width)))

    def from_picture(self, x, boxes, memory, positions, cells):
        _, queries, width = x.shape
        size = width // self.num_heads
        query = ops.reshape(self.parts["look"](x) / math.sqrt(size), (-1, queries, self.num_heads, size))
        key = ops.reshape(self.parts["keys"](memory + positions), (-1, memory.shape[1], self.num_heads, size))
        value = ops.reshape(self.parts["values"](memory), (-1, memory.shape[1], self.num_heads, size))
        away = (boxes[:, :, None, :2] - cells[:, :2]) / ops.maximum(boxes[:, :, None, 2:], cells[:, 2:])
        away = ops.expand_dims(ops.sum(ops.square(away), axis=-1), 1)  # (batch, 1, queries, tokens)
        near = ops.reshape(ops.softplus(ops.convert_to_tensor(self.nearness)), (1, -1, 1, 1))
        scores = ops.einsum("bqhd,bkhd->bhqk", query, key)
        weights = ops.softmax(scores - ops.cast(near, scores.dtype) * ops.cast(away, scores.dtype), axis=-1)
        return self.parts["seen"](ops.reshape(ops.einsum("bhqk,bkhd->bqhd", weights, value), (-1, queries, width)))


@keras.saving.register_keras_serializable(package="triptych")
class BoxDecoder(keras.layers.Layer):
    """Layers of queries, each of which is a box that every layer corrects: `box <- sigmoid(logit(box) + MLP(query))`.

    Args:
        num_classes: Number of classes.
        depth: Number of layers.
        num_heads, hidden_dim: As `BoxDecoderLayer`.
        maps: `(height, width)` of each map the tokens come from, one after the other.
    Called on: queries `(batch, n, width)`, boxes `(batch, n, 4)` (x, y, width, height), tokens `(batch, cells, width)`, which
        queries count, `(batch * groups, n / groups)`, and the number of groups, which do not see one another.
    Returns: Class logits `(batch, depth, n, num_classes)` and boxes `(batch, depth, n, 4)` of every layer.
    Reference: Liu et al., 2022, arXiv 2201.12329.
    """

    def __init__(self, num_classes, depth, num_heads, hidden_dim, maps, **kwargs):
        super().__init__(autocast=False, **kwargs)  # boxes stay in single precision
        self.num_classes = num_classes
        self.cells = geometry.grid(maps)
        names = [f"layer{i}" for i in range(depth)]
        self.layers = [BoxDecoderLayer(num_heads, hidden_dim, name=name, dtype=self.dtype_policy) for name in names]

    def build(self, input_shape):
        width, policy, single = input_shape[-1], self.dtype_policy, keras.config.floatx()
        for layer in self.layers:
            layer.build(input_shape)
        small, prior = keras.initializers.RandomNormal(stddev=0.01), keras.initializers.Constant(PRIOR)
        self.norm = LayerNormalization(epsilon=1e-6, name="norm", dtype=policy)
        self.place_hidden = Dense(width, activation="relu", name="place_hidden", dtype=policy)
        self.place = Dense(width, name="place", dtype=policy)
        self.logits = Dense(
            self.num_classes, kernel_initializer=small, bias_initializer=prior, name="logits", dtype=single
        )
        self.move_hidden = Dense(width, activation="relu", name="move_hidden", dtype=policy)
        self.move = Dense(4, kernel_initializer=small, name="move", dtype=single)
        for part in (self.norm, self.place_hidden, self.place, self.logits, self.move_hidden, self.move):
            part.build(input_shape)

    def call(self, x, boxes, memory, counted=None, groups=1):
        features = memory.shape[-1] // 4
        boxes = ops.cast(boxes, keras.config.floatx())
        cells = ops.cast(self.cells, boxes.dtype)
        positions = ops.cast(sine_positions(cells[:, :2], 2 * features, 1000.0), memory.dtype)
        found = []
        for layer in self.layers:
            place = ops.cast(sine_positions(boxes, features, 20.0), x.dtype)
            place = self.place(self.place_hidden(place))
            x = layer(x, place, boxes, memory, positions, cells, counted=counted, groups=groups)
            normed = self.norm(x)
            moved = ops.sigmoid(self.move(self.move_hidden(normed)) + inverse_sigmoid(boxes))
            found.append((self.logits(normed), moved))
            boxes = ops.stop_gradient(moved)
        return tuple(ops.stack(part, axis=1) for part in zip(*found, strict=True))


def inverse_sigmoid(x):
    """The logit of numbers in 0..1, kept away from both ends, where it is infinite."""
    x = ops.clip(x, 1e-3, 1.0 - 1e-3)
    return ops.log(x) - ops.log(1.0 - x)
