"""The best batch of a bundle under a memory and latency budget, found by measuring on the machine that runs it.

What is timed is everything a sample goes through: pre-processing, the run, post-processing. Batches are doubled until
the budget breaks or two doublings in a row gain nothing; then all of them are timed again in interleaved rounds, so
that a busy machine slows each alike, and compared by the ratio to single samples of the same round.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from edgewright.bundle.compare import difference, tolerance_for
from edgewright.bundle.decide import Decider, open_decider
from edgewright.bundle.open import Bundle
from edgewright.core.measurement import Ratio
from edgewright.core.target import RunOptions
from edgewright.device.timing.hosts import HostProcess
from edgewright.device.timing.rounds import median_interval
from edgewright.errors import EdgewrightError, UsageError

LARGEST = 256
GAIN = 0.05
"""A doubling that gains less than this share is no gain."""
ENOUGH = 0.97
"""The smallest batch with this share of the best throughput is taken: it answers sooner and needs less memory."""
AHEAD = 4
LEAST_SAMPLES = 64
ROUNDS, LEAST_ROUNDS = 15, 6
_RUNS = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """What a batch must keep.

    Attributes:
        latency_ms: From a closed batch to its results, 95th percentile, plus the delay; None for any.
        memory_mb: Peak resident memory of the process that holds the model; None for any.
        largest: Largest batch tried.
        seconds: How long the interleaved rounds may take together.
    """

    latency_ms: float | None = None
    memory_mb: float | None = None
    largest: int = LARGEST
    seconds: float = 20.0


@dataclass(frozen=True, slots=True)
class Tried:
    """One batch.

    Attributes:
        size: Samples in one run.
        ahead: Batches sorted by length together.
        p50_ms: Median time from closed to done.
        p95_ms: 95th percentile of it.
        throughput: Samples per second.
        gain: Throughput over that of single samples in the same round, with its 95% interval.
        memory_bytes: Peak resident memory; 0 where it was not asked for.
        broke: Which limit it breaks; empty where it keeps them.
    """

    size: int
    ahead: int
    p50_ms: float
    p95_ms: float
    throughput: float
    gain: Ratio
    memory_bytes: int = 0
    broke: str = ""


@dataclass(frozen=True, slots=True)
class Tuned:
    """What was found.

    Attributes:
        tried: Every batch, in the order they were tried.
        best: The one to use.
        max_delay_ms: How long to wait for a full one.
        reason: Why, in one sentence.
        stopped: Why no larger batch was tried.
        threads: Intra-operator threads.
        samples: Different samples that were used.
        rounds: Interleaved rounds.
        difference: Largest difference between decisions made in the best batch and alone (`bundle.compare`).
        tolerance: Up to which it is what rounding explains.
    """

    tried: tuple[Tried, ...]
    best: Tried
    max_delay_ms: float
    reason: str
    stopped: str
    threads: int
    samples: int
    rounds: int
    difference: float = 0.0
    tolerance: float = 0.0


@dataclass(slots=True)
class _Setting:
    size: int
    ahead: int
    closed_ms: list[float] = field(default_factory=list)
    per_sample: list[float] = field(default_factory=list)
    memory_bytes: int = 0

    @property
    def window(self) -> int:
        return self.size * self.ahead


def tune(
    bundle: Bundle,
    values: Sequence[Any],
    limits: Limits,
    threads: int | None = None,
    progress: Callable[[float, str], None] = lambda fraction, note: None,
) -> Tuned:
    """Finds the best batch.

    Args:
        bundle: Opened.
        values: Raw samples as they come in practice; their lengths decide how much is filled up.
        limits: What a batch must keep.
        threads: Intra-operator threads; None for those of the bundle.
        progress: Called with the share that is done and what is being done.

    Raises:
        UsageError: There are no samples, the model is compiled for one batch, or single samples break the limits.
    """
    if not values:
        raise UsageError(f"{bundle.path}: no samples to measure with", hint="give --source with files like real ones")
    used = threads or bundle.manifest.options.threads
    with open_decider(bundle, used) as decide:
        settings, stopped = _explore(bundle, decide, values, limits, used, progress)
        rounds = _interleave(decide, settings, values, limits, progress)
        tried = tuple(_told(setting, settings[0], limits) for setting in settings)
        found = _chosen(tried, limits, stopped, used, len(values), rounds)
        apart = _difference(decide, found.best, values)
    precision = (bundle.variant or bundle.manifest).precision
    return replace(found, difference=apart, tolerance=tolerance_for(precision))


def _explore(
    bundle: Bundle,
    decide: Decider,
    values: Sequence[Any],
    limits: Limits,
    threads: int,
    progress: Callable[[float, str], None],
) -> tuple[list[_Setting], str]:
    """Doubles the batch until a limit breaks or nothing is gained; returns what to time, single samples first."""
    found: list[_Setting] = []
    best, idle, size = 0.0, 0, 1
    stopped = f"{limits.largest} is the largest batch asked for"
    while size <= limits.largest:
        progress(min(0.3, 0.04 * len(found)), f"trying batches of {size}")
        decide.require_batch(size)
        setting = _Setting(size, 1)
        setting.memory_bytes = _memory(bundle, decide, values, size, threads) if limits.memory_mb is not None else 0
        _time(decide, setting, values, 0, least=2 * _RUNS)
        found.append(setting)
        broke = _broken(median(setting.closed_ms), setting.memory_bytes, limits)
        if broke:
            stopped = f"batches of {size} break the budget: {broke}"
            break
        speed = 1 / median(setting.per_sample)
        idle = 0 if speed > best * (1 + GAIN) else idle + 1
        best = max(best, speed)
        if idle == 2:
            stopped = f"two doublings up to {size} gained less than {GAIN:.0%} each"
            break
        size *= 2
    if decide.fills:
        found += [_Setting(s.size, AHEAD, memory_bytes=s.memory_bytes) for s in found if s.size > 1]
    return found, stopped


def _interleave(
    decide: Decider,
    settings: Sequence[_Setting],
    values: Sequence[Any],
    limits: Limits,
    progress: Callable[[float, str], None],
) -> int:
    for setting in settings:
        setting.closed_ms.clear()
        setting.per_sample.clear()
    begun = time.monotonic()
    for done in range(ROUNDS):
        spent = time.monotonic() - begun
        if done >= LEAST_ROUNDS and spent > limits.seconds:
            return done
        progress(0.3 + 0.7 * max(done / ROUNDS, spent / max(limits.seconds, spent, 1e-9)), f"round {done + 1}")
        for setting in settings if done % 2 == 0 else reversed(settings):
            _time(decide, setting, values, done * LEAST_SAMPLES)
    return ROUNDS


def _time(decide: Decider, setting: _Setting, values: Sequence[Any], start: int, least: int = LEAST_SAMPLES) -> None:
    """Times as many windows as hold `least` samples; every setting sees the same samples in a round."""
    took, count = 0.0, 0
    for window in _windows(values, start, setting.window, max(least, setting.window)):
        before = time.perf_counter()
        decisions = decide.many(window, setting.size)
        spent = time.perf_counter() - before
        failed = next((each for each in decisions if isinstance(each, EdgewrightError)), None)
        if failed is not None:
            raise failed
        setting.closed_ms.append(1e3 * spent)
        took, count = took + spent, count + len(window)
    setting.per_sample.append(took / count)


def _difference(decide: Decider, best: Tried, values: Sequence[Any]) -> float:
    """Returns how far decisions in batches are from decisions alone.

    More than rounding where the model computes over the whole batch: dynamic INT8 takes one scale for all its samples.
    """
    some = values[:LEAST_SAMPLES]
    decide.reset()
    alone = [decide(value) for value in some]
    decide.reset()
    window = best.size * best.ahead
    together = [each for at in range(0, len(some), window) for each in decide.many(some[at : at + window], best.size)]
    pairs = zip(alone, together, strict=True)
    return max(float("inf") if isinstance(b, EdgewrightError) else difference(a, b) for a, b in pairs)


def _windows(values: Sequence[Any], start: int, window: int, total: int) -> Iterator[list[Any]]:
    for at in range(0, total, window):
        yield [values[(start + at + i) % len(values)] for i in range(window)]


def _memory(bundle: Bundle, decide: Decider, values: Sequence[Any], size: int, threads: int) -> int:
    """Returns the peak memory of a fresh process that ran batches of `size`."""
    rows = next(_windows(values, 0, size, size))
    session = (bundle.variant or bundle.manifest).session
    with tempfile.TemporaryDirectory(prefix="edgewright-batch-") as folder, HostProcess(bundle.artifact) as host:
        file = Path(folder) / "batch.npz"
        arrays: dict[str, Any] = dict(decide.batch(rows))
        np.savez(file, **arrays)
        host.open([file], RunOptions(threads, session=session))
        host.time(_RUNS, 1)
        return host.peak_memory_bytes()


def _told(setting: _Setting, single: _Setting, limits: Limits) -> Tried:
    ratios = [one / each for one, each in zip(single.per_sample, setting.per_sample, strict=True)]
    p50, p95 = (float(p) for p in np.percentile(setting.closed_ms, [50, 95]))
    gain = Ratio(1.0, 1.0, 1.0) if setting is single else Ratio(float(median(ratios)), *median_interval(ratios))
    made = Tried(setting.size, setting.ahead, p50, p95, 1 / median(setting.per_sample), gain, setting.memory_bytes)
    return replace(made, broke=_broken(p95, setting.memory_bytes, limits))


def _broken(ms: float, memory_bytes: int, limits: Limits) -> str:
    if limits.latency_ms is not None and ms > limits.latency_ms:
        return f"{ms:.1f} ms, at most {limits.latency_ms:g}"
    if limits.memory_mb is not None and memory_bytes > limits.memory_mb * 2**20:
        return f"{memory_bytes / 2**20:.0f} MB, at most {limits.memory_mb:g}"
    return ""


def _chosen(tried: tuple[Tried, ...], limits: Limits, stopped: str, threads: int, samples: int, rounds: int) -> Tuned:
    best = choose(tried)
    if best is None:
        raise UsageError(
            f"not even single samples keep the budget: {tried[0].broke}", hint="raise the limit, or use a smaller model"
        )
    delay = waiting(best, limits.latency_ms)
    return Tuned(tried, best, delay, _reason(best, tried, limits), stopped, threads, samples, rounds)


def choose(tried: Sequence[Tried]) -> Tried | None:
    """Returns the batch that answers soonest of those with nearly the best gain; None where none keeps the limits.

    A batch whose gain may be none (its interval reaches below 1) loses against single samples.
    """
    kept = [each for each in tried if not each.broke and (each.size == 1 or each.gain.low > 1.0)]
    if not kept:
        return None
    best = max(each.gain.value for each in kept)
    return min((each for each in kept if each.gain.value >= ENOUGH * best), key=lambda each: each.p95_ms)


def waiting(best: Tried, latency_ms: float | None) -> float:
    """Returns how long to wait for a full batch: no longer than computing takes, nor than the bound leaves."""
    if best.size == 1:
        return 0.0
    left = best.p50_ms if latency_ms is None else min(best.p50_ms, latency_ms - best.p95_ms)
    return max(0.0, int(left * 10) / 10)


def _reason(best: Tried, tried: Sequence[Tried], limits: Limits) -> str:
    if best.size == 1:
        return "no larger batch within the budget is surely faster per sample"
    top = max((each for each in tried if not each.broke), key=lambda each: each.gain.value)
    gain = f"{best.gain.value:.2f} times the throughput of single samples ({best.gain.low:.2f} to {best.gain.high:.2f})"
    near = (
        f", within {1 - ENOUGH:.0%} of the best ({top.size}: {top.gain.value:.2f}) and sooner done"
        if top != best
        else ""
    )
    bound = f"; {best.p95_ms:.1f} ms of {limits.latency_ms:g} ms" if limits.latency_ms is not None else ""
    return f"{gain}{near}{bound}"
