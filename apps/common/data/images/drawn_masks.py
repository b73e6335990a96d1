"""Seeded drawings of shapes on a textured ground, with the mask of each."""

import numpy as np

NAMES = ("ground", "disc", "square", "triangle")


def draw_shapes(count, size, seed):
    """Pictures uint8 `(count, size, size, 3)` and masks uint8 `(count, size, size)`; colours say nothing of the class.

    A drawing depends on (seed, its number) alone.
    """
    pictures, masks = zip(*(_drawing(np.random.default_rng([seed, 50, index]), size) for index in range(count)), strict=True)
    return np.stack(pictures), np.stack(masks)


def _drawing(generator, size):
    y, x = np.mgrid[:size, :size] / size
    picture = _texture(generator, x, y, generator.uniform(40, 215, 3), 18)
    mask = np.zeros((size, size), "uint8")
    for _ in range(generator.integers(1, 3)):
        label = generator.integers(1, len(NAMES))
        center, radius = generator.uniform(0.25, 0.75, 2), generator.uniform(0.2, 0.33)
        inside = _inside(label, x - center[0], y - center[1], radius, generator.uniform(0, 2 * np.pi))
        color = generator.uniform(20, 235, 3)
        picture = np.where(inside[..., None], _texture(generator, x, y, color, 8), picture)
        mask[inside] = label
    noisy = picture + generator.normal(0, 6, picture.shape)
    return np.clip(np.rint(noisy), 0, 255).astype("uint8"), mask


def _texture(generator, x, y, color, strength):
    """Waves of one direction and length over a colour."""
    angle, waves, phase = generator.uniform(0, np.pi), generator.uniform(2, 9), generator.uniform(0, 2 * np.pi)
    wave = np.sin(2 * np.pi * waves * (x * np.cos(angle) + y * np.sin(angle)) + phase)
    return color + strength * wave[..., None]


def _inside(label, x, y, radius, angle):
    """Whether places, seen from the middle of a shape, lie in it."""
    if NAMES[label] == "disc":
        return x * x + y * y < radius * radius
    corners = 4 if NAMES[label] == "square" else 3
    inside = np.ones(x.shape, bool)
    for corner in range(corners):  # on the inner side of each edge
        turned = angle + 2 * np.pi * corner / corners
        inside &= x * np.cos(turned) + y * np.sin(turned) < radius * np.cos(np.pi / corners) * 1.15
    return inside
