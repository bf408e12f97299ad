"""Temporal convolutional network (Bai et al. 2018) over features as channels (Choi et al. 2019), not causal.

Convolutions are two-dimensional with a width of one, which every runtime has kernels for.
"""

from __future__ import annotations

from torch import Tensor, nn

from edgewright.training.students.interface import Interface, classes, series
from edgewright.training.students.layers import ConvNorm, divisible, initialised
from edgewright.training.students.over_time import Decide, OverTime, filterbank

_CHANNELS = 32
_DILATIONS = (1, 2, 4, 8)
_KERNEL = 5


class Block(nn.Module):
    """Two dilated convolutions over time around a shortcut."""

    def __init__(self, inside: int, outside: int, dilation: int) -> None:
        super().__init__()
        self.first = ConvNorm(inside, outside, (_KERNEL, 1), dilation=(dilation, 1))
        self.second = ConvNorm(outside, outside, (_KERNEL, 1), dilation=(dilation, 1), activation=None)
        self.shortcut = nn.Identity() if inside == outside else ConvNorm(inside, outside, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, time, 1] to [batch, outside, time, 1]."""
        y: Tensor = self.second(self.first(x)) + self.shortcut(x)
        return y.relu()


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network; where one decision is asked for, time is halved before the second block."""
    given = series(interface)
    assert given is not None
    inside, layers = filterbank(given, divisible(_CHANNELS * width), interface)
    for index, dilation in enumerate(_DILATIONS):
        outside = divisible(_CHANNELS * width * (1 + index / 2))
        if index == 1 and classes(interface) is not None:
            layers.append(nn.MaxPool2d((2, 1), (2, 1), ceil_mode=True))
        layers.append(Block(inside, outside, dilation))
        inside = outside
    return initialised(OverTime(given, nn.Sequential(*layers), Decide(interface, inside)))
