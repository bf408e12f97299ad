"""What a user of one runtime alone gives away: the best of each target beside the best of all.

Two winners are timed in turn, like a candidate and the original, so that the interval of their ratio is a paired one.
Speed-ups over the original decide only whom to time against whom, and stand in where two winners run with different
threads or batches.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from edgewright.core.measurement import Ratio
from edgewright.core.recipe import Candidate, Standing, Study
from edgewright.search import pareto

Duel = Callable[[Candidate, Candidate], Ratio]
"""Times the first against the second and returns how many times faster the first is."""

SIDE_BY_SIDE = "timed side by side"
FROM_RATIOS = "from both speed-ups over the original"
FROM_FIGURES = "from the figures of each"
MEASURED = "measured"
_ITSELF = Ratio(1.0, 1.0, 1.0)


def standings(study: Study, duel: Duel) -> tuple[Standing, ...]:
    """Returns every target's winner beside the best of all, the best first; empty with fewer than two targets.

    Winners that meet the budget come before those that do not.

    Args:
        study: Annotated.
        duel: Times two candidates of equal threads and batch.
    """
    contenders = _contenders(study)
    if len(contenders) < 2:
        return ()
    by_speed = study.objective in (pareto.LATENCY, pareto.THROUGHPUT)
    found = _by_speed(study, contenders, duel) if by_speed else _by_cost(study, contenders)
    return tuple(sorted(_crowned(found), key=_place))


def _contenders(study: Study) -> tuple[Candidate, ...]:
    winners = (study.best(target) for target in study.winners)
    return tuple(w for w in winners if w.measurement and w.measurement.timing and _measured(w))


def _measured(candidate: Candidate) -> bool:
    assert candidate.measurement is not None
    assert candidate.measurement.timing is not None
    return candidate.measurement.timing.basis == MEASURED


def _by_speed(study: Study, contenders: tuple[Candidate, ...], duel: Duel) -> list[Standing]:
    speeds = pareto.speeds(contenders, study.objective)
    best = max(contenders, key=lambda c: (study.met[c.target], speeds[c.id].value))
    found = [_standing(study, best, _ITSELF, SIDE_BY_SIDE)]
    for other in contenders:
        if other.id != best.id:
            alike = (other.threads, other.batch) == (best.threads, best.batch)
            ratio = duel(best, other) if alike else quotient(speeds[best.id], speeds[other.id])
            found.append(_standing(study, other, ratio, SIDE_BY_SIDE if alike else FROM_RATIOS))
    return found


def _by_cost(study: Study, contenders: tuple[Candidate, ...]) -> list[Standing]:
    costs = pareto.costs(contenders, study.objective)
    known = [c for c in contenders if costs.get(c.id, 0.0) > 0]
    if not known:
        return []
    best = min(known, key=lambda c: (not study.met[c.target], costs[c.id]))
    return [_standing(study, c, _exactly(costs[c.id] / costs[best.id]), FROM_FIGURES) for c in known]


def _standing(study: Study, candidate: Candidate, ratio: Ratio, basis: str) -> Standing:
    return Standing(candidate.target, candidate.id, study.met[candidate.target], ratio, basis)


def _exactly(value: float) -> Ratio:
    return Ratio(value, value, value)


def quotient(one: Ratio, other: Ratio) -> Ratio:
    """Returns one / other for two ratios measured apart: relative half-widths add in squares on the logarithm."""
    value = one.value / other.value
    wide = math.hypot(*(math.log(max(r.high, 1e-12) / max(r.low, 1e-12)) / 2 for r in (one, other)))
    return Ratio(value, value * math.exp(-wide), value * math.exp(wide))


def _crowned(found: list[Standing]) -> list[Standing]:
    """Where the timing in turn finds another winner faster, within the budget, that one is the best."""
    equals = [s for s in found if s.met] or found
    least = min((s.advantage.value for s in equals), default=1.0)
    if least >= 1.0:
        return found
    return [replace(s, advantage=_divided(s.advantage, least)) for s in found]


def _divided(ratio: Ratio, by: float) -> Ratio:
    return Ratio(ratio.value / by, ratio.low / by, ratio.high / by)


def _place(standing: Standing) -> tuple[bool, float]:
    return not standing.met, standing.advantage.value
