"""EfficientNet-Lite0: EfficientNet (Tan and Le 2019) without gates and with ReLU6, as edge kernels like it."""

from __future__ import annotations

from torch import nn

from edgewright.training.students.interface import Interface, classes, picture
from edgewright.training.students.layers import (
    Classifier,
    ConvNorm,
    InvertedResidual,
    divisible,
    initialised,
    strides_of,
)

STAGES = ((1, 16, 1, 3, 0), (6, 24, 2, 3, 1), (6, 40, 2, 5, 2), (6, 80, 3, 3, 3), (6, 112, 3, 5, 0), (6, 192, 4, 5, 4),
          (6, 320, 1, 3, 0))  # fmt: skip
"""Expansion, channels, blocks, kernel, and the place among those that halve; 0 for none."""


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network."""
    image, count = picture(interface), classes(interface)
    assert image is not None
    assert count is not None
    strides, inside = strides_of(image, 5), divisible(32 * width)
    layers: list[nn.Module] = [ConvNorm(image.channels, inside, 3, strides[0], activation=nn.ReLU6)]
    for expansion, channels, blocks, kernel, place in STAGES:
        outside = divisible(channels * width)
        for index in range(blocks):
            stride = strides[place] if place and index == 0 else (1, 1)
            layers.append(InvertedResidual(inside, inside * expansion, outside, kernel, stride))
            inside = outside
    last = divisible(1280 * width)
    layers.append(ConvNorm(inside, last, 1, activation=nn.ReLU6))
    return initialised(Classifier(interface, nn.Sequential(*layers), nn.Linear(last, count)))
