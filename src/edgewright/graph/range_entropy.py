"""The range whose quantised distribution diverges least from the clipped one.

Migacz 2017, "8-bit Inference with TensorRT", for ranges with two ends as well as for symmetric ones.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgewright.graph.affine import Grid
from edgewright.graph.range_error import Floats, Shape

SHARES = np.exp2(-np.linspace(0.0, 9.0, 73))
"""Ends that are tried, as shares of the extremes."""
MOST = 1e-2
"""Share that may be clipped at all: what joins a peak at an end of the range changes little, however much it is."""
RARE = 1e-3
"""Share that may be clipped by a range of fewer bins than levels: its rounding does not show, only its clipping."""
NARROW = 1e-6
"""Share of a bin that rounding may move an end by."""
NONE = 1e-4
"""Values that a level is taken to hold where none but clipped ones fall into it."""


def least_divergence(shape: Shape, grid: Grid, symmetric: bool) -> tuple[float, float]:
    """Returns the range with the least divergence; its two ends are searched in turn, twice.

    A histogram with fewer bins than the grid has levels shows no rounding: all of it is kept.
    """
    levels = grid.high - grid.low + 1
    if shape.counts.size < levels or not shape.counts.any():
        return shape.low, shape.high
    divergence = _Divergence(shape, levels)
    if symmetric:
        reach = max(-shape.low, shape.high) * SHARES
        best = int(np.argmin(divergence.of(-reach, reach)))
        return max(-float(reach[best]), shape.low), min(float(reach[best]), shape.high)
    ends = [shape.low, shape.high]
    sides = [side for side in (1, 0, 1, 0) if ends[side] != 0.0]
    for side in sides if len(set(sides)) == 2 else sides[:1]:
        tried = [np.full(SHARES.size, end) for end in ends]
        tried[side] = (shape.low, shape.high)[side] * SHARES
        ends[side] = float(tried[side][int(np.argmin(divergence.of(*tried)))])
    return ends[0], ends[1]


class _Divergence:
    """Kullback-Leibler divergence of many ranges of one histogram, by running sums over its bins.

    The reference is the distribution as the quantiser clips it: what lies outside sits in the outermost bins. The
    quantised one is made from what lies inside only, spread evenly over the bins of each level that are not empty; so
    clipping costs. Zeros are exact in every range and would outweigh all else: their bin counts like its neighbours.
    """

    def __init__(self, shape: Shape, levels: int) -> None:
        counts = _without_peak_at_zero(shape)
        self.counts, self.levels = counts, levels
        self.width = float(np.diff(shape.edges).max())
        self.origin = float(shape.edges[1]) - self.width
        self.mass = _running(counts)
        self.taken = _running(np.asarray(counts > 0, np.float64))
        self.logs = _running(_self_log(counts))

    def of(self, low: Floats, high: Floats) -> Floats:
        """Returns the divergence of every range [low, high], moved outwards to bounds of bins.

        Ranges may reach beyond the values, as symmetric ones do: some of their levels stay unused.
        """
        start = np.floor((low - self.origin) / self.width + NARROW).astype(np.int64)
        stop = np.maximum(np.ceil((high - self.origin) / self.width - NARROW).astype(np.int64), start + 1)
        first = np.clip(start, 0, self.counts.size - 1)
        last = np.clip(stop, first + 1, self.counts.size)
        total = self.mass[-1]
        below, above = self.mass[first], total - self.mass[last]
        cuts = start[:, None] + np.rint(np.linspace(0, 1, self.levels + 1) * (stop - start)[:, None]).astype(np.int64)
        told = self._told(np.clip(cuts, first[:, None], last[:, None]), below, above)
        reference = self.logs[last] - self.logs[first] + self._clipped(first, last - 1, below, above)
        few = (stop - start < self.levels) | (last - first < self.levels // 2)
        blind = below + above > np.where(few, RARE, MOST) * total
        return np.where(blind, np.inf, (reference - total * np.log(total) - told) / total)

    def _told(self, cuts: NDArray[np.int64], below: Floats, above: Floats) -> Floats:
        """Returns the sum over reference values of the log of what the quantised distribution gives them."""
        held, bins = np.diff(self.mass[cuts], axis=1), np.diff(self.taken[cuts], axis=1)
        inside = np.maximum(self.mass[-1] - below - above, NONE)
        density = np.log(np.maximum(held, NONE) / np.maximum(bins, 1.0) / inside[:, None])
        rows = np.arange(below.size)
        leftmost = np.argmax(cuts > cuts[:, :1], axis=1) - 1
        rightmost = np.argmax(cuts >= cuts[:, -1:], axis=1) - 1
        clipped = below * density[rows, leftmost] + above * density[rows, rightmost]
        return np.asarray((held * density).sum(axis=1) + clipped)

    def _clipped(self, first: NDArray[np.int64], last: NDArray[np.int64], below: Floats, above: Floats) -> Floats:
        """Returns how the sum of c log c changes when clipped values join the outermost bins."""
        one = first == last
        left, right = self.counts[first], self.counts[last]
        changed = _self_log(left + below + np.where(one, above, 0.0)) - _self_log(left)
        return np.asarray(changed + np.where(one, 0.0, _self_log(right + above) - _self_log(right)))


def _without_peak_at_zero(shape: Shape) -> Floats:
    counts = shape.counts.copy()
    zero = int(np.searchsorted(shape.edges, 0.0, side="right")) - 1
    beside = [counts[i] for i in (zero - 1, zero + 1) if 0 <= i < counts.size]
    if 0 <= zero < counts.size and max(beside) > 0:
        counts[zero] = min(counts[zero], max(beside))
    return np.asarray(counts)


def _running(values: Floats) -> Floats:
    return np.concatenate([[0.0], np.cumsum(values)])


def _self_log(counts: Floats) -> Floats:
    return np.asarray(counts * np.log(np.maximum(counts, 1e-300)))
