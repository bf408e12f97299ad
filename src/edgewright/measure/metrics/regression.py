"""Mean absolute error and cosine similarity of output tensors to labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgewright.core.decision import Decision, Tensors
from edgewright.errors import DataError
from edgewright.measure.metrics._labels import wrong_kind
from edgewright.measure.metrics._resampling import Floats, once, row_means


@dataclass(frozen=True, slots=True)
class MeanAbsoluteError:
    """Mean over samples of the mean absolute difference to the label, in its unit. Contribution: that of one sample."""

    name: str = "mae"
    higher_is_better: bool = False

    def contribution(self, decision: Decision, label: Any) -> float:
        found, wanted = aligned(decision, label, self.name)
        return float(np.abs(found - wanted).mean())

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        return row_means(np.asarray(contributions, dtype=np.float64), weights)


@dataclass(frozen=True, slots=True)
class Cosine:
    """Mean cosine of the angle between outputs and label, -1 to 1. Contribution: that of one sample."""

    name: str = "cosine"
    higher_is_better: bool = True

    def contribution(self, decision: Decision, label: Any) -> float:
        return cosine(*aligned(decision, label, self.name))

    def reduce(self, contributions: Sequence[Any]) -> float:
        return once(self, contributions)

    def resample(self, contributions: Sequence[Any], weights: Floats) -> Floats:
        return row_means(np.asarray(contributions, dtype=np.float64), weights)


def cosine(a: Floats, b: Floats) -> float:
    """Returns the cosine of the angle between two vectors; 1 when both are zero, 0 when one is."""
    length_a, length_b = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if length_a == 0.0 or length_b == 0.0:
        return float(length_a == length_b)
    return float(np.clip(np.dot(a / length_a, b / length_b), -1.0, 1.0))


def flattened(values: Mapping[str, Any]) -> Floats:
    """Returns all tensors of a sample in one vector, in the order of their names."""
    return np.concatenate([np.asarray(values[name], dtype=np.float64).reshape(-1) for name in sorted(values)])


def aligned(decision: Decision, label: Any, metric: str) -> tuple[Floats, Floats]:
    """Returns outputs and label as vectors of equal length.

    Raises:
        DataError: The decision is not made of tensors, or the sizes differ.
    """
    if not isinstance(decision, Tensors):
        raise wrong_kind(decision, metric, "the output tensors", '{ op = "raw" }')
    wanted = label if isinstance(label, Mapping) else {next(iter(decision.values)): label}
    missing = sorted(set(wanted) - set(decision.values))
    if missing:
        raise DataError(
            f"{metric}: the label names outputs {missing}, the model has {sorted(decision.values)}",
            hint="use the model's output names as keys of the label",
        )
    found, truth = flattened({name: decision.values[name] for name in wanted}), flattened(wanted)
    if found.shape != truth.shape:
        raise DataError(
            f"{metric}: the outputs hold {found.size} values, the label {truth.size}",
            hint="give labels of the shape of the output, without the batch axis",
        )
    return found, truth
