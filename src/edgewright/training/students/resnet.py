"""Residual networks (He et al. 2015): thin ones of three stages for small images, ResNet-18 for large ones."""

from __future__ import annotations

from torch import Tensor, nn

from edgewright.training.students.interface import Interface, classes, picture
from edgewright.training.students.layers import Classifier, ConvNorm, Size, divisible, initialised, strides_of

_DEPTHS = {
    "resnet8": (16, (1, 1, 1)),
    "resnet14": (16, (2, 2, 2)),
    "resnet20": (16, (3, 3, 3)),
    "resnet18": (64, (2, 2, 2, 2)),
}
"""Channels of the first stage, each later one has twice those of the one before; blocks per stage."""


class Block(nn.Module):
    """Two 3 x 3 convolutions around a shortcut."""

    def __init__(self, inside: int, outside: int, stride: Size) -> None:
        super().__init__()
        self.first = ConvNorm(inside, outside, 3, stride)
        self.second = ConvNorm(outside, outside, 3, activation=None)
        same = stride == (1, 1) and inside == outside
        self.shortcut = nn.Identity() if same else ConvNorm(inside, outside, 1, stride, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, h, w] to [batch, outside, h / stride, w / stride]."""
        y: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return y.relu()


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network; images of 128 pixels and more are also pooled behind the stem."""
    image, count = picture(interface), classes(interface)
    assert image is not None
    assert count is not None
    base, depth = _DEPTHS[family]
    large = min(image.height, image.width) >= 128
    strides = strides_of(image, len(depth) + large)
    inside = divisible(base * width, 4)
    layers: list[nn.Module] = [ConvNorm(image.channels, inside, 7 if large else 3, strides[0])]
    layers += [nn.MaxPool2d(3, strides[1], 1)] if large else []
    for stage, blocks in enumerate(depth):
        outside = divisible(base * 2**stage * width, 4)
        for index in range(blocks):
            stride = strides[stage + large] if stage and index == 0 else (1, 1)
            layers.append(Block(inside, outside, stride))
            inside = outside
    return initialised(Classifier(interface, nn.Sequential(*layers), nn.Linear(inside, count)))
