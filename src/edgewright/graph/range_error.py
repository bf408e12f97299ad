"""What a range costs: the expected squared error of quantising a histogram, rounding and clipping included.

Within a bin values are taken to lie evenly, and the error of the quantiser is integrated over the bin exactly, so that
bins may be wider or narrower than a quantisation step.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.graph.affine import Grid, parameters

Floats = NDArray[np.float64]
NARROW = 1e-9
"""A bin narrower than this share of the histogram's span counts as a point."""


@dataclass(frozen=True, slots=True, eq=False)
class Shape:
    """A histogram as range methods want it.

    Attributes:
        edges: Bounds of the bins, ascending.
        counts: Values per bin.
    """

    edges: Floats
    counts: Floats

    @property
    def low(self) -> float:
        """The lower end of any range: the smallest value or zero."""
        return min(float(self.edges[0]), 0.0)

    @property
    def high(self) -> float:
        """The upper end of any range: the largest value or zero."""
        return max(float(self.edges[-1]), 0.0)


def expected_error(shape: Shape, low: Any, high: Any, grid: Grid, symmetric: bool) -> Floats:
    """Returns the mean squared error of quantising, one per range.

    Over a whole step the integral of the squared error is step**3 / 12, which gives it a closed form from any point
    to any other.

    Args:
        shape: The values.
        low: Lower ends, of shape [ranges] or a scalar.
        high: Upper ends, likewise.
        grid: Integers of the quantiser.
        symmetric: Its zero point stands in the middle.
    """
    used = np.flatnonzero(shape.counts)
    if not used.size:
        return np.zeros(np.broadcast(np.atleast_1d(low), np.atleast_1d(high)).shape)
    scale, zero = parameters(np.atleast_1d(low), np.atleast_1d(high), grid, symmetric)
    step, least, most = (np.asarray(v, np.float64)[:, None] for v in (scale, grid.low - zero, grid.high - zero))
    part = slice(int(used[0]), int(used[-1]) + 1)
    edges, counts = shape.edges[part.start : part.stop + 1], shape.counts[part]
    width = np.diff(edges)
    solid = width > NARROW * (edges[-1] - edges[0])
    integral, at_edge = _integral(edges, step, least, most)
    mean = np.where(solid, np.diff(integral, axis=1) / np.where(solid, width, 1.0), at_edge[:, :-1])
    return np.asarray(np.maximum(mean, 0.0) @ counts / counts.sum())


def clipped_share(shape: Shape, low: float, high: float) -> float:
    """Returns the share of values outside [`low`, `high`]."""
    total = float(shape.counts.sum())
    if not total:
        return 0.0
    below = np.concatenate([[0.0], np.cumsum(shape.counts)])
    edges = _ascending(shape.edges)
    outside = np.interp(low, edges, below, left=0.0) + total - np.interp(high, edges, below, right=total)
    return float(np.clip(outside / total, 0.0, 1.0))


class Tails:
    """Approximate error of many ranges at once: squared distance beyond the ends, step**2 / 12 between them."""

    def __init__(self, shape: Shape) -> None:
        middle, width = (shape.edges[1:] + shape.edges[:-1]) / 2, np.diff(shape.edges)
        counts = shape.counts / max(float(shape.counts.sum()), 1.0)
        self.edges = _ascending(shape.edges)
        self.moments = [
            np.concatenate([[0.0], np.cumsum(each)])
            for each in (counts, counts * middle, counts * (middle**2 + width**2 / 12))
        ]

    def below(self, low: Floats) -> tuple[Floats, Floats]:
        """Returns share and mean squared distance of what lies below each of `low`."""
        zeroth, first, second = (np.interp(low, self.edges, m) for m in self.moments)
        return zeroth, np.maximum(second - 2 * low * first + low**2 * zeroth, 0.0)

    def above(self, high: Floats) -> tuple[Floats, Floats]:
        """Returns share and mean squared distance of what lies above each of `high`."""
        zeroth, first, second = (m[-1] - np.interp(high, self.edges, m) for m in self.moments)
        return zeroth, np.maximum(second - 2 * high * first + high**2 * zeroth, 0.0)

    def errors(self, low: Floats, high: Floats, step: Floats) -> Floats:
        """Returns the error of every range; the three arrays broadcast."""
        left, beyond_left = self.below(low)
        right, beyond_right = self.above(high)
        return np.asarray(beyond_left + beyond_right + step**2 / 12 * np.maximum(1.0 - left - right, 0.0))


def _integral(x: Floats, step: Floats, least: Floats, most: Floats) -> tuple[Floats, Floats]:
    """Returns the integral of the squared error from zero to `x`, and the squared error at `x`."""
    level = np.clip(np.rint(x / step), least, most)
    rest = x - level * step
    squared = rest * rest
    return level * (step**3 / 12) + squared * rest / 3, squared


def _ascending(edges: Floats) -> Floats:
    """Returns edges that ascend strictly, for interpolation: bins of no width get the smallest one."""
    tiny = max(float(np.abs(edges).max()), 1e-30) * 1e-12
    return np.asarray(edges + tiny * np.arange(edges.size) / edges.size)
