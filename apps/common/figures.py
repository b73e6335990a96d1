"""The pictures every app draws: learning curves, gradient flow, confusion, grids of images. Each returns a Figure."""

import warnings
from pathlib import Path

import numpy as np


def pillow_font(size):
    """The font of the figures for Pillow, whose own lacks accents, Greek and Cyrillic."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)


def new(width=7.0, height=4.5, rows=1, columns=1):
    """A figure of this size in inches and its axes, without any global state."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def generated(figure, model, **more):
    """The same figure, whose file will say that a model drew what it shows: its name, and `more` such as the seed."""
    figure.metadata = {"Software": "triptych", "Generated": "yes", "Model": model.name}
    figure.metadata |= {name.capitalize(): str(value) for name, value in more.items()}
    return figure


def save(figure, file, metadata=None):
    """Write a figure as PNG, every text as it stands: a `$` in the name of a class or in a word is no mathematics.

    Args:
        figure: A matplotlib figure.
        file: Path.
        metadata: `{key: text}` that the file holds as well where the figure is of `generated` pictures, such as the run.
    """
    from matplotlib.text import Text
    from matplotlib.ticker import LogFormatter

    powers = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        if isinstance(axis.get_major_formatter(), LogFormatter)  # 10 to the power of something, which is mathematics
        for label in (*axis.get_ticklabels(), *axis.get_ticklabels(minor=True))
    }
    for text in figure.findobj(Text):
        text.set_parse_math(id(text) in powers)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # an empty box stands for what the font lacks
        said = getattr(figure, "metadata", None)
        figure.savefig(file, dpi=110, bbox_inches="tight", metadata=said and {**said, **(metadata or {})})


def curves(history):
    """Loss and metrics over the epochs, validation dashed, one panel a quantity.

    Args:
        history: `{metric: [one value an epoch]}`.
    """
    names = [name for name in history if not name.startswith("val_") and name != "seconds"]
    figure, panels = new(3.6 * len(names), 3.2, 1, len(names))
    for axis, name in zip(np.atleast_1d(panels), names, strict=True):
        epochs = range(1, len(history[name]) + 1)
        axis.plot(epochs, history[name], label="train")
        if f"val_{name}" in history:
            axis.plot(epochs, history[f"val_{name}"], "--", label="validation")
            axis.legend(frameon=False)
        axis.set(xlabel="epoch", title=name.replace("_", " "))
        axis.grid(alpha=0.3)
    return figure


def learning_rate(rates, losses, suggestion):
    """Loss against the learning rate of a range test, the suggestion marked."""
    figure, axis = new()
    axis.semilogx(rates, losses)
    axis.axvline(suggestion, color="tab:red", linestyle="--", label=f"suggested {suggestion:.2g}")
    axis.set(xlabel="learning rate", ylabel="loss (smoothed)", title="learning-rate range test")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return figure


def gradient_flow(norms):
    """Norm of the gradient at each kernel, first layer on the left, one line an epoch, dark to light.

    Args:
        norms: One dict `{weight: norm}` an epoch.
    """
    names = list(norms[0])
    figure, axis = new(max(6.0, 0.35 * len(names)), 4.5)
    for epoch, row in enumerate(norms):
        shade = 0.1 + 0.8 * epoch / max(1, len(norms) - 1)
        label = f"epoch {epoch + 1}" if epoch in (0, len(norms) - 1) else None
        values = [max(row[name], 1e-20) for name in names]
        axis.semilogy(range(len(names)), values, color=(0.1, shade, 1 - shade), marker=".", label=label)
    axis.set_xticks(range(len(names)), [name[-28:] for name in names], rotation=90, fontsize=6)
    axis.set(ylabel="norm of the gradient", title="gradient flow, input layer first")
    axis.legend(frameon=False)
    axis.grid(alpha=0.3)
    return figure


def confusion(matrix, class_names):
    """Confusion matrix, rows the truth, shaded by the share of the row; counts written when there is room."""
    matrix = np.asarray(matrix)
    count = len(class_names)
    size = min(14.0, 2.5 + 0.5 * count)
    figure, axis = new(size, size)
    shares = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    if count <= 25:
        for row in range(count):
            for column in range(count):
                color = "white" if shares[row, column] > 0.5 else "black"
                axis.text(column, row, int(matrix[row, column]), ha="center", va="center", color=color, fontsize=8)
        axis.set_xticks(range(count), class_names, rotation=45, ha="right")
        axis.set_yticks(range(count), class_names)
    axis.set(xlabel="predicted", ylabel="true", title="confusion")
    return figure


