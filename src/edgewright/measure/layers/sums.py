"""What is kept of a pair of tensors over all samples: sums, extremes and a histogram, never the values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.parity import EXACT_DB, Histogram

BINS = 64
BLOCK = 1 << 13
"""Values summed at a time; BLAS starts threads for more than 10,000, which costs more than it brings."""
SAMPLED = 1 << 16
"""About how many values of one tensor of one batch go into its histogram."""


@dataclass(slots=True)
class Bins:
    """A histogram whose range grows with the values: it doubles, two bins becoming one.

    Attributes:
        low: Lower end.
        width: Of one bin; 0 before the first value.
        counts: An even number of bins.
    """

    low: float = 0.0
    width: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    def add(self, values: NDArray[Any]) -> None:
        """Counts finite `values`, of a large tensor every n-th: the range is exact, the counts are a sample."""
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not self.width:
            self.low, self.width = low, max(high - low, abs(low) * 1e-6, 1e-12) / BINS
        self._reach(low, high)
        flat = values.reshape(-1)[:: max(values.size // SAMPLED, 1)]
        place = (flat.astype(np.float64) - self.low) / self.width
        self.counts += np.bincount(np.clip(place, 0, BINS - 1).astype(np.int64), minlength=BINS)

    def _reach(self, low: float, high: float) -> None:
        while high > self.low + self.width * BINS * (1 + 1e-9):
            self._double(upward=True)
        while low < self.low - self.width * BINS * 1e-9:
            self._double(upward=False)

    def _double(self, *, upward: bool) -> None:
        half, empty = self.counts.reshape(-1, 2).sum(axis=1), np.zeros(BINS // 2, np.int64)
        if not upward:
            self.low -= self.width * BINS
        self.counts = np.concatenate([half, empty] if upward else [empty, half])
        self.width *= 2

    def done(self) -> Histogram | None:
        """Returns what was counted; None if nothing was."""
        if not self.width:
            return None
        return Histogram(self.low, self.low + self.width * BINS, tuple(int(c) for c in self.counts))


def histogram(values: NDArray[Any]) -> Histogram | None:
    """Returns the histogram of the finite ones among `values`; None if there are none."""
    bins = Bins()
    bins.add(values[np.isfinite(values)])
    return bins.done()


@dataclass(slots=True)
class Difference:
    """Signal and noise of one tensor against another.

    Attributes:
        signal: Sum of squares of the reference.
        noise: Sum of squares of the difference.
        other: Sum of squares of the candidate.
        product: Sum of the products.
        largest: Largest absolute difference.
        not_finite: Values of either side that are no finite number; left out of the sums.
    """

    signal: float = 0.0
    noise: float = 0.0
    other: float = 0.0
    product: float = 0.0
    largest: float = 0.0
    not_finite: int = 0

    def add(self, reference: NDArray[Any], candidate: NDArray[Any]) -> None:
        """Takes in arrays of equal shape."""
        x, y = np.ravel(reference), np.ravel(candidate)
        for start in range(0, x.size, BLOCK):
            self._add(x[start : start + BLOCK], y[start : start + BLOCK])

    def _add(self, x: NDArray[Any], y: NDArray[Any]) -> None:
        """Sums a block in float64: few enough values to stay in the processor's cache."""
        x, y = x.astype(np.float64), y.astype(np.float64)
        error = y - x
        noise = float(error @ error)
        if not math.isfinite(noise):
            finite = np.isfinite(x) & np.isfinite(y)
            self.not_finite += int(finite.size - finite.sum())
            x, y, error = x[finite], y[finite], error[finite]
            noise = float(error @ error)
        self.signal += float(x @ x)
        self.noise += noise
        self.other += float(y @ y)
        self.product += float(x @ y)
        self.largest = max(self.largest, float(np.abs(error).max(initial=0.0)))

    @property
    def sqnr_db(self) -> float:
        """Signal to noise, within plus and minus `EXACT_DB`."""
        if not self.noise:
            return -EXACT_DB if self.not_finite else EXACT_DB
        if not self.signal:
            return -EXACT_DB
        return min(max(10 * math.log10(self.signal / self.noise), -EXACT_DB), EXACT_DB)

    @property
    def cosine(self) -> float:
        """Cosine similarity; 1 for two tensors of zeros, 0 where only one is."""
        if not self.signal or not self.other:
            return 1.0 if self.signal == self.other else 0.0
        return min(max(self.product / math.sqrt(self.signal * self.other), -1.0), 1.0)


@dataclass(slots=True)
class Extremes:
    """Smallest and largest finite value, and the histogram."""

    low: float = math.inf
    high: float = -math.inf
    bins: Bins = field(default_factory=Bins)

    def add(self, values: NDArray[Any]) -> None:
        """Takes in an array."""
        finite = values if np.isfinite(values).all() else values[np.isfinite(values)]
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))
            self.bins.add(finite)

    @property
    def range(self) -> tuple[float, float]:
        """The extremes; zeros before the first value."""
        return (0.0, 0.0) if self.low > self.high else (self.low, self.high)
