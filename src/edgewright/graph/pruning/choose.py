"""Which sizes to prune groups to: the least importance lost for every microsecond saved. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgewright.core.costs import LayerShape
from edgewright.errors import ConfigError

Cost = Callable[[LayerShape, Mapping[str, int]], float]
"""What one operator costs at some sizes: microseconds, multiply-accumulates or weights."""


Paths = Mapping[str, tuple[int, ...]]
_NOTHING = 1e-9
_SWEEPS = 10
_NEAR = 3


@dataclass(frozen=True, slots=True)
class Choosable:
    """A group as the choice sees it.

    Attributes:
        name: Its name.
        importance: Of every channel, in one unit for all groups.
        multiple: Its size must be divisible by it.
        least: Channels that must stay.
        whole: It goes whole or stays whole, as a residual branch does.
        together: Size -> what is lost down to it, where that was measured; what is lost adds up where nothing was.
    """

    name: str
    importance: NDArray[np.float64]
    multiple: int = 1
    least: int = 1
    whole: bool = False
    together: Mapping[int, float] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Channels it has."""
        return len(self.importance)

    def losses(self) -> NDArray[np.float64]:
        """Returns what is lost by how many channels go, the least important first.

        Between sizes that were measured the sum of importances says how it grows: to first order channels do not know
        of each other, but those that go together are missed together.
        """
        added = np.concatenate([[0.0], np.cumsum(np.sort(self.importance))])
        known = sorted((self.size - size, lost) for size, lost in self.together.items() if size < self.size)
        if not known:
            return added
        factors = [lost / max(float(added[gone]), _NOTHING) for gone, lost in known]
        factor = np.interp(np.arange(len(added)), [gone for gone, _ in known], factors)
        return np.asarray(np.maximum.accumulate(added * factor), np.float64)


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
    goal; from every place on it the cheapest single step that reaches the goal is looked at, too, and the best end is
    taken. Then single steps are tried that make room for others to grow again, as long as less is lost.

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
    state = State(groups, tuple(layers), cost, rest)
    paths = {group.name: ladder(group, align) for group in groups}
    found = descend(state, groups, paths, goal)
    return improve(state, found, groups, paths, goal) if found.met else found


def descend(state: State, groups: Sequence[Choosable], paths: Paths, goal: float) -> Choice:
    """Goes down the greedy path, and returns the best end on it or one step beside it.

    A lower goal never loses less here: it goes further on the same path, and has fewer ends to choose from.
    """
    best: Choice | None = None
    while state.relative > goal:
        steps = list(_steps(state, groups, paths))
        if not steps:
            return best or state.choice(met=False)
        best = _better(best, _finished(state, steps, goal))
        step = min(steps)
        state.put(step.group, step.size)
    return _better(best, state.choice(met=True)) or state.choice(met=True)


def improve(state: State, found: Choice, groups: Sequence[Choosable], paths: Paths, goal: float) -> Choice:
    """Takes one more step down wherever what then may grow again is worth more; never loses more than `found`."""
    best = _grown(state, found, groups, paths, goal)
    for _ in range(_SWEEPS):
        before = best
        for group in groups:
            lower = [size for size in paths[group.name] if size < best.sizes[group.name]][:_NEAR]
            for size in lower:
                tried = Choice({**best.sizes, group.name: size}, 0.0, 0.0, met=True)
                best = _better(best, _grown(state, tried, groups, paths, goal)) or best
        if best is before:
            break
    return best


def _grown(state: State, start: Choice, groups: Sequence[Choosable], paths: Paths, goal: float) -> Choice:
    """Lets groups grow again, the most importance for its cost first, as far as the goal allows."""
    for name, size in start.sizes.items():
        state.put(name, size)
    while ups := list(_ups(state, groups, paths, (goal - state.relative) * state.whole)):
        _, name, size = max(ups)
        state.put(name, size)
    return state.choice(met=state.relative <= goal)


