"""Learns for every weight whether to round it up or down, so that a block gives what it gives in float (PyTorch)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch
    from torch import fx

ZETA, GAMMA = 1.1, -0.1
"""The rectified sigmoid stretches beyond 0 and 1, so that both are reached (Louizos et al. 2018)."""
WARM_UP = 0.2
"""Share of the steps without regulariser."""
BETA = (20.0, 2.0)
"""Exponent of the regulariser at its start and end."""
HELD_OUT = 4
"""Every fourth sample decides whether the learnt rounding is better than the nearest."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How long and how strongly.

    Attributes:
        steps: Optimiser steps per block.
        batch: Samples per step.
        rate: Learning rate of Adam.
        pull: Weight of the regulariser that drives every rounding to up or down.
        seed: Of the order of samples.
    """

    steps: int
    batch: int
    rate: float
    pull: float
    seed: int


@dataclass(frozen=True, slots=True, eq=False)
class Stored:
    """Weights of one layer: the float ones and how they are stored.

    Attributes:
        tensor: Name of the dequantised weights.
        real: Float weights.
        scale: Broadcasts over `real`.
        zero_point: Broadcasts over `real`.
        limits: Smallest and largest integer.
    """

    tensor: str
    real: NDArray[Any]
    scale: NDArray[Any]
    zero_point: NDArray[Any]
    limits: tuple[int, int]


@dataclass(frozen=True, slots=True)
class Learnt:
    """What came of one block.

    Attributes:
        integers: Tensor -> integers; empty where nothing better than the nearest was found.
        nearest: Mean squared error on held-out samples of the output with the nearest integers.
        error: The same with `integers`.
    """

    integers: Mapping[str, NDArray[Any]]
    nearest: float
    error: float


def learn(
    module: fx.GraphModule,
    stored: Sequence[Stored],
    inputs: Sequence[Sequence[NDArray[Any]]],
    targets: Sequence[NDArray[Any]],
    settings: Settings,
) -> Learnt:
    """Rounds the weights of a block adaptively (Nagel et al. 2020, "Up or Down? Adaptive Rounding").

    Args:
        module: Takes the block's inputs, then the dequantised weights in the order of `stored`; returns one tensor.
        stored: The weights.
        inputs: Per sample, the block's inputs in the quantised model so far.
        targets: Per sample, the block's output in the float model.
        settings: See `Settings`.
    """
    import torch

    parameters = [_Soft(each) for each in stored]
    samples = [[torch.from_numpy(np.require(x, requirements=["C", "W"])) for x in sample] for sample in inputs]
    wanted = [torch.from_numpy(np.require(y, requirements=["C", "W"])) for y in targets]
    held = list(range(0, len(samples), HELD_OUT)) if len(samples) >= 2 * HELD_OUT else list(range(len(samples)))
    used = [i for i in range(len(samples)) if i not in held] or held
    before = _error(module, samples, wanted, held, [p.nearest() for p in parameters])
    _descend(module, parameters, samples, wanted, used, settings)
    with torch.no_grad():
        after = _error(module, samples, wanted, held, [p.hard() for p in parameters])
    if not after < before:
        return Learnt({}, before, before)
    return Learnt({p.stored.tensor: p.integers() for p in parameters}, before, after)


def _descend(
    module: fx.GraphModule,
    parameters: Sequence[_Soft],
    samples: Sequence[Sequence[torch.Tensor]],
    wanted: Sequence[torch.Tensor],
    used: Sequence[int],
    settings: Settings,
) -> None:
    import torch

    optimiser = torch.optim.Adam([p.logit for p in parameters], lr=settings.rate)
    rng = np.random.default_rng(settings.seed)
    joint = _joinable(module, parameters, samples, wanted)
    power = float(np.mean([float(y.square().mean()) for y in wanted])) or 1.0
    for step in range(settings.steps):
        chosen = rng.choice(used, min(settings.batch, len(used)), replace=False).tolist()
        optimiser.zero_grad(set_to_none=True)
        weights = [p.soft() for p in parameters]
        loss = torch.zeros(())
        for group in [chosen] if joint else [[index] for index in chosen]:
            found = module(*_joined(samples, group), *weights)[0]
            loss = loss + (found - torch.cat([wanted[i] for i in group])).square().mean() * len(group)
        loss = loss / (len(chosen) * power)
        progress = step / settings.steps
        if progress >= WARM_UP:
            beta = BETA[1] + (BETA[0] - BETA[1]) * (1 - (progress - WARM_UP) / (1 - WARM_UP))
            loss = loss + settings.pull * sum((p.undecided(beta) for p in parameters), torch.zeros(()))
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        optimiser.step()


def _joinable(
    module: fx.GraphModule,
    parameters: Sequence[_Soft],
    samples: Sequence[Sequence[torch.Tensor]],
    wanted: Sequence[torch.Tensor],
) -> bool:
    """Says whether the block takes several samples at once: all of one shape, and no size fixed inside it."""
    import torch

    if len(samples) < 2 or len({tuple(x.shape for x in sample) for sample in samples}) > 1:
        return False
    with torch.no_grad():
        try:
            found = module(*_joined(samples, [0, 1]), *(p.nearest() for p in parameters))[0]
        except RuntimeError:
            return False
    return bool(found.shape == torch.cat([wanted[0], wanted[1]]).shape)


def _joined(samples: Sequence[Sequence[torch.Tensor]], group: Sequence[int]) -> list[torch.Tensor]:
    import torch

    return [torch.cat([samples[i][k] for i in group]) for k in range(len(samples[group[0]]))]


def _error(
    module: fx.GraphModule,
    samples: Sequence[Sequence[torch.Tensor]],
    wanted: Sequence[torch.Tensor],
    held: Sequence[int],
    weights: Sequence[torch.Tensor],
) -> float:
    import torch

    with torch.no_grad():
        return float(np.mean([float((module(*samples[i], *weights)[0] - wanted[i]).square().mean()) for i in held]))


class _Soft:
    """Weights between the two integers around them; those that are zero, as pruning leaves them, stay zero."""

    def __init__(self, stored: Stored) -> None:
        import torch

        self.stored = stored
        self.scale = torch.from_numpy(np.array(stored.scale, np.float32))
        self.zero = torch.from_numpy(np.array(stored.zero_point, np.float32))
        ratio = torch.from_numpy(np.array(stored.real, np.float32)) / self.scale
        self.floor = ratio.floor()
        self.ratio, self.pruned = ratio, ratio == 0
        share = ((ratio - self.floor - GAMMA) / (ZETA - GAMMA)).clamp(1e-4, 1 - 1e-4)
        self.logit = torch.logit(share).requires_grad_()

    def soft(self) -> torch.Tensor:
        return self._real(self.floor + self._up())

    def hard(self) -> torch.Tensor:
        return self._real(self.floor + (self._up() > 0.5))

    def nearest(self) -> torch.Tensor:
        return self._real(self.ratio.round())

    def undecided(self, beta: float) -> torch.Tensor:
        """Returns how far the roundings are from up or down, 0 to 1, averaged."""
        return (1 - (2 * self._up() - 1).abs().pow(beta)).mean()

    def integers(self) -> NDArray[Any]:
        low, high = self.stored.limits
        found = (self.floor + (self._up() > 0.5) + self.zero).clamp(low, high)
        return found.detach().numpy()

    def _up(self) -> torch.Tensor:
        return (self.logit.sigmoid() * (ZETA - GAMMA) + GAMMA).clamp(0, 1).masked_fill(self.pruned, 0.0)

    def _real(self, steps: torch.Tensor) -> torch.Tensor:
        low, high = self.stored.limits
        return ((steps + self.zero).clamp(low, high) - self.zero) * self.scale
