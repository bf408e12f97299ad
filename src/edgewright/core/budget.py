"""Budgets: what an artifact may cost. A pure decision."""

from __future__ import annotations

from dataclasses import dataclass

from edgewright.core.measurement import Measurement, Quality, Summary


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken limit: what was allowed, what was found."""

    limit: str
    allowed: float
    found: float | None

    def __str__(self) -> str:
        if self.found is None:
            return f"{self.limit}: could not be measured here (limit {self.allowed:g})"
        return f"{self.limit}: {self.found:.4g} (limit {self.allowed:g})"

    @property
    def severity(self) -> float:
        """How far outside, relative to the limit; used to find the nearest candidate when nothing meets it."""
        if self.found is None:
            return float("inf")
        return abs(self.found - self.allowed) / max(abs(self.allowed), 1e-9)

    @property
    def about_quality(self) -> bool:
        """True when too much quality is lost, False when it costs too much."""
        return self.limit.startswith(("drop of", "share of")) or self.limit.endswith(" floor")

    @property
    def cost_left(self) -> float | None:
        """Share of the present cost that is allowed, below 1; None where it is unknown or not about cost."""
        if self.about_quality or not self.found or not self.allowed:
            return None
        return self.found / self.allowed if self.limit in _AT_LEAST else self.allowed / self.found


_AT_LEAST = ("speed-up", "throughput in samples/s")


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits; None means "no limit". Quality limits are in the metric's own unit (0.01 = one point of top-1).

    Attributes:
        quality_drop: Largest loss against the original model (worsening, whatever the metric's direction).
        quality_floor: Smallest quality (largest, for a metric where lower is better).
        worst_class_drop: Largest loss of any single class.
        changed_share: Largest share of samples whose decision changes.
        latency_ms: Largest latency at `latency_percentile`.
        latency_percentile: 50, 90, 95 or 99.
        speedup: Smallest speed-up over the original model.
        throughput: Smallest number of samples per second.
        size_bytes: Largest artifact.
        peak_memory_bytes: Largest resident memory of a fresh process.
        energy_mj: Largest energy per run.
    """

    quality_drop: float | None = None
    quality_floor: float | None = None
    worst_class_drop: float | None = None
    changed_share: float | None = None
    latency_ms: float | None = None
    latency_percentile: int = 95
    speedup: float | None = None
    throughput: float | None = None
    size_bytes: int | None = None
    peak_memory_bytes: int | None = None
    energy_mj: float | None = None

    @property
    def limits_cost(self) -> bool:
        """True when anything but quality is limited: then the search may stop at the first candidate inside."""
        cost = (self.latency_ms, self.speedup, self.throughput, self.size_bytes, self.peak_memory_bytes, self.energy_mj)
        return any(limit is not None for limit in cost)

    @property
    def limits_run(self) -> bool:
        """True when anything is limited that only a run on the target can tell: all costs but the size."""
        run = (self.latency_ms, self.speedup, self.throughput, self.peak_memory_bytes, self.energy_mj)
        return any(limit is not None for limit in run)

    def check(self, baseline: Quality, found: Measurement) -> tuple[Violation, ...]:
        """Compares the `tune` quality and the timing of `found` with the limits.

        Args:
            baseline: Quality of the original model on the same split.
            found: The candidate.
        """
        return (*self._quality(baseline, found.tune), *self._cost(found))

    def _quality(self, baseline: Quality, found: Quality) -> list[Violation]:
        value = found.figures[0]
        sign = 1.0 if value.higher_is_better else -1.0
        violations: list[Violation] = []
        drop = sign * (baseline.figures[0].value - value.value)
        if self.quality_drop is not None and drop > self.quality_drop + 1e-12:
            violations.append(Violation(f"drop of {value.metric}", self.quality_drop, drop))
        if self.quality_floor is not None and sign * (value.value - self.quality_floor) < -1e-12:
            violations.append(Violation(f"{value.metric} floor", self.quality_floor, value.value))
        shared = [name for name in baseline.per_class if name in found.per_class]
        if self.worst_class_drop is not None and shared:
            name = max(shared, key=lambda n: sign * (baseline.per_class[n] - found.per_class[n]))
            worst = sign * (baseline.per_class[name] - found.per_class[name])
            if worst > self.worst_class_drop + 1e-12:
                violations.append(Violation(f"drop of class {name}", self.worst_class_drop, worst))
        if self.changed_share is not None and found.changed_share > self.changed_share + 1e-12:
            violations.append(Violation("share of changed decisions", self.changed_share, found.changed_share))
        return violations

    def _cost(self, found: Measurement) -> list[Violation]:
        timing = found.timing
        if timing is None:
            return self._size(found.size)
        latency = percentile(timing.latency_ms, self.latency_percentile)
        at_most = (
            (f"p{self.latency_percentile} latency in ms", self.latency_ms, latency),
            ("size in bytes", self.size_bytes, float(timing.size_bytes)),
            ("peak memory in bytes", self.peak_memory_bytes, float(timing.peak_memory_bytes)),
            ("energy in mJ", self.energy_mj, timing.energy_mj),
        )
        at_least = (
            ("speed-up", self.speedup, timing.speedup.value),
            ("throughput in samples/s", self.throughput, timing.throughput),
        )
        broken = [Violation(n, a, f) for n, a, f in at_most if a is not None and (f is None or f > a)]
        return broken + [Violation(n, a, f) for n, a, f in at_least if a is not None and f < a]

    def _size(self, found: int | None) -> list[Violation]:
        """All that can be said of an artifact that was not run."""
        if self.size_bytes is None or found is None or found <= self.size_bytes:
            return []
        return [Violation("size in bytes", self.size_bytes, float(found))]


def percentile(summary: Summary, percent: int) -> float:
    """Returns the 50th, 90th, 95th or 99th percentile of `summary` in milliseconds.

    Raises:
        ValueError: `percent` is another number.
    """
    values = {50: summary.p50, 90: summary.p90, 95: summary.p95, 99: summary.p99}
    if percent not in values:
        raise ValueError(f"latency percentile {percent} is not one of 50, 90, 95, 99")
    return values[percent]
