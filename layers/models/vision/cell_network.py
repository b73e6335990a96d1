"""Cell network: one small cell of chosen operations and wiring, repeated; what an architecture search shapes."""

import keras

from ... import AveragePooling2D, BatchNormalization, Conv2D, Dense, DepthwiseConv2D, MaxPooling2D
from .._inputs import image_input

__all__ = ["cell_network"]

OPERATIONS = ("conv3", "separable3", "conv1", "max3", "average3", "identity")


def cell_network(image_shape, num_outputs, *, cell, width=16, depth=1, stages=3, dropout=0.0):
    """A stem and stages of equal cells, the image halved and the filters doubled between stages, as in NASNet.

    A cell is a graph: source 0 is its input, node i (from 1) is the sum of two operations, each on an earlier source. The
    nodes that no other node reads are concatenated and brought back to the width by a 1 x 1 convolution, to which the
    input is added. Every operation keeps the size; those with weights are ReLU, convolution, batch normalization.

    Args:
        image_shape: `(height, width, channels)`, at least `2 ** (stages - 1)` pixels a side.
        num_outputs: Number of logits.
        cell: Operation, source, operation, source for each node in turn, comma-separated, such as
            `"conv3,0,identity,0,separable3,1,max3,0"`.
        width: Filters of the first stage.
        depth: Cells in each stage.
        stages: Number of resolutions.
        dropout: Fraction of the features dropped before the logits in training.
    Input shape: `(batch, height, width, channels)`.
    Output shape: `(batch, num_outputs)`, logits.
    Raises:
        ValueError: An unknown operation, a source that is not earlier, or an incomplete node.
    Reference: Zoph et al., 2018, arXiv 1707.07012 (cells); Real et al., 2019, arXiv 1802.01548 (their evolution).
    """
    nodes = _read_cell(cell)
    inputs = image_input(image_shape, minimum=2 ** (stages - 1))
    x = _convolution(inputs, width, 3, activate=False)
    for stage in range(stages):
        if stage:
            x = _convolution(MaxPooling2D(2)(x), width * 2**stage, 1)
        for _ in range(depth):
            x = _cell(x, nodes)
    x = keras.layers.ReLU()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(dropout)(x)
    logits = Dense(num_outputs, dtype=keras.config.floatx(), name="logits")(x)
    return keras.Model(inputs, logits, name="cell_network")


def _read_cell(cell):
    """A cell's text as `[((operation, source), (operation, source)), ...]`, one pair a node."""
    parts = [part.strip() for part in str(cell).split(",")]
    if len(parts) % 4 or not parts[0]:
        raise ValueError(f"`cell` must have operation, source, operation, source for each node. Received: cell={cell!r}")
    edges = []
    for index, (operation, source) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        node = index // 2 + 1
        if operation not in OPERATIONS:
            raise ValueError(f"`cell` must name operations of {', '.join(OPERATIONS)}. Received: {operation!r} in cell={cell!r}")
        if not source.isdigit() or int(source) >= node:
            raise ValueError(f"`cell`: sources of node {node} are from 0 to {node - 1}. Received: {source!r} in cell={cell!r}")
        edges.append((operation, int(source)))
    return list(zip(edges[::2], edges[1::2], strict=True))


def _cell(x, nodes):
    filters, sources, read = x.shape[-1], [x], {0}
    for pair in nodes:
        made = [_operation(sources[source], operation) for operation, source in pair]
        read |= {source for _, source in pair}
        sources.append(keras.layers.Add()(made))
    loose = [source for index, source in enumerate(sources) if index not in read]
    together = keras.layers.Concatenate()(loose) if len(loose) > 1 else loose[0]
    return keras.layers.Add()([x, _convolution(together, filters, 1)])


def _operation(x, name):
    filters = x.shape[-1]
    if name == "identity":
        return x
    if name == "max3":
        return MaxPooling2D(3, strides=1, padding="same")(x)
    if name == "average3":
        return AveragePooling2D(3, strides=1, padding="same")(x)
    if name == "separable3":
        x = DepthwiseConv2D(3, padding="same", use_bias=False)(keras.layers.ReLU()(x))
        return _convolution(x, filters, 1, activate=False)
    return _convolution(x, filters, 3 if name == "conv3" else 1)


def _convolution(x, filters, kernel_size, activate=True):
    x = keras.layers.ReLU()(x) if activate else x
    x = Conv2D(filters, kernel_size, padding="same", use_bias=False, kernel_initializer="he_normal")(x)
    return BatchNormalization(momentum=0.9)(x)
