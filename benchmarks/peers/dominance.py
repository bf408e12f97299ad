"""Does a peer's point lie beyond our front by more than the 95% intervals?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench import Point
from numpy.typing import NDArray

from edgewright.measure._intervals import difference
from edgewright.measure._outcomes import read_outcomes
from edgewright.measure.metrics import make_metrics

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Beside:
    """A peer beside one of our points.

    Attributes:
        quality: Peer minus ours, paired: value and 95% interval.
        speed: How many times as fast as ours the peer is: median and 95% interval.
    """

    quality: tuple[float, float, float]
    speed: tuple[float, float, float]

    @property
    def answered(self) -> bool:
        """True when our point is neither worse nor slower beyond the intervals."""
        return self.quality[1] <= 0 and self.speed[1] <= 1


def beside(peer: Path, ours: Path, metric_name: str, root: Path, times: Sequence[NDArray[np.float64]]) -> Beside:
    """Compares a peer with one of our points.

    Args:
        peer: Folder with the peer's outcomes.
        ours: Folder with ours, on the same samples.
        metric_name: The judged metric.
        root: Folder that a user's own metric comes from.
        times: Of the peer and of ours, milliseconds of the same interleaved rounds.
    """
    metric = make_metrics((metric_name,), root)[0]
    found = [[o.contributions[metric.name] for o in read_outcomes(folder)] for folder in (peer, ours)]
    paired = difference(metric, found[0], found[1], "test", 0)
    sign = 1 if metric.higher_is_better else -1
    low, high = sorted((sign * paired.low, sign * paired.high))
    return Beside((sign * paired.value, low, high), ratio(times[1], times[0]))


def ratio(base: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float, float]:
    """Returns how many times as fast as `base` `other` is: median over rounds with its bootstrap interval."""
    ratios = base / other
    drawn = np.random.default_rng(0).integers(0, len(ratios), (RESAMPLES, len(ratios)))
    low, high = np.percentile(np.median(ratios[drawn], axis=1), (2.5, 97.5))
    return float(np.median(ratios)), float(low), float(high)


def answer(
    peer: Point, ours: Sequence[Point], folders: dict[Point, Path], times: dict[Point, Any], metric: str, root: Path
) -> str:
    """Returns one of our points that is neither worse nor slower; empty where the peer dominates our front."""
    for point in ours:
        if point.runtime != peer.runtime:
            continue
        found = beside(folders[peer], folders[point], metric, root, (times[peer], times[point]))
        if found.answered:
            return point.name
    return ""
