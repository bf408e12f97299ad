"""Judges a new release against the old one. Pure: it reads what both recorded, and what was timed here if anything."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edgewright.core.measurement import Device, Ratio
from edgewright.search import wording
from edgewright.search.release.duel import Timed
from edgewright.search.release.placement import moved
from edgewright.search.release.quality import ending, judged, pair, quality_finding
from edgewright.search.release.read import Release, Shipped
from edgewright.search.release.values import (
    BYTES,
    MEMORY,
    MILLISECONDS,
    SCHEMA,
    SIZE,
    SPEED,
    TIMES,
    Finding,
    ReleaseDiff,
    TargetDiff,
    Tolerance,
    unknown,
)
from edgewright.search.standings import quotient

_GRAIN = {SIZE: 0.0005, MEMORY: 0.01}
"""Smaller changes are none: bytes of a description, pages that a process happens to touch."""
NOT_THE_SAME_ORIGINAL = (
    "the originals differ, so speed-ups over them do not compare: time both here (--time, with the bundles of both)"
)


def compare(
    old: Release,
    new: Release,
    tolerance: Tolerance,
    timed: Mapping[str, Timed | str] | None = None,
) -> ReleaseDiff:
    """Compares two releases, target by target.

    Args:
        old: What is out there.
        new: What shall replace it.
        tolerance: How much worse it may be.
        timed: Target -> both timed in turn on this machine, or why that was not possible; nothing where it was not
            asked for.
    """
    shared = [target for target in new.shipped if target in old.shipped]
    found = tuple(_target(old.shipped[t], new.shipped[t], tolerance, (timed or {}).get(t)) for t in shared)
    other = f"the projects differ: {old.project}, {new.project}"
    return ReleaseDiff(
        schema=SCHEMA,
        project=new.project,
        old=old.path.name,
        new=new.path.name,
        tolerance=tolerance,
        targets=found,
        gone=tuple(target for target in old.shipped if target not in new.shipped),
        added=tuple(target for target in new.shipped if target not in old.shipped),
        notes=(other,) if old.project != new.project else (),
    )


def _target(old: Shipped, new: Shipped, tolerance: Tolerance, timed: Timed | str | None) -> TargetDiff:
    paired = pair(old.records, new.records)
    notes = (*paired.notes, *_predicted(old, new), *((timed,) if isinstance(timed, str) else ()))
    both = timed if isinstance(timed, Timed) else None
    findings = (
        quality_finding(old, new, paired, tolerance.drop),
        _speed(old, new, both, tolerance.slowdown),
        _size(old, new, tolerance.growth),
        _memory(old, new, both, tolerance.growth),
    )
    return TargetDiff(
        target=new.target,
        old=old.title,
        new=new.title,
        findings=findings,
        samples=len(paired.pairs),
        changes=paired.changes,
        moved=moved(old.placement, new.placement),
        labels=new.labels or (new.records.labels if new.records else ()),
        notes=notes,
    )


def _predicted(old: Shipped, new: Shipped) -> tuple[str, ...]:
    """Quality that something stood in for is compared all the same, and called what it is."""
    sides = (("old", old.quality), ("new", new.quality))
    return tuple(f"the quality of the {name} release is that of {q.stand_in}" for name, q in sides if q and q.stand_in)


def _speed(old: Shipped, new: Shipped, timed: Timed | None, allowed: float) -> Finding:
    name = "time per sample"
    if timed is not None:
        found = _slower(name, timed.speed, "timed in turn here", allowed)
        return replace(found, unit=MILLISECONDS, old=timed.old_ms, new=timed.new_ms)
    why = _why_no_ratio(old, new)
    if why or old.timing is None or new.timing is None:
        return unknown(SPEED, name, TIMES, allowed, why)
    before, after = old.timing.speedup, new.timing.speedup
    basis = "from both speed-ups over the same original"
    found = _slower(name, quotient(after, before), basis, allowed)
    return replace(found, old=before.value, new=after.value)


def _why_no_ratio(old: Shipped, new: Shipped) -> str:
    if old.timing is None or new.timing is None:
        return "one of the releases was not timed"
    if old.timing.basis != new.timing.basis:
        return f"the old release was {old.timing.basis}, the new one {new.timing.basis}"
    if (old.threads, old.batch) != (new.threads, new.batch):
        return "they run with other threads or another batch"
    return "" if old.origin == new.origin else NOT_THE_SAME_ORIGINAL


def _slower(name: str, speed: Ratio, basis: str, allowed: float) -> Finding:
    """Turns a ratio of speeds, new over old, into a change of time."""
    change, low, high = (1.0 / max(value, 1e-12) - 1.0 for value in (speed.value, speed.high, speed.low))
    verdict = judged(change, low, high, allowed)
    text = (
        f"a sample takes {1 + change:.2f} times as long as before (95% {1 + low:.2f} to {1 + high:.2f}, {basis})"
        f"{ending(verdict, f'at most {1 + allowed:.2f} times is allowed', worse=change > 0)}"
    )
    return Finding(SPEED, name, TIMES, None, None, change, low, high, allowed, verdict, basis, text)


def _size(old: Shipped, new: Shipped, allowed: float) -> Finding:
    name = "size on disk"
    if old.size_bytes is None or new.size_bytes is None:
        return unknown(SIZE, name, BYTES, allowed, "one of the releases does not say")
    return _grown(SIZE, name, old.size_bytes, new.size_bytes, "exact", allowed)


def _memory(old: Shipped, new: Shipped, timed: Timed | None, allowed: float) -> Finding:
    name = "peak memory"
    if timed is not None:
        return _grown(MEMORY, name, timed.old_memory_bytes, timed.new_memory_bytes, "measured in turn here", allowed)
    if old.timing is None or new.timing is None:
        return unknown(MEMORY, name, BYTES, allowed, "one of the releases was not timed")
    if not _alike(old.device, new.device):
        return unknown(MEMORY, name, BYTES, allowed, "they were measured on different machines")
    memory = (old.timing.peak_memory_bytes, new.timing.peak_memory_bytes)
    return _grown(MEMORY, name, *memory, "measured on machines of one kind", allowed)


def _alike(one: Device, other: Device) -> bool:
    return (one.machine, one.processor, one.cores, one.isa) == (other.machine, other.processor, other.cores, other.isa)


def _grown(kind: str, name: str, old: int, new: int, basis: str, allowed: float) -> Finding:
    change = new / old - 1.0 if old else (0.0 if not new else float(new))
    verdict = judged(change, change - _GRAIN[kind], change + _GRAIN[kind], allowed)
    text = (
        f"{name} went from {wording.size(old)} to {wording.size(new)} ({change:+.1%})"
        f"{ending(verdict, f'at most {allowed:.1%} more is allowed', worse=change > 0)}"
    )
    return Finding(kind, name, BYTES, old, new, change, change, change, allowed, verdict, basis, text)
