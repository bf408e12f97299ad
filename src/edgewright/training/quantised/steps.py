"""What learns: step sizes and zero points, and the modules that quantise with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgewright.graph.weights import MAX_BIAS
from edgewright.training.quantised.arithmetic import fake_quantise, rounded_through

NEGLIGIBLE = 1e-6
"""Steps of channels this much smaller than the largest belong to channels that are zero; they do not learn."""


@dataclass(frozen=True, slots=True)
class Start:
    """Where a step size begins and what of it may change.

    Attributes:
        scale: Scalar, or one per channel.
        zero: As many as scales.
        low: Smallest integer.
        high: Largest integer.
        axis: Channel axis; None for one scale.
        learns: Whether the scale changes.
        shifts: Whether the zero point does; per-tensor only.
    """

    scale: NDArray[np.float32]
    zero: NDArray[np.int64]
    low: int
    high: int
    axis: int | None
    learns: bool
    shifts: bool


class StepSize(nn.Module):
    """Scale and zero point of one tensor, or of several that share them.

    The scale is `start x exp(growth)`, so it stays positive and a learning rate means the same for every tensor;
    before the first step it is `start` exactly. The zero point moves by `shift` times the number of integers, rounded.
    """

    growth: Tensor
    shift: Tensor
    start: Tensor
    origin: Tensor
    weight: Tensor

    def __init__(self, given: Start) -> None:
        super().__init__()
        self.low, self.high, self.axis = given.low, given.high, given.axis
        zero = int(given.zero.reshape(-1)[0])
        self.levels = max(given.high - zero, zero - given.low, 1)
        scale = torch.from_numpy(np.array(given.scale, np.float32))
        self.register_buffer("start", scale)
        self.register_buffer("origin", torch.from_numpy(np.array(given.zero, np.float32)).expand(scale.shape).clone())
        self.register_buffer("weight", _weight(scale))
        _hold(self, "growth", torch.zeros_like(scale), learns=given.learns)
        _hold(self, "shift", torch.zeros_like(scale), learns=given.shifts)

    def scale(self) -> Tensor:
        return self.start * self.growth.exp()

    def zero(self) -> Tensor:
        """Returns the zero point, an integer as float32."""
        if not self.shift.requires_grad:
            return self.origin
        return rounded_through(self.origin + self.shift * (self.high - self.low), self.low, self.high)

    def gain(self, count: int) -> Tensor:
        """Returns the gradient scale of LSQ (Esser et al. 2020, section 2.2) for `count` values with one scale.

        It is divided by the square of the starting scale: a step of gradient descent on `growth` then changes the
        scale as a step on the scale itself does.
        """
        return self.weight * float((count * self.levels) ** -0.5)


class Quantise(nn.Module):
    """Quantises an activation or weights and turns them back into float32."""

    def __init__(self, step: StepSize, *, constant: bool) -> None:
        super().__init__()
        self.step = step
        self.constant = constant

    @property
    def limits(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        return self.step.low, self.step.high

    def forward(self, x: Tensor) -> Tensor:
        step = self.step
        scale, zero, gain = step.scale(), step.zero(), step.gain(self._count(x, step))
        if scale.dim():
            shape = [1] * x.dim()
            shape[step.axis or 0] = -1
            scale, zero, gain = scale.reshape(shape), zero.reshape(shape), gain.reshape(shape)
        return fake_quantise(x.float(), scale, zero, step.low, step.high, gain)

    def _count(self, x: Tensor, step: StepSize) -> int:
        """Values of a sample, or of the weights, that one scale serves."""
        if not self.constant:
            return max(x.numel() // max(len(x), 1) if x.dim() else 1, 1)
        return max(x.numel() // max(step.start.numel(), 1), 1)


class QuantiseBias(nn.Module):
    """Rounds a bias to int32 in the scale input x weights, which follows those two and does not learn itself."""

    limits = (-MAX_BIAS, MAX_BIAS)

    def __init__(self, data: StepSize, weights: StepSize) -> None:
        super().__init__()
        self.data = data
        self.weights = weights

    def scale(self) -> Tensor:
        return (self.data.scale() * self.weights.scale()).detach()

    def forward(self, bias: Tensor) -> Tensor:
        scale = self.scale()
        nothing = torch.zeros_like(scale)
        return fake_quantise(bias.float(), scale, nothing, *self.limits, nothing)


def step_parameters(network: nn.Module) -> tuple[nn.Parameter, ...]:
    """Returns what scales and zero points learn by: its own learning rate, no weight decay."""
    steps = [module for module in network.modules() if isinstance(module, StepSize)]
    return tuple(dict.fromkeys(p for step in steps for p in step.parameters(recurse=False)))


def _weight(scale: Tensor) -> Tensor:
    dead = scale <= NEGLIGIBLE * scale.max() if scale.dim() else torch.zeros_like(scale, dtype=torch.bool)
    return torch.where(dead, torch.zeros_like(scale), scale.double().pow(-2).clamp(max=1e30).float())


def _hold(module: nn.Module, name: str, value: Tensor, *, learns: bool) -> None:
    if learns:
        module.register_parameter(name, nn.Parameter(value))
    else:
        module.register_buffer(name, value)
