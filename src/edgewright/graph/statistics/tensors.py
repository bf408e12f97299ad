"""What was seen in every tensor, and in two sets of values together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from edgewright.graph.statistics.histogram import Counts, percentile, refit, span

NO_COUNTS: Counts = np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True)
class Extreme:
    """Which sample reached furthest on one side, and how far all others got.

    Attributes:
        sample: Its index in the split; -1 when it is not known.
        others: The furthest that any other sample reached; None with a single sample.
    """

    sample: int = -1
    others: float | None = None


UNKNOWN = Extreme()


@dataclass(frozen=True, slots=True, eq=False)
class ChannelStatistics:
    """What was seen in each channel of a tensor.

    Attributes:
        axis: The channel axis: 1 beside convolutions, the last one beside matrix products.
        low: Smallest values, one per channel, float32.
        high: Largest values.
        mean: Mean values, float64, over everything but the channel.
        weight: How many values each mean rests on.
    """

    axis: int
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    mean: NDArray[np.float64]
    weight: float = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class TensorStatistics:
    """What was seen in one tensor.

    Attributes:
        low: Smallest value, exact; minus infinity, which hides padding from a softmax, counts as the smallest float32.
        high: Largest value, exact.
        counts: Histogram of every k-th value, k = 1 for small tensors; empty when only extremes were gathered.
        exponent: Bins are 2**exponent wide and lie on multiples of that, the first one holding `low`, the last one
            `high`. None: the bins divide [low, high] evenly.
        odd: The share of `counts` that samples with an odd index have in it: one half to choose from, one to judge by.
        lowest: Who holds `low`.
        highest: Who holds `high`.
        channels: Per channel, where asked for.
    """

    low: float
    high: float
    counts: Counts = field(default_factory=lambda: NO_COUNTS)
    exponent: int | None = None
    odd: Counts = field(default_factory=lambda: NO_COUNTS)
    lowest: Extreme = UNKNOWN
    highest: Extreme = UNKNOWN
    channels: ChannelStatistics | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", np.asarray(self.counts, np.int64))
        object.__setattr__(self, "odd", np.asarray(self.odd, np.int64))

    @property
    def halves(self) -> tuple[Counts, Counts]:
        """Counts of samples with even and with odd index; all counts twice where there is only one of the two."""
        even = self.counts - self.odd if self.odd.size else self.counts
        return (even, self.odd) if even.any() and self.odd.any() else (self.counts, self.counts)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Bounds of the bins, one more than there are; the outer two are `low` and `high`.

        Raises:
            ValueError: There is no histogram.
        """
        if not self.counts.size:
            raise ValueError("no histogram was gathered for this tensor")
        if self.exponent is None:
            return np.linspace(self.low, self.high, self.counts.size + 1)
        first = np.floor(np.ldexp(self.low, -self.exponent))
        edges = np.ldexp(first + np.arange(self.counts.size + 1), self.exponent)
        edges[0], edges[-1] = self.low, self.high
        return np.asarray(np.clip(edges, self.low, self.high))

    def percentile(self, percent: float) -> tuple[float, float]:
        """Returns the range that leaves (100 - `percent`) / 2 percent of the values outside on each side.

        Within a bin values are taken to lie evenly.

        Raises:
            ValueError: There is no histogram, or `percent` is not within (50, 100].
        """
        return percentile(self.edges, self.counts, percent)


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """Statistics of every floating-point activation of a model.

    Attributes:
        samples: How many samples they rest on.
        tensors: Tensor name -> what was seen.
        bins: Most bins of a histogram; 0 when only extremes were gathered.
        notes: Tensor name, or empty for the data as a whole -> what is odd, in a sentence.
        skipped: Indices of samples that were left out because they gave no finite values, and the tensor it showed in.
    """

    samples: int
    tensors: Mapping[str, TensorStatistics] = field(default_factory=dict)
    bins: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)
    skipped: Mapping[int, str] = field(default_factory=dict)


def join(a: TensorStatistics, b: TensorStatistics, bins: int) -> TensorStatistics:
    """Returns the statistics of both sets of values together."""
    low, high = min(a.low, b.low), max(a.high, b.high)
    lowest = _further(-a.low, a.lowest, -b.low, b.lowest, -1.0)
    highest = _further(a.high, a.highest, b.high, b.highest, 1.0)
    channels = _joined_channels(a.channels, b.channels)
    counts, exponent = np.zeros((2, 0), np.int64), None
    if a.counts.size and b.counts.size and a.exponent is not None and b.exponent is not None:
        parts = [
            refit(stacked(s), span(s.low, s.high, s.exponent or 0)[0], s.exponent or 0, low, high, bins) for s in (a, b)
        ]
        counts, exponent = parts[0][0] + parts[1][0], parts[0][2]
    return TensorStatistics(low, high, counts.sum(axis=0), exponent, counts[1], lowest, highest, channels)


def stacked(seen: TensorStatistics) -> Counts:
    """Returns the counts of samples with even and odd index, shape [2, bins]."""
    odd = seen.odd if seen.odd.size else np.zeros_like(seen.counts)
    return np.stack([seen.counts - odd, odd])


def _further(a: float, from_a: Extreme, b: float, from_b: Extreme, sign: float) -> Extreme:
    """Returns who reached further, where `a` and `b` grow outwards and `sign` turns them back; earlier samples win."""
    if (b, -from_b.sample) > (a, -from_a.sample):
        a, from_a, b, from_b = b, from_b, a, from_a
    others = [b, *(sign * e.others for e in (from_a, from_b) if e.others is not None)]
    return Extreme(from_a.sample, sign * max(others))


def _joined_channels(a: ChannelStatistics | None, b: ChannelStatistics | None) -> ChannelStatistics | None:
    if a is None or b is None or a.axis != b.axis or a.low.shape != b.low.shape:
        return None
    weight = a.weight + b.weight
    mean = (a.mean * a.weight + b.mean * b.weight) / weight
    return ChannelStatistics(a.axis, np.minimum(a.low, b.low), np.maximum(a.high, b.high), mean, weight)
