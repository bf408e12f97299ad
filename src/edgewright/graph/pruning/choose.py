"""Which sizes to prune groups to: the least importance lost for every microsecond saved. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgewright.core.costs import LayerShape
from edgewright.errors import ConfigError

Cost = Callable[[LayerShape, Mapping[str, int]], float]
"""What one operator costs at some sizes: microseconds, multiply-accumulates or weights."""


@dataclass(frozen=True, slots=True)
class Choosable:
    """A group as the choice sees it.

    Attributes:
        name: Its name.
        importance: Of every channel, in one unit for all groups; what is lost adds up.
        multiple: Its size must be divisible by it.
        least: Channels that must stay.
    """

    name: str
    importance: NDArray[np.float64]
    multiple: int = 1
    least: int = 1

    @property
    def size(self) -> int:
        """Channels it has."""
        return len(self.importance)


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen.

    Attributes:
        sizes: Group -> channels kept.
        relative: Cost relative to the whole model.
        lost: Importance of what is removed.
        met: The goal was reached; otherwise everything that may be removed is.
    """

    sizes: Mapping[str, int]
    relative: float
    lost: float
    met: bool


def choose(
    groups: Sequence[Choosable], layers: Iterable[LayerShape], cost: Cost, rest: float, goal: float, align: int
) -> Choice:
    """Shrinks groups, the cheapest loss first, until the model costs at most `goal` of what it did.

    Greedy on importance lost per cost saved, over all steps down to any smaller size of any group (Shen et al. 2022,
    "Structural pruning via latency-saliency knapsack", takes the same two figures). The path does not depend on the
    goal: a lower goal goes further on it, so no group ever grows when less is asked for.

    Args:
        groups: What may shrink, importances in one unit.
        layers: Every operator.
        cost: Of one operator.
        rest: Cost of what is always there.
        goal: Share of the present cost, above 0 and at most 1.
        align: Sizes are multiples of it wherever the group has more channels.

    Raises:
        ConfigError: The goal is no share.
    """
    if not 0 < goal <= 1:
        raise ConfigError(f"a goal of {goal:g} of the present cost", hint="give a share above 0, at most 1")
    state = _State(groups, tuple(layers), cost, rest)
    paths = {group.name: ladder(group, align) for group in groups}
    while state.relative > goal:
        step = _best(state, groups, paths)
        if step is None:
            return state.choice(met=False)
        state.take(*step)
    return state.choice(met=True)


def ladder(group: Choosable, align: int) -> tuple[int, ...]:
    """Returns the sizes a group may have below its own, the largest first: multiples of `align` and of its own."""
    unit = int(np.lcm(max(align, 1), max(group.multiple, 1)))
    least = max(group.least, 1)
    return tuple(range((group.size - 1) // unit * unit, least - 1, -unit)) if unit < group.size else ()


def kept_channels(importance: NDArray[np.float64], size: int) -> tuple[int, ...]:
    """Returns the `size` most important channels in their order; of equals, the first."""
    ranked = np.argsort(-importance, kind="stable")[:size]
    return tuple(sorted(int(channel) for channel in ranked))


@dataclass(slots=True)
class _State:
    """Sizes on the way down, and what every operator costs at them."""

    groups: Sequence[Choosable]
    layers: tuple[LayerShape, ...]
    cost: Cost
    rest: float
    sizes: dict[str, int] = field(init=False)
    costs: list[float] = field(init=False)
    whole: float = field(init=False)
    touched: dict[str, list[int]] = field(init=False)
    losses: dict[str, NDArray[np.float64]] = field(init=False)

    def __post_init__(self) -> None:
        self.sizes = {group.name: group.size for group in self.groups}
        self.costs = [self.cost(layer, self.sizes) for layer in self.layers]
        self.whole = max(self.rest + sum(self.costs), 1e-12)
        self.touched = {
            g.name: [i for i, layer in enumerate(self.layers) if g.name in layer.groups] for g in self.groups
        }
        self.losses = {g.name: np.concatenate([[0.0], np.cumsum(np.sort(g.importance))]) for g in self.groups}

    @property
    def relative(self) -> float:
        return (self.rest + sum(self.costs)) / self.whole

    def saved(self, name: str, size: int) -> float:
        smaller = {**self.sizes, name: size}
        return sum(self.costs[i] - self.cost(self.layers[i], smaller) for i in self.touched[name])

    def lost(self, name: str, size: int) -> float:
        """Importance of what goes between the present size and `size`."""
        total = self.losses[name]
        return float(total[len(total) - 1 - size] - total[len(total) - 1 - self.sizes[name]])

    def take(self, name: str, size: int) -> None:
        self.sizes[name] = size
        for i in self.touched[name]:
            self.costs[i] = self.cost(self.layers[i], self.sizes)

    def choice(self, *, met: bool) -> Choice:
        lost = sum(float(self.losses[g.name][g.size - self.sizes[g.name]]) for g in self.groups)
        return Choice(dict(self.sizes), self.relative, lost, met)


def _best(state: _State, groups: Sequence[Choosable], paths: Mapping[str, tuple[int, ...]]) -> tuple[str, int] | None:
    """Returns the step that loses least per cost saved; a step that saves nothing is none."""
    best: tuple[float, str, int] | None = None
    for group in groups:
        for size in paths[group.name]:
            if size >= state.sizes[group.name]:
                continue
            saved = state.saved(group.name, size)
            if saved <= 1e-9 * state.whole:
                continue
            price = state.lost(group.name, size) / saved
            if best is None or price < best[0]:
                best = (price, group.name, size)
    return None if best is None else best[1:]
