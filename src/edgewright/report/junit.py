"""The study as JUnit XML, for a build server: one suite per target, one case per limit and per validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from edgewright.core.budget import Budget
from edgewright.core.recipe import FAILED, Candidate, Study
from edgewright.report.junit_cases import Case, Suite, document
from edgewright.report.standings import standing_rows
from edgewright.search import wording
from edgewright.search.explain import violation_text

_NOT_LIMITS = ("latency_percentile",)


def junit_xml(study: Study) -> bytes:
    """Returns the XML document; a limit that the winner breaks is a failure with the reason."""
    targets = dict.fromkeys(c.target for c in study.candidates)
    suites = [Suite(target, tuple(_cases(study, target)), _properties(study, target)) for target in targets]
    return document(study.project, suites, "BudgetNotMet")


def _properties(study: Study, target: str) -> dict[str, str]:
    found = {"device": study.device.processor, "objective": study.objective}
    if target in study.winners:
        winner = study.best(target)
        found |= {"winner": winner.id, "recipe": str(winner.recipe), "why": winner.why}
    beside = next((each for each in standing_rows(study) if each.target == target), None)
    if beside is not None:
        interval = f" (95% {beside.interval}, {beside.basis})" if beside.interval else ""
        found["beside the best of all"] = f"{beside.advantage}{interval}"
    return found


def _cases(study: Study, target: str) -> Iterator[Case]:
    if target not in study.winners:
        reasons = "; ".join(f"{c.recipe.title}: {c.why or c.error}" for c in study.of_target(target))
        yield Case("an artifact was made", failure=f"no candidate ran: {reasons}")
        return
    yield Case("an artifact was made")
    winner = study.best(target)
    yield from _limits(study.budget, winner, study.met.get(target, False))
    yield _test_split(study, winner)
    yield _placement(winner)
    for candidate in study.of_target(target):
        if candidate.verdict == FAILED:
            yield Case(f"candidate {candidate.recipe.title}", skipped=candidate.why or candidate.error or "failed")


def _limits(budget: Budget, winner: Candidate, met: bool) -> Iterator[Case]:
    share = winner.measurement is not None and wording.figure_is_share(winner.measurement.tune.figures[0])
    broken = {limit_field(v.limit): violation_text(v, share) for v in winner.violations}
    for field in fields(budget):
        limit = getattr(budget, field.name)
        if limit is not None and field.name not in _NOT_LIMITS:
            yield Case(f"{field.name} within {limit:g}", failure=broken.pop(field.name, ""))
    for name, text in broken.items():
        yield Case(name, failure=text)
    if not met and not winner.violations:
        yield Case("budget", failure=winner.why or "the winner could not be shown to meet the budget")


_FIELDS = {
    "share of changed decisions": "changed_share",
    "size in bytes": "size_bytes",
    "peak memory in bytes": "peak_memory_bytes",
    "energy in mJ": "energy_mj",
    "speed-up": "speedup",
    "throughput in samples/s": "throughput",
}


def limit_field(limit: str) -> str:
    """Returns the field of `Budget` that a `Violation.limit` speaks of; the limit itself when it is unknown."""
    if limit.startswith("drop of class "):
        return "worst_class_drop"
    if limit.startswith("drop of "):
        return "quality_drop"
    if limit.endswith(" floor"):
        return "quality_floor"
    if limit.endswith(" latency in ms"):
        return "latency_ms"
    return _FIELDS.get(limit, limit)


def _test_split(study: Study, winner: Candidate) -> Case:
    """The budget is decided on `tune`; `test` contradicts it when its whole interval lies outside the limit."""
    name = "test split does not contradict the quality drop"
    limit = study.budget.quality_drop
    test = winner.measurement.test if winner.measurement else None
    if limit is None:
        return Case(name, skipped="no quality_drop in the budget")
    if test is None or not test.difference:
        return Case(name, skipped="no paired difference on the test split")
    found, figure = test.difference[0], test.figures[0]
    sign = 1.0 if figure.higher_is_better else -1.0
    least_loss = min(-sign * found.low, -sign * found.high)
    if least_loss <= limit + 1e-12:
        return Case(name)
    share = wording.figure_is_share(figure)
    text = (
        f"{found.metric} changes by {wording.difference(found.value, share)} on test, "
        f"95% {wording.difference(found.low, share)} to {wording.difference(found.high, share)}"
    )
    return Case(name, failure=text)


def _placement(winner: Candidate) -> Case:
    name = "every node runs where and how it was planned"
    if not winner.placement:
        return Case(name, skipped="the runtime reports no placement")
    unplanned = [n for n in winner.placement if not n.planned]
    if not unplanned:
        return Case(name)
    first = f"{unplanned[0].node} ({unplanned[0].op}, {unplanned[0].precision} on {unplanned[0].where})"
    return Case(name, skipped=f"{len(unplanned)} of {len(winner.placement)} nodes are unplanned, e.g. {first}")
