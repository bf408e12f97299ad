"""One plain sentence per candidate: why it won or why it lost. Pure: reads the study, returns a study."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from edgewright.core.budget import Violation
from edgewright.core.measurement import Ratio, Timing
from edgewright.core.recipe import BROKE, DOMINATED, FAILED, MET, REFUSED, Candidate, Study
from edgewright.search import pareto, wording

STRICT = "latency on the target itself"
"""The limit that `strict` adds."""


@dataclass(frozen=True, slots=True)
class _Field:
    """The candidates of one target with everything a sentence needs."""

    study: Study
    candidates: tuple[Candidate, ...]
    winner: Candidate
    met: bool
    objective: str
    speeds: dict[str, Ratio]
    dominators: dict[str, str]

    @property
    def by_speed(self) -> bool:
        return self.objective in (pareto.LATENCY, pareto.THROUGHPUT)

    def name(self, candidate: Candidate) -> str:
        return wording.title(candidate, self.candidates)


def annotate(study: Study) -> Study:
    """Judges every candidate of `study` against its budget and fills verdict, why, winners, met and fronts.

    Calling it again, or with another budget or objective put into the study, judges anew; nothing is measured.
    """
    checked = tuple(_checked(c, study) for c in study.candidates)
    winners: dict[str, str] = {}
    met: dict[str, bool] = {}
    fronts: dict[str, tuple[str, ...]] = {}
    explained: dict[str, Candidate] = {}
    for target in dict.fromkeys(c.target for c in checked):
        mine = tuple(c for c in checked if c.target == target)
        chosen = pareto.choose(mine, study.budget, study.objective)
        fronts[target] = pareto.front(mine, pareto.deciding_objective(mine, study.budget, study.objective))
        met[target] = chosen is not None and chosen[1]
        if chosen is not None:
            winners[target] = chosen[0]
        explained |= _explain_target(study, mine, chosen)
    reference = replace(study.reference, why=study.reference.why or "the original model: every ratio compares with it")
    candidates = tuple(explained[c.id] for c in checked)
    return replace(study, reference=reference, candidates=candidates, winners=winners, met=met, fronts=fronts)


def _checked(candidate: Candidate, study: Study) -> Candidate:
    baseline = study.reference.measurement
    if candidate.measurement is None or candidate.verdict in (FAILED, REFUSED):
        return candidate
    found = candidate.violations
    if baseline is not None:
        found = study.budget.check(baseline.tune, candidate.measurement)
    if study.strict and not candidate.measurement.on_target:
        found = (*found, Violation(STRICT, 0.0, None))
    return replace(candidate, violations=found, verdict=BROKE if found else MET)


def _explain_target(study: Study, mine: tuple[Candidate, ...], chosen: tuple[str, bool] | None) -> dict[str, Candidate]:
    if chosen is None:
        return {c.id: replace(c, why=_did_not_run(c)) for c in mine}
    objective = pareto.deciding_objective(mine, study.budget, study.objective)
    field = _Field(
        study=study,
        candidates=mine,
        winner=next(c for c in mine if c.id == chosen[0]),
        met=chosen[1],
        objective=objective,
        speeds=pareto.speeds(mine, objective),
        dominators=pareto.dominators(mine, study.budget, objective),
    )
    return {c.id: _explained(c, field) for c in mine}


def _explained(candidate: Candidate, field: _Field) -> Candidate:
    if candidate.measurement is None or candidate.verdict in (FAILED, REFUSED):
        return replace(candidate, why=_did_not_run(candidate))
    if candidate.id == field.winner.id:
        return replace(candidate, why=_won(candidate, field))
    if candidate.violations:
        return replace(candidate, why=_broke(candidate, field))
    if not pareto.meets(candidate, field.study.budget):
        return replace(candidate, verdict=BROKE, why="its cost was not measured, so it cannot meet the limits on cost")
    if candidate.id in field.dominators:
        return replace(candidate, verdict=DOMINATED, why=_dominated(candidate, field))
    return replace(candidate, why=_lost(candidate, field))


_NOT_RUN = (("failed", "no reason was recorded"), ("not tried", "the target does not take it"))


def _did_not_run(candidate: Candidate) -> str:
    reason = candidate.error.strip().splitlines()[0] if candidate.error.strip() else candidate.why
    said, otherwise = _NOT_RUN[candidate.verdict == REFUSED]
    return f"{said}: {reason.removeprefix(said + ': ') or otherwise}"


def _won(candidate: Candidate, field: _Field) -> str:
    if not field.met:
        if not candidate.violations:
            return "nearest: it breaks no limit that was measured, but its cost could not be measured"
        return f"nearest, nothing meets the budget: {_broke(candidate, field)}"
    rivals = sum(pareto.meets(c, field.study.budget) for c in field.candidates)
    among = "the only candidate that meets" if rivals == 1 else f"{_superlative(field)} of the {rivals} that meet"
    return f"{among} the budget: {_achieved(candidate, field)}"


def _superlative(field: _Field) -> str:
    fastest = max((field.speeds[c.id].value for c in field.candidates if _fits(c, field)), default=0.0)
    ratio = field.speeds.get(field.winner.id)
    if field.by_speed and ratio is not None and ratio.value < fastest:
        return "as fast as any within noise, and the least aggressive,"
    names = {pareto.SIZE: "smallest", pareto.MEMORY: "least memory", pareto.ENERGY: "least energy"}
    if field.objective == pareto.THROUGHPUT:
        return "highest throughput"
    return names.get(field.objective, "fastest")


def _fits(candidate: Candidate, field: _Field) -> bool:
    return candidate.id in field.speeds and pareto.meets(candidate, field.study.budget)


def _achieved(candidate: Candidate, field: _Field) -> str:
    parts = []
    timing = _timing(candidate)
    if timing is not None:
        ratio = timing.speedup
        parts.append(
            f"{wording.speed(ratio.value)} the speed of the original (95% {ratio.low:.2f} to {ratio.high:.2f})"
        )
        if not field.by_speed:
            parts.append(_cost_text(candidate, field.objective))
    else:
        parts.append(f"{_cost_text(candidate, pareto.SIZE)}, its speed not measured")
    parts.append(_loss_text(candidate, field.study))
    return ", ".join(parts)


def _loss_text(candidate: Candidate, study: Study) -> str:
    measurement, baseline = candidate.measurement, study.reference.measurement
    if measurement is None or baseline is None:
        return "quality not compared"
    figure = measurement.tune.figures[0]
    share = wording.figure_is_share(figure)
    name = "agreement with the original" if measurement.tune.agreement else figure.metric
    change = figure.value - baseline.tune.figures[0].value
    told = f"{name} {wording.quality(figure.value, share)} on {figure.split} ({wording.difference(change, share)})"
    stand_in = measurement.tune.stand_in
    return f"{told}, predicted by {stand_in}" if stand_in else told


def _broke(candidate: Candidate, field: _Field) -> str:
    share = _share(candidate)
    text = " and ".join(violation_text(v, share) for v in candidate.violations)
    moral = _brings_nothing(candidate, field)
    text = f"{text}, and {moral}" if moral else text
    caution = _caution(candidate)
    return f"{text}; {caution}" if caution and _lost_quality(candidate) else text


def _lost_quality(candidate: Candidate) -> bool:
    """True when a limit on quality is among those broken."""
    return any(v.about_quality for v in candidate.violations)


def _caution(candidate: Candidate) -> str:
    """Returns what the scheme said might go wrong on this processor."""
    schemes = [spec.config.get("scheme") for spec in candidate.recipe.passes]
    return next((str(s["caution"]) for s in schemes if isinstance(s, Mapping) and s.get("caution")), "")


def _conversions(candidate: Candidate) -> str:
    """Says which share of the time goes into converting between precisions, where that is worth saying."""
    share = sum(node.share or 0.0 for node in candidate.placement if node.precision == "conversion")
    return f"; conversions between precisions take {share:.0%} of its time" if share >= _TELLING_SHARE else ""


_TELLING_SHARE = 0.05


def _brings_nothing(candidate: Candidate, field: _Field) -> str:
    """Says so when a low precision is slower than float on the same target, beyond both intervals."""
    mine = field.speeds.get(candidate.id)
    setting = (candidate.threads, candidate.batch)
    alike = [c for c in field.candidates if (c.threads, c.batch) == setting and c.id in field.speeds]
    floats = [c for c in alike if c.precision == "float32" and _network(c) == _network(candidate)]
    if mine is None or not floats or candidate.precision in ("", "float32"):
        return ""
    best = max(floats, key=lambda c: field.speeds[c.id].value)
    if mine.high >= field.speeds[best.id].low:
        return ""
    figures = _against(mine.value, field.speeds[best.id].value)
    name = wording.precision(candidate.precision)
    told = _conversions(candidate)
    return f"is slower than {field.name(best)} ({figures}): {name} brings nothing on this processor{told}"


def _network(candidate: Candidate) -> tuple[str, ...]:
    """Returns the passes that made another network of it: only the same network tells what a precision brings."""
    return tuple(str(spec) for spec in candidate.recipe.passes if spec.name in ("prune", "shrink", "student"))


def _against(mine: float, theirs: float) -> str:
    """Returns two speeds with as many digits as it takes to tell them apart, at most three decimals."""
    digits = 2 if f"{mine:.2f}" != f"{theirs:.2f}" else 3
    return f"{mine:.{digits}f}x against {theirs:.{digits}f}x"


def violation_text(violation: Violation, share: bool) -> str:
    """Says one broken limit as a clause with figures: `loses 28.3 points of mAP50 (limit 1.0)`.

    Args:
        violation: What `Budget.check` found.
        share: Whether the judged metric runs from 0 to 1, so that losses are points.
    """
    limit, allowed, found = violation.limit, violation.allowed, violation.found
    if found is None:
        return f"{limit} could not be measured here"
    unit = 100.0 if share else 1.0
    if limit.startswith("drop of class "):
        name = limit.removeprefix("drop of class ")
        return f"loses {wording.amount(found, share, allowed)} on class {name} (limit {_limit(unit * allowed)})"
    if limit.startswith("drop of "):
        metric = limit.removeprefix("drop of ")
        return f"loses {wording.amount(found, share, allowed)} of {metric} (limit {_limit(unit * allowed)})"
    if limit.endswith(" floor"):
        metric = limit.removesuffix(" floor")
        shown = wording.quality(found, share)
        return f"reaches {metric} {shown} only (floor {wording.quality(allowed, share)})"
    return _cost_violation(limit, allowed, found)


def _limit(value: float) -> str:
    return f"{value:.1f}" if round(value, 1) == round(value, 6) else f"{value:g}"


_CLAUSES: dict[str, tuple[str, Callable[[float], str]]] = {
    "share of changed decisions": ("changes {} of the decisions (limit {})", wording.share),
    "size in bytes": ("ships {} (limit {})", wording.size),
    "peak memory in bytes": ("takes {} of memory (limit {})", wording.size),
    "energy in mJ": ("takes {} per run (limit {})", lambda v: f"{v:.3g} mJ"),
    "speed-up": ("is {} the speed of the original (at least {} wanted)", wording.speed),
    "throughput in samples/s": ("does {} (at least {} wanted)", lambda v: f"{v:.3g} samples/s"),
}


def _cost_violation(limit: str, allowed: float, found: float) -> str:
    if limit.endswith(" latency in ms"):
        percentile = limit.removesuffix(" latency in ms")
        return f"takes {wording.milliseconds(found)} at {percentile} (limit {wording.milliseconds(allowed)})"
    if limit in _CLAUSES:
        clause, shown = _CLAUSES[limit]
        return clause.format(shown(found), shown(allowed))
    return f"breaks {Violation(limit, allowed, found)}"


def _dominated(candidate: Candidate, field: _Field) -> str:
    other = next(c for c in field.candidates if c.id == field.dominators[candidate.id])
    moral = _brings_nothing(candidate, field) if field.by_speed else ""
    figures = _compare(candidate, other, field)
    return (
        moral or f"is no {_comparative(field.objective)} than {field.name(other)} ({figures}) and no better in quality"
    )


def _comparative(objective: str) -> str:
    names = {pareto.SIZE: "smaller", pareto.MEMORY: "lighter", pareto.ENERGY: "thriftier"}
    return names.get(objective, "faster")


def _compare(candidate: Candidate, other: Candidate, field: _Field) -> str:
    if field.by_speed:
        mine, theirs = field.speeds.get(candidate.id), field.speeds.get(other.id)
        return "not timed" if mine is None or theirs is None else _against(mine.value, theirs.value)
    return f"{_cost_text(candidate, field.objective)} against {_cost_text(other, field.objective)}"


def _cost_text(candidate: Candidate, objective: str) -> str:
    timing, size = _timing(candidate), candidate.measurement.size if candidate.measurement else None
    if objective == pareto.SIZE and size is not None:
        return wording.size(size)
    if timing is None:
        return "not measured"
    if objective == pareto.ENERGY:
        return "energy unknown" if timing.energy_mj is None else f"{timing.energy_mj:.3g} mJ"
    return wording.size(timing.peak_memory_bytes)


def _lost(candidate: Candidate, field: _Field) -> str:
    winner = field.winner
    mine, best = field.speeds.get(candidate.id), field.speeds.get(winner.id)
    if mine is None or best is None or not field.by_speed:
        return f"meets the budget, but {field.name(winner)} costs less ({_compare(candidate, winner, field)})"
    if mine.value >= best.value:
        changes = _fewer_changes(candidate, winner)
        relation = "faster, but within noise of" if mine.value > best.value else "exactly as fast as"
        return f"{relation} {field.name(winner)} ({_compare(candidate, winner, field)}), which {changes}"
    moral = _brings_nothing(candidate, field)
    slower = f"is slower than {field.name(winner)} ({_compare(candidate, winner, field)})"
    return f"meets the budget, but {moral or slower}"


def _fewer_changes(candidate: Candidate, winner: Candidate) -> str:
    if candidate.measurement is None or winner.measurement is None:
        return "is less aggressive"
    mine, theirs = candidate.measurement.tune.changed_share, winner.measurement.tune.changed_share
    if theirs < mine:
        return f"changes fewer decisions ({wording.share(theirs)} against {wording.share(mine)})"
    return "is less aggressive"


def _timing(candidate: Candidate) -> Timing | None:
    return candidate.measurement.timing if candidate.measurement else None


def _share(candidate: Candidate) -> bool:
    return candidate.measurement is not None and wording.figure_is_share(candidate.measurement.tune.figures[0])
