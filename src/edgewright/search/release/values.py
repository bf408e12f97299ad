"""What a comparison of two releases says: plain values, ready for JSON."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SCHEMA = 1
WORSE, ALLOWED, NOISE, SAME, BETTER, UNKNOWN = "worse", "allowed", "noise", "same", "better", "not compared"
"""WORSE fails; ALLOWED is worse within the tolerance; NOISE is worse beyond it, but chance may explain it."""
QUALITY, SPEED, SIZE, MEMORY = "quality", "speed", "size", "memory"
SHARE, NUMBER, MILLISECONDS, TIMES, BYTES = "share", "number", "ms", "times the original", "bytes"
"""Units of `Finding.old` and `Finding.new`."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How much worse a release may be. Fails only what is worse by more *and* by more than chance explains.

    Attributes:
        drop: Of the judged metric, in its own unit (0.005 = half a point of top-1).
        slowdown: Of the time per sample, relative: 0.1 lets it take 1.1 times as long.
        growth: Of the size on disk and of the peak memory, relative.
    """

    drop: float = 0.005
    slowdown: float = 0.1
    growth: float = 0.1


@dataclass(frozen=True, slots=True)
class Finding:
    """One figure of one target, old beside new.

    Attributes:
        kind: `quality`, `speed`, `size` or `memory`.
        name: For a reader, e.g. `top-1 on test`.
        unit: `share` (a metric from 0 to 1), `number` (another metric), `ms` per sample where both were timed here,
            `times the original` (recorded speed-ups) or `bytes`.
        old: In that unit.
        new: In that unit.
        change: Quality: new minus old. Otherwise relative: 0.1 is ten per cent more time, bytes.
        low: Lower end of its 95% interval; equal to `change` where it is exact.
        high: Upper end.
        allowed: The tolerance it was held against.
        verdict: One of WORSE, ALLOWED, NOISE, SAME, BETTER, UNKNOWN.
        basis: How the change is known, or why it is not.
        sentence: All of it in one sentence.
        higher_is_better: Direction of the change.
    """

    kind: str
    name: str
    unit: str
    old: float | None
    new: float | None
    change: float | None
    low: float | None
    high: float | None
    allowed: float
    verdict: str
    basis: str
    sentence: str
    higher_is_better: bool = False


def unknown(kind: str, name: str, unit: str, allowed: float, why: str) -> Finding:
    """Returns the finding that says why there is none."""
    text = f"{name} is not compared: {why}"
    return Finding(kind, name, unit, None, None, None, None, None, allowed, UNKNOWN, why, text)


@dataclass(frozen=True, slots=True)
class Change:
    """A sample that the two releases decide differently.

    Attributes:
        id: Of the sample.
        label: The truth, None where there is none.
        old: The decision of the old release, as `decision_to_json` writes it.
        new: That of the new one.
    """

    id: str
    label: Any
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Moved:
    """A node of the model that runs elsewhere, or in another precision, than in the old release.

    Attributes:
        node: Its name in the model.
        old: Precision and place, e.g. `int8 on CPU`.
        new: The same.
        left: True when it left integers or the accelerator for floats on the processor.
        why: What the target noted about it.
    """

    node: str
    old: str
    new: str
    left: bool
    why: str


@dataclass(frozen=True, slots=True)
class TargetDiff:
    """One target.

    Attributes:
        target: Its name.
        old: Winner of the old release, in words.
        new: Winner of the new one.
        findings: Quality first.
        samples: How many samples both decided; 0 where the outcomes did not travel along.
        changes: Those decided differently, in the order of the data.
        moved: Nodes that run elsewhere, those that left integers or the accelerator first.
        labels: Class names by index.
        notes: What a reader must know.
    """

    target: str
    old: str
    new: str
    findings: tuple[Finding, ...]
    samples: int = 0
    changes: tuple[Change, ...] = ()
    moved: tuple[Moved, ...] = ()
    labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """True when a finding fails."""
        return any(finding.verdict == WORSE for finding in self.findings)


@dataclass(frozen=True, slots=True)
class ReleaseDiff:
    """Everything.

    Attributes:
        schema: Version of this layout.
        project: Name of the project.
        old: What was given as the old release.
        new: What was given as the new one.
        tolerance: How much worse it may be.
        targets: In the order of the new release.
        gone: Targets that only the old release has: that fails too.
        added: Targets that only the new release has.
        notes: What a reader must know.
    """

    schema: int
    project: str
    old: str
    new: str
    tolerance: Tolerance
    targets: tuple[TargetDiff, ...]
    gone: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """True when the new release must not replace the old one."""
        return any(True for _ in self.reasons())

    def reasons(self) -> Iterator[str]:
        """Yields one sentence per failure."""
        for target in self.gone:
            yield f"{target}: the old release has an artifact for it, the new one has none"
        for target_diff in self.targets:
            for finding in target_diff.findings:
                if finding.verdict == WORSE:
                    yield f"{target_diff.target}: {finding.sentence}"
