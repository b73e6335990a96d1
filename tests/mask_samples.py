"""Small pictures with masks for the tests."""

import numpy as np
from PIL import Image

generator = np.random.default_rng(0)


def save(folder, name, pixels, mode=None, **options):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(folder / name, **options)


def write_set(folder, masks, pictures="images", masked="masks", size=(6, 8)):
    """Pictures with these masks, in two folders."""
    for number, mask in enumerate(masks):
        save(folder, f"{pictures}/{number}.png", generator.integers(0, 256, (*size, 3), dtype="uint8"))
        save(folder, f"{masked}/{number}.png", mask)


def label_masks(count=3, size=(6, 8), labels=(0, 1, 2)):
    masks = generator.choice(np.array(labels, "uint8"), (count, *size))
    masks[:, 0, : len(labels)] = labels
    return masks
