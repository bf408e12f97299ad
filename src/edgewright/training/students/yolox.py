"""YOLOX-nano (Ge et al. 2021): a depthwise CSP backbone, a feature pyramid there and back, decoupled heads; with ReLU6.

The stem is a strided 6 x 6 convolution, which computes what slicing the image in four did, in one operator.
"""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn

from edgewright.training.students.interface import STRIDES, Interface, boxes, picture
from edgewright.training.students.layers import ConvNorm, Enter, Separable, divisible, initialised

_BASE = 16
_PRIOR = 0.01
"""Objectness that a fresh head puts out (Lin et al. 2017): nearly every point is background."""
Conv = partial(ConvNorm, activation=nn.ReLU6)
Depthwise = partial(Separable, activation=nn.ReLU6)


class Bottleneck(nn.Module):
    """Pointwise, then separable convolution, around a shortcut where asked for."""

    def __init__(self, channels: int, *, shortcut: bool) -> None:
        super().__init__()
        self.layers, self.shortcut = nn.Sequential(Conv(channels, channels, 1), Depthwise(channels, channels)), shortcut

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        y: Tensor = self.layers(x)
        return x + y if self.shortcut else y


class Csp(nn.Module):
    """Half of the channels through bottlenecks, half past them (Wang et al. 2020)."""

    def __init__(self, inside: int, outside: int, blocks: int = 1, *, shortcut: bool = True) -> None:
        super().__init__()
        half = outside // 2
        self.through = nn.Sequential(
            Conv(inside, half, 1), *(Bottleneck(half, shortcut=shortcut) for _ in range(blocks))
        )
        self.past, self.joined = Conv(inside, half, 1), Conv(2 * half, outside, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, outside, h, w]."""
        y: Tensor = self.joined(torch.cat((self.through(x), self.past(x)), 1))
        return y


class Pooled(nn.Module):
    """Spatial pyramid pooling (He et al. 2015) with maximum windows of 5, 9 and 13."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.before, self.after = Conv(channels, channels // 2, 1), Conv(2 * channels, channels, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in (5, 9, 13))

    def forward(self, x: Tensor) -> Tensor:
        """Keeps the shape."""
        x = self.before(x)
        y: Tensor = self.after(torch.cat((x, *(pool(x) for pool in self.pools)), 1))
        return y


class Pyramid(nn.Module):
    """Backbone and neck: maps at strides of 8, 16 and 32."""

    def __init__(self, channels: int, base: int) -> None:
        super().__init__()
        two, four, eight, sixteen = (base * n for n in (2, 4, 8, 16))
        self.stem = nn.Sequential(
            nn.Conv2d(channels, base, 6, 2, 2, bias=False), nn.BatchNorm2d(base), nn.ReLU6(),
            Depthwise(base, two, 3, 2), Csp(two, two),
        )  # fmt: skip
        self.eighth = nn.Sequential(Depthwise(two, four, 3, 2), Csp(four, four, 3))
        self.sixteenth = nn.Sequential(Depthwise(four, eight, 3, 2), Csp(eight, eight, 3))
        self.last = nn.Sequential(
            Depthwise(eight, sixteen, 3, 2), Pooled(sixteen), Csp(sixteen, sixteen, shortcut=False)
        )
        self.lateral, self.reduce = Conv(sixteen, eight, 1), Conv(eight, four, 1)
        self.up16, self.up8 = Csp(2 * eight, eight, shortcut=False), Csp(2 * four, four, shortcut=False)
        self.down8, self.down16 = Depthwise(four, four, 3, 2), Depthwise(eight, eight, 3, 2)
        self.out16, self.out32 = Csp(2 * four, eight, shortcut=False), Csp(2 * eight, sixteen, shortcut=False)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Maps [batch, channels, h, w] to three maps of 4, 8 and 16 times the base channels."""
        eighth = self.eighth(self.stem(x))
        sixteenth = self.sixteenth(eighth)
        top = self.lateral(self.last(sixteenth))
        middle = self.reduce(self.up16(torch.cat((_twice(top, sixteenth), sixteenth), 1)))
        small = self.up8(torch.cat((_twice(middle, eighth), eighth), 1))
        medium = self.out16(torch.cat((self.down8(small), middle), 1))
        return small, medium, self.out32(torch.cat((self.down16(medium), top), 1))


class Head(nn.Module):
    """Boxes, objectness and classes of one map."""

    def __init__(self, inside: int, hidden: int, classes: int, *, scores: bool) -> None:
        super().__init__()
        self.stem = Conv(inside, hidden, 1)
        self.of_class = nn.Sequential(Depthwise(hidden, hidden), Depthwise(hidden, hidden))
        self.of_box = nn.Sequential(Depthwise(hidden, hidden), Depthwise(hidden, hidden))
        self.box, self.object = nn.Conv2d(hidden, 4, 1), nn.Conv2d(hidden, 1, 1)
        self.classes = nn.Conv2d(hidden, classes, 1)
        self.score: nn.Module = nn.Sigmoid() if scores else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, h * w, 5 + classes]."""
        x = self.stem(x)
        box, kind = self.of_box(x), self.of_class(x)
        found = (self.box(box), self.score(self.object(box)), self.score(self.classes(kind)))
        return torch.cat(found, 1).flatten(2).transpose(1, 2)


class Yolox(nn.Module):
    """Image to [batch, points, 5 + classes]: x, y, w and h relative to each point's cell, objectness, classes."""

    def __init__(self, interface: Interface, base: int) -> None:
        super().__init__()
        image, classes = picture(interface), boxes(interface)
        assert image is not None
        assert classes is not None
        self.enter, self.pyramid = Enter(image), Pyramid(image.channels, base)
        scores = interface.ending == "Sigmoid"
        self.heads = nn.ModuleList(
            Head(base * 4 * 2**level, base * 4, classes, scores=scores) for level in range(len(STRIDES))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to points of all three maps, the finest first."""
        maps = self.pyramid(self.enter(x))
        return torch.cat([head(each) for head, each in zip(self.heads, maps, strict=True)], 1)


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network."""
    network = initialised(Yolox(interface, divisible(_BASE * width, 4)))
    for module in network.modules():
        if isinstance(module, Head):
            for layer in (module.object, module.classes):
                assert layer.bias is not None
                nn.init.constant_(layer.bias, -math.log((1 - _PRIOR) / _PRIOR))
                nn.init.normal_(layer.weight, std=0.01)
    return network


def _twice(x: Tensor, like: Tensor) -> Tensor:
    """Enlarges a map to the size of the one before it."""
    return nn.functional.interpolate(x, size=tuple(like.shape[2:]), mode="nearest")
