"""A comparison of two releases as text: rows of figures and samples decided differently, for every view."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from edgewright.core.decision import Decision, Detections, decision_from_json
from edgewright.report.flips import Flip, class_name, select, shown, who_is_right
from edgewright.report.gallery import decision_text, objects_text
from edgewright.search import wording
from edgewright.search.release import Change, Finding, ReleaseDiff, TargetDiff
from edgewright.search.release.values import (
    ALLOWED,
    BETTER,
    BYTES,
    MILLISECONDS,
    NOISE,
    QUALITY,
    SAME,
    SHARE,
    TIMES,
    UNKNOWN,
    WORSE,
)

ABSENT = "-"
EXAMPLES = 12
WORDS = {
    WORSE: "worse",
    ALLOWED: "worse, allowed",
    NOISE: "may be chance",
    SAME: "same",
    BETTER: "better",
    UNKNOWN: "not compared",
}
"""Verdict -> how a reader sees it."""
RIGHT = {"original": "old", "candidate": "new", "both": "both", "neither": "neither", "unknown": "unknown"}


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One figure in words, with units; `-` where nothing is known."""

    name: str
    old: str
    new: str
    change: str
    interval: str
    allowed: str
    verdict: str
    word: str
    basis: str
    sentence: str


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """One sample decided differently; `right` is `old`, `new`, `both`, `neither` or `unknown`."""

    id: str
    label: str
    old: str
    new: str
    right: str


def finding_rows(target: TargetDiff) -> tuple[FindingRow, ...]:
    """Returns a row per figure."""
    return tuple(_row(finding) for finding in target.findings)


def headline(diff: ReleaseDiff) -> str:
    """Says in one sentence whether the new release may replace the old one."""
    reasons = tuple(diff.reasons())
    if reasons:
        return f"{diff.new} is worse than {diff.old}: {wording.plural(len(reasons), 'reason')}"
    if not diff.targets:
        return f"{diff.new} and {diff.old} have no target in common"
    return f"{diff.new} is not worse than {diff.old}"


def changed_sentence(target: TargetDiff) -> str:
    """Says how many samples are decided differently, and who is right about them."""
    if not target.samples:
        return ""
    share = len(target.changes) / target.samples
    text = f"{len(target.changes)} of {target.samples} samples are decided differently ({wording.share(share)})"
    counts = Counter(RIGHT[right(change)] for change in target.changes)
    known = [f"{who} is right about {counts[who]}" for who in ("old", "new") if counts[who]]
    both = [f"{who} about {counts[who]}" for who in ("both", "neither") if counts[who]]
    return "; ".join([text, *known, *both])


def right(change: Change) -> str:
    """Returns who decides about a changed sample as its label says, in the words of the flip gallery."""
    old, new = (shown(decision_from_json(side)) for side in (change.old, change.new))
    return who_is_right(old, new, change.label)


def change_rows(target: TargetDiff, limit: int = EXAMPLES) -> tuple[ChangeRow, ...]:
    """Returns examples from every class in turn, so that no class is hidden by a large one."""
    found = select([_flip(change, target) for change in target.changes], limit)
    return tuple(
        ChangeRow(
            f.id,
            f.group if f.label is not None else ABSENT,
            _decided(f.before, target.labels),
            _decided(f.after, target.labels),
            RIGHT[f.right],
        )
        for f in found
    )


def _decided(decision: Decision, labels: tuple[str, ...]) -> str:
    return objects_text(decision, labels) if isinstance(decision, Detections) else decision_text(decision, labels)


def _flip(change: Change, target: TargetDiff) -> Flip:
    old, new = (shown(decision_from_json(side)) for side in (change.old, change.new))
    label = change.label
    named = isinstance(label, int) and not isinstance(label, bool)
    group = class_name(label, target.labels) if named else "labelled" if label is not None else "all"
    return Flip(change.id, "", label, old, new, group, who_is_right(old, new, label))


def _row(found: Finding) -> FindingRow:
    return FindingRow(
        name=found.name,
        old=_value(found.old, found.unit),
        new=_value(found.new, found.unit),
        change=_change(found, found.change),
        interval=_interval(found),
        allowed=_allowed(found),
        verdict=found.verdict,
        word=WORDS[found.verdict],
        basis=found.basis,
        sentence=found.sentence,
    )


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return ABSENT
    shown_as = {BYTES: wording.size, MILLISECONDS: wording.milliseconds, TIMES: wording.speed}
    return shown_as[unit](value) if unit in shown_as else wording.quality(value, unit == SHARE)


def _change(found: Finding, value: float | None) -> str:
    if value is None:
        return ABSENT
    return wording.difference(value, found.unit == SHARE) if found.kind == QUALITY else f"{value:+.1%}"


def _interval(found: Finding) -> str:
    if found.low is None or found.high is None or found.low == found.high:
        return ""
    low = _change(found, found.low).removesuffix(" points").removesuffix("%")
    return f"{low} to {_change(found, found.high)}"


def _allowed(found: Finding) -> str:
    limit = wording.amount(found.allowed, found.unit == SHARE)
    return f"loss of {limit}" if found.kind == QUALITY else f"{found.allowed:+.0%}"
