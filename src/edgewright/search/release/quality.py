"""The quality of two releases: paired on the samples both saw, otherwise from two intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgewright.core.data import Metric, QualityFigure
from edgewright.core.decision import Decision
from edgewright.errors import DataError
from edgewright.measure import _intervals
from edgewright.measure.metrics import changed, make_metric
from edgewright.measure.metrics.custom import CustomMetric
from edgewright.search import wording
from edgewright.search.release.read import Shipped
from edgewright.search.release.records import MetricName, SampleRecord, SampleRecords
from edgewright.search.release.values import (
    ALLOWED,
    BETTER,
    NOISE,
    NUMBER,
    QUALITY,
    SAME,
    SHARE,
    WORSE,
    Change,
    Finding,
    unknown,
)

SEED = 0
_FLOAT_ERROR = 1e-12
Pair = tuple[SampleRecord, SampleRecord]


@dataclass(frozen=True, slots=True)
class Paired:
    """The samples that both releases decided about.

    Attributes:
        pairs: Old beside new, in the order of the new release.
        changes: Those decided differently.
        notes: Samples that only one of them saw, or that are not what they were.
    """

    pairs: tuple[Pair, ...] = ()
    changes: tuple[Change, ...] = ()
    notes: tuple[str, ...] = ()


def pair(old: SampleRecords | None, new: SampleRecords | None) -> Paired:
    """Puts the outcomes of two releases side by side: the same id, and the same raw value and label behind it."""
    if old is None or new is None:
        lacking = " and ".join(f"the {name} release" for name, found in (("old", old), ("new", new)) if found is None)
        return Paired(notes=(f"no outcomes of single samples came with {lacking}",))
    if old.split != new.split:
        return Paired(notes=(f"the old release was scored on {old.split}, the new one on {new.split}",))
    before = {sample.outcome.id: sample for sample in old.samples}
    shared = [(before[s.outcome.id], s) for s in new.samples if s.outcome.id in before]
    pairs = tuple(both for both in shared if _the_same(*both))
    notes = _unpaired(len(pairs), len(old.samples), len(new.samples), len(shared) - len(pairs))
    return Paired(pairs, tuple(_changes(pairs)), notes)


def _the_same(old: SampleRecord, new: SampleRecord) -> bool:
    if old.digest and new.digest:
        return old.digest == new.digest
    return bool(old.outcome.label == new.outcome.label)


def _unpaired(paired: int, old: int, new: int, changed_since: int) -> tuple[str, ...]:
    parts = [
        f"{changed_since} are not what they were" if changed_since else "",
        f"{new - paired - changed_since} are new" if new > paired + changed_since else "",
        f"{old - paired - changed_since} are gone" if old > paired + changed_since else "",
    ]
    told = ", ".join(part for part in parts if part)
    return (f"the samples differ: {paired} are in both, {told}",) if told else ()


def _changes(pairs: Sequence[Pair]) -> list[Change]:
    return [
        Change(new.outcome.id, new.outcome.label, old.outcome.decision, new.outcome.decision)
        for old, new in pairs
        if _differs(old.outcome.decided(), new.outcome.decided())
    ]


def _differs(old: Decision, new: Decision) -> bool:
    try:
        return changed(new, old)
    except DataError:  # decisions of two kinds
        return True


def quality_finding(old: Shipped, new: Shipped, paired: Paired, allowed: float) -> Finding:
    """Judges the metric that budgets judge.

    Args:
        old: Of the old release.
        new: Of the new one.
        paired: Their samples side by side.
        allowed: Largest loss, in the metric's own unit.
    """
    if old.quality is None or new.quality is None:
        return _unknown("quality", allowed, "one of the releases was not scored")
    figure = new.quality.figures[0]
    before = next((f for f in old.quality.figures if f.metric == figure.metric), None)
    name = f"{figure.metric} on {figure.split}"
    if before is None:
        return _unknown(name, allowed, f"the old release was not judged by {figure.metric}")
    if paired.pairs and _counted(paired.pairs, figure.metric):
        return _judge(name, figure, *_of_pairs(figure, paired.pairs), allowed)
    if before.split != figure.split:
        return _unknown(name, allowed, f"the old release was scored on {before.split}")
    return _judge(name, figure, *_of_figures(before, figure), allowed)


def _unknown(name: str, allowed: float, why: str) -> Finding:
    return unknown(QUALITY, name, NUMBER, allowed, why)


def _counted(pairs: Sequence[Pair], metric: str) -> bool:
    return all(metric in sample.outcome.contributions for both in pairs for sample in both)


@dataclass(frozen=True, slots=True)
class _Difference:
    old: float
    new: float
    low: float
    high: float


def _of_pairs(figure: QualityFigure, pairs: Sequence[Pair]) -> tuple[_Difference, str]:
    metric = metric_of(MetricName(figure.metric, figure.higher_is_better))
    before, after = (
        [side.outcome.contributions[figure.metric] for side in sides] for sides in zip(*pairs, strict=True)
    )
    found = _intervals.difference(metric, after, before, figure.split, SEED)
    base = metric.reduce(before)
    return _Difference(base, base + found.value, found.low, found.high), f"paired on {len(pairs)} samples"


def _of_figures(old: QualityFigure, new: QualityFigure) -> tuple[_Difference, str]:
    """Combines two intervals (Newcombe 1998, "Interval estimation for the difference between independent proportions").

    Wider than the paired interval of the same samples, because it cannot know which of them changed sides.
    """
    value = new.value - old.value
    low = value - math.hypot(new.value - new.low, old.high - old.value)
    high = value + math.hypot(new.high - new.value, old.value - old.low)
    return _Difference(old.value, new.value, low, high), "not paired, from the intervals of both"


def metric_of(named: MetricName) -> Metric:
    """Returns the metric that reduces recorded contributions; the user's own are means, their code is not needed."""
    if ":" in named.name:
        return CustomMetric(named.name, lambda decision, label: math.nan, named.higher_is_better)
    return make_metric(named.name, Path())


