"""Maps: pictures as points of a plane, near one another where their codes or features are."""

import numpy as np

from apps.common import figures

MOST = 1000  # points: more are a cloud
NEIGHBOURS = 10  # of a point, by which a map is judged


def pixels(images):
    """Brightness in 0..1 of every pixel of uint8 images, or of every few where there are more than 48 a side."""
    step = -(-max(images.shape[1:3]) // 48)
    return images[:, ::step, ::step].reshape(len(images), -1) / 255


def principal_map(rows):
    """The first two principal components of `(n, features)`, as `(n, 2)`."""
    rows = np.asarray(rows, "float64").reshape(len(rows), -1)
    centred = rows - rows.mean(0)
    if rows.shape[1] < 3:
        return np.pad(centred, ((0, 0), (0, 2 - rows.shape[1])))
    left, values, _ = np.linalg.svd(centred, full_matrices=False)
    points = left[:, :2] * values[:2]
    return np.pad(points, ((0, 0), (0, 2 - points.shape[1])))


def neighbour_map(rows, seed=0):
    """t-SNE of `(n, features)`, whose neighbours it keeps; the principal components of fewer than 100."""
    rows = np.asarray(rows, "float64").reshape(len(rows), -1)
    if len(rows) < 100:
        return principal_map(rows)
    from sklearn.manifold import TSNE

    start = principal_map(rows)
    start = start / max(1e-9, start[:, 0].std()) * 1e-4
    return TSNE(init=start, random_state=seed, learning_rate="auto").fit_transform(rows)


def neighbours_kept(rows, points, count=NEIGHBOURS):
    """Share of each row's nearest neighbours that are among the nearest of its point as well."""
    from sklearn.neighbors import NearestNeighbors

    count = min(count, len(rows) - 1)
    if count < 1:
        return float("nan")
    found = []
    for each in (rows, points):
        each = np.asarray(each, "float64").reshape(len(rows), -1)
        found.append(NearestNeighbors(n_neighbors=count).fit(each).kneighbors(return_distance=False))
    kept = [len(np.intersect1d(*pair)) / count for pair in zip(*found, strict=True)]
    return float(np.mean(kept))


def maps(panels, labels, class_names):
    """Points coloured by class, one panel each, side by side.

    Args:
        panels: `{title: (n, 2)}`.
        labels: One class index a point.
        class_names: Name of each class; none where there are no labels.
    """
    figure, axes = figures.new(6.0 * len(panels), 5.5, 1, len(panels))
    for axis, (title, points) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        for index in range(max(1, len(class_names))):
            inside = labels == index
            label = class_names[index] if class_names else None
            axis.scatter(*points[inside].T, s=8, color=f"C{index % 10}", alpha=0.7, label=label)
        axis.set(title=title, xticks=[], yticks=[])
    if 0 < len(class_names) <= 20:
        axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=2)
    return figure
