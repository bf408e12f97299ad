"""Convolutional recurrent network (Shi et al. 2015): convolutions, then a GRU over time."""

from __future__ import annotations

from torch import Tensor, nn

from edgewright.training.students.interface import Interface, series
from edgewright.training.students.layers import ConvNorm, divisible, initialised
from edgewright.training.students.over_time import Decide, OverTime, filterbank

_CHANNELS = 48
_HIDDEN = 64


class Recurrent(nn.Module):
    """A GRU (Cho et al. 2014) over the time axis of a map."""

    def __init__(self, inside: int, hidden: int) -> None:
        super().__init__()
        self.gru = nn.GRU(inside, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, time, 1] to [batch, hidden, time, 1]."""
        steps, _ = self.gru(x.squeeze(3).permute(2, 0, 1))
        y: Tensor = steps.permute(1, 2, 0).unsqueeze(3)
        return y


def build(interface: Interface, width: float, family: str) -> nn.Module:
    """Returns a fresh network."""
    given = series(interface)
    assert given is not None
    channels, hidden = divisible(_CHANNELS * width), divisible(_HIDDEN * width)
    inside, layers = filterbank(given, channels, interface)
    layers += [ConvNorm(inside, channels, (5, 1)), Recurrent(channels, hidden)]
    return initialised(OverTime(given, nn.Sequential(*layers), Decide(interface, hidden)))
