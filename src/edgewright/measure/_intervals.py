"""95% intervals: Wilson and Tango for proportions, the bootstrap over samples for everything else."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.data import Metric, PairedDifference, QualityFigure
from edgewright.measure.metrics._resampling import Counted, Floats, Resampled

Z95 = 1.959963984540054
RESAMPLES = 1000
_BLOCK = 50


def wilson(hits: int, samples: int) -> tuple[float, float]:
    """Returns the score interval of a proportion (Wilson 1927)."""
    share, z2 = hits / samples, Z95 * Z95
    centre = (share + z2 / (2 * samples)) / (1 + z2 / samples)
    half = Z95 / (1 + z2 / samples) * math.sqrt(share * (1 - share) / samples + z2 / (4 * samples * samples))
    return max(0.0, centre - half), min(1.0, centre + half)


def tango(gained: int, lost: int, samples: int) -> tuple[float, float]:
    """Returns the score interval of a difference of paired proportions, (gained - lost) / samples.

    Tango 1998, "Equivalence test and confidence interval for the difference in proportions for the paired-sample
    design", Statistics in Medicine 17:891-908. Its width is not zero when no sample changed sides.

    Args:
        gained: Samples that only the candidate got right.
        lost: Samples that only the baseline got right.
        samples: All samples.
    """
    estimate = (gained - lost) / samples
    low = _solve(lambda d: _tango_score(gained, lost, samples, d) - Z95, -1.0, estimate)
    high = _solve(lambda d: _tango_score(gained, lost, samples, d) + Z95, estimate, 1.0)
    return low, high


def _tango_score(gained: int, lost: int, samples: int, difference: float) -> float:
    """The score statistic; it falls as `difference` grows."""
    a = 2.0 * samples
    b = -gained - lost + (2.0 * samples - gained + lost) * difference
    c = -lost * difference * (1.0 - difference)
    other = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = samples * (2 * other + difference * (1.0 - difference))
    distance = gained - lost - samples * difference
    if variance <= 1e-15:
        return 0.0 if abs(distance) < 1e-12 else math.copysign(math.inf, distance)
    return distance / math.sqrt(variance)


def _solve(falling: Any, low: float, high: float) -> float:
    if falling(low) <= 0:
        return low
    if falling(high) >= 0:
        return high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if falling(middle) > 0 else (low, middle)
    return (low + high) / 2


def figure(metric: Metric, contributions: Sequence[Any], split: str, seed: int) -> QualityFigure:
    """Returns the value of `metric` with its interval: Wilson for a share of hits, otherwise the bootstrap."""
    value = metric.reduce(contributions)
    hits = _hits(metric, contributions)
    if hits is not None:
        low, high = wilson(int(hits.sum()), hits.size)
    else:
        low, high = _percentiles(
            np.concatenate([_values(metric, contributions, w) for w in _draws(contributions, seed)])
        )
        low, high = min(low, value), max(high, value)
    return QualityFigure(metric.name, value, low, high, len(contributions), split, metric.higher_is_better)


def difference(
    metric: Metric, candidate: Sequence[Any], baseline: Sequence[Any], split: str, seed: int
) -> PairedDifference:
    """Returns candidate minus baseline on the same samples: Tango for shares of hits, else the paired bootstrap.

    Args:
        metric: What both were judged with.
        candidate: Contributions, one per sample.
        baseline: Contributions of the same samples in the same order.
        split: Where the samples come from.
        seed: Of the bootstrap.
    """
    value = metric.reduce(candidate) - metric.reduce(baseline)
    hits, base_hits = _hits(metric, candidate), _hits(metric, baseline)
    if hits is not None and base_hits is not None:
        low, high = tango(int((hits & ~base_hits).sum()), int((~hits & base_hits).sum()), hits.size)
    else:
        drawn = [_values(metric, candidate, w) - _values(metric, baseline, w) for w in _draws(candidate, seed)]
        low, high = _percentiles(np.concatenate(drawn))
        low, high = min(low, value), max(high, value)
    return PairedDifference(metric.name, value, low, high, len(candidate), split)


def _hits(metric: Metric, contributions: Sequence[Any]) -> NDArray[np.bool_] | None:
    return metric.hits(contributions) if isinstance(metric, Counted) else None


def _draws(contributions: Sequence[Any], seed: int) -> Iterator[Floats]:
    """Yields blocks [resamples, n] of how often each sample was drawn with replacement (Efron 1979)."""
    rng, n = np.random.default_rng(seed), len(contributions)
    for _ in range(RESAMPLES // _BLOCK):
        drawn = rng.integers(0, n, size=(_BLOCK, n)) + np.arange(_BLOCK)[:, None] * n
        yield np.bincount(drawn.ravel(), minlength=_BLOCK * n).reshape(_BLOCK, n).astype(np.float64)


def _values(metric: Metric, contributions: Sequence[Any], weights: Floats) -> Floats:
    if isinstance(metric, Resampled):
        return metric.resample(contributions, weights)
    drawn = ([c for c, times in zip(contributions, row, strict=True) for _ in range(int(times))] for row in weights)
    return np.array([metric.reduce(sample) for sample in drawn])


def _percentiles(values: Floats) -> tuple[float, float]:
    judged = values[~np.isnan(values)]
    if judged.size == 0:
        return -math.inf, math.inf
    low, high = np.percentile(judged, [2.5, 97.5])
    return float(low), float(high)
