"""Where a network looked: Grad-CAM, and how much each input column matters."""

import keras
import numpy as np

from apps.common import figures
from layers import backend


def grad_cam(model, images, classes):
    """Heat of each image for its class: ReLU(sum_k a_k A^k), a_k the mean gradient of the score by feature map k.

    Args:
        model: A functional model from images to logits.
        images: Array `(batch, height, width, channels)` as the model takes it.
        classes: Class index of each image.
    Returns: Array `(batch, height, width)` in 0..1, or `None` for a model without feature maps.
    Reference: Selvaraju et al., 2017, arXiv 1610.02391.
    """
    chosen = keras.ops.one_hot(np.asarray(classes), model.output_shape[-1])
    return _heat(model, images, last_feature_maps(model), lambda outputs: keras.ops.sum(outputs * chosen))


def grad_cam_of_number(model, images, least_side=4):
    """Heat of each image for a number: what pushes it in the direction in which it is, away from zero.

    Args:
        model: A functional model from images to `(batch, 1)`.
        images: Array `(batch, height, width, channels)` as the model takes it.
        least_side: Rows and columns that the feature maps have at least, for a map of one row points nowhere.
    Returns: As `grad_cam`.
    """
    return _heat(model, images, last_feature_maps(model, least_side), lambda outputs: keras.ops.sum(keras.ops.abs(outputs)))


def _heat(model, images, maps, score):
    if maps is None:
        return None
    body, head = keras.Model(model.input, maps), keras.Model(maps, model.output)
    features = keras.ops.convert_to_tensor(body(images, training=False))
    slope = backend.gradient(lambda tensor: score(head(tensor, training=False)), features)
    features, slope = (keras.ops.convert_to_numpy(keras.ops.cast(each, "float32")) for each in (features, slope))
    heat = np.maximum((features * slope.mean((1, 2), keepdims=True)).sum(-1), 0)
    heat /= np.maximum(heat.max((1, 2), keepdims=True), 1e-12)
    grown = keras.ops.image.resize(heat[..., None], images.shape[1:3], data_format="channels_last")
    return keras.ops.convert_to_numpy(grown)[..., 0]


def last_feature_maps(model, least_side=1):
    """The deepest tensor `(batch, height, width, channels)` of more than one position that all of the output hangs on."""
    for layer in reversed(model.layers):
        tensor = getattr(layer, "output", None)
        shape = getattr(tensor, "shape", ())
        large = len(shape) == 4 and shape[1] * shape[2] > 1 and min(shape[1:3]) >= least_side
        if large and not isinstance(layer, keras.layers.InputLayer):
            return tensor
    return None


def permutation_importance(score, inputs, columns, repeats=3, seed=0):
    """How much the score falls when one column is shuffled (Breiman, 2001).

    Args:
        score: Function from inputs to a number, larger is better.
        inputs: Dict of arrays `(examples, columns of that kind)`.
        columns: `{name: (key of inputs, position)}`.
        repeats: Shuffles a column.
        seed: Seed of the shuffles.
    Returns: Rows `{"column", "importance", "spread"}`, the most important first.
    """
    generator, base, rows = np.random.default_rng(seed), score(inputs), []
    for name, (kind, position) in columns.items():
        falls = []
        for _ in range(repeats):
            shuffled = {key: array.copy() for key, array in inputs.items()}
            shuffled[kind][:, position] = generator.permutation(shuffled[kind][:, position])
            falls.append(base - score(shuffled))
        rows.append({"column": name, "importance": float(np.mean(falls)), "spread": float(np.std(falls))})
    return sorted(rows, key=lambda row: -row["importance"])


def column_importance(score, examples, about, limit=2000):
    """Permutation importance of the columns of a table: `(rows, figure)`.

    Args:
        score: Function from inputs and targets to a number, larger is better.
        examples: Test examples; at most `limit` of them, drawn by a fixed seed, are used.
        about: The table's encoding.
    """
    chosen = examples.subset(np.random.default_rng(0).permutation(len(examples))[:limit])
    kinds = ("numeric", "categorical")
    columns = {column["name"]: (kind, position) for kind in kinds for position, column in enumerate(about[kind])}
    rows = permutation_importance(lambda inputs: score(inputs, chosen.y), chosen.x, columns)
    names, values, spread = zip(*((row["column"], row["importance"], row["spread"]) for row in rows[:25]), strict=True)
    return rows, figures.bars(names, values, spread, "permutation importance", "fall of the score when shuffled")


def worst_mistakes(images, probabilities, labels, names, most=18):
    """Figure of the wrongly classified images, those first whose own class was thought least likely.

    Args:
        images: `(n, height, width, channels)`.
        probabilities: `(n, classes)`.
        labels: `(n,)`, indices of the true classes.
        names: Of the classes.
        most: Images shown.
    """
    predicted = probabilities.argmax(1)
    wrong = np.flatnonzero(predicted != labels)
    worst = wrong[np.argsort(probabilities[wrong, labels[wrong]])][:most]
    titles = [f"{names[predicted[i]]} {probabilities[i].max():.0%}\nis {names[labels[i]]}" for i in worst]
    return figures.image_grid(images[worst], titles)