def _ups(state: State, groups: Sequence[Choosable], paths: Paths, room: float) -> Iterator[tuple[float, str, int]]:
    """Yields the next sizes up that cost no more than there is room for, with what they bring for their cost."""
    for group in groups:
        above = [size for size in (group.size, *paths[group.name]) if size > state.sizes[group.name]]
        if not above:
            continue
        cost, gain = -state.saved(group.name, above[-1]), -state.lost(group.name, above[-1])
        if cost <= room and gain > 0:
            yield gain / max(cost, _NOTHING * state.whole), group.name, above[-1]


def ladder(group: Choosable, align: int) -> tuple[int, ...]:
    """Returns the sizes a group may have below its own, the largest first: multiples of `align` and of its own."""
    if group.whole:
        return (0,) if group.least == 0 else ()
    unit = int(np.lcm(max(align, 1), max(group.multiple, 1)))
    least = max(group.least, 1)
    return tuple(range((group.size - 1) // unit * unit, least - 1, -unit)) if unit < group.size else ()


def kept_channels(importance: NDArray[np.float64], size: int) -> tuple[int, ...]:
    """Returns the `size` most important channels in their order; of equals, the first."""
    ranked = np.argsort(-importance, kind="stable")[:size]
    return tuple(sorted(int(channel) for channel in ranked))


@dataclass(slots=True)
class State:
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
        self.losses = {group.name: group.losses() for group in self.groups}

    @property
    def relative(self) -> float:
        """Cost at these sizes relative to the whole model's."""
        return (self.rest + sum(self.costs)) / self.whole

    def saved(self, name: str, size: int) -> float:
        """Returns the cost saved by giving a group another size."""
        smaller = {**self.sizes, name: size}
        return sum(self.costs[i] - self.cost(self.layers[i], smaller) for i in self.touched[name])

    def lost(self, name: str, size: int) -> float:
        """Returns the importance of what goes between the present size and `size`; negative for a larger one."""
        total = self.losses[name]
        return float(total[len(total) - 1 - size] - total[len(total) - 1 - self.sizes[name]])

    def put(self, name: str, size: int) -> None:
        """Gives a group a size."""
        if self.sizes[name] != size:
            self.sizes[name] = size
            for i in self.touched[name]:
                self.costs[i] = self.cost(self.layers[i], self.sizes)

    def choice(self, *, met: bool) -> Choice:
        """Returns these sizes."""
        lost = sum(float(self.losses[g.name][g.size - self.sizes[g.name]]) for g in self.groups)
        return Choice(dict(self.sizes), self.relative, lost, met)


@dataclass(frozen=True, slots=True, order=True)
class _Step:
    """One group made smaller; ordered by what it loses for what it saves."""

    price: float
    group: str
    size: int
    lost: float
    saved: float


def _steps(state: State, groups: Sequence[Choosable], paths: Paths) -> Iterator[_Step]:
    """Yields every step from here that saves something."""
    for group in groups:
        for size in paths[group.name]:
            if size >= state.sizes[group.name]:
                continue
            saved, lost = state.saved(group.name, size), state.lost(group.name, size)
            if saved > _NOTHING * state.whole:
                yield _Step(lost / saved, group.name, size, lost, saved)


def _finished(state: State, steps: Sequence[_Step], goal: float) -> Choice | None:
    """Returns where the cheapest step that reaches the goal at once leads to."""
    needed = (state.relative - goal) * state.whole
    enough = [step for step in steps if step.saved >= needed]
    if not enough:
        return None
    step = min(enough, key=lambda s: (s.lost, s.group, s.size))
    here = state.choice(met=True)
    relative = here.relative - step.saved / state.whole
    return Choice({**here.sizes, step.group: step.size}, relative, here.lost + step.lost, met=True)


def _better(one: Choice | None, other: Choice | None) -> Choice | None:
    """Returns the one that loses less; of equals, the first."""
    if one is None or other is None:
        return one or other
    return other if other.lost < one.lost else one
