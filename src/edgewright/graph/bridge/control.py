"""Control flow: the bodies of `If`, `Loop` and `Scan` are modules, run by Python."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

Values = tuple[Any, ...]


class If(nn.Module):
    """Runs one of two branches; each takes the tensors that it reads from outside."""

    def __init__(self, then_branch: nn.Module, else_branch: nn.Module) -> None:
        super().__init__()
        self.then_branch = then_branch
        self.else_branch = else_branch

    def forward(self, condition: Tensor, then_inputs: Values, else_inputs: Values) -> Values:
        """Returns what the branch chosen returns."""
        chosen: Values = self.then_branch(*then_inputs) if bool(condition) else self.else_branch(*else_inputs)
        return chosen


class Loop(nn.Module):
    """Runs its body a number of times, or until it says to stop.

    The body takes the iteration, the condition, the states and tensors from outside, and returns the condition, the
    states and what is stacked over iterations.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, trips: Tensor | None, condition: Tensor | None, states: Values, outside: Values) -> Values:
        """Returns the last states, then each stacked output."""
        stacked: list[list[Tensor]] = []
        iteration, device = 0, next((v.device for v in (*states, *outside) if isinstance(v, Tensor)), None)
        going = condition is None or bool(condition)
        while going and (trips is None or iteration < int(trips)):
            results = self.body(
                torch.tensor(iteration, device=device), torch.tensor(going, device=device), *states, *outside
            )
            going, states, made = bool(results[0]), results[1 : len(states) + 1], results[len(states) + 1 :]
            stacked = [[*before, now] for before, now in zip(stacked or [[]] * len(made), made, strict=True)]
            iteration += 1
        count = len(stacked)
        return (*states, *(torch.stack(stacked[i]) for i in range(count)))


class Scan(nn.Module):
    """Runs its body over slices of its inputs.

    Attributes:
        axes: Axis sliced of each scanned input.
        directions: 1 where it is walked backwards.
        output_axes: Axis of each stacked output.
        output_directions: 1 where it is put together backwards.
    """

    def __init__(
        self,
        body: nn.Module,
        axes: Sequence[int],
        directions: Sequence[int],
        output_axes: Sequence[int],
        output_directions: Sequence[int],
    ) -> None:
        super().__init__()
        self.body = body
        self.axes, self.directions = tuple(axes), tuple(directions)
        self.output_axes, self.output_directions = tuple(output_axes), tuple(output_directions)

    def forward(self, states: Values, scanned: Values, outside: Values) -> Values:
        """Returns the last states, then each stacked output."""
        slices = [x.unbind(axis) for x, axis in zip(scanned, self.axes, strict=True)]
        slices = [part[::-1] if back else part for part, back in zip(slices, self.directions, strict=True)]
        made: list[list[Tensor]] = [[] for _ in self.output_axes]
        for parts in zip(*slices, strict=True):
            results = self.body(*states, *parts, *outside)
            for collected, now in zip(made, results[len(states) :], strict=True):
                collected.append(now)
            states = results[: len(states)]
        ordered = [x[::-1] if back else x for x, back in zip(made, self.output_directions, strict=True)]
        return (*states, *(torch.stack(x, axis) for x, axis in zip(ordered, self.output_axes, strict=True)))
