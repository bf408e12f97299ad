"""DeepLabV3+ (Chen et al. 2018) on inverted residuals: dilated at the end, pyramid pooling, one skip to a fine map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgewright.training.students.interface import Interface, picture, segments
from edgewright.training.students.layers import (
    ConvNorm,
    Enter,
    InvertedResidual,
    Separable,
    divisible,
    ending,
    initialised,
)

_FINE = ((1, 16, 1, 1), (6, 24, 2, 2))
_COARSE = ((6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 2, 1))
"""Expansion, channels, blocks and stride of the stages before and behind the skip; the last is dilated by two."""
_RATES = (3, 6, 9)
_HIDDEN = 96


class Pyramid(nn.Module):
    """Separable convolutions of several dilations, and the mean of the map (Chen et al. 2017)."""

    def __init__(self, inside: int, outside: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList([ConvNorm(inside, outside, 1, activation=nn.ReLU6)])
        for rate in _RATES:
            self.branches.append(Separable(inside, outside, 3, dilation=rate, activation=nn.ReLU6))
        self.mean = nn.Sequential(nn.Conv2d(inside, outside, 1), nn.ReLU6())
        self.joined = ConvNorm((len(_RATES) + 1) * outside, outside, 1, activation=nn.ReLU6)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, outside, h, w]; the mean of the whole map is added everywhere."""
        y = self.joined(torch.cat([branch(x) for branch in self.branches], 1))
        z: Tensor = y + self.mean(x.mean((2, 3), keepdim=True))
        return z


class Segmenter(nn.Module):
    """Image to one vector of classes per pixel."""

    def __init__(self, interface: Interface, width: float) -> None:
        super().__init__()
        image, wanted = picture(interface), segments(interface)
        assert image is not None
        assert wanted is not None
        self.enter, self.size, self.last = Enter(image), (wanted.height, wanted.width), wanted.last
        first, hidden = divisible(32 * width), divisible(_HIDDEN * width)
        stem = ConvNorm(image.channels, first, 3, 2, activation=nn.ReLU6)
        layers, skip = _stages(_FINE, first, width)
        self.fine = nn.Sequential(stem, *layers)
        layers, deep = _stages(_COARSE, skip, width)
        self.coarse, self.pyramid = nn.Sequential(*layers), Pyramid(deep, hidden)
        self.skip = ConvNorm(skip, divisible(hidden / 4), 1, activation=nn.ReLU6)
        self.decide = nn.Sequential(
            Separable(hidden + divisible(hidden / 4), hidden, activation=nn.ReLU6),
            nn.Conv2d(hidden, wanted.classes, 1),
        )
        self.ending = ending(interface, axis=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps images to [batch, classes, height, width], or with the classes last."""
        fine = self.fine(self.enter(x))
        coarse = _to(self.pyramid(self.coarse(fine)), (fine.shape[2], fine.shape[3]))
        found = _to(self.decide(torch.cat((coarse, self.skip(fine)), 1)), self.size)
        y: Tensor = self.ending(found)
        return y.permute(0, 2, 3, 1) if self.last else y


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network."""
    return initialised(Segmenter(interface, width))


def _stages(rows: tuple[tuple[int, int, int, int], ...], inside: int, width: float) -> tuple[list[nn.Module], int]:
    layers: list[nn.Module] = []
    for expansion, channels, blocks, stride in rows:
        outside, dilation = divisible(channels * width), 2 if channels == _COARSE[-1][1] else 1
        for index in range(blocks):
            step = (stride, stride) if index == 0 else (1, 1)
            layers.append(InvertedResidual(inside, inside * expansion, outside, 3, step, dilation=dilation))
            inside = outside
    return layers, inside


def _to(x: Tensor, size: tuple[int, int]) -> Tensor:
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=False)
