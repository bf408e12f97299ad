"""What a metric may offer besides the `Metric` protocol so that intervals are fast and exact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@runtime_checkable
class Resampled(Protocol):
    """Evaluates many bootstrap resamples at once."""

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        """Returns one value per row of `weights`.

        Args:
            contributions: One per sample, n in total.
            weights: [resamples, n], how often each sample was drawn.

        Returns:
            [resamples]; NaN where a resample leaves nothing to judge.
        """


@runtime_checkable
class Counted(Protocol):
    """A metric that may be a proportion of hits."""

    def hits(self, contributions: Sequence[Any]) -> NDArray[np.bool_] | None:
        """Returns hit or miss per sample when the metric is their share, otherwise None."""


@runtime_checkable
class PerClass(Protocol):
    """A metric that has a value for every class."""

    def per_class(self, contributions: Sequence[Any], labels: Sequence[Any]) -> Mapping[int, float]:
        """Returns class index -> value, for the classes that the data holds."""


def once(metric: Resampled, contributions: Sequence[Any]) -> float:
    """Returns the figure of the samples as they are: every weight is one."""
    return float(metric.resample(contributions, np.ones((1, len(contributions))))[0])


def row_means(values: Floats, weights: Floats) -> Floats:
    """Returns the weighted mean of `values` [n] for every row of `weights` [resamples, n]."""
    result: Floats = weights @ values / weights.sum(axis=1)
    return result


def mean_where(values: Floats, present: NDArray[np.bool_]) -> Floats:
    """Returns the mean over the last axis of the entries that are `present`; NaN where there are none."""
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def ratio_or(numerator: Floats, denominator: Floats, otherwise: float) -> Floats:
    """Divides element by element; `otherwise` where the denominator is zero."""
    safe = np.where(denominator > 0, denominator, 1.0)
    return np.where(denominator > 0, numerator / safe, otherwise)
