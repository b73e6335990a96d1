"""The SSD of object detection written by hand beside our `fit`: drawn shapes of 128 x 128 pixels in batches of 8, Adam.

In torch network and loss stand in torch's own operations, channels first; the loops of JAX and TensorFlow train the network of
Keras and its loss.
"""

import functools

from bench.family import Family, Fit
from bench.loops import keras_loop, on_each_backend, shuffled_batches, torch_loop

RATE, BATCH_SIZE, SIZE, WIDTH = 1e-3, 8, 128, 16
OPTIONS = {"model": "ssd", "width": WIDTH, "levels": 3, "batch_size": BATCH_SIZE, "learning_rate": RATE,
           "schedule": "constant", "augment": "flip,scale,shift"}  # fmt: skip


@functools.cache
def shapes():
    """256 pictures of shapes with their boxes, moved as the app moves them."""
    from apps import object_detection as app
    from apps.common.data.examples import Data, Examples
    from apps.common.data.images.moving import Moves, Moving
    from apps.common.data.images.shapes import NAMES, drawn_shapes

    found = drawn_shapes(256, SIZE, 0)
    examples = Examples(found.images, {"boxes": found.boxes, "classes": found.classes})
    moves = Moves(**{name: value for move in ("flip", "scale", "shift") for name, value in app.AUGMENTATIONS[move].items()})
    moving = Moving(examples, moves, ("image", {"boxes": "boxes", "classes": None}), 0)
    about = {"class_names": list(NAMES), "image_shape": [SIZE, SIZE, 3], "most_boxes": int(found.boxes.shape[1])}
    return Data(moving, examples, examples, about, [], "shapes")


def setting():
    """`(app, options, data)` under which the app trains this network."""
    from apps import object_detection as app

    return app, OPTIONS, shapes()


def torch_network(num_classes, boxes_per_cell):
    """SSD's trunk, pyramid and heads of the same sizes in `torch.nn`; gives logits and codes, `(batch, anchors, ...)`."""
    import torch
    from torch import nn

    def normed(before, after, size, stride=1):
        return nn.Sequential(nn.Conv2d(before, after, size, stride, size // 2, bias=False), nn.BatchNorm2d(after))

    class Block(nn.Module):
        def __init__(self, before, after):
            super().__init__()
            self.first, self.second = normed(before, after, 3, 2), normed(after, after, 3)
            self.shortcut = normed(before, after, 1, 2)

        def forward(self, x):
            return torch.relu(self.second(torch.relu(self.first(x))) + self.shortcut(x))

    class SSD(nn.Module):
        def __init__(self):
            super().__init__()
            channels, widths = 4 * WIDTH, [WIDTH, 2 * WIDTH, 4 * WIDTH, 8 * WIDTH]
            self.stem = nn.Sequential(normed(3, WIDTH, 3, 2), nn.ReLU())
            self.stages = nn.ModuleList([Block(a, b) for a, b in zip([WIDTH, *widths], widths, strict=False)])
            self.across = nn.ModuleList([normed(width, channels, 1) for width in widths[1:]])
            self.smooth = nn.ModuleList([nn.Sequential(normed(channels, channels, 3), nn.ReLU()) for _ in widths[1:]])
            self.heads = nn.ModuleList(
                [
                    nn.Sequential(
                        nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(),
                        nn.Conv2d(channels, boxes_per_cell * size, 3, padding=1),
                    )
                    for size in (num_classes, 4)
                ]
            )  # fmt: skip
            nn.init.constant_(self.heads[0][-1].bias, -4.6)

        def forward(self, x):
            x, maps = self.stem(x), []
            for stage in self.stages:
                x = stage(x)
                maps.append(x)
            maps = [across(x) for across, x in zip(self.across, maps[1:], strict=True)]
            for index in reversed(range(len(maps) - 1)):
                maps[index] = maps[index] + nn.functional.interpolate(maps[index + 1], scale_factor=2)
            maps = [smooth(x) for smooth, x in zip(self.smooth, maps, strict=True)]
            found = []
            for head, size in zip(self.heads, (num_classes, 4), strict=True):
                found.append(torch.cat([head(x).permute(0, 2, 3, 1).reshape(len(x), -1, size) for x in maps], 1))
            return found

    return SSD()


def torch_loss(anchors, num_classes):
    """SSD's loss in torch: anchors have boxes by overlap, focal loss and smooth L1."""
    import torch
    from torch.nn import functional

    centre, sides = (anchors[:, :2] + anchors[:, 2:]) / 2, anchors[:, 2:] - anchors[:, :2]
    places = torch.arange(len(anchors))[None, :, None]

    def overlaps(boxes):
        ends = torch.minimum(anchors[:, None, 2:], boxes[:, None, :, 2:])
        inner = (ends - torch.maximum(anchors[:, None, :2], boxes[:, None, :, :2])).clamp(min=0).prod(-1)
        return inner / (sides.prod(-1)[:, None] + (boxes[..., 2:] - boxes[..., :2]).prod(-1)[:, None] - inner).clamp(min=1e-7)

    def loss_of(network, x, y):
        logits, codes = network(x.permute(0, 3, 1, 2).float() / 127.5 - 1)
        boxes, classes = y["boxes"], y["classes"].long()
        valid = classes >= 0
        overlap = torch.where(valid[:, None], overlaps(boxes), -1.0)
        most, matched = overlap.max(-1)
        own = (places == overlap.argmax(1)[:, None]) & valid[:, None]
        matched = torch.where(own.any(-1), own.int().argmax(-1), matched)
        positive = own.any(-1) | (most >= 0.5)
        counted = (positive | (most < 0.4)).float()
        boxes, classes = torch.gather(boxes, 1, matched[..., None].expand(-1, -1, 4)), torch.gather(classes, 1, matched)
        number = positive.sum().clamp(min=1)
        targets = functional.one_hot(classes.clamp(min=0), num_classes).float() * positive[..., None]
        p = torch.sigmoid(logits)
        focal = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
        focal = focal * (p + targets - 2 * p * targets) ** 2 * (0.75 - 0.5 * targets)
        shift = ((boxes[..., :2] + boxes[..., 2:]) / 2 - centre) / sides / 0.1
        grown = torch.log((boxes[..., 2:] - boxes[..., :2]).clamp(min=1e-7) / sides) / 0.2
        away = functional.smooth_l1_loss(codes, torch.cat([shift, grown], -1), reduction="none").sum(-1)
        return ((focal.sum(-1) * counted).sum() + (away * positive).sum()) / number

    return loss_of


def loops(backend, data):
    """The loop of one backend; on torch over `torch.nn`, elsewhere over our own network."""
    model, batches = Fit(*setting()).model, shuffled_batches(data.train, BATCH_SIZE)
    if backend != "torch":
        return keras_loop(backend, model, batches, RATE)
    import torch

    torch.manual_seed(0)
    num_classes = len(data.about["class_names"])
    loss_of = torch_loss(torch.from_numpy(model.anchors), num_classes)
    return torch_loop(torch_network(num_classes, 6), loss_of, batches, RATE)


FAMILIES = {
    "ssd": Family(
        setting,
        on_each_backend(loops),
        usual_steps=26,  # BCCD's 205 pictures in batches of 8
        measured_by=("speed", "run"),
    )
}
