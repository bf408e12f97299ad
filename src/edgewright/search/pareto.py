"""Which candidate wins: Pareto fronts, dominance and choice. Pure decisions on what was measured.

Speed is ranked by the ratio to the reference measured in the same interleaved run, never by milliseconds of
different runs. A ratio compares equal threads and batch; where a study holds several settings, the ratios are
brought to one denominator through the reference's own latency at each setting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import median

from edgewright.core.budget import Budget
from edgewright.core.measurement import Measurement, Ratio, Timing
from edgewright.core.recipe import FAILED, REFUSED, Candidate

LATENCY, SIZE, MEMORY, ENERGY, THROUGHPUT = "latency", "size", "memory", "energy", "throughput"
OBJECTIVES = (LATENCY, THROUGHPUT, SIZE, MEMORY, ENERGY)
_BY_SPEED = (LATENCY, THROUGHPUT)
_COSTS: Mapping[str, Callable[[Timing], float | None]] = {
    MEMORY: lambda timing: float(timing.peak_memory_bytes),
    ENERGY: lambda timing: timing.energy_mj,
}


def judged(candidates: Sequence[Candidate]) -> tuple[Candidate, ...]:
    """Returns the candidates that ran and have a quality, in the order tried."""
    return tuple(c for c in candidates if c.measurement is not None and c.verdict not in (FAILED, REFUSED))


def quality_of(candidate: Candidate) -> float:
    """Returns the judged metric on `tune`, signed so that more is better; minus infinity when unknown."""
    if candidate.measurement is None:
        return -math.inf
    figure = candidate.measurement.tune.figures[0]
    if math.isnan(figure.value):
        return -math.inf
    return figure.value if figure.higher_is_better else -figure.value


def meets(candidate: Candidate, budget: Budget) -> bool:
    """True when no limit is broken; an untimed candidate cannot meet a limit on cost."""
    measurement = candidate.measurement
    if measurement is None or candidate.violations or candidate.verdict in (FAILED, REFUSED):
        return False
    known = measurement.timing is not None or not budget.limits_run
    return known and (budget.size_bytes is None or measurement.size is not None)


def speeds(candidates: Sequence[Candidate], objective: str = LATENCY) -> dict[str, Ratio]:
    """Returns the speed of each timed candidate over one common reference, by id.

    With one setting of threads and batch these are the measured ratios. With several, each is multiplied by how
    fast the reference itself is at that setting, relative to the first one (medians of its interleaved runs).

    Args:
        candidates: Of one target.
        objective: For `throughput` a run of several samples counts as that many.
    """
    timed = [(c, c.measurement.timing) for c in candidates if c.measurement and c.measurement.timing]
    found: dict[tuple[int, int], list[float]] = {}
    for candidate, timing in timed:
        found.setdefault((candidate.threads, candidate.batch), []).append(timing.reference_ms.p50)
    medians = {setting: median(values) for setting, values in found.items()}
    first = next(iter(medians), (1, 1))
    result = {}
    for candidate, timing in timed:
        setting = (candidate.threads, candidate.batch)
        scale = 1.0 if setting == first else medians[first] / max(medians[setting], 1e-12)
        scale *= candidate.batch / first[1] if objective == THROUGHPUT else 1.0
        ratio = timing.speedup
        result[candidate.id] = Ratio(ratio.value * scale, ratio.low * scale, ratio.high * scale)
    return result


def costs(candidates: Sequence[Candidate], objective: str) -> dict[str, float]:
    """Returns what `objective` minimises, by id; candidates for which it is unknown are left out.

    Raises:
        ValueError: `objective` is not one of `OBJECTIVES`.
    """
    if objective not in OBJECTIVES:
        raise ValueError(f"objective {objective!r} is not one of {', '.join(OBJECTIVES)}")
    if objective in _BY_SPEED:
        found = {key: 1.0 / ratio.value for key, ratio in speeds(candidates, objective).items() if ratio.value > 0}
    else:
        values = {c.id: _cost(c.measurement, objective) for c in candidates}
        found = {key: value for key, value in values.items() if value is not None}
    return {key: value for key, value in found.items() if math.isfinite(value)}


def _cost(measurement: Measurement | None, objective: str) -> float | None:
    if measurement is None:
        return None
    if objective == SIZE:
        return None if measurement.size is None else float(measurement.size)
    if measurement.timing is None:
        return None
    return _COSTS[objective](measurement.timing)


def nondominated(points: Sequence[tuple[float, float]]) -> tuple[int, ...]:
    """Returns the indices of the points (cost, loss) that no other point beats, less is better in both.

    A point is beaten by one that is no worse in both and better in one; of equal points the first is kept.
    """
    front: list[int] = []
    least = math.inf
    for index in sorted(range(len(points)), key=lambda i: (*points[i], i)):
        if points[index][1] < least:
            least = points[index][1]
            front.append(index)
    return tuple(sorted(front))


def front(candidates: Sequence[Candidate], objective: str) -> tuple[str, ...]:
    """Returns the ids on the Pareto front of one target, quality on `tune` against `objective`, in the order tried."""
    cost = costs(candidates, objective)
    known = [c for c in judged(candidates) if c.id in cost and quality_of(c) > -math.inf]
    kept = nondominated([(cost[c.id], -quality_of(c)) for c in known])
    return tuple(known[i].id for i in kept)


def deciding_objective(candidates: Sequence[Candidate], budget: Budget, objective: str) -> str:
    """Returns `objective`; `latency` when no candidate in question could be measured for it; then `size`.

    In question are those that meet `budget`; where none does, all that ran.
    """
    asked = [c for c in candidates if meets(c, budget)] or judged(candidates)
    return next((known for known in (objective, LATENCY, SIZE) if costs(asked, known)), LATENCY)


def choose(candidates: Sequence[Candidate], budget: Budget, objective: str) -> tuple[str, bool] | None:
    """Chooses among the candidates of one target, given in the order tried: least aggressive first.

    Of those that meet the budget the cheapest wins; one whose speed lies inside the interval of the fastest is
    its equal, and the earliest equal wins. If none meets the budget, the one with the least sum of relative
    excess (`Violation.severity`) wins.

    Returns:
        The winner's id and whether it meets the budget; None when nothing could be measured.
    """
    ran = judged(candidates)
    inside = [c for c in ran if meets(c, budget)]
    if inside:
        return _cheapest(inside, candidates, deciding_objective(candidates, budget, objective)).id, True
    return (min(ran, key=lambda c: _distance(c, budget)).id, False) if ran else None


def _cheapest(inside: Sequence[Candidate], candidates: Sequence[Candidate], objective: str) -> Candidate:
    cost = costs(candidates, objective)
    known = [c for c in inside if c.id in cost]
    if not known:
        return max(inside, key=quality_of)
    best = min(known, key=lambda c: cost[c.id])
    if objective not in _BY_SPEED:
        return best
    speed = speeds(candidates, objective)
    return next(c for c in known if equally_fast(speed[c.id], speed[best.id]))


def equally_fast(slower: Ratio, faster: Ratio) -> bool:
    """True when `slower` lies inside the measured interval of `faster`, or above it."""
    return slower.value >= min(faster.low, faster.value)


def _distance(candidate: Candidate, budget: Budget) -> tuple[int, float]:
    severities = [v.severity for v in candidate.violations]
    if not severities and not meets(candidate, budget):
        severities = [math.inf]
    unknown = sum(not math.isfinite(s) for s in severities)
    return unknown, sum(s for s in severities if math.isfinite(s))


def dominators(candidates: Sequence[Candidate], budget: Budget, objective: str) -> dict[str, str]:
    """Returns candidate id -> id of an earlier candidate that it is no cheaper and no better than (the cheapest such).

    What meets the budget is dominated only by what meets it too, so a winner is never dominated.
    """
    ran = judged(candidates)
    cost = costs(candidates, deciding_objective(candidates, budget, objective))
    known = [c for c in ran if c.id in cost]
    found: dict[str, str] = {}
    for position, candidate in enumerate(known):
        fit = meets(candidate, budget)
        better = [
            earlier
            for earlier in known[:position]
            if cost[earlier.id] <= cost[candidate.id]
            and quality_of(earlier) >= quality_of(candidate)
            and (meets(earlier, budget) or not fit)
        ]
        if better:
            found[candidate.id] = min(better, key=lambda c: cost[c.id]).id
    return found