def _judge(name: str, figure: QualityFigure, found: _Difference, basis: str, allowed: float) -> Finding:
    change = found.new - found.old
    if not all(map(math.isfinite, (change, found.old, found.new))):
        return _unknown(name, allowed, "a figure is not a number")
    sign = 1.0 if figure.higher_is_better else -1.0
    loss, (least, most) = -sign * change, sorted((-sign * found.low, -sign * found.high))
    verdict = judged(loss, least, most, allowed)
    share = wording.is_share(figure.metric, figure.value, figure.higher_is_better)
    unit, low, high = SHARE if share else NUMBER, found.low, found.high
    made = Finding(QUALITY, name, unit, found.old, found.new, change, low, high, allowed, verdict, basis, "")
    text = _sentence(made, found, share, worse=loss > _FLOAT_ERROR)
    return replace(made, sentence=text, higher_is_better=figure.higher_is_better)


def judged(loss: float, least: float, most: float, allowed: float) -> str:
    """Returns the verdict on a loss (positive is worse) with its 95% interval.

    What is worse beyond the tolerance fails only when the interval leaves out "no worse": chance fails nobody.
    """
    if loss > allowed + _FLOAT_ERROR:
        return WORSE if least > 0 else NOISE
    if least > 0:
        return ALLOWED
    return BETTER if most < 0 else SAME


def _sentence(made: Finding, found: _Difference, share: bool, *, worse: bool) -> str:
    delta = wording.difference(found.new - found.old, share)
    low, high = wording.difference(found.low, share), wording.difference(found.high, share)
    interval = f"95% {low.removesuffix(' points')} to {high}, {made.basis}"
    limit = f"a loss of at most {wording.amount(made.allowed, share)} is allowed"
    old, new = wording.quality(found.old, share), wording.quality(found.new, share)
    text = f"{made.name} went from {old} to {new}: {delta} ({interval})"
    return f"{text}{ending(made.verdict, limit, worse=worse)}"


def ending(verdict: str, limit: str, *, worse: bool) -> str:
    """Returns how a sentence about a finding ends."""
    if verdict == WORSE:
        return f"; {limit}"
    if verdict == NOISE:
        return f"; {limit}, but this may be chance: more test samples or longer timing would tell"
    return f"; {limit}" if verdict == ALLOWED and worse else ""
