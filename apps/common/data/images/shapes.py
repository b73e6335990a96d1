"""Drawings of coloured shapes on noise, made by a seed: pictures whose boxes are known."""

import numpy as np

from apps.common.data.images.boxes import BoxedImages, padded

NAMES = ("circle", "square", "triangle")


def drawn_shapes(count, size=64, seed=0, most=4):
    """`BoxedImages` of one to `most` circles, squares and triangles each, which may touch but hardly hide one another.

    Args:
        count: Number of pictures.
        size: Side in pixels.
        seed: Of everything that is drawn.
        most: Shapes in a picture.
    """
    made = [draw_shapes(size, np.random.default_rng([seed, 50, index]), most) for index in range(count)]
    position = {name: index for index, name in enumerate(NAMES)}
    boxes, classes = padded([(corners, names) for _, corners, names in made], position, most)
    return BoxedImages(np.stack([image for image, _, _ in made]), boxes, classes, [None] * count)


def draw_shapes(size, generator, most):
    """A picture `(size, size, 3)`, the corners of its shapes `(n, 4)` as fractions and their names."""
    image = generator.integers(0, 120, (size, size, 3)).astype("float32")
    image = (image + generator.uniform(0, 100, 3)) * 0.8
    y, x = np.mgrid[:size, :size] + 0.5
    boxes, names = [], []
    for _ in range(generator.integers(1, most + 1)):
        side = round(generator.uniform(0.18, 0.45) * size)
        left, top = generator.integers(0, size - side + 1, 2)
        box = np.array([left, top, left + side, top + side])
        if any(overlap(box, other) > 0.1 * side**2 for other in boxes):
            continue
        name = NAMES[generator.integers(len(NAMES))]
        across, down = (x - left) / side, (y - top) / side
        inside = {
            "circle": (across - 0.5) ** 2 + (down - 0.5) ** 2 <= 0.25,
            "square": (np.abs(across - 0.5) <= 0.5) & (np.abs(down - 0.5) <= 0.5),
            "triangle": (np.abs(across - 0.5) <= down / 2) & (down <= 1),
        }[name]
        image[inside] = generator.uniform(90, 255, 3) + generator.normal(0, 8, (inside.sum(), 3))
        boxes.append(box)
        names.append(name)
    return np.clip(image, 0, 255).astype("uint8"), np.array(boxes) / size, names


def overlap(first, second):
    """Area that two boxes share."""
    sides = np.minimum(first[2:], second[2:]) - np.maximum(first[:2], second[:2])
    return np.prod(np.maximum(sides, 0))
