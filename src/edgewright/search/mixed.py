"""Mixed precision: the cheapest set of operators to keep in float that meets the budget. Pure.

Groups return to float in the order of loss recovered per microsecond paid; losses are those that each group alone
causes (they add, as independent errors do), microseconds are measured on the target and include the borders between
integers and float. How far to go along that order is found by bisection, each step of it one full evaluation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace

from edgewright.core.recipe import Candidate, Recipe, StepSpec
from edgewright.core.sensitivity import Sensitivity
from edgewright.core.target import exactly
from edgewright.search.operator_costs import Costs, assumed_costs, operator_costs
from edgewright.search.repair import Best, Chain, better, inside
from edgewright.search.rungs import Rung

EVALUATIONS = 6
"""Most full evaluations."""
_REMAINDER = 0.1
"""Share of the loss that the first guess leaves."""
_STEP = 0.5
"""The next guess leaves this share of what the last one left."""
_LESS = 0.99
_LEAST_TIME = 2e-3
_NO_SLOWER = 0.98
Measure = Callable[[Recipe], Sensitivity]
"""Measures the sensitivity of the groups of a recipe of static INT8 (`Trials.sensitivity`)."""


@dataclass(frozen=True, slots=True)
class Order:
    """Groups in the order in which they return to float.

    Attributes:
        names: First operators of the groups.
        remaining: Predicted loss that is left with the first 0, 1, 2... of them in float.
        rejected: Name -> why INT8 is refused for it whatever it costs in accuracy; these come first.
    """

    names: tuple[str, ...]
    remaining: tuple[float, ...]
    rejected: Mapping[str, str]

    def count_for(self, remainder: float) -> int:
        """Returns how many must return to float for at most this share of the whole loss to be left."""
        most = remainder * self.remaining[0]
        return next((i for i, left in enumerate(self.remaining) if left <= most), len(self.names))


def order_groups(costs: Costs) -> Order:
    """Orders greedily: at each step the group that recovers most loss per microsecond added to what is kept already.

    Keeping a neighbour of a float group may save a border, so the price of a group depends on those before it.
    """
    rejected = costs.slower()
    names = list(rejected)
    pending = {name: group.loss for name, group in costs.groups.items() if name not in rejected}
    least = _LEAST_TIME * costs.total_integer / max(len(costs.groups), 1)
    while pending:
        base = costs.added(names)
        price = {name: max(costs.added([*names, name]) - base, least) for name in pending}
        best = max(pending, key=lambda name: (pending[name] / max(price[name], 1e-9), pending[name]))
        names.append(best)
        del pending[best]
    left = [sum(group.loss for group in costs.groups.values())]
    for name in names:
        left.append(max(left[-1] - costs.groups[name].loss, 0.0))
    return Order(tuple(names), tuple(left), rejected)


def mixed_rungs(
    target: StepSpec, best: Best, plain: Candidate, measure: Measure, reference: Candidate | None = None
) -> Generator[Rung, Candidate, Best]:
    """Yields mixed-precision rungs; is sent what came of each.

    Args:
        target: Its name and fields.
        best: Full INT8 that has lost too much, the best of what was tried.
        plain: The model in float (or a reduced float) on the same target.
        measure: Measures sensitivity; called once.
        reference: The original model: its times stand in where the target does not run here.

    Returns:
        The fastest candidate inside the budget; where there is none, the one that lost least.
    """
    groups = measure(best.chain.recipe()).groups
    if reference is not None and not _speed(best.candidate):
        costs = assumed_costs(reference, groups)
    else:
        costs = operator_costs(plain, best.candidate, groups)
    order = order_groups(costs)
    most = affordable(costs, order)
    if not most:
        recipe = best.chain.recipe(note="mixed precision")
        yield Rung("mixed", recipe, target, "with any operator in float it would run no faster than all of it in float")
        return best
    search = _Bisection(order, costs, best, most)
    while (count := search.next()) is not None:
        notes = tuple(order.rejected[name] for name in order.names[:count] if name in order.rejected)
        candidate = yield Rung("mixed", search.chain(count).recipe(), target, notes=notes)
        search.record(count, candidate)
    return search.best


def affordable(costs: Costs, order: Order) -> int:
    """Returns how many groups may be kept in float so that the rest still runs faster than float."""
    limit = _NO_SLOWER * costs.total_float
    counts = range(len(order.names), 0, -1)
    return next((i for i in counts if costs.total_integer + costs.added(order.names[:i]) < limit), 0)


class _Bisection:
    """The fewest groups in float that meet the budget, given that more groups lose less."""

    def __init__(self, order: Order, costs: Costs, start: Best, most: int) -> None:
        self.order = order
        self.costs = costs
        self.best = start
        self._start = start.chain
        self._most = most
        self._low = 0
        self._high = most + 1
        self._left = EVALUATIONS
        self._measured = {0: _time(start.candidate)}

    def next(self) -> int | None:
        """Returns how many groups to keep in float next; None when the search is over."""
        if not self._left or self._high - self._low <= 1:
            return None
        if self._high <= self._most:
            return self._between()
        known = self.order.remaining[self._low] / max(self.order.remaining[0], 1e-30)
        count = self.order.count_for(_REMAINDER if self._low == 0 else known * _STEP)
        return min(max(count, len(self.order.rejected), self._low + 1), self._most)

    def record(self, count: int, candidate: Candidate) -> None:
        """Learns from what came of keeping the first `count` groups in float."""
        self._left -= 1
        self._measured[count] = _time(candidate)
        found = Best(self.chain(count), candidate)
        if inside(candidate):
            self._high = count
            faster = _speed(candidate) > _speed(self.best.candidate) or not _speed(candidate)
            self.best = found if faster or not inside(self.best.candidate) else self.best
        else:
            self._low = count
            gained = not inside(self.best.candidate) and better(candidate, self.best.candidate)
            self.best = found if gained else self.best
        if candidate.measurement is not None:
            self.costs = self.costs.learned(candidate, self.order.names[:count])

    def chain(self, count: int) -> Chain:
        """Returns the chain of passes that keeps the first `count` groups in float."""
        names = self.order.names[:count]
        operators = [operator for name in names for operator in self.costs.groups[name].operators]
        given = self._start.config.get("keep_float", ())
        config = {**self._start.config, "keep_float": [*given, *map(exactly, operators)]}
        slow = sum(name in self.order.rejected for name in names)
        note = f"{len(operators)} operators in float" + (f", {slow} of them slower in INT8" if slow else "")
        return replace(self._start, config=config, done=(*self._start.done, note))

    def _between(self) -> int | None:
        """Returns the count halfway in time; None where fewer would save next to nothing, or lose as much as before.

        What was measured at both ends decides how much there is to save; predicted times only share it out.
        """
        failed = self.order.remaining[self._low]
        spans = [i for i in range(self._low + 1, self._high) if self.order.remaining[i] < _LESS * failed]
        if not spans or self._measured[self._low] > _NO_SLOWER * self._measured[self._high]:
            return None
        time = {i: self.costs.added(self.order.names[:i]) for i in (self._low, *spans, self._high)}
        if time[self._high] - min(time[i] for i in spans) < (1 - _NO_SLOWER) * self.costs.total_integer:
            return spans[len(spans) // 2]
        middle = (time[self._low] + time[self._high]) / 2
        return min(spans, key=lambda i: (abs(time[i] - middle), i))


def _time(candidate: Candidate) -> float:
    """Returns the measured time of one run, the original taking 1; 0 where none was measured."""
    faster = _speed(candidate)
    return 1 / faster if faster else 0.0


def _speed(candidate: Candidate) -> float:
    timing = candidate.measurement.timing if candidate.measurement else None
    return timing.speedup.value if timing else 0.0
