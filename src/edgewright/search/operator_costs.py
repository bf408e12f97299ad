"""What each group costs in integers and in float on the target, from measured operators. Pure.

The runtime's kernels are traced to the nodes of the model by the placement that the target recorded. Conversions and
changes of layout between integers and float are the price of a border, per value that crosses it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from edgewright.core.recipe import Candidate
from edgewright.core.sensitivity import GroupSensitivity

PRICE = 6e-4
"""Microseconds per value that crosses a border, until one is measured."""
_MARGIN = 1.1
_MOST_SCALE = 2.0
_LEAST_SHARE = 2e-3
_ASSUMED = 0.5
_BORDER_OPS = ("QuantizeLinear", "DequantizeLinear", "Transpose", "ReorderInput", "ReorderOutput", "Reorder", "Convert")


@dataclass(frozen=True, slots=True)
class Costs:
    """Measured time of every node of the model, both ways.

    Attributes:
        groups: Name -> the group.
        floats: Node -> microseconds where everything is float.
        integers: Node -> microseconds where everything possible is integer.
        price: Microseconds per value that crosses between integers and float.
        border_time: Microseconds of conversions and changes of layout where everything possible is integer.
        total_float: Microseconds of all operators in float.
        total_integer: The same in integers.
        scale: What profiled times in integers were multiplied by (see `profile_scale`).
    """

    groups: Mapping[str, GroupSensitivity]
    floats: Mapping[str, float]
    integers: Mapping[str, float]
    price: float
    border_time: float
    total_float: float
    total_integer: float
    scale: float = 1.0

    def added(self, names: Collection[str]) -> float:
        """Returns the microseconds that keeping these groups in float adds; negative where it saves time."""
        nodes = {node for name in names for node in self.groups[name].nodes}
        moved = sum(self.floats[n] - self.integers[n] for n in nodes if n in self.floats and n in self.integers)
        return moved + self.price * self.crossing(names)

    def crossing(self, names: Collection[str]) -> int:
        """Returns how many values cross between integers and float when these groups are kept in float."""
        kept = set(names)
        edges = ((g, reader) for g in self.groups.values() for reader in g.feeds)
        return sum(g.elements for g, reader in edges if (g.name in kept) != (reader in kept))

    def slower(self) -> Mapping[str, str]:
        """Returns name -> reason for every group whose integers are slower than float, borders included.

        Differences that would not show in the whole model's time are left out.
        """
        found = {}
        least = _LEAST_SHARE * self.total_integer
        for name, group in self.groups.items():
            integer = sum(self.integers.get(node, 0.0) for node in group.nodes)
            in_float = integer + self.added([name])
            if in_float > 0 and integer > max(_MARGIN * in_float, in_float + least):
                found[name] = f"{name}: INT8 {in_float / integer:.1f}x as fast as float: kept float"
        return found

    def learned(self, mixed: Candidate, names: Collection[str]) -> Costs:
        """Returns these costs with the price of a border as `mixed`, which keeps `names` in float, really paid it."""
        crossed = self.crossing(names)
        if not crossed:
            return self
        paid = self.scale * sum(o.microseconds for o in mixed.operators if o.op in _BORDER_OPS)
        return replace(self, price=max(paid - self.border_time, 0.0) / crossed)


def operator_costs(plain: Candidate, quantised: Candidate, groups: Iterable[GroupSensitivity]) -> Costs:
    """Compares the operators of two candidates of one target.

    Args:
        plain: In float, or in the reduced float that this target runs fastest.
        quantised: With everything quantised that the scheme quantises.
        groups: Of that quantisation.
    """
    by_name = {group.name: group for group in groups}
    anchors = {operator for group in by_name.values() for operator in group.operators}
    scale = profile_scale(plain, quantised)
    return Costs(
        groups=by_name,
        floats=node_times(plain, anchors),
        integers={node: scale * time for node, time in node_times(quantised, anchors).items()},
        price=PRICE,
        border_time=scale * sum(o.microseconds for o in quantised.operators if o.op in _BORDER_OPS),
        total_float=_total(plain),
        total_integer=scale * _total(quantised),
        scale=scale,
    )


def assumed_costs(reference: Candidate, groups: Iterable[GroupSensitivity]) -> Costs:
    """What groups are taken to cost on a target that does not run here.

    Times of the original in float, on the machine that searches, weigh the operators against each other; integers are
    taken to need half of them, as products of 8 bits do on hardware with twice the rate for them. It orders what
    returns to float, and nothing else: no figure of it is reported.

    Args:
        reference: The original model, profiled.
        groups: Of the quantisation.
    """
    by_name = {group.name: group for group in groups}
    floats = node_times(reference, {operator for group in by_name.values() for operator in group.operators})
    integers = {node: _ASSUMED * time for node, time in floats.items()}
    total = _total(reference)
    return Costs(
        by_name, floats, integers, price=0.0, border_time=0.0, total_float=total, total_integer=_ASSUMED * total
    )


def profile_scale(plain: Candidate, quantised: Candidate) -> float:
    """Returns what profiled times of `quantised` are multiplied by to be comparable with those of `plain`.

    Profiling costs time per kernel, and an integer graph has more of them. What was timed without it decides: after
    scaling, the sums of both profiles stand in the ratio of their measured speeds.
    """
    timed = [c.measurement.timing if c.measurement else None for c in (plain, quantised)]
    sums = _total(plain), _total(quantised)
    if timed[0] is None or timed[1] is None or not all(sums) or not timed[1].speedup.value:
        return 1.0
    faster = timed[1].speedup.value / timed[0].speedup.value
    return min(max(sums[0] / faster / sums[1], 1 / _MOST_SCALE), _MOST_SCALE)


def _total(candidate: Candidate) -> float:
    return sum(operator.microseconds for operator in candidate.operators)


def node_times(candidate: Candidate, anchors: Collection[str]) -> Mapping[str, float]:
    """Returns node of the model -> microseconds of the kernels it runs in.

    The time of a kernel that fuses several nodes goes to the operators with weights among them (`anchors`), in equal
    parts; without one, to all of them. A node that is fused into another's kernel costs nothing.
    """
    sources = {(place.node, place.op): place.source for place in candidate.placement}
    found: dict[str, float] = {}
    for operator in candidate.operators:
        nodes = [name for name in sources.get((operator.node, operator.op), ()) if not _is_quantiser(name)]
        main = [name for name in nodes if name in anchors] or nodes
        for name in nodes:
            found[name] = found.get(name, 0.0) + (operator.microseconds / len(main) if name in main else 0.0)
    return found


def _is_quantiser(name: str) -> bool:
    return name.endswith(("/QuantizeLinear", "/DequantizeLinear"))
