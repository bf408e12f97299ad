"""The study as JUnit XML, for a build server: one suite per target, one case per limit and per validation.

The structure follows the schema that Jenkins, GitLab and GitHub actions read:
https://github.com/testmoapp/junitxml
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, fields
from xml.etree import ElementTree as ET

from edgewright.core.budget import Budget
from edgewright.core.recipe import FAILED, Candidate, Study
from edgewright.search import wording
from edgewright.search.explain import violation_text

_FORBIDDEN = re.compile("[^\\t\\n\\r\\x20-\\ud7ff\\ue000-\\ufffd\\U00010000-\\U0010ffff]")
_NOT_LIMITS = ("latency_percentile",)


@dataclass(frozen=True, slots=True)
class _Case:
    name: str
    failure: str = ""
    skipped: str = ""


def junit_xml(study: Study) -> bytes:
    """Returns the XML document; a limit that the winner breaks is a failure with the reason."""
    root = ET.Element("testsuites", name=_clean(study.project))
    totals = [0, 0, 0]
    for target in dict.fromkeys(c.target for c in study.candidates):
        cases = list(_cases(study, target))
        counts = [len(cases), sum(bool(c.failure) for c in cases), sum(bool(c.skipped) for c in cases)]
        totals = [a + b for a, b in zip(totals, counts, strict=True)]
        suite = ET.SubElement(root, "testsuite", {"name": _clean(target), **_counts(counts)})
        _properties(suite, study, target)
        for case in cases:
            _write(suite, f"{study.project}.{target}", case)
    for key, value in _counts(totals).items():
        root.set(key, value)
    ET.indent(root)
    return bytes(ET.tostring(root, encoding="utf-8", xml_declaration=True)) + b"\n"


def _counts(counts: list[int]) -> dict[str, str]:
    tests, failures, skipped = map(str, counts)
    return {"tests": tests, "failures": failures, "errors": "0", "skipped": skipped, "time": "0"}


def _properties(suite: ET.Element, study: Study, target: str) -> None:
    properties = ET.SubElement(suite, "properties")
    found = {"device": study.device.processor, "objective": study.objective}
    if target in study.winners:
        winner = study.best(target)
        found |= {"winner": winner.id, "recipe": str(winner.recipe), "why": winner.why}
    for name, value in found.items():
        ET.SubElement(properties, "property", name=name, value=_clean(value))


def _write(suite: ET.Element, classname: str, case: _Case) -> None:
    element = ET.SubElement(suite, "testcase", classname=_clean(classname), name=_clean(case.name), time="0")
    if case.failure:
        failure = ET.SubElement(element, "failure", message=_clean(case.failure), type="BudgetNotMet")
        failure.text = _clean(case.failure)
    elif case.skipped:
        ET.SubElement(element, "skipped", message=_clean(case.skipped))


def _cases(study: Study, target: str) -> Iterator[_Case]:
    if target not in study.winners:
        reasons = "; ".join(f"{c.recipe.title}: {c.why or c.error}" for c in study.of_target(target))
        yield _Case("an artifact was made", failure=f"no candidate ran: {reasons}")
        return
    yield _Case("an artifact was made")
    winner = study.best(target)
    yield from _limits(study.budget, winner, study.met.get(target, False))
    yield _test_split(study, winner)
    yield _placement(winner)
    for candidate in study.of_target(target):
        if candidate.verdict == FAILED:
            yield _Case(f"candidate {candidate.recipe.title}", skipped=candidate.why or candidate.error or "failed")


def _limits(budget: Budget, winner: Candidate, met: bool) -> Iterator[_Case]:
    share = winner.measurement is not None and wording.figure_is_share(winner.measurement.tune.figures[0])
    broken = {limit_field(v.limit): violation_text(v, share) for v in winner.violations}
    for field in fields(budget):
        limit = getattr(budget, field.name)
        if limit is not None and field.name not in _NOT_LIMITS:
            yield _Case(f"{field.name} within {limit:g}", failure=broken.pop(field.name, ""))
    for name, text in broken.items():
        yield _Case(name, failure=text)
    if not met and not winner.violations:
        yield _Case("budget", failure=winner.why or "the winner could not be shown to meet the budget")


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


def _test_split(study: Study, winner: Candidate) -> _Case:
    """The budget is decided on `tune`; `test` contradicts it when its whole interval lies outside the limit."""
    name = "test split does not contradict the quality drop"
    limit = study.budget.quality_drop
    test = winner.measurement.test if winner.measurement else None
    if limit is None:
        return _Case(name, skipped="no quality_drop in the budget")
    if test is None or not test.difference:
        return _Case(name, skipped="no paired difference on the test split")
    found, figure = test.difference[0], test.figures[0]
    sign = 1.0 if figure.higher_is_better else -1.0
    least_loss = min(-sign * found.low, -sign * found.high)
    if least_loss <= limit + 1e-12:
        return _Case(name)
    share = wording.figure_is_share(figure)
    text = (
        f"{found.metric} changes by {wording.difference(found.value, share)} on test, "
        f"95% {wording.difference(found.low, share)} to {wording.difference(found.high, share)}"
    )
    return _Case(name, failure=text)


def _placement(winner: Candidate) -> _Case:
    name = "every node runs where and how it was planned"
    if not winner.placement:
        return _Case(name, skipped="the runtime reports no placement")
    unplanned = [n for n in winner.placement if not n.planned]
    if not unplanned:
        return _Case(name)
    first = f"{unplanned[0].node} ({unplanned[0].op}, {unplanned[0].precision} on {unplanned[0].where})"
    return _Case(name, skipped=f"{len(unplanned)} of {len(winner.placement)} nodes are unplanned, e.g. {first}")


def _clean(text: str) -> str:
    """Drops the characters that XML 1.0 cannot hold."""
    return _FORBIDDEN.sub("", text)
