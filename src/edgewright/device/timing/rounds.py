"""Interleaved timing: A B, B A, A B ... until the ratio is known well enough."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from edgewright.core.measurement import Ratio, Summary
from edgewright.device.timing.hosts import Block

LEAST_ROUNDS = 6
"""Fewer rounds cannot give a 95% interval of the median."""
USUAL_ROUNDS = 10
ROUNDS_PER_PROCESS = 5
WARMUP_RUNS = 20
_WARMUP_SECONDS = 1.0
_BLOCK_MS = 100.0
_LONGEST_BLOCK_MS = 500.0
_BLOCK_RUNS = 10
_MOST_RUNS = 500


class Timed(Protocol):
    """Something that can be timed in blocks of runs."""

    def time(self, runs: int, unrecorded: int) -> Block:
        """Runs `unrecorded` times, then `runs` times on the clock."""

    def renew(self) -> None:
        """Goes on in a fresh process."""


@dataclass(slots=True)
class Side:
    """One artifact: who runs it, how many runs make a block, and the blocks so far."""

    host: Timed
    runs: int = 1
    warmup: int = 0
    blocks: list[Block] = field(default_factory=list)

    def warm_up(self) -> None:
        """Runs until caches and clocks have settled, and sizes the block by what it saw."""
        start, seen = time.perf_counter(), self.host.time(1, 0).ms
        while len(seen) < WARMUP_RUNS and time.perf_counter() - start < _WARMUP_SECONDS:
            seen += self.host.time(5, 0).ms
        self.warmup += len(seen)
        self.runs = block_runs(statistics.median(seen))

    def renew(self) -> None:
        """Goes on in a fresh process, warmed up."""
        self.host.renew()
        self.warm_up()

    def measure(self) -> None:
        """Adds one block; the first run of each is not recorded, as the caches belonged to the other side."""
        self.blocks.append(self.host.time(self.runs, 1 if self.runs > 1 else 0))

    @property
    def milliseconds(self) -> list[float]:
        """Every recorded run."""
        return [ms for block in self.blocks for ms in block.ms]

    @property
    def energy_mj(self) -> float | None:
        """Millijoules per recorded run."""
        used = [block.microjoules for block in self.blocks]
        known = [u for u in used if u is not None]
        return sum(known) / 1000.0 / len(self.milliseconds) if known and len(known) == len(used) else None


def block_runs(median_ms: float) -> int:
    """Returns the runs of one block: about 100 ms, at least ten runs unless those take half a second."""
    wanted = max(_BLOCK_RUNS, math.ceil(_BLOCK_MS / max(median_ms, 1e-3)))
    return max(1, min(wanted, _MOST_RUNS, math.ceil(_LONGEST_BLOCK_MS / max(median_ms, 1e-3))))


def interleave(
    candidate: Side,
    reference: Side,
    *,
    width: float,
    seconds: float,
    progress: Callable[[float, str], None],
    record: Callable[[Block, Block], None] = lambda one, other: None,
) -> tuple[Ratio, str]:
    """Times both in turn, the order reversed every round, until the interval of the ratio is narrow enough.

    Both go on in fresh processes every `ROUNDS_PER_PROCESS` rounds, so that the interval covers what differs from one
    process to the next.

    Args:
        candidate: Warmed up; blocks it already has count.
        reference: Warmed up, with as many blocks.
        width: Stop when the 95% interval is narrower than this share of the ratio.
        seconds: Stop after this long, earlier blocks included, in any case (but not before `LEAST_ROUNDS` rounds).
        progress: Called after every round.
        record: Given the two blocks of every round.

    Returns:
        The speed-up, and a note when `seconds` ended it before the interval was narrow.
    """
    spent = sum(candidate.milliseconds + reference.milliseconds) / 1000.0
    start = time.perf_counter() - spent
    ratio, rounds = Ratio(1.0, 0.0, math.inf), len(candidate.blocks)
    while True:
        order = (candidate, reference) if rounds % 2 == 0 else (reference, candidate)
        if rounds and rounds % ROUNDS_PER_PROCESS == 0:
            candidate.renew()
            reference.renew()
        for side in order:
            side.measure()
        rounds += 1
        record(candidate.blocks[-1], reference.blocks[-1])
        if rounds < LEAST_ROUNDS:
            continue
        ratio, elapsed = speedup(candidate, reference), time.perf_counter() - start
        found = (ratio.high - ratio.low) / ratio.value
        progress(
            min(1.0, max(elapsed / max(seconds, 1e-9), width / max(found, 1e-9) * 0.99)),
            f"{rounds} rounds, ±{found / 2:.1%}",
        )
        if rounds >= USUAL_ROUNDS and found <= width:
            return ratio, ""
        if elapsed >= seconds:
            return ratio, "" if found <= width else limit_note(seconds, found, width)


def limit_note(seconds: float, found: float, width: float) -> str:
    """Says that the time limit ended the measurement first."""
    return f"stopped at {seconds:g} s: the 95% interval of the ratio is {found:.1%} wide, {width:.1%} was wanted"


def speedup(candidate: Side, reference: Side) -> Ratio:
    """Returns reference / candidate: the median over rounds of the ratio of the two block medians.

    Both blocks of a round share the state of the machine, so a slow minute cancels; the median over rounds ignores
    rounds in which one side was disturbed. The interval is distribution-free (order statistics).
    """
    ratios = [
        statistics.median(b.ms) / statistics.median(a.ms)
        for a, b in zip(candidate.blocks, reference.blocks, strict=True)
    ]
    low, high = median_interval(ratios)
    return Ratio(statistics.median(ratios), low, high)


def alone(side: Side, record: Callable[[Block], None] = lambda block: None) -> Ratio:
    """Times the reference itself: ten blocks, the ratio is one by definition."""
    for done in range(len(side.blocks), USUAL_ROUNDS):
        if done == ROUNDS_PER_PROCESS:
            side.renew()
        side.measure()
        record(side.blocks[-1])
    return Ratio(1.0, 1.0, 1.0)


def summary(milliseconds: list[float]) -> Summary:
    """Returns the distribution of single runs."""
    p50, p90, p95, p99 = (float(p) for p in np.percentile(milliseconds, [50, 90, 95, 99]))
    return Summary(p50, p90, p95, p99, float(np.mean(milliseconds)), len(milliseconds))


def median_interval(values: Sequence[float]) -> tuple[float, float]:
    """Returns the distribution-free interval of a median from order statistics, at least 95% (Conover 1999, 3.2).

    Fewer than six values cannot give one: the interval is then unbounded.
    """
    ordered, n = sorted(values), len(values)
    tail, rank = 0.5**n, 0
    while tail <= 0.025:
        rank += 1
        tail += math.comb(n, rank) * 0.5**n
    if rank == 0:
        return -math.inf, math.inf
    return ordered[rank - 1], ordered[n - rank]
