"""What students over time share: how the series comes in, and how decisions are made of it."""

from __future__ import annotations

from torch import Tensor, nn

from edgewright.training.students.interface import Interface, Series, classes, frames
from edgewright.training.students.layers import ConvNorm, ending

_STEPS = 100
"""Time steps that a waveform is brought down to."""


class OverTime(nn.Module):
    """Series in the teacher's layout, features over time, decision."""

    def __init__(self, given: Series, features: nn.Module, decide: nn.Module) -> None:
        super().__init__()
        self.rank, self.transposed, self.count = given.rank, given.transposed, given.features
        self.features, self.decide = features, decide

    def forward(self, x: Tensor) -> Tensor:
        """Maps a series to [batch, classes] or to classes per time step."""
        y: Tensor = self.decide(self.features(self._map(x)))
        return y

    def _map(self, x: Tensor) -> Tensor:
        """Returns [batch, features, time, 1]."""
        if self.count == 1:
            return x.reshape(-1, 1, x.shape[1:].numel(), 1)
        if self.rank == 4:
            one = next(axis for axis in (1, 2, 3) if x.shape[axis] == 1)
            x = x.squeeze(one)
        return (x if self.transposed else x.permute(0, 2, 1)).unsqueeze(3)


class Decide(nn.Module):
    """One decision for the whole series, or one per time step as the teacher gives them."""

    def __init__(self, interface: Interface, inside: int) -> None:
        super().__init__()
        self.frames = frames(interface)
        count = classes(interface)
        self.head = nn.Linear(inside, self.frames.classes if self.frames is not None else count or 0)
        self.ending = ending(interface)

    def forward(self, x: Tensor) -> Tensor:
        """Maps [batch, inside, time, 1] to the teacher's output."""
        if self.frames is None:
            y: Tensor = self.ending(self.head(x.mean((2, 3))))
            return y
        if x.shape[2] != self.frames.time:
            x = nn.functional.interpolate(x, size=(self.frames.time, 1), mode="nearest")
        steps = x.squeeze(3).permute((2, 0, 1) if self.frames.first else (0, 2, 1))
        found: Tensor = self.ending(self.head(steps))
        return found


def filterbank(given: Series, channels: int, interface: Interface) -> tuple[int, list[nn.Module]]:
    """Returns the channels and the layers of a stem: a learnt filter bank for a waveform, a convolution otherwise."""
    if given.features > 1:
        stride = 2 if classes(interface) is not None and given.time >= 32 else 1
        return channels, [ConvNorm(given.features, channels, (3, 1), (stride, 1))]
    hop = max(given.time // _STEPS, 1)
    return channels, [ConvNorm(1, channels, (2 * hop + 1, 1), (hop, 1)), ConvNorm(channels, channels, (3, 1))]
