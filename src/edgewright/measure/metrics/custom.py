"""The user's own metric: `module:function(decision, label) -> float`, averaged over the samples."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgewright.core.decision import Decision
from edgewright.errors import MetricFailed
from edgewright.measure.metrics._resampling import Floats, once, row_means


@dataclass(frozen=True, slots=True)
class CustomMetric:
    """Mean of a function of (decision, label). Contribution: its value.

    Lower is better when the function carries the attribute `higher_is_better = False`.
    """

    name: str
    function: Callable[[Decision, Any], float]
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> float:
        try:
            value = float(self.function(decision, label))
        except Exception as error:
            raise MetricFailed(
                f"metric {self.name} raised {type(error).__name__}: {error}",
                hint=f"correct {self.name}; it is called as function(decision, label) and returns a number",
            ) from error
        if not math.isfinite(value):
            raise MetricFailed(
                f"metric {self.name} returned {value}", hint=f"let {self.name} return a finite number for every sample"
            )
        return value

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        return row_means(np.asarray(contributions, dtype=np.float64), weights)

    def hits(self, contributions: Sequence[Any]) -> NDArray[np.bool_] | None:
        values = np.asarray(contributions, dtype=np.float64)
        return values == 1.0 if np.isin(values, (0.0, 1.0)).all() else None
