"""Where the time goes, before and after; and where every node runs. Pure views of a study."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from edgewright.core.recipe import Candidate, Study
from edgewright.core.target import NodePlacement, OperatorTime

TOP_NODES = 12


@dataclass(frozen=True, slots=True)
class OpRow:
    """Time of all nodes of one operator, in microseconds per run; None where it does not occur.

    Attributes:
        op: The runtime's own operator name.
        before: In the earlier candidate.
        before_count: Nodes of it.
        after: In the later candidate.
        after_count: Nodes of it.
    """

    op: str
    before: float | None
    before_count: int
    after: float | None
    after_count: int

    @property
    def largest(self) -> float:
        """The longer of the two, for the length of a bar."""
        return max(self.before or 0.0, self.after or 0.0)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Operators of two candidates beside each other.

    Attributes:
        before: What `after` is compared with.
        after: The candidate.
        rows: Longest first.
        before_total: Sum in microseconds.
        after_total: Sum in microseconds.
        top_before: The longest nodes of `before`.
        top_after: The longest nodes of `after`.
    """

    before: Candidate
    after: Candidate
    rows: tuple[OpRow, ...]
    before_total: float
    after_total: float
    top_before: tuple[OperatorTime, ...]
    top_after: tuple[OperatorTime, ...]


@dataclass(frozen=True, slots=True)
class PlacementGroup:
    """Nodes that run at the same place in the same precision.

    Attributes:
        where: CPU, NPU...
        precision: float32, int8...
        count: Nodes.
        share: Of the run time, 0 to 1; None where the runtime does not say.
        unplanned: How many of them were planned otherwise.
        ops: Operator and count, most frequent first.
    """

    where: str
    precision: str
    count: int
    share: float | None
    unplanned: int
    ops: tuple[tuple[str, int], ...]


def baseline_of(study: Study, candidate: Candidate) -> Candidate | None:
    """Returns what the operators of `candidate` are compared with.

    The earliest profiled candidate of the same target, because one runtime's operator names mean little beside
    another's; the reference where there is none; None where nothing was profiled.
    """
    same = [c for c in study.of_target(candidate.target) if c.operators and c.id != candidate.id]
    if study.reference.operators and study.reference.target == candidate.target:
        same.insert(0, study.reference)
    if same and same[0].id != candidate.id:
        return same[0]
    return study.reference if study.reference.operators and study.reference.id != candidate.id else None


def compare(study: Study, candidate: Candidate) -> Comparison | None:
    """Returns the operators of `candidate` beside those of its baseline; None where either was not profiled."""
    before = baseline_of(study, candidate)
    if before is None or not candidate.operators:
        return None
    old, new = _by_op(before.operators), _by_op(candidate.operators)
    rows = [
        OpRow(op, *(_cell(old, op)), *(_cell(new, op)))  # one row per operator of either side
        for op in dict.fromkeys([*old, *new])
    ]
    return Comparison(
        before=before,
        after=candidate,
        rows=tuple(sorted(rows, key=lambda row: -row.largest)),
        before_total=sum(o.microseconds for o in before.operators),
        after_total=sum(o.microseconds for o in candidate.operators),
        top_before=_longest(before.operators),
        top_after=_longest(candidate.operators),
    )


def _by_op(operators: Sequence[OperatorTime]) -> dict[str, list[float]]:
    groups: dict[str, list[float]] = defaultdict(list)
    for operator in operators:
        groups[operator.op].append(operator.microseconds)
    return dict(groups)


def _cell(groups: dict[str, list[float]], op: str) -> tuple[float | None, int]:
    return (sum(groups[op]), len(groups[op])) if op in groups else (None, 0)


def _longest(operators: Sequence[OperatorTime]) -> tuple[OperatorTime, ...]:
    return tuple(sorted(operators, key=lambda o: -o.microseconds)[:TOP_NODES])


def placement_groups(placement: Sequence[NodePlacement]) -> tuple[PlacementGroup, ...]:
    """Groups nodes by place and precision, the largest group first."""
    groups: dict[tuple[str, str], list[NodePlacement]] = defaultdict(list)
    for node in placement:
        groups[node.where, node.precision].append(node)
    found = [
        PlacementGroup(
            where=where,
            precision=precision,
            count=len(nodes),
            share=_share(nodes),
            unplanned=sum(not node.planned for node in nodes),
            ops=tuple(Counter(node.op for node in nodes).most_common()),
        )
        for (where, precision), nodes in groups.items()
    ]
    return tuple(sorted(found, key=lambda g: (-(g.share or 0.0), -g.count)))


def _share(nodes: Sequence[NodePlacement]) -> float | None:
    known = [node.share for node in nodes if node.share is not None]
    return sum(known) if known else None