def image_grid(images, titles=None, columns=6, overlays=None):
    """Pictures side by side with a title each; `overlays` (values in 0..1) are laid over them as heat.

    Args:
        images: Sequence of arrays `(height, width, channels)` of uint8.
        titles: One string each.
        columns: Pictures in a row.
        overlays: Arrays `(height, width)` or `None`.
    """
    columns = min(columns, max(1, len(images)))
    rows = max(1, -(-len(images) // columns))
    height, width = np.shape(images[0])[:2] if len(images) else (1, 1)
    figure, axes = new(1.7 * columns, (1.7 * min(1.5, height / width) + 0.25) * rows, rows, columns)
    for axis in np.ravel(axes):
        axis.axis("off")
    for index, (axis, image) in enumerate(zip(np.ravel(axes), images, strict=False)):
        image = np.asarray(image)
        axis.imshow(image[..., 0] if image.shape[-1] == 1 else image, cmap="gray")
        if overlays is not None:
            axis.imshow(overlays[index], cmap="jet", alpha=0.4, vmin=0, vmax=1)
        if titles is not None:
            axis.set_title(titles[index], fontsize=7)
    return figure


def mosaic(images, columns, title="", names=None):
    """Pictures laid edge to edge in rows, with a name before each row: quick where there are a hundred.

    Args:
        images: Array `(n, height, width, channels)` of uint8, `n` a multiple of `columns`.
        columns: Pictures in a row.
        title: Over the figure.
        names: One string a row, or `None`.
    """
    _, height, width, channels = images.shape
    rows = len(images) // columns
    tiled = images.reshape(rows, columns, height, width, channels).swapaxes(1, 2)
    tiled = np.pad(tiled, ((0, 0), (1, 0), (0, 0), (1, 0), (0, 0))).reshape(rows * (height + 1), columns * (width + 1), channels)
    figure, axis = new(0.6 * columns + 1, 0.6 * rows * height / width + 0.6)
    axis.imshow(tiled[..., 0] if channels == 1 else tiled, cmap="gray", vmin=0, vmax=255)
    axis.set(title=title, xticks=[], yticks=[])
    if names is not None:
        axis.set_yticks((np.arange(rows) + 0.5) * (height + 1), [str(name)[:16] for name in names])
    return figure


def bars(names, values, errors=None, title="", xlabel=""):
    """Horizontal bars, the longest on top."""
    order = np.argsort(values)
    figure, axis = new(7.0, max(2.0, 0.3 * len(names) + 1))
    spread = None if errors is None else np.asarray(errors)[order]
    axis.barh([str(names[i]) for i in order], np.asarray(values)[order], xerr=spread)
    axis.set(title=title, xlabel=xlabel)
    axis.grid(alpha=0.3, axis="x")
    return figure


def scatter(x, y, xlabel, ylabel, title, diagonal=False):
    """Points of two quantities; with `diagonal`, the line on which they are equal."""
    figure, axis = new(5.0, 5.0)
    axis.scatter(x, y, s=8, alpha=0.5)
    if diagonal:
        ends = [min(np.min(x), np.min(y)), max(np.max(x), np.max(y))]
        axis.plot(ends, ends, "k--", linewidth=0.8)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.grid(alpha=0.3)
    return figure


def nodes(points, classes, class_names, title, *, edges=None, names=None, wrong=None):
    """Nodes of a graph as dots coloured by class, with the edges between them where they are given.

    Args:
        points: `(nodes, 2)`.
        classes: One class index a node.
        class_names: One name a class.
        title: Over the figure.
        edges: `(2, edges)`, or `None` for the dots alone.
        names: A word at each node, or `None`.
        wrong: bool `(nodes,)`, nodes with a red ring, or `None`.
    """
    from matplotlib.collections import LineCollection

    figure, axis = new(8.0, 6.5)
    if edges is not None:
        axis.add_collection(LineCollection(points[edges.T], colors="0.75", linewidths=0.6, zorder=0))
    ring = np.zeros(len(points), bool) if wrong is None else wrong
    size = 14 if edges is None else 90
    for index, name in enumerate(class_names):
        inside = classes == index
        edge_colors = ["red" if each else "white" for each in ring[inside]]
        axis.scatter(*points[inside].T, s=size, color=f"C{index % 10}", edgecolors=edge_colors, linewidths=1.2, label=name)
    for point, name in zip(points, names or (), strict=False):
        axis.annotate(name, point, ha="center", va="center", fontsize=5)
    axis.set(title=title, xticks=[], yticks=[])
    if len(class_names) <= 20:
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def reliability(confidence, correct, bins=10):
    """Accuracy against stated confidence in equal bins; on the diagonal the model is calibrated."""
    figure, axis = new(4.5, 4.5)
    edges = np.linspace(0, 1, bins + 1)
    which = np.clip(np.digitize(confidence, edges) - 1, 0, bins - 1)
    filled = [b for b in range(bins) if np.any(which == b)]
    axis.plot([0, 1], [0, 1], "k--", linewidth=0.8)
    stated = [np.mean(confidence[which == b]) for b in filled]
    axis.plot(stated, [np.mean(correct[which == b]) for b in filled], marker="o")
    axis.set(xlabel="confidence", ylabel="accuracy", title="calibration", xlim=(0, 1), ylim=(0, 1))
    axis.grid(alpha=0.3)
    return figure


def line(x, y, xlabel, ylabel, title):
    """One quantity along another."""
    figure, axis = new()
    axis.plot(x, y)
    axis.set(xlabel=xlabel, ylabel=ylabel, title=title)
    axis.grid(alpha=0.3)
    return figure
