"""Histograms that widen as ranges grow and merge exactly.

Bins are 2**exponent wide and start at whole multiples of that, so all histograms share one lattice anchored at zero.
Doubling the width joins neighbours in pairs: floor(floor(x) / 2) = floor(x / 2), no count is ever split. The exponent
follows from the extremes alone. So the result is the same in whatever order, batches or shards the values came.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
FINEST, COARSEST = -100, 126
"""Exponents such that neither 2**exponent nor its inverse leaves float32's normal numbers."""
EXACT_BITS = 22
"""Bin indices stay below 2**22 in magnitude, where float32 arithmetic on them is exact."""


def span(low: float, high: float, exponent: int) -> tuple[int, int]:
    """Returns the first bin that [low, high] touches and how many there are."""
    first = math.floor(math.ldexp(low, -exponent))
    return first, math.floor(math.ldexp(high, -exponent)) - first + 1


def exponent_for(low: float, high: float, bins: int) -> int:
    """Returns the exponent of the narrowest bins of which `bins` cover [low, high]; more range never gives less."""
    furthest = max(-low, high)
    exponent = FINEST
    if furthest > 0:
        exponent = max(exponent, math.frexp(furthest)[1] - EXACT_BITS)
    if high > low:
        exponent = max(exponent, math.frexp((high - low) / bins)[1] - 1)
    while span(low, high, exponent)[1] > bins:
        exponent += 1
    return min(exponent, COARSEST)


def bin_values(values: NDArray[np.float32], first: int, exponent: int, size: int) -> Counts:
    """Counts `values` (any shape), which must lie within the `size` bins from `first` on.

    Raises:
        ValueError: A value lies before the first bin, or is not a number.
    """
    flat = values.reshape(-1)
    index = np.multiply(flat, np.float32(math.ldexp(1.0, -exponent)))
    np.floor(index, out=index)
    if exponent > 0:  # the product of a factor below 1 and a tiny negative value is rounded to zero
        index[(index == 0) & (flat < 0)] = -1
    index -= np.float32(first)
    found: Counts = np.bincount(index.astype(np.int32), minlength=size)
    return found


def widen(counts: Counts, first: int, shift: int) -> tuple[Counts, int]:
    """Returns counts (bins along the last axis) and first bin after `shift` doublings of the width."""
    shift = min(shift, 62)
    if shift == 0 or not counts.size:
        return counts, first >> shift
    coarse = np.arange(first, first + counts.shape[-1]) >> shift
    starts = np.flatnonzero(np.diff(coarse, prepend=coarse[0] - 1))
    return np.add.reduceat(counts, starts, axis=-1), int(coarse[0])


def refit(counts: Counts, first: int, exponent: int, low: float, high: float, bins: int) -> tuple[Counts, int, int]:
    """Returns counts, first bin and exponent that cover [low, high], which covers what was counted so far."""
    wanted = exponent_for(low, high, bins)
    counts, first = widen(counts, first, wanted - exponent)
    start, size = span(low, high, wanted)
    made = np.zeros((*counts.shape[:-1], size), np.int64)
    if counts.size:
        made[..., first - start : first - start + counts.shape[-1]] = counts
    return made, start, wanted


def values_within(values: NDArray[Any], low: float, high: float) -> NDArray[np.float32]:
    """Returns `values` as float32 with what lies outside moved to the nearer end."""
    return np.clip(np.asarray(values, np.float32), np.float32(low), np.float32(high))


def percentile(edges: NDArray[np.float64], counts: NDArray[Any], percent: float) -> tuple[float, float]:
    """Returns the range that leaves (100 - `percent`) / 2 percent of the values outside on each side.

    Within a bin values are taken to lie evenly.

    Args:
        edges: Bounds of the bins, ascending.
        counts: Values per bin.
        percent: Above 50.

    Raises:
        ValueError: `percent` is not within (50, 100].
    """
    if not 50 < percent <= 100:
        raise ValueError(f"percentile {percent}, expected above 50 and at most 100")
    below = np.concatenate([[0.0], np.cumsum(counts, dtype=np.float64)])
    tail = (100 - percent) / 200 * below[-1]
    if tail == 0:
        return float(edges[0]), float(edges[-1])
    first = int(np.searchsorted(below, tail, side="right")) - 1
    last = int(np.searchsorted(below, below[-1] - tail, side="left")) - 1
    return _between(edges, below, first, tail), _between(edges, below, last, below[-1] - tail)


def _between(edges: NDArray[np.float64], below: NDArray[np.float64], index: int, wanted: float) -> float:
    """Returns the point of bin `index` below which `wanted` values lie."""
    index = min(max(index, 0), edges.size - 2)
    held = below[index + 1] - below[index]
    share = (wanted - below[index]) / held if held else 0.0
    return float(edges[index] + share * (edges[index + 1] - edges[index]))
