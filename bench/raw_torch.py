"""Hand-written PyTorch: the same networks in `torch.nn`, channels first, and the plainest training loop."""

import time
from itertools import pairwise

import numpy as np
import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """ResNet's basic block with the parameter-free shortcut (He et al., 2015, option A)."""

    def __init__(self, before, after, stride):
        super().__init__()
        self.stride, self.grown = stride, after - before
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(after) for _ in range(2)])

    def forward(self, x):
        residual = self.norms[1](self.second(functional.relu(self.norms[0](self.first(x)))))
        if self.stride > 1:
            x = functional.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.grown))
        return functional.relu(x + residual)


class Transformer(nn.Module):
    """A small vision transformer, pre-norm."""

    def __init__(self, patch, width, depth, heads, side=28):
        super().__init__()
        self.patches = nn.Conv2d(1, width, patch, patch)
        self.token = nn.Parameter(torch.zeros(1, 1, width))
        self.positions = nn.Parameter(torch.zeros(1, (side // patch) ** 2 + 1, width))
        layer = nn.TransformerEncoderLayer(width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 10)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.blocks(x)[:, 0])


def mlp():
    sizes = (784, 256, 128, 100)
    hidden = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(100, 10))


def lenet():
    return nn.Sequential(
        nn.Conv2d(1, 6, 5, padding=2), nn.Tanh(), nn.AvgPool2d(2), nn.Conv2d(6, 16, 5), nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(),
        nn.Linear(400, 120), nn.Tanh(), nn.Linear(120, 84), nn.Tanh(), nn.Linear(84, 10),
    )  # fmt: skip


def resnet20():
    stem = [nn.Conv2d(1, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU()]
    blocks = [Block(16, 16, 1) for _ in range(3)]
    blocks += [Block(16, 32, 2), Block(32, 32, 1), Block(32, 32, 1), Block(32, 64, 2), Block(64, 64, 1), Block(64, 64, 1)]
    return nn.Sequential(*stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10))


NETWORKS = {"mlp": mlp, "lenet": lenet, "resnet20": resnet20, "vit": lambda: Transformer(7, 192, 6, 3)}


class Loop:
    """A training loop over images in memory; `run(steps)` returns the seconds they took."""

    def __init__(self, family, images, labels, batch_size, compiled=False):
        torch.manual_seed(0)
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        model = NETWORKS[family]().to(self.device).train()
        self.optimizer = torch.optim.Adam(model.parameters(), 1e-3)
        self.model = torch.compile(model) if compiled else model
        self.images, self.labels, self.batch_size = images, labels, batch_size
        self.generator = np.random.default_rng(0)
        self.parameters = sum(parameter.numel() for parameter in model.parameters())

    def run(self, steps):
        order = self.generator.permutation(len(self.images))
        start = time.perf_counter()
        for step in range(steps):
            at = (step * self.batch_size) % (len(order) - self.batch_size + 1)
            chosen = order[at : at + self.batch_size]
            x = torch.from_numpy(self.images[chosen]).to(self.device).permute(0, 3, 1, 2).float() / 255
            y = torch.from_numpy(self.labels[chosen]).to(self.device)
            self.optimizer.zero_grad()
            loss = functional.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.step()
        loss.item()
        return time.perf_counter() - start
