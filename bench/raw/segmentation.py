"""The U-Net of segmentation written by hand beside our `fit`: drawings of 64 x 64 pixels in batches of 8, cross-entropy, Adam.

In torch the network stands in `torch.nn`, channels first; the loops of JAX and TensorFlow train the network of Keras.
"""

import functools

from bench.family import Family, Fit
from bench.loops import keras_loop, on_each_backend, shuffled_batches, torch_loop

RATE, BATCH_SIZE, SIZE, CLASSES, WIDTH, DEPTH = 1e-3, 8, 64, 4, 16, 3
OPTIONS = {"width": WIDTH, "depth": DEPTH, "loss": "cross-entropy", "batch_size": BATCH_SIZE, "learning_rate": RATE,
           "schedule": "constant"}  # fmt: skip


@functools.cache
def drawings():
    """256 drawings with a class for every pixel."""
    import numpy as np

    from apps.common.data.examples import Data, Examples
    from apps.common.data.images.drawn_masks import NAMES, draw_shapes
    from apps.common.data.images.pixels import Pixels

    examples = Pixels(Examples(*draw_shapes(256, SIZE, 0)), np.ones(CLASSES))
    return Data(examples, examples, examples, {"class_names": list(NAMES), "image_shape": [SIZE, SIZE, 3]}, [], "shapes")


def setting():
    """`(app, options, data)` under which the app trains this network."""
    from apps import segmentation as app

    return app, OPTIONS, drawings()


def torch_network():
    """U-Net of the same sizes in `torch.nn`."""
    import torch
    from torch import nn

    def step(before, after):
        return nn.Sequential(nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU())

    def block(before, after):
        return nn.Sequential(step(before, after), step(after, after))

    class UNet(nn.Module):
        def __init__(self):
            super().__init__()
            widths = [WIDTH * 2**level for level in range(DEPTH + 1)]
            self.down = nn.ModuleList([block(3, widths[0])] + [block(a, 2 * a) for a in widths[:-1]])
            self.up = nn.ModuleList([step(2 * each, each) for each in widths[:-1]])
            self.joined = nn.ModuleList([block(2 * each, each) for each in widths[:-1]])
            self.logits = nn.Conv2d(WIDTH, CLASSES, 1)

        def forward(self, x):
            passed = []
            for part in self.down[:-1]:
                x = part(x)
                passed.append(x)
                x = nn.functional.max_pool2d(x, 2)
            x = self.down[-1](x)
            for level in reversed(range(DEPTH)):
                x = self.up[level](nn.functional.interpolate(x, scale_factor=2))
                x = self.joined[level](torch.cat([x, passed[level]], 1))
            return self.logits(x)

    return UNet()


def loops(backend, data):
    """The loop of one backend; on torch over `torch.nn`, elsewhere over our own network."""
    batches = shuffled_batches(data.train, BATCH_SIZE)
    if backend != "torch":
        return keras_loop(backend, Fit(*setting()).model, batches, RATE)
    import torch

    def loss_of(network, x, y, weights):
        logits = network(x.permute(0, 3, 1, 2).float() / 127.5 - 1)
        return (torch.nn.functional.cross_entropy(logits, y.long(), reduction="none") * weights).mean()

    torch.manual_seed(0)
    return torch_loop(torch_network(), loss_of, batches, RATE)


FAMILIES = {
    "unet": Family(
        setting,
        on_each_backend(loops),
        usual_steps=46,  # CamVid's 367 pictures in batches of 8
        measured_by=("speed", "run"),
    )
}
